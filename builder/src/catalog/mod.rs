//! What can be baked: where each component comes from, where it goes, and who
//! needs it.
//!
//! Data and pure functions only. A profile overrides every source.

mod placement;
mod upstream;

pub use placement::{
    ALL, ARCHIVE_ENDINGS, Component, PROGRAM_MODE, Shape, component, component_of_label,
    is_archive, omitted, wanted,
};
pub use upstream::{
    Checksum, Defaults, NEWEST_MINOR, OLDEST_MINOR, Upstream, Wish, defaults, is_upstream, upstream,
};
