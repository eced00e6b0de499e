//! FAT12, FAT16 and FAT32: the EFI system partition.
//!
//! Written here and not taken from a crate: time stamps of every entry must come
//! from outside, small FAT32 volumes must open, a bake must know of too little
//! room before its first write, and folders must pass fsck.vfat.
//!
//! FAT keeps no owner and no mode: they read as root's, `0755` for folders and
//! `0644` for files, and what is given is dropped without an error. Links and
//! extended attributes are [`Problem::NotSupported`]. Names are compared without
//! regard to case.
//!
//! An opened volume is walked once. What does not add up (chains that cross,
//! leave the volume or belong to nobody, tables that differ) is refused for
//! writing. That walk is also why a volume which is merely marked as in use, as
//! one copied from a running system is, can be edited: there is no journal, the
//! mark only asks for this check, and it is cleared at the end.

mod directory;
pub mod layout;
mod name;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod tree;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use self::directory::{Entry, Slots, Stamp};
use self::layout::Layout;
use self::table::Table;
use self::tree::Folder;
pub(in crate::volume) use self::tree::Listing;
use super::content::{at_its_end, read_exactly};
use super::refusal::{refuse, storage_failed};
use super::{
    Access, Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space,
    Timestamp, Volume,
};
use crate::disk::Storage;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// Bytes copied at once, at least a cluster.
const PIECE: usize = 1 << 20;
/// Folders that a volume may have, and how deep they may lie.
const MOST_FOLDERS: usize = 100_000;

pub mod check;

/// Whether `sector`, the first 512 bytes of a partition, begins a FAT file
/// system (Microsoft, "FAT: General Overview of On-Disk Format", BPB).
pub fn recognise(sector: &[u8]) -> bool {
    let Some(sector) = sector.get(..512) else {
        return false;
    };
    let bytes = u16::from_le_bytes([sector[11], sector[12]]);
    let jump = sector[0] == 0xEB && sector[2] == 0x90 || sector[0] == 0xE9;
    jump && sector[510..] == [0x55, 0xAA]
        && (512..=4096).contains(&bytes)
        && bytes.is_power_of_two()
        && sector[13].is_power_of_two()
        && matches!(sector[16], 1 | 2)
        && (sector[21] == 0xF0 || sector[21] >= 0xF8)
}

/// Label and serial number (`ABCD-1234`) of a boot sector.
pub(super) fn identity(sector: &[u8]) -> (String, String) {
    // FAT32 has 28 more bytes before the same fields.
    let wide = sector[22] == 0 && sector[23] == 0;
    let at = if wide { 67 } else { 39 };
    let serial = format!(
        "{:02X}{:02X}-{:02X}{:02X}",
        sector[at + 3],
        sector[at + 2],
        sector[at + 1],
        sector[at]
    );
    let label = String::from_utf8_lossy(&sector[at + 4..at + 15])
        .trim_end_matches([' ', '\0'])
        .to_owned();
    (
        if label == "NO NAME" {
            String::new()
        } else {
            label
        },
        serial,
    )
}

/// A FAT file system.
#[derive(Debug)]
pub struct Fat {
    storage: Arc<dyn Storage>,
    access: Access,
    epoch: Timestamp,
    layout: Layout,
    table: Table,
    label: String,
    serial: String,
    newest: Timestamp,
}

impl Fat {
    /// Opens the file system on `storage`.
    ///
    /// # Errors
    /// As [`layout::judge`]; [`Problem::Damaged`] when the walk finds something
    /// and `access` is for writing.
    pub fn open(storage: Arc<dyn Storage>, access: Access, epoch: Timestamp) -> Result<Self> {
        let doing = "open the FAT file system";
        let failed = |error| storage_failed(doing, &error);
        let mut sector = [0; 512];
        storage.read_at(&mut sector, 0).map_err(failed)?;
        let layout = layout::judge(&sector, storage.size())?;
        let (table, agree) = Table::read(storage.as_ref(), &layout).map_err(failed)?;
        let (label, serial) = identity(&sector);
        let mut fat = Self {
            storage,
            access,
            epoch,
            layout,
            table,
            label,
            serial,
            newest: Timestamp::default(),
        };
        let walked = fat.walk();
        if access == Access::Write {
            walked?;
            if !agree {
                return Err(refuse(
                    Problem::Damaged,
                    doing,
                    "the copies of its allocation table differ",
                ));
            }
        }
        Ok(fat)
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

    /// Looks at every folder and chain once.
    fn walk(&mut self) -> Result<()> {
        let doing = "check the FAT file system";
        let damaged = |text: String| refuse(Problem::Damaged, doing, text);
        let mut seen = vec![false; self.layout.clusters as usize + 2];
        let mut left = vec![self.root()];
        let mut folders = 0;
        while let Some(folder) = left.pop() {
            folders += 1;
            if folders > MOST_FOLDERS {
                return Err(damaged(format!("it has more than {MOST_FOLDERS} folders")));
            }
            let slots = self.read_folder(&folder, doing)?;
            if !Table::mark(&folder.chain, &mut seen) {
                return Err(damaged("a folder shares its clusters".to_owned()));
            }
            if folder.is_root()
                && let Some(label) = slots.label()
            {
                self.label = label;
            }
            for entry in slots.entries() {
                self.newest = self.newest.max(entry.modified);
                if entry.folder {
                    left.push(self.enter(&entry, doing)?);
                    continue;
                }
                let chain = self
                    .table
                    .chain(entry.cluster)
                    .filter(|chain| Table::mark(chain, &mut seen))
                    .ok_or_else(|| damaged(format!("the clusters of {} are wrong", entry.name)))?;
                if self.clusters_for(u64::from(entry.size)) != chain.len() as u64 {
                    return Err(damaged(format!(
                        "the size of {} is not that of its clusters",
                        entry.name
                    )));
                }
            }
        }
        match self.table.lost(&seen) {
            0 => Ok(()),
            lost => Err(damaged(format!("{lost} clusters belong to no file"))),
        }
    }

    fn clusters_for(&self, size: u64) -> u64 {
        size.div_ceil(u64::from(self.layout.cluster))
    }

    fn free_bytes(&self) -> u64 {
        u64::from(self.table.free()) * u64::from(self.layout.cluster)
    }

    fn no_links<T>(doing: String) -> Result<T> {
        Err(refuse(Problem::NotSupported, doing, "FAT has no links"))
    }

    fn no_xattrs(attributes: &Attributes, doing: &str) -> Result<()> {
        if attributes.xattrs.is_empty() {
            return Ok(());
        }
        Err(refuse(
            Problem::NotSupported,
            doing,
            "FAT has no extended attributes",
        ))
    }

    fn metadata_of(entry: &Entry, folder: &Folder) -> Metadata {
        Metadata {
            kind: if entry.folder {
                Kind::Directory
            } else {
                Kind::File
            },
            size: u64::from(entry.size),
            links: 1,
            // Unique: the folder and the slot in it.
            inode: u64::from(folder.first) << 32 | entry.slots.end as u64,
            attributes: shown_attributes(entry.folder, entry.modified),
        }
    }

    fn store(
        &mut self,
        chain: &[u32],
        size: u64,
        content: &mut dyn Read,
        doing: &str,
    ) -> Result<()> {
        let cluster = self.layout.cluster as usize;
        let most = (PIECE / cluster).max(1);
        let mut buffer = Vec::new();
        let mut left = size;
        let mut at = 0;
        while at < chain.len() {
            let mut run = 1;
            while run < most && at + run < chain.len() && chain[at + run] == chain[at] + run as u32
            {
                run += 1;
            }
            buffer.clear();
            buffer.resize(run * cluster, 0);
            let piece = left.min(buffer.len() as u64) as usize;
            read_exactly(content, &mut buffer[..piece], doing)?;
            self.storage
                .write_at(&buffer, self.offset_of(chain[at]))
                .map_err(|error| storage_failed(doing, &error))?;
            left -= piece as u64;
            at += run;
        }
        at_its_end(content, size, doing)
    }
}

fn shown_attributes(folder: bool, modified: Timestamp) -> Attributes {
    Attributes {
        mode: if folder { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        modified,
        xattrs: BTreeMap::new(),
    }
}

impl Volume for Fat {
    fn identity(&self) -> Identity {
        Identity {
            file_system: FileSystem::Fat,
            label: self.label.clone(),
            uuid: self.serial.clone(),
            // FAT does not record it: the newest time of anything in it.
            last_written: self.newest,
        }
    }

    fn space(&mut self) -> Result<Space> {
        Ok(Space {
            block_size: self.layout.cluster,
            total: u64::from(self.layout.clusters) * u64::from(self.layout.cluster),
            free: self.free_bytes(),
            free_inodes: None,
        })
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        if path.is_root() {
            return Ok(Some(Metadata {
                kind: Kind::Directory,
                size: 0,
                links: 1,
                inode: 1,
                attributes: shown_attributes(true, Timestamp::default()),
            }));
        }
        match self.find(path, &doing) {
            Ok(found) => Ok(found
                .entry
                .map(|entry| Self::metadata_of(&entry, &found.folder))),
            Err(error) => match super::problem(&error) {
                // A name that FAT cannot hold is not there either.
                Some(Problem::NotFound | Problem::NotADirectory | Problem::NotSupported) => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let doing = format!("list {path}");
        let folder = self.folder(path, &doing)?;
        let mut entries: Vec<DirectoryEntry> = self
            .read_folder(&folder, &doing)?
            .entries()
            .into_iter()
            .map(|entry| DirectoryEntry {
                name: entry.name.into_bytes(),
                kind: if entry.folder {
                    Kind::Directory
                } else {
                    Kind::File
                },
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let entry = self.existing_file(path, &doing)?.1;
        let chain = self.chain_of(&entry, &doing)?;
        let cluster = self.layout.cluster as usize;
        let mut buffer = vec![0; cluster];
        let mut left = entry.size as usize;
        for number in chain {
            let piece = left.min(cluster);
            self.storage
                .read_at(&mut buffer[..piece], self.offset_of(number))
                .map_err(|error| storage_failed(&doing, &error))?;
            sink.write_all(&buffer[..piece])
                .map_err(|error| Error::io(doing.clone(), error))?;
            left -= piece;
        }
        if left > 0 {
            return Err(refuse(
                Problem::Damaged,
                doing,
                "it is shorter than its size",
            ));
        }
        Ok(u64::from(entry.size))
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        Self::no_links(format!("read the link {path}"))
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("create the folder {path}");
        self.writable(&doing)?;
        if path.is_root() {
            return Err(refuse(Problem::Exists, doing, "it is the root"));
        }
        let found = self.find(path, &doing)?;
        if found.entry.is_some() {
            return Err(refuse(Problem::Exists, doing, format!("{path} exists")));
        }
        Self::no_xattrs(attributes, &doing)?;
        let place = self.prepare(found.folder, found.slots, found.name, 1, &doing)?;
        let cluster = self.take(1, &doing)?;
        let stamp = Stamp {
            created: self.epoch,
            modified: attributes.modified,
        };
        let parent = place.folder.number_for_children();
        let size = self.layout.cluster as usize;
        let slots = Slots::new_folder(size, cluster[0], parent, &stamp);
        self.storage
            .write_at(&slots.0, self.offset_of(cluster[0]))
            .map_err(|error| storage_failed(&doing, &error))?;
        self.enter_name(place, &stamp.body(true, cluster[0], 0), &doing)
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
        if path.is_root() {
            return Err(refuse(Problem::IsADirectory, doing, "it is the root"));
        }
        let mut found = self.find(path, &doing)?;
        if found.entry.as_ref().is_some_and(|entry| entry.folder) {
            return Err(refuse(
                Problem::IsADirectory,
                doing,
                format!("{path} is a folder"),
            ));
        }
        Self::no_xattrs(attributes, &doing)?;
        let length = u32::try_from(size).map_err(|_| {
            refuse(
                Problem::NotSupported,
                doing.clone(),
                "FAT holds files of less than 4 GiB",
            )
        })?;
        let wanted = self.clusters_for(size);
        let old = match &found.entry {
            Some(entry) => self.chain_of(entry, &doing)?,
            None => Vec::new(),
        };
        self.room_for(wanted, old.len() as u64, &doing)?;
        if let Some(entry) = found.entry.take() {
            found.slots.remove(&entry);
            self.write_folder(&found.folder, &found.slots, &doing)?;
            self.table.cut(&old, 0);
        }
        let place = self.prepare(found.folder, found.slots, found.name, wanted, &doing)?;
        let chain = self.take(wanted, &doing)?;
        if let Err(error) = self.store(&chain, size, content, &doing) {
            self.table.cut(&chain, 0);
            return Err(error);
        }
        let stamp = Stamp {
            created: self.epoch,
            modified: attributes.modified,
        };
        let first = chain.first().copied().unwrap_or(0);
        self.enter_name(place, &stamp.body(false, first, length), &doing)
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        self.writable(&doing)?;
        let (mut found, entry) = self.existing_file(path, &doing)?;
        let chain = self.chain_of(&entry, &doing)?;
        let old = u64::from(entry.size);
        let size = u32::try_from(old + content.len() as u64).map_err(|_| {
            refuse(
                Problem::NotSupported,
                doing.clone(),
                "FAT holds files of less than 4 GiB",
            )
        })?;
        let more = self.clusters_for(u64::from(size)) - chain.len() as u64;
        self.room_for(more, 0, &doing)?;
        // The rest of the last cluster, then new ones.
        let cluster = u64::from(self.layout.cluster);
        let spare = (chain.len() as u64 * cluster - old).min(content.len() as u64) as usize;
        if let (Some(last), true) = (chain.last(), spare > 0) {
            self.storage
                .write_at(&content[..spare], self.offset_of(*last) + old % cluster)
                .map_err(|error| storage_failed(&doing, &error))?;
        }
        let added = self.take(more, &doing)?;
        let rest = &content[spare..];
        self.store(&added, rest.len() as u64, &mut &rest[..], &doing)?;
        self.table.join(&chain, &added);
        let first = chain.first().or(added.first()).copied().unwrap_or(0);
        found.slots.set_content(&entry, first, size);
        self.write_folder(&found.folder, &found.slots, &doing)
    }

    fn create_symlink(&mut self, path: &ImagePath, _: &[u8], _: &Attributes) -> Result<()> {
        Self::no_links(format!("create the link {path}"))
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        Self::no_links(format!("link {path} to {existing}"))
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        self.writable(&doing)?;
        Self::no_xattrs(attributes, &doing)?;
        if path.is_root() {
            // The root has no entry, so no time either.
            return Ok(());
        }
        let mut found = self.find(path, &doing)?;
        let entry = found.take_entry(&doing)?;
        found.slots.set_modified(&entry, attributes.modified);
        self.write_folder(&found.folder, &found.slots, &doing)
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove {path}");
        self.writable(&doing)?;
        let (mut found, entry) = self.existing_file(path, &doing)?;
        let chain = self.chain_of(&entry, &doing)?;
        found.slots.remove(&entry);
        self.write_folder(&found.folder, &found.slots, &doing)?;
        self.table.cut(&chain, 0);
        Ok(())
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        self.writable(&doing)?;
        if path.is_root() {
            return Err(refuse(Problem::NotSupported, doing, "it is the root"));
        }
        let mut found = self.find(path, &doing)?;
        let entry = found.take_entry(&doing)?;
        let chain = self.empty_folder(&entry, &doing)?;
        found.slots.remove(&entry);
        self.write_folder(&found.folder, &found.slots, &doing)?;
        self.table.cut(&chain, 0);
        Ok(())
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        let doing = format!("rename {from} to {to}");
        self.writable(&doing)?;
        self.move_entry(from, to, &doing)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        let doing = "finish the FAT file system";
        let failed = |error| storage_failed(doing, &error);
        if self.table.is_dirty() {
            self.table.mark_clean();
        }
        self.table
            .write(self.storage.as_ref(), &self.layout)
            .map_err(failed)?;
        if self.layout.state & 3 != 0 {
            self.storage
                .write_at(&[self.layout.state & !3], self.layout.state_at)
                .map_err(failed)?;
        }
        if let Some(at) = self.layout.information {
            let mut sector = [0; 512];
            self.storage.read_at(&mut sector, at).map_err(failed)?;
            if sector.starts_with(b"RRaA") && sector[484..].starts_with(b"rrAa") {
                sector[488..492].copy_from_slice(&self.table.free().to_le_bytes());
                sector[492..496].copy_from_slice(&self.table.hint().to_le_bytes());
                self.storage.write_at(&sector, at).map_err(failed)?;
            }
        }
        self.storage.flush().map_err(failed)
    }
}
