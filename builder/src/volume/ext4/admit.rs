//! Looks at what a foreign image holds before the driver is asked to follow it:
//! the journal and the orphans before it is opened, block maps before a file is
//! removed or a folder is read. See [`super::bounds`].

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use fs_ext4::error::Error as Ext4Error;
use fs_ext4::fs::Filesystem;

use super::bounds::{self, Mapped, Room, Unfit};
use super::descriptor::Descriptor;
use super::device::Device;
use super::gate::{self, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::geometry::{Geometry, get32};
use super::{Ext4, ROOT, inode, translate};
use crate::disk::Storage;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::refusal::{refuse, storage_failed};
use crate::volume::{Access, Problem};

/// Largest folder that is read, in bytes: one that has held a million files has
/// about 64 MiB.
const LARGEST_FOLDER: u64 = 256 << 20;
/// Largest journal that is replayed, in bytes; `mke2fs` makes none larger.
const LARGEST_JOURNAL: u64 = 1 << 30;
/// Most blocks of a journal that take other blocks back: each names up to a
/// thousand, and all are kept in memory.
const MOST_REVOKES: u64 = 4096;
/// Most files that were in use without a name when the machine stopped.
const MOST_ORPHANS: usize = 1 << 16;
/// `JBD2_MAGIC_NUMBER` and `JBD2_REVOKE_BLOCK`, big-endian as all of a journal.
const REVOKE: [u8; 8] = [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 5];
/// Descriptors do not lie in one piece.
const INCOMPAT_META_BG: u32 = 0x10;

/// The error of an inode that is not handed on.
fn refused(unfit: Unfit, doing: &str) -> crate::Error {
    match unfit {
        Unfit::Damaged(text) => refuse(Problem::Damaged, doing, text),
        Unfit::TooLarge(text) => refuse(Problem::NotSupported, doing, text),
        Unfit::Io(error) => storage_failed(doing, &error),
    }
}

impl Ext4 {
    fn room(&self) -> Room {
        let superblock = &self.superblock;
        Room {
            block_size: superblock.block_size,
            first: u64::from(superblock.block_size == 1024) + 1,
            blocks: superblock.blocks,
            per_group: u64::from(superblock.blocks_per_group),
        }
    }

    fn map_of(&self, raw: &[u8]) -> std::result::Result<Mapped, Unfit> {
        bounds::walk(&self.room(), raw, &|block, bytes| {
            self.read_block(block, bytes)
        })
    }

    fn read_block(&self, block: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = block * u64::from(self.superblock.block_size);
        match self.driver.dev.read_at(offset, bytes) {
            Ok(()) => Ok(()),
            Err(Ext4Error::Io(error)) => Err(error),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Refuses to change or remove a file whose blocks make no sense.
    pub(super) fn admit(&self, number: u32, doing: &str) -> Result<()> {
        let (_, raw) = self.inode(number, doing)?;
        let room = self.room();
        self.map_of(&raw)
            .and_then(|mapped| bounds::count_holds(&room, &raw, &mapped))
            .and_then(|()| {
                bounds::attributes(&room, &raw, &|block, bytes| self.read_block(block, bytes))
            })
            .map_err(|unfit| refused(unfit, doing))
    }

    /// Refuses a block of extended attributes that makes no sense.
    pub(super) fn admit_attributes(&self, raw: &[u8], doing: &str) -> Result<()> {
        bounds::attributes(&self.room(), raw, &|block, bytes| {
            self.read_block(block, bytes)
        })
        .map_err(|unfit| refused(unfit, doing))
    }

    /// Refuses a folder whose blocks make no sense.
    pub(super) fn admit_folder(&self, number: u32, doing: &str) -> Result<()> {
        let (inode, raw) = self.inode(number, doing)?;
        if !inode.is_dir() {
            return Err(refuse(Problem::NotADirectory, doing, "it is no folder"));
        }
        if inode.has_inline_data() {
            return Ok(());
        }
        let mapped = self.map_of(&raw).map_err(|unfit| refused(unfit, doing))?;
        if inode.size > LARGEST_FOLDER {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!("the folder has {} bytes", inode.size),
            ));
        }
        let held = mapped.content * u64::from(self.superblock.block_size);
        if inode.size > held {
            return Err(refuse(
                Problem::Damaged,
                doing,
                format!("the folder has {} bytes, but blocks for {held}", inode.size),
            ));
        }
        Ok(())
    }

    /// Looks at what a rename removes and climbs, and forgets the places of both.
    /// `source` and `target` are a folder's inode and a name in it.
    pub(super) fn admit_rename(
        &mut self,
        source: (u32, &[u8]),
        target: (u32, &[u8]),
        to: &ImagePath,
        doing: &str,
    ) -> Result<()> {
        let moved = self.find_in(source.0, source.1, doing)?;
        let replaced = self.find_in(target.0, target.1, doing)?;
        if let Some(number) = moved
            && self.inode(number, doing)?.0.is_dir()
        {
            self.climbs(&to.parent().unwrap_or_else(ImagePath::root), doing)?;
        }
        if let Some(number) = replaced.filter(|_| replaced != moved) {
            self.admit(number, doing)?;
        }
        for number in [moved, replaced].into_iter().flatten() {
            self.places.forget(number.into());
        }
        Ok(())
    }

    /// Refuses to move a folder into `folder` when the way up by `..` is another
    /// than the way down: the driver climbs it, and it may never end.
    fn climbs(&mut self, folder: &ImagePath, doing: &str) -> Result<()> {
        let mut path = ImagePath::root();
        let mut above = ROOT;
        for component in folder.components() {
            path = path.join(component)?;
            let number = self.folder(&path, doing)?;
            match self.driver.lookup_at(number, b"..") {
                Ok(said) if said == above => {}
                // An indexed folder with checksums: the driver gives up there.
                Err(Ext4Error::NotFound) => {}
                Ok(_) => {
                    let text = format!("the '..' of {path} leads elsewhere");
                    return Err(refuse(Problem::Damaged, doing, text));
                }
                Err(error) => return Err(translate(doing, error)),
            }
            above = number;
        }
        Ok(())
    }
}

/// An image that no driver has opened yet.
struct Unopened<'a> {
    storage: &'a dyn Storage,
    raw: Vec<u8>,
    geometry: Geometry,
}

/// Looks at the journal and at the orphans of an image that is about to be
/// opened. A journal that has to be replayed is replayed when the image is opened
/// for writing: only then it is known which orphans there are.
///
/// # Errors
/// [`Problem::Damaged`] and [`Problem::NotSupported`] for what the driver would
/// follow without end.
pub(super) fn prepare(
    storage: &Arc<dyn Storage>,
    device: &Arc<Device>,
    superblock: &gate::Superblock,
    access: Access,
) -> Result<()> {
    let doing = "open the ext4 file system";
    let mut image = Unopened::read(storage.as_ref(), doing)?;
    if access == Access::Write || superblock.needs_recovery() {
        image.admit_journal(superblock.needs_recovery(), doing)?;
    }
    if access == Access::Read {
        return Ok(());
    }
    if superblock.needs_recovery() {
        let mut driver =
            Filesystem::mount_lazy(device.clone()).map_err(|error| translate(doing, error))?;
        driver
            .replay_journal_if_dirty()
            .map_err(|error| translate(doing, error))?;
        drop(driver);
        device
            .write_back()
            .map_err(|error| storage_failed(doing, &error))?;
        image = Unopened::read(storage.as_ref(), doing)?;
    }
    image.admit_orphans(doing)
}

impl<'a> Unopened<'a> {
    fn read(storage: &'a dyn Storage, doing: &str) -> Result<Self> {
        let mut raw = vec![0; SUPERBLOCK_SIZE];
        storage
            .read_at(&mut raw, SUPERBLOCK_OFFSET)
            .map_err(|error| storage_failed(doing, &error))?;
        // Once more: a journal may have put another superblock in its place.
        gate::judge(&raw, storage.size(), Access::Read)?;
        let geometry = Geometry::read(&raw);
        Ok(Self {
            storage,
            raw,
            geometry,
        })
    }

    fn room(&self) -> Room {
        Room {
            block_size: self.geometry.block_size,
            first: self.geometry.first_block + 1,
            blocks: self.geometry.blocks,
            per_group: u64::from(self.geometry.blocks_per_group),
        }
    }

    fn read_block(&self, block: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = block * u64::from(self.geometry.block_size);
        self.storage.read_at(bytes, offset)
    }

    /// The raw inode `number`, or `None` when there is no such inode.
    fn inode(&self, number: u32, doing: &str) -> Result<Option<Vec<u8>>> {
        let geometry = &self.geometry;
        if number == 0 || number > geometry.inodes {
            return Ok(None);
        }
        let group = u64::from((number - 1) / geometry.inodes_per_group);
        let index = u64::from((number - 1) % geometry.inodes_per_group);
        let mut descriptor = vec![0; geometry.descriptor_size];
        let table = (geometry.first_block + 1) * u64::from(geometry.block_size);
        let failed = |error| storage_failed(doing, &error);
        self.storage
            .read_at(
                &mut descriptor,
                table + group * geometry.descriptor_size as u64,
            )
            .map_err(failed)?;
        let table = Descriptor::new(descriptor).inode_table();
        if table >= geometry.blocks {
            return Err(refuse(
                Problem::Damaged,
                doing,
                format!("the inode table of group {group} lies behind the end"),
            ));
        }
        let mut raw = vec![0; usize::from(geometry.inode_size)];
        let place = table * u64::from(geometry.block_size) + index * u64::from(geometry.inode_size);
        self.storage.read_at(&mut raw, place).map_err(failed)?;
        Ok(Some(raw))
    }

    fn map_of(&self, raw: &[u8]) -> std::result::Result<Mapped, Unfit> {
        bounds::walk(&self.room(), raw, &|block, bytes| {
            self.read_block(block, bytes)
        })
    }

    /// The journal's inode (`s_journal_inum`), and where it is full of blocks
    /// that take others back.
    fn admit_journal(&self, is_dirty: bool, doing: &str) -> Result<()> {
        let number = get32(&self.raw, 0xE0);
        if number == 0 {
            return Ok(());
        }
        if get32(&self.raw, 0x60) & INCOMPAT_META_BG != 0 {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                "it needs its journal replayed, and its descriptors are scattered (meta_bg)",
            ));
        }
        let Some(raw) = self.inode(number, doing)? else {
            let text = format!("its journal is inode {number}, which is none");
            return Err(refuse(Problem::Damaged, doing, text));
        };
        let journal = |unfit| refused(unfit, &format!("{doing}: follow its journal"));
        let mapped = self.map_of(&raw).map_err(journal)?;
        let size = mapped.content * u64::from(self.geometry.block_size);
        if size > LARGEST_JOURNAL {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!("its journal has {size} bytes, and at most {LARGEST_JOURNAL} are read"),
            ));
        }
        if is_dirty {
            self.admit_revokes(&mapped, doing)?;
        }
        Ok(())
    }

    fn admit_revokes(&self, journal: &Mapped, doing: &str) -> Result<()> {
        let mut revokes = 0;
        for block in journal
            .runs
            .iter()
            .flat_map(|(start, count)| *start..start + count)
        {
            let mut head = [0; 8];
            self.storage
                .read_at(&mut head, block * u64::from(self.geometry.block_size))
                .map_err(|error| storage_failed(doing, &error))?;
            revokes += u64::from(head == REVOKE);
        }
        if revokes > MOST_REVOKES {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!("its journal takes the content of others back in {revokes} blocks"),
            ));
        }
        Ok(())
    }

    /// The list of files that were in use without a name (`s_last_orphan`): the
    /// driver removes them when it opens the image.
    fn admit_orphans(&self, doing: &str) -> Result<()> {
        let mut next = get32(&self.raw, 0xE8);
        let mut seen = HashSet::new();
        while next != 0 {
            let list = format!("{doing}: clear the orphan inode {next}");
            let Some(raw) = self.inode(next, &list)? else {
                // The list ends here for the driver, too.
                return Ok(());
            };
            if !seen.insert(next) {
                return Err(refuse(
                    Problem::Damaged,
                    list,
                    "the list of orphans leads to itself",
                ));
            }
            if seen.len() > MOST_ORPHANS {
                return Err(refuse(
                    Problem::NotSupported,
                    doing,
                    format!("it has more than {MOST_ORPHANS} orphans"),
                ));
            }
            if raw.len() >= inode::BASE_SIZE {
                self.map_of(&raw).map_err(|unfit| refused(unfit, &list))?;
            }
            next = get32(&raw, 0x14);
        }
        Ok(())
    }
}
