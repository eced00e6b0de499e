//! ext4, edited in this process by `rust-fs-ext4`.
//!
//! The driver is used without its journal: the image is a layer that is thrown
//! away when anything fails, so a journal would only double the writing. Its
//! calls do the allocation, directories and links; what it does slowly or by
//! path only (content, final attributes, extended attributes) is done here on
//! raw inodes with its public pieces.

mod acl;
mod content;
mod device;
pub mod gate;
mod inode;
mod moving;
mod xattr;

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_ext4::dir::DirEntryType;
use fs_ext4::error::Error as Ext4Error;
use fs_ext4::fs::Filesystem;
use fs_ext4::inode::Inode;
use fs_ext4::runtime::Runtime;

use self::device::Device;
use self::inode::{RawInode, kind_of};
use super::refusal::{refuse, storage_failed};
use super::{
    Access, Attributes, DirectoryEntry, FileSystem, Kind, Metadata, Problem, Space, Timestamp,
    Volume,
};
use crate::disk::Storage;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// The root directory's inode.
const ROOT: u32 = 2;
/// Folders whose inode is remembered.
const KNOWN_FOLDERS: usize = 4096;

/// An ext4 file system.
pub struct Ext4 {
    driver: Filesystem,
    device: Arc<Device>,
    superblock: gate::Superblock,
    access: Access,
    epoch: Timestamp,
    folders: HashMap<ImagePath, u32>,
}

impl fmt::Debug for Ext4 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ext4")
            .field("superblock", &self.superblock)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The driver's clock and its numbers for inodes, both from the epoch.
#[derive(Debug)]
struct FixedTime {
    seconds: i64,
    generation: AtomicU32,
}

impl Runtime for FixedTime {
    fn now_unix_seconds(&self) -> i64 {
        self.seconds
    }

    fn next_inode_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }
}

impl Ext4 {
    /// Opens the file system on `storage`; a journal that is not replayed is
    /// replayed (in memory only, for reading).
    ///
    /// # Errors
    /// As [`gate::judge`], and what the driver finds.
    pub fn open(storage: &Arc<dyn Storage>, access: Access, epoch: Timestamp) -> Result<Self> {
        let doing = "open the ext4 file system";
        let superblock = read_superblock(storage.as_ref(), access)?;
        let device = Arc::new(Device::new(storage.clone(), access == Access::Write));
        let runtime = FixedTime {
            seconds: epoch.seconds,
            generation: AtomicU32::new((epoch.seconds as u32).wrapping_mul(0x9E37_79B1) | 1),
        };
        let mut driver = Filesystem::mount_with_runtime(device.clone(), Arc::new(runtime))
            .map_err(|error| translate(doing, error))?;
        driver.journal = None;
        let superblock = if access == Access::Write && superblock.needs_recovery() {
            // What the journal held may say more: errors, orphans, features.
            device
                .write_back()
                .map_err(|error| storage_failed(doing, &error))?;
            read_superblock(storage.as_ref(), access)?
        } else {
            superblock
        };
        Ok(Self {
            driver,
            device,
            superblock,
            access,
            epoch,
            folders: HashMap::new(),
        })
    }

    fn writable(&self, doing: &str) -> Result<()> {
        if self.access == Access::Write {
            return Ok(());
        }
        Err(refuse(
            Problem::NotSupported,
            doing,
            "the image is open for reading",
        ))
    }

    /// The inode of the folder `path`; a link on the way, or at its end, is no
    /// folder.
    fn folder(&mut self, path: &ImagePath, doing: &str) -> Result<u32> {
        if path.is_root() {
            return Ok(ROOT);
        }
        if let Some(known) = self.folders.get(path) {
            return Ok(*known);
        }
        let mut number = ROOT;
        for component in path.components() {
            number = self
                .driver
                .lookup_at(number, component)
                .map_err(|error| translate(doing, error))?;
            if !self.inode(number, doing)?.0.is_dir() {
                return Err(refuse(
                    Problem::NotADirectory,
                    doing,
                    format!("a component of {path} is no folder"),
                ));
            }
        }
        if self.folders.len() >= KNOWN_FOLDERS {
            self.folders.clear();
        }
        self.folders.insert(path.clone(), number);
        Ok(number)
    }

    fn inode(&self, number: u32, doing: &str) -> Result<(Inode, Vec<u8>)> {
        self.driver
            .read_inode_verified(number)
            .map_err(|error| translate(doing, error))
    }

    /// The parent's inode and the name in it; the root has neither.
    fn place_of<'a>(
        &mut self,
        path: &'a ImagePath,
        doing: &str,
    ) -> Result<Option<(u32, &'a [u8])>> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(Some((self.folder(&parent, doing)?, name))),
            _ => Ok(None),
        }
    }

    /// What is at `path`, its parent being a folder.
    fn find(&mut self, path: &ImagePath, doing: &str) -> Result<Option<u32>> {
        let Some((parent, name)) = self.place_of(path, doing)? else {
            return Ok(Some(ROOT));
        };
        self.find_in(parent, name, doing)
    }

    fn find_in(&self, parent: u32, name: &[u8], doing: &str) -> Result<Option<u32>> {
        match self.driver.lookup_at(parent, name) {
            Ok(number) => Ok(Some(number)),
            Err(Ext4Error::NotFound) => Ok(None),
            Err(error) => Err(translate(doing, error)),
        }
    }

    fn existing(&mut self, path: &ImagePath, doing: &str) -> Result<u32> {
        self.find(path, doing)?
            .ok_or_else(|| refuse(Problem::NotFound, doing, format!("{path} does not exist")))
    }

    /// Makes room for a new file or link at `path`: what is there goes, unless
    /// it is a folder.
    fn replace(&mut self, path: &ImagePath, doing: &str) -> Result<(u32, Vec<u8>)> {
        self.writable(doing)?;
        let folder = || refuse(Problem::IsADirectory, doing, format!("{path} is a folder"));
        let Some((parent, name)) = self.place_of(path, doing)? else {
            return Err(folder());
        };
        if let Some(number) = self.find_in(parent, name, doing)? {
            if self.inode(number, doing)?.0.is_dir() {
                return Err(folder());
            }
            self.driver
                .apply_unlink_at(parent, name)
                .map_err(|error| translate(doing, error))?;
        }
        Ok((parent, name.to_vec()))
    }

    fn absent(&mut self, path: &ImagePath, doing: &str) -> Result<(u32, Vec<u8>)> {
        self.writable(doing)?;
        let exists = || refuse(Problem::Exists, doing, format!("{path} exists"));
        let Some((parent, name)) = self.place_of(path, doing)? else {
            return Err(exists());
        };
        if self.find_in(parent, name, doing)?.is_some() {
            return Err(exists());
        }
        Ok((parent, name.to_vec()))
    }

    /// Gives the new inode `number` its final attributes; `change` may set more
    /// before it is written, once.
    fn dress(
        &mut self,
        number: u32,
        attributes: &Attributes,
        doing: &str,
        change: impl FnOnce(&mut RawInode<'_>),
    ) -> Result<()> {
        let (_, mut raw) = self.inode(number, doing)?;
        let mut inode = RawInode(&mut raw);
        inode.widen();
        change(&mut inode);
        inode.set_attributes(attributes);
        inode.set_changed(self.epoch);
        let area = inode.attribute_area().len();
        if !attributes.xattrs.is_empty() || inode.attribute_block() != 0 || area > 0 {
            let layout = self.lay_out(&attributes.xattrs, area, doing)?;
            self.place(&mut raw, layout, doing)?;
        }
        self.write_inode(number, &mut raw)
            .map_err(|error| translate(doing, error))
    }

    fn write_inode(&self, number: u32, raw: &mut [u8]) -> Result<(), Ext4Error> {
        let generation = Inode::parse(raw)?.generation;
        if let Some((low, high)) = self
            .driver
            .csum
            .compute_inode_checksum(number, generation, raw)
        {
            raw[0x7C..0x7E].copy_from_slice(&low.to_le_bytes());
            if raw.len() >= 0x84 && RawInode(raw).extra_size() >= 4 {
                raw[0x82..0x84].copy_from_slice(&high.to_le_bytes());
            }
        }
        self.driver.write_inode_raw(number, raw)
    }

    /// Takes a name that could not be finished back, so that a refused call
    /// leaves nothing half-made.
    fn undo<T>(&mut self, parent: u32, name: &[u8], done: Result<T>) -> Result<T> {
        if done.is_err() {
            self.driver.apply_unlink_at(parent, name).ok();
        }
        done
    }
}

fn read_superblock(storage: &dyn Storage, access: Access) -> Result<gate::Superblock> {
    let mut raw = [0; gate::SUPERBLOCK_SIZE];
    storage
        .read_at(&mut raw, gate::SUPERBLOCK_OFFSET)
        .map_err(|error| storage_failed("read the ext4 superblock", &error))?;
    gate::judge(&raw, storage.size(), access)
}

/// The driver's errors in our terms. Two of its "corrupt" cases are a full file
/// system (no inode, no block for a folder).
fn translate(doing: &str, error: Ext4Error) -> Error {
    let text = error.to_string();
    let problem = match error {
        Ext4Error::Io(cause) => return storage_failed(doing, &cause),
        Ext4Error::NotFound => Problem::NotFound,
        Ext4Error::NotADirectory => Problem::NotADirectory,
        Ext4Error::IsADirectory => Problem::IsADirectory,
        Ext4Error::AlreadyExists => Problem::Exists,
        Ext4Error::DirectoryNotEmpty => Problem::NotEmpty,
        Ext4Error::NoSpaceLeftOnDevice
        | Ext4Error::Corrupt(
            "no group has a free inode" | "no group has a contiguous free run of this size",
        ) => Problem::NoSpace,
        Ext4Error::ReadOnly
        | Ext4Error::NameTooLong
        | Ext4Error::TooManyLinks
        | Ext4Error::InvalidArgument(_)
        | Ext4Error::Unsupported(_)
        | Ext4Error::UnsupportedIncompat(_)
        | Ext4Error::UnsupportedRoCompat(_) => Problem::NotSupported,
        _ => Problem::Damaged,
    };
    refuse(problem, doing, text)
}

impl Volume for Ext4 {
    fn file_system(&self) -> FileSystem {
        FileSystem::Ext4
    }

    fn label(&self) -> String {
        self.superblock.label.clone()
    }

    fn uuid(&self) -> String {
        super::identity::uuid_text(&self.superblock.uuid)
    }

    fn last_written(&self) -> Timestamp {
        self.superblock.last_written
    }

    fn space(&mut self) -> Result<Space> {
        let doing = "read the free space of the ext4 file system";
        let mut raw = [0; gate::SUPERBLOCK_SIZE];
        self.driver
            .dev
            .read_at(gate::SUPERBLOCK_OFFSET, &mut raw)
            .map_err(|error| translate(doing, error))?;
        // The driver clears the state while it writes: only the counts matter.
        let now = gate::judge(&raw, self.driver.dev.size_bytes(), Access::Read)?;
        let block = u64::from(now.block_size);
        Ok(Space {
            block_size: now.block_size,
            total: now.blocks * block,
            free: now.free_blocks * block,
            free_inodes: Some(u64::from(now.free_inodes)),
        })
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        let number = match self.find(path, &doing) {
            Ok(Some(number)) => number,
            Ok(None) => return Ok(None),
            Err(error) => {
                return match super::problem(&error) {
                    Some(Problem::NotFound | Problem::NotADirectory) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let (inode, raw) = self.inode(number, &doing)?;
        Ok(Some(Metadata {
            kind: kind_of(inode.mode),
            size: inode.size,
            links: u32::from(inode.links_count),
            inode: u64::from(number),
            attributes: Attributes {
                mode: u32::from(inode.mode & 0o7777),
                uid: inode.uid,
                gid: inode.gid,
                modified: Timestamp {
                    seconds: inode.mtime,
                    nanoseconds: inode.mtime_nsec,
                },
                xattrs: self.attributes_of(&inode, &raw, &doing)?,
            },
        }))
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let doing = format!("list {path}");
        let number = self.folder(path, &doing)?;
        let found = self
            .driver
            .read_dir_ino(number)
            .map_err(|error| translate(&doing, error))?;
        let mut entries = Vec::with_capacity(found.len());
        for entry in found {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let kind = match entry.file_type {
                DirEntryType::RegFile => Kind::File,
                DirEntryType::Directory => Kind::Directory,
                DirEntryType::Symlink => Kind::Symlink,
                DirEntryType::Unknown => kind_of(self.inode(entry.inode, &doing)?.0.mode),
                _ => Kind::Special,
            };
            entries.push(DirectoryEntry {
                name: entry.name,
                kind,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let number = self.existing(path, &doing)?;
        self.copy_out(number, &doing, sink)
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        let number = self.existing(path, &doing)?;
        self.driver
            .read_link_ino(number)
            .map_err(|error| translate(&doing, error))
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("create the folder {path}");
        let (parent, name) = self.absent(path, &doing)?;
        let number = self
            .driver
            .apply_mkdir_at(parent, &name, 0)
            .map_err(|error| translate(&doing, error))?;
        let done = self.dress(number, attributes, &doing, |_| {});
        if done.is_err() {
            self.driver.apply_rmdir_at(parent, &name).ok();
        }
        done
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("write {path}");
        self.writable(&doing)?;
        self.room_for(path, size, &doing)?;
        let (parent, name) = self.replace(path, &doing)?;
        let number = self
            .driver
            .apply_create_at(parent, &name, 0)
            .map_err(|error| translate(&doing, error))?;
        let done = self
            .copy_in(number, size, content, &doing)
            .and_then(|()| self.dress(number, attributes, &doing, |inode| inode.set_size(size)));
        self.undo(parent, &name, done)
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        self.writable(&doing)?;
        let number = self.existing(path, &doing)?;
        self.append(number, content, &doing)
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("create the link {path}");
        let (parent, name) = self.replace(path, &doing)?;
        let number = self
            .driver
            .apply_symlink_at(parent, &name, target)
            .map_err(|error| translate(&doing, error))?;
        let done = self.dress(number, attributes, &doing, |_| {});
        self.undo(parent, &name, done)
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        let doing = format!("link {path} to {existing}");
        let number = self.existing(existing, &doing)?;
        if self.inode(number, &doing)?.0.is_dir() {
            return Err(refuse(
                Problem::IsADirectory,
                doing,
                "folders have one name",
            ));
        }
        let (parent, name) = self.absent(path, &doing)?;
        self.driver
            .apply_link_at(number, parent, &name)
            .map_err(|error| translate(&doing, error))
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        self.writable(&doing)?;
        let number = self.existing(path, &doing)?;
        self.dress(number, attributes, &doing, |_| {})
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove {path}");
        self.writable(&doing)?;
        let Some((parent, name)) = self.place_of(path, &doing)? else {
            return Err(refuse(Problem::IsADirectory, doing, "it is the root"));
        };
        self.driver
            .apply_unlink_at(parent, name)
            .map_err(|error| translate(&doing, error))
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        self.writable(&doing)?;
        let Some((parent, name)) = self.place_of(path, &doing)? else {
            return Err(refuse(Problem::NotSupported, doing, "it is the root"));
        };
        self.folders.retain(|known, _| !known.starts_with(path));
        self.driver
            .apply_rmdir_at(parent, name)
            .map_err(|error| translate(&doing, error))
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        let doing = format!("rename {from} to {to}");
        self.writable(&doing)?;
        if to.starts_with(from) && to != from {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                "a folder cannot move into itself",
            ));
        }
        let (Some(source), Some(target)) =
            (self.place_of(from, &doing)?, self.place_of(to, &doing)?)
        else {
            return Err(refuse(Problem::NotSupported, doing, "the root cannot move"));
        };
        if from.starts_with(to) && from != to && self.find(from, &doing)?.is_some() {
            return Err(refuse(
                Problem::NotEmpty,
                doing,
                format!("{to} holds what is moved there"),
            ));
        }
        self.folders
            .retain(|known, _| !known.starts_with(from) && !known.starts_with(to));
        match self
            .driver
            .apply_rename_at(source.0, source.1, target.0, target.1, true)
        {
            Ok(()) => Ok(()),
            // On its way up from the target the driver does not find `..` in an
            // indexed folder with checksums, and then moves no folder.
            Err(Ext4Error::NotFound) if self.find(from, &doing)?.is_some() => {
                self.move_folder(from, to, 0)
            }
            Err(error) => Err(translate(&doing, error)),
        }
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { driver, device, .. } = *self;
        let doing = "finish the ext4 file system";
        driver.finish().map_err(|error| translate(doing, error))?;
        device
            .write_back()
            .map_err(|error| storage_failed(doing, &error))
    }
}
