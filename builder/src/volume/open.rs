//! Finds out what a partition holds, and opens it.

use std::io;
use std::sync::Arc;

use super::agent::{Agent, FatAgent, Growth, Place};
use super::btrfs::Btrfs;
use super::ext4::{self, Ext4};
use super::read_only::ReadOnly;
use super::refusal::{refuse, storage_failed};
use super::xfs::Xfs;
use super::{FileSystem, Problem, Timestamp, Volume, fat, guard};
use crate::disk::Storage;
use crate::error::Result;

/// What a volume is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, not even a journal replayed: it is replayed in
    /// memory.
    Read,
    /// The file system is edited. What cannot be edited rightly is refused.
    Write,
}

/// The file system on `storage`, by content; `None` when it is none that
/// nodekiln knows.
///
/// # Errors
/// What the storage gives.
pub fn detect(storage: &dyn Storage) -> io::Result<Option<FileSystem>> {
    let mut start = [0u8; 2048];
    if storage.size() < start.len() as u64 {
        return Ok(None);
    }
    storage.read_at(&mut start, 0)?;
    // Linux: include/uapi/linux/btrfs_tree.h, BTRFS_MAGIC.
    let is_btrfs = || holds(storage, (64 << 10) + 64, b"_BHRfS_M");
    // XFS: fs/xfs/libxfs/xfs_format.h, XFS_SB_MAGIC.
    Ok(if start.starts_with(b"XFSB") {
        Some(FileSystem::Xfs)
    } else if ext4::gate::recognise(&start[1024..]) {
        Some(FileSystem::Ext4)
    } else if fat::recognise(&start[..512]) {
        Some(FileSystem::Fat)
    } else if is_btrfs()? {
        Some(FileSystem::Btrfs)
    } else {
        None
    })
}

fn holds(storage: &dyn Storage, offset: u64, magic: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; magic.len()];
    if storage.size() < offset + magic.len() as u64 {
        return Ok(false);
    }
    storage.read_at(&mut found, offset)?;
    Ok(found == magic)
}

/// What lies on `storage` that nodekiln knows by name and does not look into.
///
/// # Errors
/// What the storage gives.
pub fn detect_foreign(storage: &dyn Storage) -> io::Result<Option<&'static str>> {
    // cryptsetup: docs/on-disk-format-luks2.pdf, "Binary header".
    if holds(storage, 0, b"LUKS\xBA\xBE")? {
        return Ok(Some("LUKS (encrypted)"));
    }
    // LVM2: lib/label/label.h; the label lies in one of the first four sectors.
    for sector in 0..4 {
        if holds(storage, sector * 512, b"LABELONE")? {
            return Ok(Some("LVM"));
        }
    }
    Ok(None)
}

/// Opens the file system on `storage`, the bytes that `place` names, to be edited by a
/// guest kernel. With `grow` it fills its partition first.
///
/// # Errors
/// As [`open`], and as [`Agent::new`]; [`Problem::NotSupported`] to grow another than XFS
/// and btrfs.
pub fn open_for_agent(
    storage: &Arc<dyn Storage>,
    place: Place,
    epoch: Timestamp,
    grow: bool,
) -> Result<Box<dyn Volume>> {
    let growth = if grow { growth(storage)? } else { None };
    let doing = "open the file system";
    let kind = detect(storage.as_ref()).map_err(|error| storage_failed(doing, &error))?;
    if kind == Some(FileSystem::Fat) {
        return guard::open(doing, || {
            Ok(Box::new(FatAgent::new(storage, place, epoch)?))
        });
    }
    let base = open(Arc::clone(storage), Access::Read, Timestamp::default())?;
    Ok(Box::new(Agent::new(base, place, epoch, growth)?))
}

/// Which file system on `storage`, XFS or btrfs, has a log that waits to be replayed.
///
/// # Errors
/// As [`open`], for those; what the storage gives.
pub fn needs_replay(storage: &Arc<dyn Storage>) -> Result<Option<FileSystem>> {
    let doing = "look at the log of the file system";
    let found = detect(storage.as_ref()).map_err(|error| storage_failed(doing, &error))?;
    let waits = match found {
        Some(FileSystem::Xfs) => guard::catch(doing, || Xfs::is_dirty(storage))?,
        Some(FileSystem::Btrfs) => guard::catch(doing, || Btrfs::is_dirty(storage))?,
        _ => false,
    };
    Ok(found.filter(|_| waits))
}

fn growth(storage: &Arc<dyn Storage>) -> Result<Option<Growth>> {
    let doing = "grow the file system";
    match detect(storage.as_ref()).map_err(|error| storage_failed(doing, &error))? {
        Some(FileSystem::Xfs) => guard::catch(doing, || Ok(Xfs::open(storage)?.growth())),
        Some(FileSystem::Btrfs) => guard::catch(doing, || Ok(Btrfs::open(storage)?.growth())),
        _ => Err(refuse(
            Problem::NotSupported,
            doing,
            "a guest kernel grows XFS and btrfs alone",
        )),
    }
}

/// Opens the file system on `storage` with the engine that works in this
/// process. `epoch` stands for the present: every time stamp that the operations
/// do not name takes it, so that the same operations give the same bytes.
///
/// # Errors
/// [`Problem::NotSupported`] to write XFS or btrfs, for features that nodekiln does not
/// maintain and for what is no file system; [`Problem::Damaged`] for what
/// contradicts itself, was not unmounted or has errors recorded.
pub fn open(
    storage: Arc<dyn Storage>,
    access: Access,
    epoch: Timestamp,
) -> Result<Box<dyn Volume>> {
    let doing = "open the file system";
    match detect(storage.as_ref()).map_err(|error| storage_failed(doing, &error))? {
        Some(FileSystem::Ext4) => {
            guard::open(doing, || Ok(Box::new(Ext4::open(&storage, access, epoch)?)))
        }
        Some(FileSystem::Fat) => guard::open(doing, || {
            Ok(Box::new(fat::Fat::open(storage, access, epoch)?))
        }),
        Some(FileSystem::Xfs) if access == Access::Read => {
            guard::open(doing, || Ok(Box::new(ReadOnly::new(Xfs::open(&storage)?))))
        }
        Some(FileSystem::Btrfs) if access == Access::Read => guard::open(doing, || {
            Ok(Box::new(ReadOnly::new(Btrfs::open(&storage)?)))
        }),
        Some(kind @ (FileSystem::Xfs | FileSystem::Btrfs)) => Err(refuse(
            Problem::NotSupported,
            doing,
            format!(
                "it is {}, which no engine of this process edits",
                kind.name()
            ),
        )
        .hint("a kernel edits it: --engine agent, or as root --engine mount")),
        None => Err(refuse(
            Problem::NotSupported,
            doing,
            "it is neither ext4 nor FAT nor XFS nor btrfs",
        )
        .hint("look at the partitions with: sgdisk -p IMAGE")),
    }
}
