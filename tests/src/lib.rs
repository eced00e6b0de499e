//! Shared pieces of the integration tests: images they build themselves, and the programs that check them.

pub mod debian_base;
pub mod sequences;
pub mod volumes;
