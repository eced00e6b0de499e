//! What first boot asks of AWS: the instance metadata service, credentials, and a
//! few calls to EKS, STS and EC2.
//!
//! Requests are built and answers read by functions of their inputs; what sends
//! them is a [`Network`](crate::system::Network), what waits is a
//! [`Clock`](crate::system::Clock).

mod imds;
mod retry;

pub use imds::{Identity, Imds, ImdsError};
pub use retry::{Budget, retry};

#[cfg(test)]
mod scripted;
