//! Base images: where they come from, and the making of one from packages.

pub mod bootstrap;
