//! Joins a machine to an Amazon EKS cluster on its first boot.
//!
//! The library holds what the builder needs too: the NodeConfig (model,
//! decoding, checks) and the rendering of every file of a node, both pure. What
//! touches a running machine stands in `system`, behind small traits.

// A library neither panics on what it is given nor prints.
#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod aws;
pub mod credentials;
pub mod datasource;
pub mod firewall;
pub mod node_config;
pub mod phases;
pub mod render;
pub mod storage;
pub mod system;
pub mod validation;
