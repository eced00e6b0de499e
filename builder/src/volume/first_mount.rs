//! Work that a file system leaves to the machine that mounts it first, and that a
//! build does once for all clones.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{FileSystem, ext4};
use crate::disk::Storage;
use crate::error::Result;

/// One kind of such work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstMount {
    /// ext4 is checked whole when it was mounted often enough or is old enough
    /// (tune2fs(8), `-c` and `-i`): an image is always old.
    PeriodicCheck,
    /// The kernel zeroes inode tables that `mke2fs` left as they were
    /// (`lazy_itable_init`), and keeps the disk busy with it.
    InodeTables,
}

impl FirstMount {
    /// What the build does about it, in words.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::PeriodicCheck => "no check by the number of mounts or by age",
            Self::InodeTables => "inode tables are zeroed now, not by the kernel of every clone",
        }
    }
}

/// What the file system on `storage` leaves to its first mount.
///
/// # Errors
/// As opening it for reading, and what the storage gives.
pub fn find(storage: &dyn Storage, kind: FileSystem) -> Result<BTreeSet<FirstMount>> {
    match kind {
        FileSystem::Ext4 => ext4::first_mount::find(storage),
        FileSystem::Fat | FileSystem::Xfs | FileSystem::Btrfs => Ok(BTreeSet::new()),
    }
}

/// Does that work now. The file system is finished; what is done already stays.
///
/// # Errors
/// As opening it for writing, and what the storage gives.
pub fn settle(storage: &dyn Storage, kind: FileSystem, work: &BTreeSet<FirstMount>) -> Result<()> {
    match kind {
        FileSystem::Ext4 if !work.is_empty() => ext4::first_mount::settle(storage, work),
        _ => Ok(()),
    }
}
