//! What first boot asks of AWS: the instance metadata service, credentials, and a
//! few calls to EKS, STS and EC2.
//!
//! Requests are built and answers read by functions of their inputs; what sends
//! them is a [`Network`](crate::system::Network), what waits is a
//! [`Clock`](crate::system::Clock).

mod client;
pub mod credentials;
mod ec2;
mod ecr;
mod eks;
mod endpoints;
mod error;
mod imds;
mod retry;
mod signature;
mod sts;
mod time;
mod xml;

pub use client::Client;
pub use ec2::InterfaceLimits;
pub use eks::{Cluster, RemoteNetworks};
pub use endpoints::{Partition, Service, endpoint, partition_of};
pub use error::AwsError;
pub use imds::{Identity, Imds, ImdsError};
pub use retry::{Budget, retry};
pub use signature::{Scope, sign};
pub use sts::Caller;

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
