//! The lock file as values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::profile::model::{Architecture, ComponentName};
use crate::store::Digest;

/// Name of the lock file beside a profile.
pub const FILE_NAME: &str = "nodekiln.lock";
/// Version of the lock file's meaning.
pub const VERSION: u32 = 1;

/// The pins of one profile. A lock file holds one document of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// The pins by profile name: several profiles may lie in one folder.
    pub profiles: BTreeMap<String, LockedProfile>,
}

/// The inputs of one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedProfile {
    /// sha256 of what the profile says about its inputs (architecture, base,
    /// version, component sources): tells when the lock is out of date.
    pub inputs: Digest,
    /// sha256 of what the profile says about its base alone: tells when the base
    /// must be found or made again.
    pub base_inputs: Digest,
    /// Processor architecture.
    pub architecture: Architecture,
    /// The base image.
    pub base: LockedFile,
    /// The components that are baked; neither those of the base nor omitted ones.
    pub components: BTreeMap<ComponentName, LockedComponent>,
    /// The packages, in the profile's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<LockedFile>,
}

/// One file of the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedFile {
    /// Where it comes from.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub origin: Origin,
    /// sha256 of the file.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// How it was trusted, in words: `sha256 in the profile`, `sha256 in the
    /// catalogue`, `checksum file URL`, `SHA256SUMS signed by FINGERPRINT`,
    /// `local file`, `bootstrapped`. A local raw base, or one with a backing
    /// file, is written anew as one qcow2: then this says so, and digest and size
    /// are those of that qcow2.
    pub trust: String,
}

/// Where a locked file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Downloaded.
    Url(String),
    /// A local file, relative to the lock file where it can be.
    Path(String),
    /// Made from packages: `name=version` of each, sorted.
    Bootstrap {
        /// Debian release.
        suite: String,
        /// Every installed package with its version.
        packages: BTreeMap<String, String>,
    },
}

/// A component: its file, and what of it is baked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedComponent {
    /// The downloaded or local file.
    pub file: LockedFile,
    /// The files that are baked. For a plain program there is one, by the name of
    /// the component and with the same digest as the file; for an archive there
    /// are the members that are taken, by their path in the archive.
    pub members: BTreeMap<String, LockedMember>,
}

/// One file that is baked; it lies in the store by its own digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedMember {
    /// sha256 of the content.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Path in the image.
    pub destination: crate::ImagePath,
    /// Mode in the image, in octal, as text.
    pub mode: String,
}
