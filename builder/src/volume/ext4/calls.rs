//! The calls of a volume, each in the driver's terms.

use std::io::{Read, Write};

use fs_ext4::dir::DirEntryType;
use fs_ext4::error::Error as Ext4Error;

use super::inode::kind_of;
use super::{Ext4, gate, translate};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::refusal::{refuse, storage_failed};
use crate::volume::{
    Access, Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space,
    Timestamp, Volume, identity, problem,
};

impl Volume for Ext4 {
    fn identity(&self) -> Identity {
        Identity {
            file_system: FileSystem::Ext4,
            label: self.superblock.label.clone(),
            uuid: identity::uuid_text(&self.superblock.uuid),
            last_written: self.superblock.last_written,
        }
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
                return match problem(&error) {
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
        if let Some(number) = self.find_in(parent, name, &doing)? {
            self.admit(number, &doing)?;
        }
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
        if let Some(number) = self.find_in(parent, name, &doing)? {
            self.admit(number, &doing)?;
            self.places.forget(number.into());
        }
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
        self.admit_rename(source, target, to, &doing)?;
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
