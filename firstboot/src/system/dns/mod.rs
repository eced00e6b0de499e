//! Names of hosts, asked for by ourselves.
//!
//! The C library would load the modules that `/etc/nsswitch.conf` of the machine
//! names, and those fit the very C library that they were built for: in a static
//! program they end it. So this reads `/etc/hosts` and `/etc/resolv.conf` and asks
//! the servers that stand there, over UDP, and over TCP where an answer is too long.

mod configuration;
pub mod message;
mod resolver;

pub(super) use resolver::Resolver;

#[cfg(test)]
mod tests;
