//! Base images: where they come from, and the making of one from packages.

pub mod bootstrap;
mod fetch;
mod local;
mod sources;

pub use fetch::fetch;
pub use sources::{DOWNLOAD_LIMIT, StoreSources};
