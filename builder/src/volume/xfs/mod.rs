//! XFS, read in this process by `rust-fs-xfs`.
//!
//! Only what that driver reads is used: what it writes is not what the kernel takes
//! (`docs/decisions.md`). Editing is the work of [`Agent`](super::agent::Agent), with this
//! as the tree that is there.

mod admit;
pub mod fuzz;
mod log;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use fs_xfs::check::Severity;
use fs_xfs::dir::DirEntry;
use fs_xfs::inode::{FileType, Format, Inode};
use fs_xfs::{Filesystem, Superblock};

use super::agent::Growth;
use super::identity::uuid_text;
use super::read_device::ReadDevice;
use super::read_only::{Reader, time};
use super::refusal::{refuse, regular_file, storage_failed};
use super::{
    Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space, Timestamp,
};
use crate::disk::Storage;
use crate::error::{Error, Result};

/// Blocks of metadata that the driver remembers.
const CACHE: usize = 4096;
/// Largest folder that is read, in bytes of its names: one that has held a million files
/// has about 64 MiB.
const LARGEST_FOLDER: u64 = 256 << 20;
/// Most pieces of one file that are read: what maps them is kept in memory.
const MOST_PIECES: u64 = 1 << 20;
/// Most bytes of blocks of extended attributes of one file.
const LARGEST_ATTRIBUTES: u64 = 64 << 20;
/// Most blocks of a file system that is checked: each takes about 16 bytes of memory.
const LARGEST_CHECK: u64 = 1 << 24;
/// Largest file that is read although it is larger than its file system, in bytes: it is
/// full of holes.
const LARGEST_HOLES: u64 = 4 << 30;
/// Bytes copied at once.
const PIECE: u64 = 1 << 20;
/// How XFS keeps access control lists; the driver tells them by the names of programs too.
const STORED_LISTS: &str = "trusted.SGI_ACL_";
/// Blocks that Linux keeps for itself (`xfs_default_resblks`).
const RESERVED: u64 = 8192;
/// Read-only compatible features that keep room for trees that may grow.
const RESERVING: u32 = 0x2 | 0x4;

/// An XFS file system, for reading.
pub struct Xfs {
    driver: Filesystem,
    device: Arc<ReadDevice>,
    last_written: Timestamp,
}

impl fmt::Debug for Xfs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Xfs")
            .field("superblock", self.driver.superblock())
            .finish_non_exhaustive()
    }
}

/// The driver's errors in our terms.
fn translate(doing: &str, error: fs_xfs::Error, device: &ReadDevice) -> Error {
    use fs_xfs::Error as Xfs;
    let problem = match error {
        Xfs::Io(_) if !device.is_damaged() => Problem::Io,
        Xfs::NotFound => Problem::NotFound,
        Xfs::NotADirectory => Problem::NotADirectory,
        Xfs::UnsupportedFeature(_) | Xfs::RealtimeDeviceAbsent { .. } | Xfs::NotXfs { .. } => {
            Problem::NotSupported
        }
        _ => Problem::Damaged,
    };
    let refusal = refuse(problem, doing, error.to_string());
    if problem == Problem::Damaged {
        return refusal.hint("check a copy of the partition with: xfs_repair -n");
    }
    refusal
}

impl Xfs {
    /// Opens the file system on `storage`.
    ///
    /// # Errors
    /// [`Problem::NotSupported`] for features that are not known;
    /// [`Problem::Damaged`] for what contradicts itself or its storage, or was not
    /// unmounted.
    pub fn open(storage: &Arc<dyn Storage>) -> Result<Self> {
        let doing = "open the XFS file system";
        let device = Arc::new(ReadDevice::new(Arc::clone(storage)));
        admit::admit(&device)?;
        let driver = Filesystem::mount_with_cache(device.clone(), CACHE)
            .map_err(|error| translate(doing, error, &device))?;
        let root = driver.superblock().rootino;
        let mut opened = Self {
            driver,
            device,
            last_written: Timestamp::default(),
        };
        let (inode, _) = opened.folder_inode(root, doing)?;
        // XFS does not record when it was written: what comes next to it is when its top
        // folder was changed last.
        opened.last_written =
            time(inode.ctime.sec, inode.ctime.nsec).max(time(inode.mtime.sec, inode.mtime.nsec));
        Ok(opened)
    }

    /// Whether the log of the XFS on `storage` holds changes that are not in their places:
    /// it was not unmounted.
    ///
    /// # Errors
    /// As [`Xfs::open`].
    pub fn is_dirty(storage: &Arc<dyn Storage>) -> Result<bool> {
        let device = ReadDevice::new(Arc::clone(storage));
        let superblock = admit::superblock(&device)?;
        admit::is_dirty(&device, &superblock)
    }

    /// Empties the log of the XFS on `storage`, which a kernel has unmounted: nothing in it
    /// is read again, and what it holds differs each time. Tells whether that was done; a
    /// log that does not end in a sound record of an unmount stays as it is.
    ///
    /// # Errors
    /// As [`Xfs::open`]; what writing gives.
    pub fn settle_log(storage: &Arc<dyn Storage>) -> Result<bool> {
        let device = ReadDevice::new(Arc::clone(storage));
        let superblock = admit::superblock(&device)?;
        log::settle(storage.as_ref(), &superblock)
            .map_err(|error| storage_failed("empty the log of the file system", &error))
    }

    /// How large the file system becomes when it is to fill its storage; `None` when it
    /// does already.
    pub fn growth(&self) -> Option<Growth> {
        use fs_core::BlockRead as _;
        let superblock = self.superblock();
        let to = self.device.size_bytes() / u64::from(superblock.blocksize);
        (to > superblock.dblocks).then_some(Growth {
            block_size: superblock.blocksize,
            from: superblock.dblocks,
            to,
            inode_percent: u32::from(superblock.imax_pct),
        })
    }

    /// Checks the whole file system, with the driver's own checker.
    ///
    /// # Errors
    /// As [`Xfs::open`]; [`crate::Class::Unsupported`] for one of more blocks than are
    /// kept in memory.
    pub fn check(storage: &Arc<dyn Storage>) -> Result<Vec<String>> {
        let opened = Self::open(storage)?;
        let blocks = opened.superblock().dblocks;
        if blocks > LARGEST_CHECK {
            return Err(Error::unsupported(format!(
                "check an XFS of {blocks} blocks: at most {LARGEST_CHECK} are"
            )));
        }
        let report = fs_xfs::check::check(&opened.driver);
        let errors = report
            .findings
            .iter()
            .filter(|finding| finding.severity() == Severity::Error);
        let mut found: Vec<String> = errors.map(|finding| finding.what.clone()).collect();
        if found.is_empty() && !report.is_clean() {
            found.push("not all of it could be read".to_owned());
        }
        Ok(found)
    }

    fn superblock(&self) -> &Superblock {
        self.driver.superblock()
    }

    fn failed(&self, doing: &str) -> impl Fn(fs_xfs::Error) -> Error {
        let (doing, device) = (doing.to_owned(), Arc::clone(&self.device));
        move |error| translate(&doing, error, &device)
    }

    fn inode(&self, number: u64, doing: &str) -> Result<(Inode, Vec<u8>)> {
        let read = self
            .driver
            .read_inode_raw(number)
            .map_err(self.failed(doing))?;
        let most = if read.0.is_dir() {
            LARGEST_FOLDER / u64::from(self.superblock().blocksize)
        } else {
            MOST_PIECES
        };
        if read.0.nextents > most || u64::from(read.0.anextents) > MOST_PIECES / 16 {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!("inode {number} lies in {} pieces", read.0.nextents),
            ));
        }
        Ok(read)
    }

    /// The inode of a folder whose blocks make sense.
    fn folder_inode(&self, number: u64, doing: &str) -> Result<(Inode, Vec<u8>)> {
        let (inode, raw) = self.inode(number, doing)?;
        if !inode.is_dir() {
            return Err(refuse(Problem::NotADirectory, doing, "it is no folder"));
        }
        if inode.format != Format::Local {
            let extents = self
                .driver
                .data_extents(&inode, &raw)
                .map_err(self.failed(doing))?;
            let blocks: u64 = extents.iter().map(|extent| extent.blockcount).sum();
            let bytes = blocks.saturating_mul(u64::from(self.superblock().blocksize));
            if bytes > LARGEST_FOLDER {
                return Err(refuse(
                    Problem::NotSupported,
                    doing,
                    format!("the folder has {bytes} bytes"),
                ));
            }
        }
        Ok((inode, raw))
    }

    fn look_up(&self, folder: u64, name: &[u8], doing: &str) -> Result<Option<Inode>> {
        let (inode, raw) = self.folder_inode(folder, doing)?;
        match self.driver.lookup(&inode, &raw, name) {
            Ok(found) => Ok(Some(found)),
            Err(fs_xfs::Error::NotFound) => Ok(None),
            Err(error) => Err(self.failed(doing)(error)),
        }
    }

    fn xattrs(&self, inode: &Inode, raw: &[u8], doing: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        // Every block of the fork is counted as a block of the file.
        let blocks = inode
            .nblocks
            .saturating_mul(u64::from(self.superblock().blocksize));
        if inode.aformat == Format::Btree && blocks > LARGEST_ATTRIBUTES && !inode.is_regular_file()
        {
            let text = "its extended attributes are too many";
            return Err(refuse(Problem::NotSupported, doing, text));
        }
        let found = self
            .driver
            .list_xattrs(inode, raw)
            .map_err(self.failed(doing))?;
        let named = found.into_iter().map(|xattr| {
            let name = String::from_utf8_lossy(&xattr.name).into_owned();
            (name, xattr.value)
        });
        Ok(named
            .filter(|(name, _)| !name.starts_with(STORED_LISTS))
            .collect())
    }

    /// Copies the content of a regular file.
    fn copy_inode(
        &self,
        inode: &Inode,
        raw: &[u8],
        sink: &mut dyn Write,
        doing: &str,
    ) -> Result<()> {
        let failed = |error| Error::io(doing, error);
        let block = u64::from(self.superblock().blocksize);
        let room = self.superblock().dblocks.saturating_mul(block);
        if inode.size > room.max(LARGEST_HOLES) {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!("it has {} bytes, more than its file system", inode.size),
            ));
        }
        let extents = if inode.format == Format::Local {
            Vec::new()
        } else {
            self.driver
                .data_extents(inode, raw)
                .map_err(self.failed(doing))?
        };
        let mut buffer = vec![0; PIECE.min(inode.size) as usize];
        let mut at = 0;
        let mut extents = extents.iter().peekable();
        while at < inode.size {
            while extents
                .next_if(|extent| (extent.startoff + extent.blockcount) * block <= at)
                .is_some()
            {}
            let next = extents.peek();
            let (end, source) = match next {
                Some(extent) if extent.startoff * block <= at => {
                    let end = (extent.startoff + extent.blockcount) * block;
                    let from = self.superblock().fsblock_offset(extent.startblock);
                    let inside = at - extent.startoff * block;
                    (end, (!extent.unwritten).then_some(from + inside))
                }
                Some(extent) => (extent.startoff * block, None),
                None => (inode.size, None),
            };
            let piece = (end.min(inode.size) - at).min(PIECE) as usize;
            let bytes = &mut buffer[..piece];
            match source {
                Some(offset) => self
                    .device
                    .read(bytes, offset)
                    .map_err(|error| storage_failed(doing, &error))?,
                None => bytes.fill(0),
            }
            sink.write_all(bytes).map_err(failed)?;
            at += piece as u64;
        }
        Ok(())
    }
}

fn kind_of(inode: &Inode, doing: &str) -> Result<Kind> {
    kind(inode.file_type()).ok_or_else(|| {
        let text = format!("inode {} has the mode {:o}", inode.ino, inode.mode);
        refuse(Problem::Damaged, doing, text)
    })
}

fn kind(found: Option<FileType>) -> Option<Kind> {
    Some(match found? {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    })
}

impl Reader for Xfs {
    fn identity(&self) -> Identity {
        Identity {
            file_system: FileSystem::Xfs,
            label: self.superblock().fname.clone(),
            uuid: uuid_text(&self.superblock().uuid),
            last_written: self.last_written,
        }
    }

    fn space(&mut self) -> Result<Space> {
        let superblock = self.superblock();
        let block = u64::from(superblock.blocksize);
        // Linux gives users less than is free: a reserve of its own, some blocks of each
        // group, and room for trees that may grow.
        let mut kept = RESERVED.min(superblock.dblocks / 20);
        kept += 16 * u64::from(superblock.agcount);
        if superblock.features_ro_compat & RESERVING != 0 {
            kept += superblock.dblocks / 50;
        }
        Ok(Space {
            block_size: superblock.blocksize,
            total: superblock.dblocks * block,
            free: superblock.fdblocks.saturating_sub(kept) * block,
            // Inodes are made where there is room.
            free_inodes: None,
        })
    }

    fn root(&self) -> u64 {
        self.superblock().rootino
    }

    fn child(&mut self, folder: u64, name: &[u8], doing: &str) -> Result<Option<(u64, Kind)>> {
        let found = self.look_up(folder, name, doing)?;
        found
            .map(|inode| Ok((inode.ino, kind_of(&inode, doing)?)))
            .transpose()
    }

    fn metadata(&mut self, number: u64, doing: &str) -> Result<Metadata> {
        let (inode, raw) = self.inode(number, doing)?;
        let kind = kind_of(&inode, doing)?;
        Ok(Metadata {
            kind,
            size: match kind {
                Kind::Special => 0,
                _ => inode.size,
            },
            links: inode.nlink,
            inode: inode.ino,
            attributes: Attributes {
                mode: u32::from(inode.permissions()),
                uid: inode.uid,
                gid: inode.gid,
                modified: time(inode.mtime.sec, inode.mtime.nsec),
                xattrs: self.xattrs(&inode, &raw, doing)?,
            },
        })
    }

    fn list(&mut self, number: u64, doing: &str) -> Result<Vec<DirectoryEntry>> {
        let (inode, raw) = self.folder_inode(number, doing)?;
        let listed = self
            .driver
            .read_dir(&inode, &raw)
            .map_err(self.failed(doing))?;
        let entry = |entry: DirEntry| {
            let kind = match kind(entry.ftype) {
                Some(kind) => kind,
                None => kind_of(&self.inode(entry.ino, doing)?.0, doing)?,
            };
            Ok(DirectoryEntry {
                name: entry.name,
                kind,
            })
        };
        listed.into_iter().map(entry).collect()
    }

    fn copy(&mut self, number: u64, sink: &mut dyn Write, doing: &str) -> Result<u64> {
        let (inode, raw) = self.inode(number, doing)?;
        regular_file(kind_of(&inode, doing)?, doing)?;
        self.copy_inode(&inode, &raw, sink, doing)?;
        Ok(inode.size)
    }

    fn target(&mut self, number: u64, doing: &str) -> Result<Vec<u8>> {
        let (inode, raw) = self.inode(number, doing)?;
        if !inode.is_symlink() {
            return Err(refuse(Problem::NotSupported, doing, "it is no link"));
        }
        self.driver
            .read_link(&inode, &raw)
            .map_err(self.failed(doing))
    }
}
