//! Shared pieces of the integration tests: the images that they build, the
//! command as a user starts it, and the independent programs that check both.

pub mod berkeley;
pub mod btrfs;
pub mod by_agent;
pub mod cloud;
pub mod cluster;
pub mod command;
pub mod container_image;
pub mod damage;
pub mod debian_base;
pub mod debian_package;
pub mod fat;
pub mod first_boot;
pub mod guest_builds;
pub mod joining;
pub mod judges;
pub mod machine_root;
pub mod namespace;
pub mod network;
pub mod node_configs;
pub mod plain;
pub mod program;
pub mod refusal;
pub mod rpm_package;
pub mod sequences;
pub mod server;
pub mod small_base;
pub mod surroundings;
pub mod twins;
pub mod units;
pub mod unmet;
pub mod volumes;
pub mod xfs;
