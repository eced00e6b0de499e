//! Checks a file system of any kind that nodekiln writes.

use std::sync::Arc;

use super::btrfs::Btrfs;
use super::{FileSystem, detect, ext4, fat, guard, xfs::Xfs};
use crate::disk::Storage;
use crate::error::{Error, Result};

/// As [`check`], for XFS and btrfs too.
///
/// # Errors
/// As [`check`]; what opening an XFS or btrfs gives.
pub fn check_partition(storage: Arc<dyn Storage>) -> Result<Vec<String>> {
    let found =
        detect(storage.as_ref()).map_err(|error| Error::io("look at the file system", error))?;
    match found {
        Some(FileSystem::Xfs) => guard::catch("check the XFS file system", || Xfs::check(&storage)),
        Some(FileSystem::Btrfs) => {
            guard::catch("check the btrfs file system", || Btrfs::check(&storage))
        }
        _ => check(storage.as_ref()),
    }
}

/// Checks the file system on `storage`, with code that shares nothing with what
/// writes it. An empty list means that it is sound.
///
/// # Errors
/// When the check could not run; [`crate::Class::Unsupported`] for a file system
/// that nodekiln does not know.
pub fn check(storage: &dyn Storage) -> Result<Vec<String>> {
    let found = detect(storage).map_err(|error| Error::io("look at the file system", error))?;
    match found {
        Some(FileSystem::Ext4) => ext4::check::check(storage),
        Some(FileSystem::Fat) => fat::check::check(storage),
        Some(kind @ (FileSystem::Xfs | FileSystem::Btrfs)) => Err(Error::unsupported(format!(
            "check a file system: {}",
            kind.name()
        ))),
        None => Err(Error::unsupported("check a file system of an unknown kind")),
    }
}
