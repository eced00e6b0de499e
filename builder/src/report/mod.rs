//! What a build tells of itself: manifest and checksums.

mod checksums;
mod manifest;

pub use checksums::{is_plain_name, parse_sha256sums, sha256sums};
pub use manifest::{
    API_VERSION, BaseImage, Component, ImageFile, InstalledPackage, KIND, Manifest, PartitionEntry,
    ProfileSummary, Source, manifest_schema,
};
