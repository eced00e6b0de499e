//! GUID partition tables: reading with distrust, writing with care.
//!
//! Every field is checked before it is used, since tables come from foreign
//! images. What is written back keeps partition numbers, GUIDs, attributes,
//! names and bytes that this code does not know; the boot code in front of the
//! protective MBR is never touched. The format is that of UEFI 2.10, chapter 5.

mod create;
mod guid;
mod mbr;
mod table;
mod write;

use std::fmt;
use std::ops::Range;

pub use create::{NewPartition, create, last_usable};
pub use guid::Guid;
pub use write::grow;

use super::Storage;
use crate::error::{Context as _, Error, Result};
use table::{Header, ReadError, Table};

/// Sector sizes that images use, in bytes, the usual one first.
const SECTOR_SIZES: [u64; 2] = [512, 4096];

/// Which of the two copies of the table was used, and what is wrong with the
/// other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Both are valid and equal.
    Both,
    /// The copy at the begin; the text says why not the one at the end.
    Primary(String),
    /// The copy at the end; the text says why not the one at the begin. Linux
    /// does not boot from such a disk without being asked to; [`Gpt::write`]
    /// mends it.
    Backup(String),
}

impl Origin {
    /// What the user should know about a table of which only one copy is valid.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Both => None,
            Self::Primary(problem) => Some(format!(
                "the backup partition table was not used: {problem}"
            )),
            Self::Backup(problem) => Some(format!(
                "the partition table was read from its backup: {problem}"
            )),
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1: the place of its entry in the table.
    pub number: u32,
    /// What it is for.
    pub type_guid: Guid,
    /// Its own GUID: `PARTUUID`.
    pub unique_guid: Guid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Attribute bits as they stand on disk.
    pub attributes: u64,
    /// Its name: `PARTLABEL`.
    pub name: String,
    sector_size: u64,
}

impl Partition {
    /// Where it lies, in bytes from the begin of the disk.
    pub fn bytes(&self) -> Range<u64> {
        // Both bounds were checked to lie within the disk, whose size in bytes
        // is a u64.
        self.first_lba * self.sector_size..(self.last_lba + 1) * self.sector_size
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes().end - self.bytes().start
    }
}

/// A partition table.
#[derive(Clone)]
pub struct Gpt {
    header: Header,
    /// The entries as they stand on disk.
    entries: Vec<u8>,
    partitions: Vec<Partition>,
    sector_size: u64,
    origin: Origin,
    /// Where the copies lay when the table was read, in sectors: the places to
    /// wipe when they move.
    found: Vec<Range<u64>>,
}

impl fmt::Debug for Gpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes of the entries would fill pages.
        formatter
            .debug_struct("Gpt")
            .field("header", &self.header)
            .field("partitions", &self.partitions)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Gpt {
    /// The partitions that are in use, by number.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.number == number)
    }

    /// All partitions of a type, by number.
    pub fn find_type(&self, type_guid: Guid) -> impl Iterator<Item = &Partition> {
        self.partitions
            .iter()
            .filter(move |partition| partition.type_guid == type_guid)
    }

    /// The partition with this `PARTUUID`.
    pub fn find_unique(&self, unique_guid: Guid) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.unique_guid == unique_guid)
    }

    /// All partitions with this name, by number.
    pub fn find_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Partition> {
        self.partitions
            .iter()
            .filter(move |partition| partition.name == name)
    }

    /// The partition that lies last on the disk: the one that can grow.
    pub fn last_on_disk(&self) -> Option<&Partition> {
        self.partitions
            .iter()
            .max_by_key(|partition| partition.last_lba)
    }

    /// The GUID of the disk.
    pub fn disk_guid(&self) -> Guid {
        self.header.disk_guid()
    }

    /// Sector size in bytes: 512 or 4096.
    pub fn sector_size(&self) -> u64 {
        self.sector_size
    }

    /// The sectors that partitions may use, both inclusive.
    pub fn usable(&self) -> (u64, u64) {
        (self.header.first_usable(), self.header.last_usable())
    }

    /// Which copy of the table was used.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Reads the partition table of a disk.
///
/// # Errors
/// [`crate::Class::Input`] when there is none, when both copies are damaged, or
/// when it contradicts itself or the disk; [`crate::Class::Unsupported`] for MBR
/// partitions; [`crate::Class::Environment`] when reading fails.
pub fn read(storage: &dyn Storage) -> Result<Gpt> {
    let doing = || "read the partition table".to_owned();
    let mut failures = Vec::new();
    for sector_size in SECTOR_SIZES {
        match read_with(storage, sector_size) {
            Ok(gpt) => {
                mbr::check(storage)?;
                return Ok(gpt);
            }
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Error::input(doing()).caused_by(error).hint(
                    "the image is damaged: `qemu-img check IMAGE` tells more; fetch it again",
                ));
            }
            Err(ReadError::Io(error)) => return Err(Error::io(doing(), error)),
            Err(ReadError::Absent) => {}
            Err(ReadError::Wrong(problem)) => failures.push(problem),
        }
    }
    match failures.into_iter().next() {
        Some(problem) => Err(Error::input(doing()).caused_by(problem).hint(
            "look at it with `sgdisk -v IMAGE`; if the image was downloaded, \
             compare its size and checksum with the publisher's",
        )),
        None => Err(mbr::explain_absence(storage).doing(doing)?),
    }
}

fn read_with(storage: &dyn Storage, sector_size: u64) -> Result<Gpt, ReadError> {
    let sectors = storage.size() / sector_size;
    if sectors < 3 || !storage.size().is_multiple_of(sector_size) {
        return Err(ReadError::Absent);
    }
    let primary = Table::read(storage, sector_size, 1);
    if let Err(ReadError::Io(error)) = primary {
        return Err(ReadError::Io(error));
    }
    // The primary knows where the backup is; an image that was made longer
    // later has it elsewhere than at the end.
    let alternate = match &primary {
        Ok(table) if table.header.alternate_lba() < sectors => table.header.alternate_lba(),
        _ => sectors - 1,
    };
    let backup = Table::read(storage, sector_size, alternate);
    if let Err(ReadError::Io(error)) = backup {
        return Err(ReadError::Io(error));
    }
    let mut found = Vec::new();
    for table in [&primary, &backup].into_iter().flatten() {
        let my_lba = table.header.my_lba();
        found.extend([my_lba..my_lba + 1, table.header.entries_range(sector_size)]);
    }
    let (table, origin) = match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            let origin = match primary.difference(&backup) {
                None => Origin::Both,
                Some(problem) => Origin::Primary(problem),
            };
            (primary, origin)
        }
        (Ok(primary), Err(problem)) => (primary, Origin::Primary(problem.to_string())),
        (Err(problem), Ok(backup)) => (backup, Origin::Backup(problem.to_string())),
        (Err(ReadError::Absent), Err(problem)) | (Err(problem), Err(_)) => return Err(problem),
    };
    let partitions = table.partitions(sector_size)?;
    // Where the copies disagree, the unused one may claim sectors of partitions.
    let (first, last) = (table.header.first_usable(), table.header.last_usable());
    found.retain(|range| range.end <= first || range.start > last);
    Ok(Gpt {
        header: table.header,
        entries: table.entries,
        partitions,
        sector_size,
        origin,
        found,
    })
}

#[cfg(test)]
mod tests;
