//! nodekiln bakes Kubernetes node images.
//!
//! A base disk image goes in; the same image with the pinned node components,
//! the credential providers and the first-boot program in it comes out, without
//! root, mounts or a boot. The data flows one way:
//!
//! ```text
//! profile ──load──▶ Profile ──resolve──▶ Lock ──fetch──▶ Store
//!                                          │               │
//! base image ──open──▶ Disk ──detect──▶ Os ┴──plan──▶ Plan ┘
//!                        ▲                             │
//!                        └──────────── bake ◀──────────┘
//!                        ├─▶ verify ─▶ outputs
//!                        └─▶ report
//! ```
//!
//! Nothing in this library prints, parses arguments or knows of exit codes:
//! the command in `main.rs` and `cli/` does.

// A library neither panics on what it is given nor prints.
#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod bake;
pub mod base;
pub mod build;
mod carried;
pub mod catalog;
pub mod disk;
pub mod environment;
pub mod error;
pub mod firstboot;
pub mod image_path;
pub mod lock;
pub mod os;
pub mod output;
pub mod packages;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod report;
#[cfg(test)]
mod seeds;
pub mod store;
pub mod task;
pub mod volume;

pub use error::{Class, Error, Result};
pub use image_path::ImagePath;
