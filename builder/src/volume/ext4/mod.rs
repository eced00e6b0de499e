//! ext4, edited in this process by `rust-fs-ext4`.
//!
//! The driver is used without its journal: the image is a layer that is thrown
//! away when anything fails, so a journal would only double the writing. Its
//! calls do the allocation, directories and links; what it does slowly or by
//! path only (content, final attributes, extended attributes) is done here on
//! raw inodes with its public pieces.

mod acl;
mod admit;
mod bounds;
mod calls;
pub mod check;
mod content;
mod descriptor;
mod device;
pub mod first_mount;
pub mod fuzz;
pub mod gate;
mod geometry;
pub mod grow;
mod inode;
mod moving;
mod xattr;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_ext4::error::Error as Ext4Error;
use fs_ext4::fs::Filesystem;
use fs_ext4::inode::Inode;
use fs_ext4::runtime::Runtime;

use self::device::Device;
use self::inode::RawInode;
use super::places::Places;
use super::refusal::{refuse, storage_failed};
use super::{Access, Attributes, Problem, Timestamp};
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
    places: Places,
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
        admit::prepare(storage, &device, &superblock, access)?;
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
        let opened = Self {
            driver,
            device,
            superblock,
            access,
            epoch,
            folders: HashMap::new(),
            places: Places::new(ROOT.into()),
        };
        opened.admit_folder(ROOT, doing)?;
        Ok(opened)
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
        let mut below = ImagePath::root();
        for component in path.components() {
            below = below.join(component)?;
            if let Some(known) = self.folders.get(&below) {
                number = *known;
                continue;
            }
            let parent = number;
            number = self
                .driver
                .lookup_at(parent, component)
                .map_err(|error| translate(doing, error))?;
            if !self.inode(number, doing)?.0.is_dir() {
                return Err(refuse(
                    Problem::NotADirectory,
                    doing,
                    format!("a component of {path} is no folder"),
                ));
            }
            self.places
                .one_name(number.into(), parent.into(), component, doing)?;
            self.admit_folder(number, doing)?;
            if self.folders.len() >= KNOWN_FOLDERS {
                self.folders.clear();
            }
            self.folders.insert(below.clone(), number);
        }
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
            self.admit(number, doing)?;
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
            self.admit_attributes(&raw, doing)?;
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
