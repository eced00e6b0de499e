//! The whole change to an image, as data.
//!
//! A [`Plan`] is a pure function of the profile, the lock, the overlays and what
//! was found in the base. It can be printed, compared and hashed: the hash of
//! its canonical JSON is the **build key**. Only `bake/` applies it.

mod boot_entries;
pub mod boot_time;
pub mod command_line;
pub mod components;
mod compute;
mod draft;
pub mod firstboot;
pub mod hygiene;
pub mod kernel;
pub mod overlay;
mod packages;
pub mod release;
mod selinux;
pub mod services;
pub mod text;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};

pub use compute::{Inputs, Partition, compute};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::image_path::ImagePath;
use crate::profile::model::{Architecture, Output};
use crate::store::Digest;
use crate::volume::{Attributes, FileSystem, FirstMount};

/// Version of the plan's meaning: part of the build key, raised whenever the
/// same plan would be baked into different bytes.
pub const FORMAT: u32 = 1;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// sha256 of the manifest that lies in the image, while it has no build key
    /// yet: what the manifest tells beyond the plan (origins, trust, version of
    /// nodekiln) is part of the key through it.
    pub manifest: Digest,
    /// The profile's name.
    pub profile: String,
    /// Processor architecture of the image.
    pub architecture: Architecture,
    /// sha256 of the base image file.
    pub base: Digest,
    /// Time stamp of everything that is written, in seconds since 1970.
    pub epoch: i64,
    /// Size of the disk in bytes, if it has to be larger than the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<u64>,
    /// Whether the kernel lays the files out. Its bytes are not ours, nor the same
    /// twice, so they are another build.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_kernel: bool,
    /// The changes, by the volume they are for.
    pub volumes: BTreeMap<Target, VolumePlan>,
    /// Files of the plan that a hygiene check finds and that the profile asks for, with
    /// the sha256 of their content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exceptions: BTreeMap<ImagePath, Digest>,
    /// What is written at the end.
    pub outputs: Vec<Output>,
}

/// The volume that changes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The root file system. Paths below a mount point of another target are
    /// never in here.
    Root,
    /// A separate `/boot`; its paths begin below that mount point.
    Boot,
    /// The EFI system partition; its paths begin below its mount point.
    Esp,
}

/// The changes to one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumePlan {
    /// Kind of the file system that was found.
    pub file_system: FileSystem,
    /// Partition number, from 1.
    pub partition: u32,
    /// What goes away first: files, links and whole trees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removals: BTreeMap<ImagePath, Reason>,
    /// What is there afterwards. Parents sort before their children.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<ImagePath, Entry>,
    /// What is done now that the file system left to its first mount.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub first_mount: BTreeSet<FirstMount>,
}

/// Something that is there after the bake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// What it is and what is in it.
    pub node: Node,
    /// Owner, mode, time, extended attributes; of a folder that is kept, those
    /// that it gets when it does not exist.
    pub attributes: Attributes,
    /// Which part of the wish asked for it.
    pub reason: Reason,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Node {
    /// A folder. With `keep`, one that exists keeps its attributes.
    Directory {
        /// Whether an existing folder stays as it is.
        keep: bool,
    },
    /// A file with this content.
    File {
        /// Where the bytes are.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, unchanged.
        target: String,
    },
}

/// Where the bytes of a file are, with what pins them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    /// sha256 of the bytes; verified while they are written.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
    /// Where they are. Not part of the build key: the digest is.
    #[serde(skip)]
    pub source: Source,
}

/// Where a bake reads the bytes of a [`Content`].
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// The store, by the content's sha256.
    #[default]
    Store,
    /// A file of this machine (an overlay's).
    File(std::path::PathBuf),
    /// In memory: what nodekiln itself renders.
    Inline(Vec<u8>),
}

impl std::fmt::Debug for Source {
    /// Without the bytes, which have no place in a message.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store => formatter.write_str("Store"),
            Self::File(path) => write!(formatter, "File({})", path.display()),
            Self::Inline(bytes) => write!(formatter, "Inline({} bytes)", bytes.len()),
        }
    }
}

/// Which part of the wish asked for a change, in words for people:
/// `component kubelet`, `overlay linux`, `service containerd`, `hygiene`.
pub type Reason = String;

impl Target {
    /// The target in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Boot => "boot",
            Self::Esp => "EFI system",
        }
    }
}

impl Content {
    /// The content `bytes`, in memory.
    pub fn inline(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self {
            sha256: Digest::from_bytes(Sha256::digest(&bytes).into()),
            size: bytes.len() as u64,
            source: Source::Inline(bytes),
        }
    }
}

impl Plan {
    /// The canonical JSON: no white space, keys in the order of declaration,
    /// maps sorted. The files that carry the build key ([`release::FILES`]) are
    /// not in it, since no text can hold its own hash.
    pub fn canonical(&self) -> Vec<u8> {
        let mut plan = self.clone();
        if let Some(root) = plan.volumes.get_mut(&Target::Root) {
            for path in release::FILES {
                root.entries.remove(&crate::os::tree::fixed(path));
            }
        }
        serde_json::to_vec(&plan).expect("a plan holds nothing that JSON cannot hold")
    }

    /// The build key: sha256 of [`Plan::canonical`].
    pub fn key(&self) -> Digest {
        Digest::from_bytes(Sha256::digest(self.canonical()).into())
    }
}

#[cfg(test)]
pub(crate) mod tests;
