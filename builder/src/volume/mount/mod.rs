//! Any file system that the kernel knows, edited through a mount. Needs root.
//!
//! The second engine: for XFS, for what the first refuses, and the judge of the
//! first in the tests. A path is never handed to the kernel whole: the parent is
//! opened below the mount with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so that
//! no link of the image leads anywhere.

mod attach;
mod calls;
mod image;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

pub(super) use self::calls::translate;

use self::attach::Attached;
use self::calls::{failed_write, fill, kind_of, modified_of, times, xattrs};
use self::image::ReadOnly;
use super::refusal::{refuse, regular_file};
use super::{
    Access, Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space,
    Timestamp, Volume,
};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// A mounted partition.
#[derive(Debug)]
pub struct Mount {
    root: OwnedFd,
    attached: Attached,
    identity: Identity,
    access: Access,
}

/// An open folder and a name in it.
struct Place<'a> {
    folder: OwnedFd,
    name: &'a [u8],
}

impl Place<'_> {
    /// A path for the calls that take no folder: the folder is named by its
    /// descriptor, the name is not followed.
    fn path(&self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name);
        path
    }
}

impl Mount {
    /// Mounts the bytes `range` of the raw image `image`. `epoch` stands for the
    /// last write where the file system does not record one.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] without root, loop devices or the kernel's driver;
    /// [`Problem::NotSupported`] for what is no file system.
    pub fn open(image: &Path, range: Range<u64>, access: Access, epoch: Timestamp) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::environment("mount the image: this needs root")
                .hint("leave --engine away: ext4 and FAT are edited without root"));
        }
        let start = ReadOnly::new(image, range.clone())?;
        let kind = super::detect(&start)
            .map_err(|error| Error::io(format!("read {}", image.display()), error))?
            .ok_or_else(|| {
                refuse(
                    Problem::NotSupported,
                    format!("open a partition of {}", image.display()),
                    "it is neither ext4 nor FAT nor XFS nor btrfs",
                )
            })?;
        let identity = super::identity::read(&start, kind, epoch)
            .map_err(|error| Error::io(format!("read {}", image.display()), error))?;
        drop(start);
        let attached = Attached::new(image, &range, kind, access)?;
        let root = rustix::fs::open(
            attached.folder(),
            OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|errno| translate("open the mounted root", errno))?;
        Ok(Self {
            root,
            attached,
            identity,
            access,
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

    fn open_folder(&self, path: &ImagePath, doing: &str) -> Result<OwnedFd> {
        let relative = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
        let relative = if relative.is_empty() { b"." } else { relative };
        rustix::fs::openat2(
            &self.root,
            relative,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
        .map_err(|errno| translate(doing, errno))
    }

    fn place<'a>(&self, path: &'a ImagePath, doing: &str) -> Result<Place<'a>> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(Place {
                folder: self.open_folder(&parent, doing)?,
                name,
            }),
            _ => Ok(Place {
                folder: self.open_folder(path, doing)?,
                name: b".",
            }),
        }
    }

    /// Refuses the root, which no creating or removing call takes.
    fn place_below<'a>(
        &self,
        path: &'a ImagePath,
        problem: Problem,
        doing: &str,
    ) -> Result<Place<'a>> {
        self.writable(doing)?;
        if path.is_root() {
            return Err(refuse(problem, doing, "it is the root"));
        }
        self.place(path, doing)
    }

    fn stat(place: &Place<'_>, doing: &str) -> Result<Option<Stat>> {
        match rustix::fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(translate(doing, errno)),
        }
    }

    fn existing(place: &Place<'_>, doing: &str) -> Result<Stat> {
        Self::stat(place, doing)?
            .ok_or_else(|| refuse(Problem::NotFound, doing, "it does not exist"))
    }

    /// Runs `change` and puts the folder's modification time back.
    fn keep_time<T>(folder: &OwnedFd, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let doing = "keep the time of a folder";
        let before = rustix::fs::fstat(folder).map_err(|errno| translate(doing, errno))?;
        let changed = change();
        rustix::fs::futimens(folder, &times(modified_of(&before)))
            .map_err(|errno| translate(doing, errno))?;
        changed
    }

    /// Takes a file or link away to make room for a new one.
    fn clear(place: &Place<'_>, doing: &str) -> Result<()> {
        match Self::stat(place, doing)? {
            None => Ok(()),
            Some(found) if kind_of(&found) == Kind::Directory => {
                Err(refuse(Problem::IsADirectory, doing, "it is a folder"))
            }
            Some(_) => rustix::fs::unlinkat(&place.folder, place.name, AtFlags::empty())
                .map_err(|errno| translate(doing, errno)),
        }
    }

    fn dress(&self, place: &Place<'_>, attributes: &Attributes, doing: &str) -> Result<()> {
        let failed = |errno| translate(doing, errno);
        let found = Self::existing(place, doing)?;
        let kind = kind_of(&found);
        if self.identity.file_system != FileSystem::Fat {
            // The owner first: changing it clears set-uid and capabilities.
            rustix::fs::chownat(
                &place.folder,
                place.name,
                Some(Uid::from_raw(attributes.uid)),
                Some(Gid::from_raw(attributes.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed)?;
            if kind != Kind::Symlink {
                rustix::fs::chmodat(
                    &place.folder,
                    place.name,
                    Mode::from_raw_mode(attributes.mode & 0o7777),
                    AtFlags::empty(),
                )
                .map_err(failed)?;
            }
            let path = place.path();
            let present = xattrs(&path, doing)?;
            for name in present.keys() {
                if !attributes.xattrs.contains_key(name) {
                    rustix::fs::lremovexattr(&path[..], name.as_str()).map_err(failed)?;
                }
            }
            for (name, value) in &attributes.xattrs {
                if present.get(name) != Some(value) {
                    rustix::fs::lsetxattr(&path[..], name.as_str(), value, XattrFlags::empty())
                        .map_err(failed)?;
                }
            }
            // An access control list changes the mode behind our back.
            if kind != Kind::Symlink && attributes.xattrs != present {
                rustix::fs::chmodat(
                    &place.folder,
                    place.name,
                    Mode::from_raw_mode(attributes.mode & 0o7777),
                    AtFlags::empty(),
                )
                .map_err(failed)?;
            }
        } else if !attributes.xattrs.is_empty() {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                "FAT has no extended attributes",
            ));
        }
        rustix::fs::utimensat(
            &place.folder,
            place.name,
            &times(attributes.modified),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed)
    }

    fn attributes(&self, place: &Place<'_>, found: &Stat, doing: &str) -> Result<Attributes> {
        Ok(Attributes {
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            modified: modified_of(found),
            xattrs: if self.identity.file_system == FileSystem::Fat {
                BTreeMap::new()
            } else {
                xattrs(&place.path(), doing)?
            },
        })
    }
}

impl Volume for Mount {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn space(&mut self) -> Result<Space> {
        let found = rustix::fs::fstatvfs(&self.root)
            .map_err(|errno| translate("read the free space", errno))?;
        Ok(Space {
            block_size: u32::try_from(found.f_frsize).unwrap_or(u32::MAX),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bfree.saturating_mul(found.f_frsize),
            // FAT and btrfs make them where there is room, and count none.
            free_inodes: matches!(
                self.identity.file_system,
                FileSystem::Ext4 | FileSystem::Xfs
            )
            .then_some(found.f_ffree),
        })
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        let place = match self.place(path, &doing) {
            Ok(place) => place,
            Err(error) => {
                return match super::problem(&error) {
                    Some(Problem::NotFound | Problem::NotADirectory) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let Some(found) = Self::stat(&place, &doing)? else {
            return Ok(None);
        };
        Ok(Some(Metadata {
            kind: kind_of(&found),
            size: u64::try_from(found.st_size).unwrap_or(0),
            links: u32::try_from(found.st_nlink).unwrap_or(u32::MAX),
            inode: found.st_ino,
            attributes: self.attributes(&place, &found, &doing)?,
        }))
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let doing = format!("list {path}");
        let folder = self.open_folder(path, &doing)?;
        let listing =
            rustix::fs::Dir::read_from(&folder).map_err(|errno| translate(&doing, errno))?;
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|errno| translate(&doing, errno))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink,
                FileType::Unknown => kind_of(
                    &rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|errno| translate(&doing, errno))?,
                ),
                _ => Kind::Special,
            };
            entries.push(DirectoryEntry {
                name: name.to_vec(),
                kind,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let place = self.place(path, &doing)?;
        regular_file(kind_of(&Self::existing(&place, &doing)?), &doing)?;
        let mut file = File::from(
            rustix::fs::openat(
                &place.folder,
                place.name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|errno| translate(&doing, errno))?,
        );
        let mut buffer = vec![0; PIECE];
        let mut total = 0;
        loop {
            let got = file
                .read(&mut buffer)
                .map_err(|error| failed_write(&doing, &error))?;
            if got == 0 {
                return Ok(total);
            }
            sink.write_all(&buffer[..got])
                .map_err(|error| Error::io(doing.clone(), error))?;
            total += got as u64;
        }
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        let place = self.place(path, &doing)?;
        rustix::fs::readlinkat(&place.folder, place.name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| translate(&doing, errno))
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("create the folder {path}");
        let place = self.place_below(path, Problem::Exists, &doing)?;
        Self::keep_time(&place.folder, || {
            rustix::fs::mkdirat(&place.folder, place.name, Mode::from_raw_mode(0o700))
                .map_err(|errno| translate(&doing, errno))?;
            let done = self.dress(&place, attributes, &doing);
            if done.is_err() {
                rustix::fs::unlinkat(&place.folder, place.name, AtFlags::REMOVEDIR).ok();
            }
            done
        })
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("write {path}");
        let place = self.place_below(path, Problem::IsADirectory, &doing)?;
        Self::keep_time(&place.folder, || {
            Self::clear(&place, &doing)?;
            let file = rustix::fs::openat(
                &place.folder,
                place.name,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
            .map_err(|errno| translate(&doing, errno))?;
            let done = fill(file, size, content, &doing)
                .and_then(|()| self.dress(&place, attributes, &doing));
            if done.is_err() {
                rustix::fs::unlinkat(&place.folder, place.name, AtFlags::empty()).ok();
            }
            done
        })
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        let place = self.place_below(path, Problem::IsADirectory, &doing)?;
        let found = Self::existing(&place, &doing)?;
        regular_file(kind_of(&found), &doing)?;
        // Writing takes set-uid and capabilities away.
        let attributes = self.attributes(&place, &found, &doing)?;
        let mut file = File::from(
            rustix::fs::openat(
                &place.folder,
                place.name,
                OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|errno| translate(&doing, errno))?,
        );
        if let Err(error) = file.write_all(content) {
            file.set_len(u64::try_from(found.st_size).unwrap_or(0)).ok();
            return Err(failed_write(&doing, &error));
        }
        drop(file);
        self.dress(&place, &attributes, &doing)
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("create the link {path}");
        let place = self.place_below(path, Problem::IsADirectory, &doing)?;
        Self::keep_time(&place.folder, || {
            Self::clear(&place, &doing)?;
            rustix::fs::symlinkat(target, &place.folder, place.name)
                .map_err(|errno| translate(&doing, errno))?;
            let done = self.dress(&place, attributes, &doing);
            if done.is_err() {
                rustix::fs::unlinkat(&place.folder, place.name, AtFlags::empty()).ok();
            }
            done
        })
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        let doing = format!("link {path} to {existing}");
        let source = self.place(existing, &doing)?;
        let found = Self::existing(&source, &doing)?;
        if kind_of(&found) == Kind::Directory {
            return Err(refuse(
                Problem::IsADirectory,
                doing,
                "folders have one name",
            ));
        }
        let place = self.place_below(path, Problem::Exists, &doing)?;
        Self::keep_time(&place.folder, || {
            rustix::fs::linkat(
                &source.folder,
                source.name,
                &place.folder,
                place.name,
                AtFlags::empty(),
            )
            .map_err(|errno| translate(&doing, errno))
        })
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        self.writable(&doing)?;
        let place = self.place(path, &doing)?;
        self.dress(&place, attributes, &doing)
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove {path}");
        let place = self.place_below(path, Problem::IsADirectory, &doing)?;
        Self::keep_time(&place.folder, || {
            rustix::fs::unlinkat(&place.folder, place.name, AtFlags::empty())
                .map_err(|errno| translate(&doing, errno))
        })
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        let place = self.place_below(path, Problem::NotSupported, &doing)?;
        Self::keep_time(&place.folder, || {
            rustix::fs::unlinkat(&place.folder, place.name, AtFlags::REMOVEDIR)
                .map_err(|errno| translate(&doing, errno))
        })
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        let doing = format!("rename {from} to {to}");
        if to.starts_with(from) && to != from {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                "a folder cannot move into itself",
            ));
        }
        let source = self.place_below(from, Problem::NotSupported, &doing)?;
        let target = self.place_below(to, Problem::NotSupported, &doing)?;
        Self::keep_time(&source.folder, || {
            Self::keep_time(&target.folder, || {
                rustix::fs::renameat(&source.folder, source.name, &target.folder, target.name)
                    .map_err(|errno| match errno {
                        // XFS says this of a folder that is not empty (rename(2) allows both).
                        Errno::EXIST => translate(&doing, Errno::NOTEMPTY),
                        other => translate(&doing, other),
                    })
            })
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { root, attached, .. } = *self;
        drop(root);
        attached.detach()
    }
}
