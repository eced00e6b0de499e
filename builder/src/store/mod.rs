//! Content-addressed files by sha256.

mod digest;

pub use digest::Digest;
