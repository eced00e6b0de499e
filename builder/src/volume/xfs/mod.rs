//! XFS, read in this process by `rust-fs-xfs`.
//!
//! Only what that driver reads is used: what it writes is not what the kernel takes
//! (`docs/decisions.md`). Editing is the work of [`Agent`](super::agent::Agent), with this
//! as the tree that is there.

mod admit;
mod device;
pub mod fuzz;
mod log;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use fs_xfs::check::Severity;
use fs_xfs::dir::DirEntry;
use fs_xfs::inode::{FileType, Format, Inode};
use fs_xfs::{Filesystem, Superblock};

use self::device::Device;
use super::agent::Growth;
use super::identity::uuid_text;
use super::places::Places;
use super::refusal::{refuse, regular_file, storage_failed};
use super::{
    Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space, Timestamp,
    Volume,
};
use crate::disk::Storage;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// Blocks of metadata that the driver remembers.
const CACHE: usize = 4096;
/// Folders whose inode is remembered.
const KNOWN_FOLDERS: usize = 4096;
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
    device: Arc<Device>,
    last_written: Timestamp,
    folders: HashMap<ImagePath, u64>,
    places: Places,
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
fn translate(doing: &str, error: fs_xfs::Error, device: &Device) -> Error {
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
        let device = Arc::new(Device::new(Arc::clone(storage)));
        admit::admit(&device)?;
        let driver = Filesystem::mount_with_cache(device.clone(), CACHE)
            .map_err(|error| translate(doing, error, &device))?;
        let root = driver.superblock().rootino;
        let mut opened = Self {
            driver,
            device,
            last_written: Timestamp::default(),
            folders: HashMap::new(),
            places: Places::new(root),
        };
        let (inode, _) = opened.folder_inode(root, doing)?;
        // XFS does not record when it was written: what comes next to it is when its top
        // folder was changed last.
        opened.last_written = time(inode.ctime).max(time(inode.mtime));
        Ok(opened)
    }

    /// Whether the log of the XFS on `storage` holds changes that are not in their places:
    /// it was not unmounted.
    ///
    /// # Errors
    /// As [`Xfs::open`].
    pub fn is_dirty(storage: &Arc<dyn Storage>) -> Result<bool> {
        let device = Device::new(Arc::clone(storage));
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
        let device = Device::new(Arc::clone(storage));
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

    fn root(&self) -> u64 {
        self.superblock().rootino
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

    /// The inode number of the folder `path`; a link on the way, or at its end, is none.
    fn folder(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        if path.is_root() {
            return Ok(self.root());
        }
        if let Some(known) = self.folders.get(path) {
            return Ok(*known);
        }
        let mut number = self.root();
        let mut below = ImagePath::root();
        for component in path.components() {
            below = below.join(component)?;
            if let Some(known) = self.folders.get(&below) {
                number = *known;
                continue;
            }
            let parent = number;
            let found = self.look_up(parent, component, doing)?.ok_or_else(|| {
                refuse(Problem::NotFound, doing, format!("{below} does not exist"))
            })?;
            if !found.is_dir() {
                let text = format!("a component of {path} is no folder");
                return Err(refuse(Problem::NotADirectory, doing, text));
            }
            number = found.ino;
            self.places.one_name(number, parent, component, doing)?;
            if self.folders.len() >= KNOWN_FOLDERS {
                self.folders.clear();
            }
            self.folders.insert(below.clone(), number);
        }
        Ok(number)
    }

    fn look_up(&self, folder: u64, name: &[u8], doing: &str) -> Result<Option<Inode>> {
        let (inode, raw) = self.folder_inode(folder, doing)?;
        match self.driver.lookup(&inode, &raw, name) {
            Ok(found) => Ok(Some(found)),
            Err(fs_xfs::Error::NotFound) => Ok(None),
            Err(error) => Err(self.failed(doing)(error)),
        }
    }

    /// What is at `path`, its folder being there.
    fn find(&mut self, path: &ImagePath, doing: &str) -> Result<Option<(Inode, Vec<u8>)>> {
        let number = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let folder = self.folder(&parent, doing)?;
                match self.look_up(folder, name, doing)? {
                    Some(found) => found.ino,
                    None => return Ok(None),
                }
            }
            _ => self.root(),
        };
        self.inode(number, doing).map(Some)
    }

    fn existing(&mut self, path: &ImagePath, doing: &str) -> Result<(Inode, Vec<u8>)> {
        self.find(path, doing)?
            .ok_or_else(|| refuse(Problem::NotFound, doing, format!("{path} does not exist")))
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
    fn copy(&self, inode: &Inode, raw: &[u8], sink: &mut dyn Write, doing: &str) -> Result<()> {
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

    fn read_only<T>(doing: impl Into<String>) -> Result<T> {
        Err(refuse(
            Problem::NotSupported,
            doing,
            "the image is open for reading",
        ))
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

fn time(found: fs_xfs::inode::Timestamp) -> Timestamp {
    Timestamp {
        seconds: found.sec,
        nanoseconds: found.nsec.min(999_999_999),
    }
}

impl Volume for Xfs {
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

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        let (inode, raw) = match self.find(path, &doing) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                return match super::problem(&error) {
                    Some(Problem::NotFound | Problem::NotADirectory) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let kind = kind_of(&inode, &doing)?;
        Ok(Some(Metadata {
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
                modified: time(inode.mtime),
                xattrs: self.xattrs(&inode, &raw, &doing)?,
            },
        }))
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let doing = format!("list {path}");
        let number = self.folder(path, &doing)?;
        let (inode, raw) = self.folder_inode(number, &doing)?;
        let listed = self
            .driver
            .read_dir(&inode, &raw)
            .map_err(self.failed(&doing))?;
        let entry = |entry: DirEntry| {
            let kind = match kind(entry.ftype) {
                Some(kind) => kind,
                None => kind_of(&self.inode(entry.ino, &doing)?.0, &doing)?,
            };
            Ok(DirectoryEntry {
                name: entry.name,
                kind,
            })
        };
        let mut entries: Vec<DirectoryEntry> =
            listed.into_iter().map(entry).collect::<Result<_>>()?;
        entries.sort();
        if let Some(entry) = entries
            .iter()
            .find(|entry| entry.name.contains(&b'/') || entry.name.contains(&0))
        {
            let text = format!("it holds the name '{}'", entry.name.escape_ascii());
            return Err(refuse(Problem::Damaged, doing, text));
        }
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let (inode, raw) = self.existing(path, &doing)?;
        regular_file(kind_of(&inode, &doing)?, &doing)?;
        self.copy(&inode, &raw, sink, &doing)?;
        Ok(inode.size)
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        let (inode, raw) = self.existing(path, &doing)?;
        if !inode.is_symlink() {
            return Err(refuse(Problem::NotSupported, doing, "it is no link"));
        }
        self.driver
            .read_link(&inode, &raw)
            .map_err(self.failed(&doing))
    }

    fn create_directory(&mut self, path: &ImagePath, _: &Attributes) -> Result<()> {
        Self::read_only(format!("create the folder {path}"))
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        _: u64,
        _: &mut dyn Read,
        _: &Attributes,
    ) -> Result<()> {
        Self::read_only(format!("write {path}"))
    }

    fn append_file(&mut self, path: &ImagePath, _: &[u8]) -> Result<()> {
        Self::read_only(format!("append to {path}"))
    }

    fn create_symlink(&mut self, path: &ImagePath, _: &[u8], _: &Attributes) -> Result<()> {
        Self::read_only(format!("create the link {path}"))
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        Self::read_only(format!("link {path} to {existing}"))
    }

    fn set_attributes(&mut self, path: &ImagePath, _: &Attributes) -> Result<()> {
        Self::read_only(format!("set the attributes of {path}"))
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        Self::read_only(format!("remove {path}"))
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        Self::read_only(format!("remove the folder {path}"))
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        Self::read_only(format!("rename {from} to {to}"))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
