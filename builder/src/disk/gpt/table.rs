//! One copy of the table: a header and the entries it points to.

use std::fmt;
use std::io;
use std::ops::Range;

use super::{Guid, Partition};
use crate::disk::Storage;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that revision 1.0 defines.
const HEADER_MIN: u64 = 92;
/// Bytes of an entry that revision 1.0 defines; others are this times a power
/// of two.
const ENTRY_MIN: u64 = 128;
const ENTRY_MAX: u64 = 4096;
/// Entries of a new table.
pub(super) const USUAL_ENTRIES: u64 = 128;
/// Largest table that is read, in bytes. The usual one has 16 KiB.
const ENTRIES_MAX: u64 = 1 << 20;

/// Why a copy cannot be used.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is none at this place.
    Absent,
    /// There is one, and this is wrong with it.
    Wrong(String),
    /// The disk cannot be read.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("there is none at its place"),
            Self::Wrong(problem) => formatter.write_str(problem),
            Self::Io(error) => write!(formatter, "it cannot be read: {error}"),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn wrong<T>(problem: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Wrong(problem.into()))
}

/// A header, as the bytes of its sector: what is not known here stays as it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Header {
    sector: Vec<u8>,
}

impl fmt::Debug for Header {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Header")
            .field("my_lba", &self.my_lba())
            .field("first_usable", &self.first_usable())
            .field("last_usable", &self.last_usable())
            .field("disk_guid", &self.disk_guid())
            .finish_non_exhaustive()
    }
}

impl Header {
    /// A header of revision 1.0 for the usual 128 entries of 128 bytes behind it, on
    /// sectors of 512 bytes.
    pub(super) fn new(disk_guid: Guid, last_usable: u64) -> Self {
        let mut header = Self {
            sector: vec![0; 512],
        };
        header.sector[..8].copy_from_slice(SIGNATURE);
        header.put_u32(8, 0x0001_0000);
        header.put_u32(12, HEADER_MIN as u32);
        header.put_u64(40, 2 + USUAL_ENTRIES * ENTRY_MIN / 512);
        header.put_u64(48, last_usable);
        header.sector[56..72].copy_from_slice(&disk_guid.to_disk());
        header.put_u64(72, 2);
        header.put_u32(80, USUAL_ENTRIES as u32);
        header.put_u32(84, ENTRY_MIN as u32);
        header
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.sector[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.sector[at..at + 8].try_into().expect("eight bytes"))
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.sector[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.sector[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn size(&self) -> u64 {
        u64::from(self.u32(12))
    }

    pub(super) fn my_lba(&self) -> u64 {
        self.u64(24)
    }

    pub(super) fn alternate_lba(&self) -> u64 {
        self.u64(32)
    }

    pub(super) fn first_usable(&self) -> u64 {
        self.u64(40)
    }

    pub(super) fn last_usable(&self) -> u64 {
        self.u64(48)
    }

    pub(super) fn disk_guid(&self) -> Guid {
        Guid::from_disk(self.sector[56..72].try_into().expect("sixteen bytes"))
    }

    pub(super) fn entries_lba(&self) -> u64 {
        self.u64(72)
    }

    fn entry_count(&self) -> u64 {
        u64::from(self.u32(80))
    }

    pub(super) fn entry_size(&self) -> u64 {
        u64::from(self.u32(84))
    }

    /// Size of the table of entries, in bytes.
    pub(super) fn entries_bytes(&self) -> u64 {
        self.entry_count() * self.entry_size()
    }

    /// Where the entries lie, in sectors.
    pub(super) fn entries_range(&self, sector_size: u64) -> Range<u64> {
        let first = self.entries_lba();
        first..first + self.entries_bytes().div_ceil(sector_size)
    }

    pub(super) fn set_last_usable(&mut self, lba: u64) {
        self.put_u64(48, lba);
    }

    /// The header for one of the two copies, with its checksums, as a sector.
    pub(super) fn sealed(
        &self,
        my_lba: u64,
        alternate_lba: u64,
        entries_lba: u64,
        entries: &[u8],
    ) -> Vec<u8> {
        let mut header = self.clone();
        header.put_u64(24, my_lba);
        header.put_u64(32, alternate_lba);
        header.put_u64(72, entries_lba);
        header.put_u32(88, crc32fast::hash(entries));
        header.put_u32(16, 0);
        let checksum = crc32fast::hash(&header.sector[..header.size() as usize]);
        header.put_u32(16, checksum);
        header.sector
    }

    fn read(storage: &dyn Storage, sector_size: u64, lba: u64) -> Result<Self, ReadError> {
        let mut sector = vec![0; sector_size as usize];
        storage.read_at(&mut sector, lba * sector_size)?;
        if &sector[..8] != SIGNATURE {
            return Err(ReadError::Absent);
        }
        let header = Self { sector };
        if header.u32(8) >> 16 != 1 {
            return wrong(format!("its revision is {:#x}", header.u32(8)));
        }
        if !(HEADER_MIN..=sector_size).contains(&header.size()) {
            return wrong(format!("its header has {} bytes", header.size()));
        }
        let mut bytes = header.sector[..header.size() as usize].to_vec();
        bytes[16..20].fill(0);
        if crc32fast::hash(&bytes) != header.u32(16) {
            return wrong("the checksum of its header is wrong");
        }
        if header.my_lba() != lba {
            return wrong(format!(
                "its header lies in sector {lba} but says {}",
                header.my_lba()
            ));
        }
        header.check_geometry(storage.size() / sector_size, sector_size)?;
        Ok(header)
    }

    fn check_geometry(&self, sectors: u64, sector_size: u64) -> Result<(), ReadError> {
        let (first, last) = (self.first_usable(), self.last_usable());
        if last >= sectors {
            // The backup follows the usable sectors, so this is the least size.
            let bytes = last
                .max(self.alternate_lba())
                .saturating_add(1)
                .saturating_mul(sector_size);
            return wrong(format!(
                "the image is cut off: its table is for a disk of {bytes} bytes, it has {}",
                sectors * sector_size
            ));
        }
        if first > last || first < 2 {
            return wrong(format!("its usable sectors are {first} to {last}"));
        }
        let size = self.entry_size();
        if !(ENTRY_MIN..=ENTRY_MAX).contains(&size) || !size.is_power_of_two() {
            return wrong(format!("its entries have {size} bytes each"));
        }
        // Both factors are below 2^32.
        if self.entry_count() == 0 || self.entries_bytes() > ENTRIES_MAX {
            return wrong(format!("it has {} entries", self.entry_count()));
        }
        let start = self.entries_lba();
        let length = self.entries_bytes().div_ceil(sector_size);
        let inside = start
            .checked_add(length)
            .is_some_and(|end| start >= 2 && end <= sectors && (end <= first || start > last));
        if !inside {
            return wrong(format!(
                "its entries lie in sectors {start} and following, over something else"
            ));
        }
        if (first..=last).contains(&self.my_lba()) {
            return wrong("its header lies among the usable sectors");
        }
        Ok(())
    }
}

/// A header and its entries, whose checksums are right.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) header: Header,
    pub(super) entries: Vec<u8>,
}

impl Table {
    pub(super) fn read(
        storage: &dyn Storage,
        sector_size: u64,
        lba: u64,
    ) -> Result<Self, ReadError> {
        let header = Header::read(storage, sector_size, lba)?;
        let mut entries = vec![0; header.entries_bytes() as usize];
        storage.read_at(&mut entries, header.entries_lba() * sector_size)?;
        if crc32fast::hash(&entries) != header.u32(88) {
            return wrong("the checksum of its entries is wrong");
        }
        Ok(Self { header, entries })
    }

    /// What differs between the two copies, apart from their places.
    pub(super) fn difference(&self, backup: &Self) -> Option<String> {
        let (one, two) = (&self.header, &backup.header);
        let problem = if one.disk_guid() != two.disk_guid() {
            "it is of another disk"
        } else if self.entries != backup.entries {
            "it has other partitions"
        } else if one.first_usable() != two.first_usable() || one.last_usable() != two.last_usable()
        {
            "it has other usable sectors"
        } else if two.alternate_lba() != one.my_lba() {
            "it does not point back"
        } else {
            return None;
        };
        Some(problem.to_owned())
    }

    /// The partitions in use, checked against the disk and each other.
    pub(super) fn partitions(&self, sector_size: u64) -> Result<Vec<Partition>, ReadError> {
        let mut partitions = Vec::new();
        let entries = self.entries.chunks_exact(self.header.entry_size() as usize);
        for (number, entry) in (1..).zip(entries) {
            let partition = read_entry(number, entry, sector_size);
            if partition.type_guid == Guid::UNUSED {
                continue;
            }
            let (first, last) = (partition.first_lba, partition.last_lba);
            if first > last {
                return wrong(format!(
                    "partition {number} ends in sector {last}, before its begin in sector {first}"
                ));
            }
            if first < self.header.first_usable() || last > self.header.last_usable() {
                return wrong(format!(
                    "partition {number} lies in sectors {first} to {last}, outside of the usable \
                     ones ({} to {})",
                    self.header.first_usable(),
                    self.header.last_usable()
                ));
            }
            partitions.push(partition);
        }
        check_overlap(&partitions)?;
        Ok(partitions)
    }
}

fn read_entry(number: u32, entry: &[u8], sector_size: u64) -> Partition {
    let guid = |at: usize| Guid::from_disk(entry[at..at + 16].try_into().expect("sixteen bytes"));
    let u64 = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
    let units = entry[56..128]
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0);
    Partition {
        number,
        type_guid: guid(0),
        unique_guid: guid(16),
        first_lba: u64(32),
        last_lba: u64(40),
        attributes: u64(48),
        name: char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        sector_size,
    }
}

fn check_overlap(partitions: &[Partition]) -> Result<(), ReadError> {
    let mut by_place: Vec<&Partition> = partitions.iter().collect();
    by_place.sort_by_key(|partition| partition.first_lba);
    for pair in by_place.windows(2) {
        if pair[1].first_lba <= pair[0].last_lba {
            return wrong(format!(
                "partitions {} and {} overlap",
                pair[0].number, pair[1].number
            ));
        }
    }
    by_place.sort_by_key(|partition| partition.unique_guid);
    for pair in by_place.windows(2) {
        if pair[0].unique_guid == pair[1].unique_guid {
            return wrong(format!(
                "partitions {} and {} have the same PARTUUID {}",
                pair[0].number.min(pair[1].number),
                pair[0].number.max(pair[1].number),
                pair[0].unique_guid
            ));
        }
    }
    Ok(())
}
