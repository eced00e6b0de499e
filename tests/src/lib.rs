//! Shared pieces of the integration tests: the images that they build, and the
//! independent programs that check them.

pub mod debian_base;
pub mod plain;
pub mod program;
pub mod sequences;
pub mod volumes;
