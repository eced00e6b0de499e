//! What a build tells of itself: manifest and checksums.

mod checksums;
mod manifest;

pub use checksums::sha256sums;
pub use manifest::{
    API_VERSION, BaseImage, Component, ImageFile, KIND, Manifest, PartitionEntry, ProfileSummary,
    Source, manifest_schema,
};
