//! The finished images: one file a format, and how files become visible.
//!
//! Every output is written as a [`Pending`] file and appears under its name only
//! when it is complete and on the device.

pub mod digest;
mod pending;
pub mod qcow2;
pub mod raw;

pub use digest::{file_sha256, linear, open_file_sha256};
pub use pending::{Pending, clear_leftovers};
