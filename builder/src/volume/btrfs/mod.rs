//! btrfs, read in this process by `rust-fs-btrfs`: one device, the subvolume that is mounted
//! by default, and those that hang below it.
//!
//! Editing is the work of [`Agent`](super::agent::Agent), with this as the tree that is
//! there.
//!
//! Each subvolume counts its inodes from the same number. A number here therefore holds the
//! subvolume too, but for the one that is mounted. Below a snapshot Linux shows an empty
//! folder where a subvolume hung; each of those gets a number of its own.

mod admit;
pub mod fuzz;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use fs_btrfs::dir::{DIR_ITEM_KEY, name_hash, parse_dir_items};
use fs_btrfs::inode::{FileType, Inode};
use fs_btrfs::{Filesystem, Superblock};

use super::agent::Growth;
use super::identity::uuid_text;
use super::read_device::ReadDevice;
use super::read_only::{Reader, time};
use super::refusal::{refuse, regular_file};
use super::{
    Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space, Timestamp,
};
use crate::disk::Storage;
use crate::error::{Error, Result};

/// The subvolume that every file system has (`BTRFS_FS_TREE_OBJECTID`).
const TOP: u64 = 5;
/// The inode of the top folder of each subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const TOP_FOLDER: u64 = 256;
/// Bits of a number that hold the inode.
const INODE_BITS: u32 = 40;
/// The first inode that stands for an empty folder in place of a subvolume.
const FIRST_STUB: u64 = 1 << (INODE_BITS - 1);
/// Most subvolumes that are told apart: enough bits for them are left.
const MOST_SUBVOLUMES: u64 = 1 << 22;
/// Most subvolumes that are open at a time: each keeps a thousand blocks of its tree, 16 MiB
/// as a rule.
const OPEN_SUBVOLUMES: usize = 4;
/// Largest file system that is checked, in bytes of metadata: the checker takes nearly as
/// much memory.
const LARGEST_CHECK: u64 = 256 << 20;
/// Largest file that is read although it is larger than its file system, in bytes: it is
/// full of holes.
const LARGEST_HOLES: u64 = 4 << 30;
/// Bytes copied at once: for each the list of the file's extents is read.
const PIECE: u64 = 4 << 20;
/// The mark of a group of which everything is kept twice (`BTRFS_BLOCK_GROUP_DUP`).
const TWICE: u64 = 1 << 5;
/// What Linux keeps back for metadata at the least and at the most, in bytes of one copy.
const RESERVED: (u64, u64) = (32 << 20, 256 << 20);

/// A btrfs file system, for reading.
pub struct Btrfs {
    driver: Filesystem,
    device: Arc<ReadDevice>,
    /// The subvolume that is mounted.
    mounted: u64,
    /// The trees of subvolumes that were looked into.
    trees: HashMap<u64, Filesystem>,
    /// Where each subvolume hangs: the subvolume above it, and its name there.
    hangs: BTreeMap<u64, (u64, Vec<u8>)>,
    /// The numbers of empty folders in place of subvolumes, by folder and name.
    stubs: HashMap<(u64, Vec<u8>), u64>,
    last_written: Timestamp,
}

impl fmt::Debug for Btrfs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Btrfs")
            .field("superblock", self.driver.superblock())
            .field("mounted", &self.mounted)
            .finish_non_exhaustive()
    }
}

/// The driver's errors in our terms.
fn translate(doing: &str, error: fs_btrfs::Error, device: &ReadDevice) -> Error {
    use fs_btrfs::Error as Btrfs;
    let problem = match error {
        Btrfs::Io(_) if !device.is_damaged() => Problem::Io,
        Btrfs::NotFound => Problem::NotFound,
        Btrfs::NotADirectory => Problem::NotADirectory,
        Btrfs::UnsupportedFeature(_)
        | Btrfs::UnsupportedProfile(_)
        | Btrfs::UnsupportedChecksum(_)
        | Btrfs::NotBtrfs { .. } => Problem::NotSupported,
        _ => Problem::Damaged,
    };
    let refusal = refuse(problem, doing, error.to_string());
    if problem == Problem::Damaged {
        return refusal.hint("check a copy of the partition with: btrfs check --readonly");
    }
    refusal
}

/// The number of an inode of a subvolume; see the module documentation.
fn number(mounted: u64, subvolume: u64, inode: u64, doing: &str) -> Result<u64> {
    if inode >= FIRST_STUB || subvolume >= MOST_SUBVOLUMES {
        let text = format!("inode {inode} of subvolume {subvolume} has too large a number");
        return Err(refuse(Problem::NotSupported, doing, text));
    }
    Ok(joined(mounted, subvolume, inode))
}

fn joined(mounted: u64, subvolume: u64, inode: u64) -> u64 {
    if subvolume == mounted {
        return inode;
    }
    subvolume << INODE_BITS | inode
}

impl Btrfs {
    /// Opens the file system on `storage`.
    ///
    /// # Errors
    /// [`Problem::NotSupported`] for features that are not known and for one of several
    /// devices; [`Problem::Damaged`] for what contradicts itself or its storage, or was not
    /// unmounted.
    pub fn open(storage: &Arc<dyn Storage>) -> Result<Self> {
        let doing = "open the btrfs file system";
        let device = Arc::new(ReadDevice::new(Arc::clone(storage)));
        admit::admit(&device)?;
        let failed = |error| translate(doing, error, &device);
        let driver = Filesystem::mount(device.clone()).map_err(failed)?;
        let mounted = default_subvolume(&driver).map_err(failed)?;
        let hangs = driver
            .subvolumes()
            .map_err(failed)?
            .into_iter()
            .map(|subvolume| (subvolume.id, (subvolume.parent, subvolume.name)))
            .collect();
        let mut opened = Self {
            driver,
            device,
            mounted,
            trees: HashMap::new(),
            hangs,
            stubs: HashMap::new(),
            last_written: Timestamp::default(),
        };
        let top = opened.inode(TOP_FOLDER, doing)?;
        // It records in no place of its own when it was written.
        opened.last_written =
            time(top.ctime.sec, top.ctime.nsec).max(time(top.mtime.sec, top.mtime.nsec));
        Ok(opened)
    }

    /// Whether the btrfs on `storage` has a log of changes that are not in its trees: it
    /// was not unmounted.
    ///
    /// # Errors
    /// As [`Btrfs::open`].
    pub fn is_dirty(storage: &Arc<dyn Storage>) -> Result<bool> {
        let device = ReadDevice::new(Arc::clone(storage));
        Ok(admit::superblock(&device)?.has_dirty_log())
    }

    /// How large the file system becomes when it is to fill its storage; `None` when it
    /// does already.
    pub fn growth(&self) -> Option<Growth> {
        use fs_core::BlockRead as _;
        let superblock = self.superblock();
        let block = u64::from(superblock.sectorsize);
        let (from, to) = (
            superblock.dev_item.total_bytes / block,
            self.device.size_bytes() / block,
        );
        (to > from).then_some(Growth {
            block_size: superblock.sectorsize,
            from,
            to,
            inode_percent: 0,
        })
    }

    /// Checks the whole file system, with the driver's own checker: what it finds is a part
    /// of what `btrfs check` does.
    ///
    /// # Errors
    /// As [`Btrfs::open`]; [`crate::Class::Unsupported`] for one with more metadata than is
    /// kept in memory.
    pub fn check(storage: &Arc<dyn Storage>) -> Result<Vec<String>> {
        let doing = "check the btrfs file system";
        let opened = Self::open(storage)?;
        let groups = opened.driver.block_groups().map_err(opened.failed(doing))?;
        let metadata: u64 = groups
            .iter()
            .filter(|group| group.holds_metadata())
            .fold(0, |sum, group| sum.saturating_add(group.used));
        if metadata > LARGEST_CHECK {
            return Err(Error::unsupported(format!(
                "{doing}: it has {metadata} bytes of metadata, at most {LARGEST_CHECK} are"
            )));
        }
        let report = fs_btrfs::check::check(&opened.driver);
        Ok(report
            .findings
            .into_iter()
            .map(|finding| match finding.tree {
                Some(tree) => format!("tree {tree}: {}", finding.what),
                None => finding.what,
            })
            .collect())
    }

    fn superblock(&self) -> &Superblock {
        self.driver.superblock()
    }

    fn failed(&self, doing: &str) -> impl Fn(fs_btrfs::Error) -> Error {
        let (doing, device) = (doing.to_owned(), Arc::clone(&self.device));
        move |error| translate(&doing, error, &device)
    }

    /// The subvolume and the inode of a number.
    fn place(&self, number: u64) -> (u64, u64) {
        match number >> INODE_BITS {
            0 => (self.mounted, number),
            subvolume => (subvolume, number & ((1 << INODE_BITS) - 1)),
        }
    }

    /// The tree of a subvolume.
    fn tree(&mut self, subvolume: u64, doing: &str) -> Result<&Filesystem> {
        if subvolume == TOP {
            return Ok(&self.driver);
        }
        if !self.trees.contains_key(&subvolume) {
            let opened = self
                .driver
                .open_subvolume(subvolume)
                .map_err(self.failed(doing))?;
            if self.trees.len() >= OPEN_SUBVOLUMES {
                self.trees.clear();
            }
            self.trees.insert(subvolume, opened);
        }
        Ok(&self.trees[&subvolume])
    }

    /// What `read` gives of the tree and the inode that `number` means.
    fn read<T>(
        &mut self,
        number: u64,
        doing: &str,
        read: impl FnOnce(&Filesystem, u64) -> fs_btrfs::Result<T>,
    ) -> Result<T> {
        let (subvolume, inode) = self.place(number);
        let done = read(self.tree(subvolume, doing)?, inode);
        done.map_err(self.failed(doing))
    }

    fn inode(&mut self, number: u64, doing: &str) -> Result<Inode> {
        self.read(number, doing, |tree, inode| tree.read_inode(inode))
    }

    /// Whether it is such an empty folder; see the module documentation.
    fn is_stub(&self, number: u64) -> bool {
        self.place(number).1 >= FIRST_STUB
    }

    /// The number of the top folder of the subvolume `name` in the folder `folder`.
    fn crossing(&mut self, folder: u64, name: &[u8], doing: &str) -> Result<u64> {
        let entries = self.read(folder, doing, |tree, inode| tree.read_dir(inode))?;
        let found = entries
            .into_iter()
            .find(|entry| entry.name == name && !entry.is_inode())
            .ok_or_else(|| {
                let text = format!(
                    "the names of a folder contradict its index at '{}'",
                    name.escape_ascii()
                );
                refuse(Problem::Damaged, doing, text)
            })?;
        let above = self.place(folder).0;
        let hangs = self.hangs.get(&found.ino);
        if hangs.is_some_and(|(parent, known)| *parent == above && known == name) {
            return number(self.mounted, found.ino, TOP_FOLDER, doing);
        }
        let inode = FIRST_STUB + self.stubs.len() as u64;
        let number = joined(self.mounted, above, inode);
        let place = (folder, name.to_vec());
        Ok(*self.stubs.entry(place).or_insert(number))
    }
}

/// The subvolume that is mounted when none is named (`btrfs subvolume get-default`): an
/// entry `default` of the root tree says so.
fn default_subvolume(driver: &Filesystem) -> fs_btrfs::Result<u64> {
    let folder = driver.superblock().root_dir_objectid;
    let wanted = (folder, DIR_ITEM_KEY, name_hash(b"default"));
    for (object, kind, offset, data) in driver.root_tree_items()? {
        if (object, kind, offset) == wanted {
            let mut entries = parse_dir_items(&data)?.into_iter();
            let found = entries.find(|entry| entry.name == b"default");
            return Ok(found.map_or(TOP, |entry| entry.ino));
        }
    }
    Ok(TOP)
}

fn kind(found: Option<FileType>) -> Option<Kind> {
    Some(match found? {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    })
}

fn kind_of(inode: &Inode, doing: &str) -> Result<Kind> {
    kind(inode.file_type()).ok_or_else(|| {
        let text = format!("inode {} has the mode {:o}", inode.ino, inode.mode);
        refuse(Problem::Damaged, doing, text)
    })
}

/// An empty folder that no tree has.
fn stub(inode: u64) -> Metadata {
    Metadata {
        kind: Kind::Directory,
        size: 0,
        links: 1,
        inode,
        attributes: Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
            modified: Timestamp::default(),
            xattrs: BTreeMap::new(),
        },
    }
}

impl Reader for Btrfs {
    fn identity(&self) -> Identity {
        Identity {
            file_system: FileSystem::Btrfs,
            label: self.superblock().label.clone(),
            uuid: uuid_text(&self.superblock().fsid),
            last_written: self.last_written,
        }
    }

    fn space(&mut self) -> Result<Space> {
        let groups = self
            .driver
            .block_groups()
            .map_err(self.failed("look at the free space"))?;
        let superblock = self.superblock();
        let of_data = || groups.iter().filter(|group| group.holds_data());
        let in_groups = of_data().fold(0, |sum: u64, group| sum.saturating_add(group.free()));
        // On one device contents are kept once or twice.
        let copies = 1 + u64::from(of_data().any(|group| group.flags & TWICE != 0));
        let unused = superblock
            .dev_item
            .total_bytes
            .saturating_sub(superblock.dev_item.bytes_used);
        // Metadata is kept twice as a rule, and takes new groups of its own.
        let (least, most) = RESERVED;
        let kept = 2 * (superblock.total_bytes / 10).clamp(least, most);
        Ok(Space {
            block_size: superblock.sectorsize,
            total: superblock.total_bytes,
            free: in_groups
                .saturating_mul(copies)
                .saturating_add(unused)
                .saturating_sub(kept)
                / copies,
            // Inodes are made where there is room.
            free_inodes: None,
        })
    }

    fn root(&self) -> u64 {
        TOP_FOLDER
    }

    fn child(&mut self, folder: u64, name: &[u8], doing: &str) -> Result<Option<(u64, Kind)>> {
        if self.is_stub(folder) {
            return Ok(None);
        }
        let (subvolume, inode) = self.place(folder);
        let found = self.tree(subvolume, doing)?.lookup(inode, name);
        match found {
            Ok(found) => {
                let child = number(self.mounted, subvolume, found.ino, doing)?;
                Ok(Some((child, kind_of(&found, doing)?)))
            }
            Err(fs_btrfs::Error::NotFound) => Ok(None),
            // How the driver tells that the name is that of a subvolume.
            Err(fs_btrfs::Error::UnsupportedFeature(_)) => {
                let child = self.crossing(folder, name, doing)?;
                Ok(Some((child, Kind::Directory)))
            }
            Err(error) => Err(self.failed(doing)(error)),
        }
    }

    fn metadata(&mut self, number: u64, doing: &str) -> Result<Metadata> {
        if self.is_stub(number) {
            return Ok(stub(number));
        }
        let inode = self.inode(number, doing)?;
        let kind = kind_of(&inode, doing)?;
        let xattrs = self.read(number, doing, |tree, inode| tree.list_xattrs(inode))?;
        Ok(Metadata {
            kind,
            size: match kind {
                Kind::Special => 0,
                _ => inode.size,
            },
            links: inode.nlink,
            inode: number,
            attributes: Attributes {
                mode: inode.permissions(),
                uid: inode.uid,
                gid: inode.gid,
                modified: time(inode.mtime.sec, inode.mtime.nsec),
                xattrs: xattrs
                    .into_iter()
                    .map(|xattr| {
                        let name = String::from_utf8_lossy(&xattr.name).into_owned();
                        (name, xattr.value)
                    })
                    .collect(),
            },
        })
    }

    fn part(&self, number: u64) -> u64 {
        self.place(number).0
    }

    fn list(&mut self, number: u64, doing: &str) -> Result<Vec<DirectoryEntry>> {
        if self.is_stub(number) {
            return Ok(Vec::new());
        }
        let listed = self.read(number, doing, |tree, inode| tree.read_dir(inode))?;
        let subvolume = self.place(number).0;
        let mut entries = Vec::with_capacity(listed.len());
        for entry in listed {
            let kind = match kind(entry.ftype) {
                _ if !entry.is_inode() => Kind::Directory,
                Some(kind) => kind,
                None => {
                    let child = self::number(self.mounted, subvolume, entry.ino, doing)?;
                    kind_of(&self.inode(child, doing)?, doing)?
                }
            };
            entries.push(DirectoryEntry {
                name: entry.name,
                kind,
            });
        }
        Ok(entries)
    }

    fn copy(&mut self, number: u64, sink: &mut dyn Write, doing: &str) -> Result<u64> {
        let inode = self.inode(number, doing)?;
        regular_file(kind_of(&inode, doing)?, doing)?;
        if inode.size > self.superblock().total_bytes.max(LARGEST_HOLES) {
            let text = format!("it has {} bytes, more than its file system", inode.size);
            return Err(refuse(Problem::NotSupported, doing, text));
        }
        let mut buffer = vec![0; PIECE.min(inode.size) as usize];
        let mut at = 0;
        while at < inode.size {
            let piece = &mut buffer[..(inode.size - at).min(PIECE) as usize];
            let read = self.read(number, doing, |tree, inode| tree.read_at(inode, at, piece))?;
            if read != piece.len() {
                return Err(refuse(Problem::Damaged, doing, "it ends early"));
            }
            sink.write_all(piece)
                .map_err(|error| Error::io(doing, error))?;
            at += read as u64;
        }
        Ok(inode.size)
    }

    fn target(&mut self, number: u64, doing: &str) -> Result<Vec<u8>> {
        let inode = self.inode(number, doing)?;
        if !inode.is_symlink() {
            return Err(refuse(Problem::NotSupported, doing, "it is no link"));
        }
        self.read(number, doing, |tree, inode| tree.read_link(inode))
    }
}
