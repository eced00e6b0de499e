//! The operations, as system calls.
//!
//! A path is never handed to the kernel whole: its folder is opened below the root of
//! the file system with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so that no link of an
//! image leads anywhere. The time of a folder is put back after changes in it.
//!
//! A call of the kernel is dear where a guest kernel runs: a folder in which one file after
//! another is made stays open, and a new file is told what it is by its descriptor.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use nodekiln_agent::{Attributes, BLOCK, Content, Operation};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::disk::{Contents, PIECE, Payload};

/// Largest list of names, and largest value, in bytes (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 64 << 10;
/// Largest content that goes through the kernel's memory, in bytes: the kernel then writes
/// many of them at once. What is larger is written past it, without another copy.
const SMALL: u64 = 128 << 10;
/// How XFS keeps access control lists below; they are told once more by their own name.
const STORED_LISTS: &[u8] = b"trusted.SGI_ACL_";

/// Extended attributes: name and value.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The mounted file system.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    contents: Contents,
    entered: Option<Entered>,
    /// Whether it is FAT, which keeps times alone.
    is_fat: bool,
    names: Vec<u8>,
    value: Vec<u8>,
}

/// The folder in which things were made last.
#[derive(Debug)]
struct Entered {
    path: Vec<u8>,
    folder: Rc<OwnedFd>,
    /// What its times were before.
    times: Timestamps,
}

/// An open folder and a name in it; `.` for the root.
struct Place<'a> {
    folder: Rc<OwnedFd>,
    name: &'a [u8],
}

impl Place<'_> {
    /// A path for the calls that take no folder: the folder by its descriptor; the name is
    /// not followed.
    fn path(&self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name);
        path
    }

    fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn unlink(&self, flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.folder, self.name, flags)
    }

    /// Takes a file or link away to make room for a new one.
    fn clear(&self) -> Result<(), Errno> {
        match self.unlink(AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn open(&self, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::openat(&self.folder, self.name, flags, mode).map(File::from)
    }

    /// Makes a new file, in the place of one that was there.
    fn create(&self, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        match self.open(flags) {
            Err(Errno::EXIST) => {
                self.clear()?;
                self.open(flags)
            }
            opened => opened,
        }
    }
}

/// What has attributes: by its name, or a file that is open.
enum Object<'a> {
    Named(&'a Place<'a>, Vec<u8>),
    Open(&'a File),
}

impl Object<'_> {
    /// The owner, then the mode: changing the first clears set-uid and capabilities.
    fn own(&self, wanted: &Attributes) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        let (uid, gid) = (Some(uid), Some(gid));
        match self {
            Self::Named(place, _) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&place.folder, place.name, uid, gid, flags)?;
            }
            Self::Open(file) => rustix::fs::fchown(file, uid, gid)?,
        }
        self.set_mode(wanted.mode)
    }

    /// A link has none.
    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Named(place, _) => {
                if FileType::from_raw_mode(place.stat()?.st_mode) == FileType::Symlink {
                    return Ok(());
                }
                rustix::fs::chmodat(&place.folder, place.name, mode, AtFlags::empty())
            }
            Self::Open(file) => rustix::fs::fchmod(file, mode),
        }
    }

    fn list<'b>(&self, names: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let length = match self {
            Self::Named(_, path) => rustix::fs::llistxattr(&path[..], &mut *names)?,
            Self::Open(file) => rustix::fs::flistxattr(file, &mut *names)?,
        };
        Ok(&names[..length])
    }

    fn get(&self, name: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Named(_, path) => rustix::fs::lgetxattr(&path[..], name, value),
            Self::Open(file) => rustix::fs::fgetxattr(file, name, value),
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Named(_, path) => rustix::fs::lsetxattr(&path[..], name, value, flags),
            Self::Open(file) => rustix::fs::fsetxattr(file, name, value, flags),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Named(_, path) => rustix::fs::lremovexattr(&path[..], name),
            Self::Open(file) => rustix::fs::fremovexattr(file, name),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Named(place, _) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(&place.folder, place.name, times, flags)
            }
            Self::Open(file) => rustix::fs::futimens(file, times),
        }
    }
}

fn times(folder: &OwnedFd) -> Result<Timestamps, Errno> {
    let found = rustix::fs::fstat(folder)?;
    Ok(Timestamps {
        last_access: Timespec {
            tv_sec: found.st_atime,
            tv_nsec: found.st_atime_nsec.cast_signed(),
        },
        last_modification: Timespec {
            tv_sec: found.st_mtime,
            tv_nsec: found.st_mtime_nsec.cast_signed(),
        },
    })
}

/// Runs `change` and puts the folder's times back.
fn keep_time<T>(folder: &OwnedFd, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = times(folder)?;
    let changed = change()?;
    rustix::fs::futimens(folder, &before)?;
    Ok(changed)
}

impl Tree {
    /// The file system mounted at `root`, FAT or another, and where contents come from.
    pub fn new(root: OwnedFd, payload: Payload, is_fat: bool) -> io::Result<Self> {
        Ok(Self {
            root,
            contents: Contents::new(payload)?,
            entered: None,
            is_fat,
            names: vec![0; XATTR_MAX],
            value: vec![0; XATTR_MAX],
        })
    }

    /// Writes what waits in memory.
    pub fn write_back(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Puts back the times of the folder in which things were made last.
    pub fn leave(&mut self) -> io::Result<()> {
        if let Some(entered) = self.entered.take() {
            rustix::fs::futimens(&entered.folder, &entered.times)?;
        }
        Ok(())
    }

    /// Makes one change.
    pub fn apply(&mut self, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::CreateDirectory(path, attributes) => {
                let place = self.enter(path)?;
                let mode = Mode::from_raw_mode(0o700);
                rustix::fs::mkdirat(&place.folder, place.name, mode)?;
                self.dress(&place, attributes)
            }
            Operation::WriteFile(path, content, attributes) => {
                let place = self.enter(path)?;
                let file = self.write(&place, content)?;
                self.dress_object(&Object::Open(&file), attributes)
            }
            Operation::CreateSymlink(path, target, attributes) => {
                let place = self.enter(path)?;
                place.clear()?;
                rustix::fs::symlinkat(&target[..], &place.folder, place.name)?;
                self.dress(&place, attributes)
            }
            Operation::AppendFile(path, content) => {
                let place = self.place(path)?;
                // Writing takes set-uid and capabilities away.
                let attributes = self.attributes(&place)?;
                self.append(&place, content)?;
                self.dress(&place, &attributes)
            }
            Operation::CreateHardLink(existing, path) => {
                let (from, to) = (self.place(existing)?, self.place(path)?);
                keep_time(&to.folder, || {
                    let flags = AtFlags::empty();
                    rustix::fs::linkat(&from.folder, from.name, &to.folder, to.name, flags)
                        .map_err(io::Error::from)
                })
            }
            Operation::SetAttributes(path, attributes) => {
                let place = self.place(path)?;
                if self.is_link_that_loses(&place, attributes)? {
                    return self.make_link_again(&place, attributes);
                }
                self.dress(&place, attributes)
            }
            Operation::RemoveFile(path) => self.remove(path, AtFlags::empty()),
            Operation::RemoveDirectory(path) => self.remove(path, AtFlags::REMOVEDIR),
            Operation::Rename(from, to) => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                keep_time(&from.folder, || {
                    keep_time(&to.folder, || {
                        rustix::fs::renameat(&from.folder, from.name, &to.folder, to.name)
                            .map_err(io::Error::from)
                    })
                })
            }
        }
    }

    /// Whether extended attributes are to be taken from a link that has one name.
    fn is_link_that_loses(
        &mut self,
        place: &Place<'_>,
        wanted: &Attributes,
    ) -> Result<bool, Errno> {
        let found = place.stat()?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink || found.st_nlink != 1 {
            return Ok(false);
        }
        let present = self.xattrs(&Object::Named(place, place.path()))?;
        let is_wanted = |name: &[u8]| wanted.xattrs.iter().any(|(other, _)| other == name);
        Ok(!present.iter().all(|(name, _)| is_wanted(name)))
    }

    /// Puts a new link in the place of one. Where attributes had driven a long target out
    /// of the inode of XFS, it stays outside when they go, and `xfs_repair` takes it for
    /// damage.
    fn make_link_again(&mut self, place: &Place<'_>, wanted: &Attributes) -> io::Result<()> {
        keep_time(&place.folder, || {
            let target = rustix::fs::readlinkat(&place.folder, place.name, Vec::new())?;
            place.clear()?;
            rustix::fs::symlinkat(target, &place.folder, place.name)?;
            self.dress(place, wanted)
        })
    }

    fn remove(&mut self, path: &[u8], flags: AtFlags) -> io::Result<()> {
        let place = self.place(path)?;
        keep_time(&place.folder, || {
            place.unlink(flags).map_err(io::Error::from)
        })
    }

    fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(
            &self.root,
            if path.is_empty() { b"." } else { path },
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// The place of something that is there.
    fn place<'a>(&mut self, path: &'a [u8]) -> io::Result<Place<'a>> {
        self.leave()?;
        let (folder, name) = split(path);
        let folder = Rc::new(self.folder(folder)?);
        Ok(Place { folder, name })
    }

    /// The place of something new, whose folder stays open.
    fn enter<'a>(&mut self, path: &'a [u8]) -> io::Result<Place<'a>> {
        let (path, name) = split(path);
        if let Some(entered) = &self.entered
            && entered.path == path
        {
            let folder = entered.folder.clone();
            return Ok(Place { folder, name });
        }
        self.leave()?;
        let folder = Rc::new(self.folder(path)?);
        self.entered = Some(Entered {
            path: path.to_owned(),
            times: times(&folder)?,
            folder: folder.clone(),
        });
        Ok(Place { folder, name })
    }

    fn write(&mut self, place: &Place<'_>, content: &Content) -> io::Result<File> {
        match content {
            Content::Inline(bytes) => {
                let mut file = place.create(OFlags::empty())?;
                file.write_all(bytes)?;
                Ok(file)
            }
            Content::Area { offset, size } if *size <= SMALL => {
                let mut file = place.create(OFlags::empty())?;
                file.write_all(self.contents.read(*offset, *size)?)?;
                Ok(file)
            }
            // FAT takes room by writing zeros to it, and past the page cache nothing that
            // makes a file longer.
            Content::Area { offset, size } if self.is_fat => {
                let mut file = place.create(OFlags::empty())?;
                self.pour(&mut file, *offset, *size)?;
                Ok(file)
            }
            Content::Area { offset, size } => {
                let file = place.create(OFlags::DIRECT)?;
                // All the room at once: too little shows before the first byte, and the
                // file lies in few pieces.
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, *size)?;
                let mut at = 0;
                while at < *size {
                    let piece = piece(*size - at).next_multiple_of(BLOCK as u64);
                    file.write_all_at(self.contents.read(offset + at, piece)?, at)?;
                    at += piece;
                }
                if at > *size {
                    file.set_len(*size)?;
                }
                Ok(file)
            }
        }
    }

    fn append(&mut self, place: &Place<'_>, content: &Content) -> io::Result<()> {
        let mut file = place.open(OFlags::WRONLY | OFlags::APPEND)?;
        match content {
            Content::Inline(bytes) => file.write_all(bytes),
            Content::Area { offset, size } => self.pour(&mut file, *offset, *size),
        }
    }

    /// Writes `size` bytes of the payload, from `offset` on, through the page cache.
    fn pour(&mut self, file: &mut File, offset: u64, size: u64) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let piece = piece(size - at);
            file.write_all(self.contents.read(offset + at, piece)?)?;
            at += piece;
        }
        Ok(())
    }

    /// The extended attributes by name.
    fn xattrs(&mut self, object: &Object<'_>) -> Result<Xattrs, Errno> {
        let mut found = Vec::new();
        if self.is_fat {
            return Ok(found);
        }
        for name in object.list(&mut self.names)?.split(|byte| *byte == 0) {
            if name.is_empty() || name.starts_with(STORED_LISTS) {
                continue;
            }
            let length = object.get(name, &mut self.value)?;
            found.push((name.to_vec(), self.value[..length].to_vec()));
        }
        Ok(found)
    }

    fn attributes(&mut self, place: &Place<'_>) -> Result<Attributes, Errno> {
        let found = place.stat()?;
        Ok(Attributes {
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            seconds: found.st_mtime,
            nanoseconds: found.st_mtime_nsec as u32,
            xattrs: self.xattrs(&Object::Named(place, place.path()))?,
        })
    }

    /// Makes all attributes those that are wanted, and no others. FAT keeps the time.
    fn dress(&mut self, place: &Place<'_>, wanted: &Attributes) -> io::Result<()> {
        self.dress_object(&Object::Named(place, place.path()), wanted)
    }

    fn dress_object(&mut self, object: &Object<'_>, wanted: &Attributes) -> io::Result<()> {
        if !self.is_fat {
            self.own(object, wanted)?;
        }
        let time = Timespec {
            tv_sec: wanted.seconds,
            tv_nsec: wanted.nanoseconds.into(),
        };
        object.set_times(&Timestamps {
            last_access: time,
            last_modification: time,
        })?;
        Ok(())
    }

    /// Owner, mode and extended attributes.
    fn own(&mut self, object: &Object<'_>, wanted: &Attributes) -> Result<(), Errno> {
        object.own(wanted)?;
        let present = self.xattrs(object)?;
        for (name, _) in &present {
            if !wanted.xattrs.iter().any(|(other, _)| other == name) {
                object.remove(name)?;
            }
        }
        for (name, value) in &wanted.xattrs {
            if !present
                .iter()
                .any(|found| (&found.0, &found.1) == (name, value))
            {
                object.set(name, value)?;
            }
        }
        if !present.is_empty() || !wanted.xattrs.is_empty() {
            // An access control list changes the mode behind our back.
            object.set_mode(wanted.mode)?;
        }
        Ok(())
    }
}

/// Folder and name of a path; the root is `.` in itself.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let name = &path[slash + 1..];
    let name = if name.is_empty() { b"." } else { name };
    (path.get(1..slash).unwrap_or_default(), name)
}

fn piece(left: u64) -> u64 {
    left.min(PIECE as u64)
}
