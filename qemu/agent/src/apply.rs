//! The operations, as system calls.
//!
//! A path is never handed to the kernel whole: its folder is opened below the root of
//! the file system with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so that no link of an
//! image leads anywhere. The time of a folder is put back after each change in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nodekiln_agent::{Attributes, BLOCK, Content, Operation};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::disk::{Aligned, PIECE, Payload};

/// Largest list of names, and largest value, in bytes (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 64 << 10;
/// How XFS keeps access control lists below; they are told once more by their own name.
const STORED_LISTS: &[u8] = b"trusted.SGI_ACL_";

/// Extended attributes: name and value.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The mounted file system.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    payload: Payload,
    buffer: Aligned,
    names: Vec<u8>,
    value: Vec<u8>,
}

/// An open folder and a name in it; `.` for the root.
struct Place<'a> {
    folder: OwnedFd,
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
}

/// Runs `change` and puts the folder's times back.
fn keep_time<T>(folder: &OwnedFd, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = rustix::fs::fstat(folder)?;
    let changed = change()?;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: before.st_atime,
            tv_nsec: before.st_atime_nsec.cast_signed(),
        },
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec.cast_signed(),
        },
    };
    rustix::fs::futimens(folder, &times)?;
    Ok(changed)
}

impl Tree {
    /// The file system mounted at `root`, and where contents come from.
    pub fn new(root: OwnedFd, payload: Payload) -> Self {
        Self {
            root,
            payload,
            buffer: Aligned::new(PIECE),
            names: vec![0; XATTR_MAX],
            value: vec![0; XATTR_MAX],
        }
    }

    /// Writes what waits in memory.
    pub fn write_back(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Makes one change.
    pub fn apply(&mut self, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::CreateDirectory(path, attributes) => {
                let place = self.place(path)?;
                keep_time(&place.folder, || {
                    let mode = Mode::from_raw_mode(0o700);
                    rustix::fs::mkdirat(&place.folder, place.name, mode)?;
                    self.dress(&place, attributes)
                })
            }
            Operation::WriteFile(path, content, attributes) => {
                let place = self.place(path)?;
                keep_time(&place.folder, || {
                    place.clear()?;
                    self.write(&place, content)?;
                    self.dress(&place, attributes)
                })
            }
            Operation::AppendFile(path, content) => {
                let place = self.place(path)?;
                // Writing takes set-uid and capabilities away.
                let attributes = self.attributes(&place)?;
                self.append(&place, content)?;
                self.dress(&place, &attributes)
            }
            Operation::CreateSymlink(path, target, attributes) => {
                let place = self.place(path)?;
                keep_time(&place.folder, || {
                    place.clear()?;
                    rustix::fs::symlinkat(&target[..], &place.folder, place.name)?;
                    self.dress(&place, attributes)
                })
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

    fn remove(&self, path: &[u8], flags: AtFlags) -> io::Result<()> {
        let place = self.place(path)?;
        keep_time(&place.folder, || {
            place.unlink(flags).map_err(io::Error::from)
        })
    }

    fn place<'a>(&self, path: &'a [u8]) -> Result<Place<'a>, Errno> {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let below = path.get(1..slash).unwrap_or_default();
        let name = &path[slash + 1..];
        let folder = rustix::fs::openat2(
            &self.root,
            if below.is_empty() { b"." } else { below },
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
        let name = if name.is_empty() { b"." } else { name };
        Ok(Place { folder, name })
    }

    fn write(&mut self, place: &Place<'_>, content: &Content) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        match content {
            Content::Inline(bytes) => place.open(flags)?.write_all(bytes),
            Content::Area { offset, size } => {
                let file = place.open(flags | OFlags::DIRECT)?;
                if *size > 0 {
                    // All the room at once: too little shows before the first byte, and
                    // the file lies in few pieces.
                    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, *size)?;
                }
                let mut at = 0;
                while at < *size {
                    let piece = piece(*size - at).next_multiple_of(BLOCK);
                    let buffer = &mut self.buffer.bytes()[..piece];
                    self.payload.read(buffer, offset + at)?;
                    file.write_all_at(buffer, at)?;
                    at += piece as u64;
                }
                if at > *size {
                    file.set_len(*size)?;
                }
                Ok(())
            }
        }
    }

    fn append(&mut self, place: &Place<'_>, content: &Content) -> io::Result<()> {
        let mut file = place.open(OFlags::WRONLY | OFlags::APPEND)?;
        match content {
            Content::Inline(bytes) => file.write_all(bytes),
            Content::Area { offset, size } => {
                let mut at = 0;
                while at < *size {
                    let piece = piece(*size - at);
                    let buffer = &mut self.buffer.bytes()[..piece.next_multiple_of(BLOCK)];
                    self.payload.read(buffer, offset + at)?;
                    file.write_all(&buffer[..piece])?;
                    at += piece as u64;
                }
                Ok(())
            }
        }
    }

    /// The extended attributes by name.
    fn xattrs(&mut self, path: &[u8]) -> Result<Xattrs, Errno> {
        let length = rustix::fs::llistxattr(path, &mut self.names[..])?;
        let mut found = Vec::new();
        for name in self.names[..length].split(|byte| *byte == 0) {
            if name.is_empty() || name.starts_with(STORED_LISTS) {
                continue;
            }
            let length = rustix::fs::lgetxattr(path, name, &mut self.value[..])?;
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
            xattrs: self.xattrs(&place.path())?,
        })
    }

    /// Makes all attributes those that are wanted, and no others.
    fn dress(&mut self, place: &Place<'_>, wanted: &Attributes) -> io::Result<()> {
        let is_link = FileType::from_raw_mode(place.stat()?.st_mode) == FileType::Symlink;
        // The owner first: changing it clears set-uid and capabilities.
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&place.folder, place.name, Some(uid), Some(gid), flags)?;
        let mode = Mode::from_raw_mode(wanted.mode);
        let set_mode = || {
            if is_link {
                return Ok(());
            }
            rustix::fs::chmodat(&place.folder, place.name, mode, AtFlags::empty())
        };
        set_mode()?;
        let path = place.path();
        let present = self.xattrs(&path)?;
        for (name, _) in &present {
            if !wanted.xattrs.iter().any(|(other, _)| other == name) {
                rustix::fs::lremovexattr(&path[..], &name[..])?;
            }
        }
        for (name, value) in &wanted.xattrs {
            if !present
                .iter()
                .any(|found| (&found.0, &found.1) == (name, value))
            {
                rustix::fs::lsetxattr(&path[..], &name[..], value, XattrFlags::empty())?;
            }
        }
        if !present.is_empty() || !wanted.xattrs.is_empty() {
            // An access control list changes the mode behind our back.
            set_mode()?;
        }
        let time = Timespec {
            tv_sec: wanted.seconds,
            tv_nsec: wanted.nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(&place.folder, place.name, &times, flags)?;
        Ok(())
    }
}

fn piece(left: u64) -> usize {
    usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))
}
