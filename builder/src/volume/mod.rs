//! One file system of an image, whatever its kind and whoever edits it.
//!
//! A [`Volume`] takes literal [`ImagePath`]s and never follows a symbolic link,
//! not even in the middle of a path: a component that is a link is an error of
//! kind [`Problem::NotADirectory`]. Following links *inside* the image, as
//! `chroot` would, is the work of [`Tree::resolve`](crate::os::Tree::resolve); no path
//! can lead out of the image.
//!
//! Nothing is inherited or invented: owner, mode, modification time and
//! extended attributes of what is created come from [`Attributes`]. Modification
//! times of folders change only by [`Volume::set_attributes`], so that the same
//! operations give the same bytes.

pub mod agent;
pub mod btrfs;
mod check;
mod content;
pub mod ext4;
pub mod fat;
pub mod first_mount;
mod fuzz;
mod guard;
mod identity;
#[cfg(test)]
mod memory;
pub mod model;
pub mod mount;
mod need;
mod open;
mod places;
mod read_device;
mod read_only;
mod refusal;
mod tree;
pub mod xfs;

pub use check::{check, check_partition};
pub use first_mount::FirstMount;
pub use guard::panics_are_errors;
pub use identity::Identity;
pub use need::{Need, NeedOf};
pub use open::{Access, detect, detect_foreign, needs_replay, open, open_for_agent};
pub use tree::{create_parents, read_to_vec, remove_tree};

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::progress::Progress;

/// The kinds of file system that nodekiln knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext2, ext3 and ext4.
    Ext4,
    /// FAT12, FAT16 and FAT32.
    Fat,
    /// XFS: read in this process, edited through a kernel.
    Xfs,
    /// btrfs, on one device: read in this process, edited through a kernel.
    Btrfs,
}

impl FileSystem {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Fat => "FAT",
            Self::Xfs => "XFS",
            Self::Btrfs => "btrfs",
        }
    }

    /// Whether a kernel edits it, and not this process.
    pub fn needs_kernel(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }

    /// Whether Linux can have its root on it.
    pub fn is_of_linux(self) -> bool {
        self != Self::Fat
    }
}

/// What is at a path.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Device node, pipe or socket: listed and removed, never created.
    Special,
}

/// Seconds and nanoseconds since 1970, as a file system keeps them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Owner, mode, time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// Permission bits with set-uid, set-gid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub modified: Timestamp,
    /// Extended attributes by full name (`security.selinux`), raw values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What [`Volume::metadata`] tells, as `lstat` would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes: of the content, or of a link's target.
    pub size: u64,
    /// Number of names.
    pub links: u32,
    /// The file's number: equal numbers are hard links to one file.
    pub inode: u64,
    /// Owner, mode, time, extended attributes.
    pub attributes: Attributes,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name: never `.` or `..`.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Allocation unit in bytes (block or cluster).
    pub block_size: u32,
    /// All of the file system, in bytes.
    pub total: u64,
    /// Free for root, in bytes.
    pub free: u64,
    /// Free inodes; `None` where there is no such limit (FAT).
    pub free_inodes: Option<u64>,
}

/// The reasons a volume refuses, for callers that act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Nothing is at the path.
    NotFound,
    /// Something is at the path already.
    Exists,
    /// A component on the way, or the path itself, is no folder.
    NotADirectory,
    /// The path is a folder, and the operation is for others.
    IsADirectory,
    /// The folder still holds something.
    NotEmpty,
    /// No room for content, folders or inodes.
    NoSpace,
    /// The file system cannot hold this (a link on FAT, an extended attribute
    /// on FAT, an image opened for reading).
    NotSupported,
    /// The file system contradicts itself.
    Damaged,
    /// The storage below failed.
    Io,
}

/// What a volume refused: the cause inside the [`crate::Error`]s that volumes
/// return (`error.source()` downcasts to it).
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct VolumeError {
    /// The reason.
    pub problem: Problem,
    /// The reason in words, with the path.
    pub text: String,
}

/// The [`Problem`] inside an error of a volume, however deep.
pub fn problem(error: &crate::Error) -> Option<Problem> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<VolumeError>() {
            return Some(found.problem);
        }
        cause = current.source();
    }
    None
}

/// See the module documentation.
///
/// Every creating call wants the parent to exist; [`create_parents`] makes it.
/// After an error of kind [`Problem::Io`] or [`Problem::Damaged`] the image is
/// to be thrown away: nodekiln only ever edits a layer over the base.
pub trait Volume: Debug + Send {
    /// What it says of itself. Its last write is the clock of a build without
    /// `SOURCE_DATE_EPOCH`.
    fn identity(&self) -> Identity;
    /// How much room there is.
    fn space(&mut self) -> Result<Space>;

    /// What is at `path`, or `None`. A missing or non-folder parent gives `None`
    /// too.
    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>>;
    /// Which part of the file system holds the file of a number that
    /// [`Volume::metadata`] gave: nothing moves from one to another, and no file has names
    /// in two. The parts of btrfs are its subvolumes; another file system is one part.
    fn part(&self, inode: u64) -> u64 {
        let _ = inode;
        0
    }
    /// The names in a folder, sorted by bytes.
    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>>;
    /// Copies a file's content into `sink`, in pieces; returns its size in bytes.
    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64>;
    /// A link's target, unchanged.
    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>>;

    /// Makes a folder. [`Problem::Exists`] when anything is at `path`.
    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()>;
    /// Writes a file of exactly `size` bytes from `content`, which must not end
    /// early nor give more. An existing file or link is replaced (its other hard
    /// links keep the old content); a folder is [`Problem::IsADirectory`].
    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()>;
    /// Adds to the end of an existing file; its attributes stay.
    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()>;
    /// Makes a symbolic link; replaces a file or link, not a folder.
    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()>;
    /// Gives the file at `existing` one more name. [`Problem::Exists`] when
    /// anything is at `path`.
    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()>;
    /// Sets owner, mode and time, and makes the extended attributes exactly
    /// those given. A link's own attributes are meant, not its target's.
    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()>;
    /// Removes a file, link or special file.
    fn remove_file(&mut self, path: &ImagePath) -> Result<()>;
    /// Removes an empty folder.
    fn remove_directory(&mut self, path: &ImagePath) -> Result<()>;
    /// Moves `from` to `to`; replaces a file or link at `to`, and an empty folder
    /// by a folder. Moving a folder into itself is refused.
    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()>;

    /// Writes everything back and leaves the file system clean. A volume that is
    /// dropped without this leaves the image unusable.
    fn finish(self: Box<Self>) -> Result<()>;
    /// As [`Volume::finish`], until the user asks to stop: for a volume that does its work
    /// at the end.
    fn finish_stoppable(self: Box<Self>, progress: &dyn Progress) -> Result<()> {
        let _ = progress;
        self.finish()
    }
}
