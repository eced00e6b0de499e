//! A small reader of FAT12, FAT16 and FAT32 with long names (Microsoft, "FAT
//! File System Specification", 2005): it finds one file by its path and reads it.
//!
//! Chains are walked for as many clusters as there are at most, and everything
//! read is bounded.

use std::io;

use super::ReadAt;
use super::read_at::{take, u16_at, u32_at};

/// Largest folder that is read, in bytes: 65,536 entries, the most there can be.
const MAXIMUM_FOLDER: u64 = 2 << 20;
const ENTRY: usize = 32;

const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const ATTRIBUTE_MASK: u8 = 0x3f;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// A volume. Places are in bytes.
#[derive(Debug)]
pub struct Vfat<R> {
    source: R,
    kind: Kind,
    label: String,
    table: u64,
    data: u64,
    cluster: u64,
    clusters: u32,
    root: Folder,
}

#[derive(Debug, Clone, Copy)]
enum Folder {
    /// The root of FAT12 and FAT16, at a place of its own.
    Fixed {
        offset: u64,
        size: u64,
    },
    Chain {
        first: u32,
    },
}

struct Entry {
    name: String,
    attributes: u8,
    first: u32,
    size: u32,
}

impl<R: ReadAt> Vfat<R> {
    /// Reads the boot sector; `None` when it is none of a FAT volume.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn open(source: R) -> io::Result<Option<Self>> {
        let boot = match take(&source, 0, 512) {
            Ok(boot) => boot,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(mut volume) = Self::from_boot_sector(source, &boot) else {
            return Ok(None);
        };
        // The label in the root is the one that tools change; the other may be stale.
        if let Ok(bytes) = volume.folder_bytes(volume.root)
            && let Some(label) = root_label(&bytes)
        {
            volume.label = label;
        }
        Ok(Some(volume))
    }

    fn from_boot_sector(source: R, boot: &[u8]) -> Option<Self> {
        let byte = |offset: usize| boot.get(offset).copied().map(u64::from);
        let word = |offset: usize| u16_at(boot, offset).map(u64::from);
        let long = |offset: usize| u32_at(boot, offset).map(u64::from);
        if boot.get(510..512)? != [0x55, 0xaa] || !matches!(boot[0], 0xeb | 0xe9) {
            return None;
        }
        let sector = word(11)?;
        let per_cluster = byte(13)?;
        let (reserved, tables, root_entries) = (word(14)?, byte(16)?, word(17)?);
        let valid = matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=4).contains(&tables);
        if !valid {
            return None;
        }
        let sectors = match word(19)? {
            0 => long(32)?,
            small => small,
        };
        // As Linux has it: FAT32 is what gives no size in the old field.
        let (table_sectors, is_fat32) = match word(22)? {
            0 => (long(36)?, true),
            small => (small, false),
        };
        let root_sectors = (root_entries * ENTRY as u64).div_ceil(sector);
        let system = reserved + tables * table_sectors + root_sectors;
        let clusters = u32::try_from(sectors.checked_sub(system)? / per_cluster).ok()?;
        if clusters == 0 || table_sectors == 0 || clusters > 0x0fff_fff5 {
            return None;
        }
        let kind = match clusters {
            _ if is_fat32 => Kind::Fat32,
            ..=4084 => Kind::Fat12,
            _ => Kind::Fat16,
        };
        let root = if is_fat32 {
            Folder::Chain {
                first: u32_at(boot, 44)?,
            }
        } else {
            let offset = (reserved + tables * table_sectors) * sector;
            Folder::Fixed {
                offset,
                size: root_entries * ENTRY as u64,
            }
        };
        let (signature, label) = if is_fat32 { (66, 71) } else { (38, 43) };
        let label = match boot[signature] {
            0x29 => text_of_label(&boot[label..label + 11]),
            _ => String::new(),
        };
        Some(Self {
            source,
            kind,
            label,
            table: reserved * sector,
            data: system * sector,
            cluster: per_cluster * sector,
            clusters,
            root,
        })
    }

    /// The volume's label; empty when there is none.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Reads a file of at most `limit` bytes; `None` when there is none of this
    /// path. Components are parted by `/`; case does not count.
    ///
    /// # Errors
    /// When the source cannot be read, the volume is damaged or the file larger
    /// ([`io::ErrorKind::FileTooLarge`]).
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut folder = self.root;
        let mut components = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = components.next() {
            let bytes = self.folder_bytes(folder)?;
            let Some(entry) = entries(&bytes, self.kind)
                .into_iter()
                .find(|entry| entry.name.eq_ignore_ascii_case(name))
            else {
                return Ok(None);
            };
            let is_folder = entry.attributes & ATTRIBUTE_DIRECTORY != 0;
            if components.peek().is_some() {
                if !is_folder {
                    return Ok(None);
                }
                folder = Folder::Chain { first: entry.first };
                continue;
            }
            if is_folder {
                return Err(damaged("a folder stands where the file should"));
            }
            if u64::from(entry.size) > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            return self
                .chain_bytes(entry.first, Some(u64::from(entry.size)))
                .map(Some);
        }
        Ok(None)
    }

    fn folder_bytes(&self, folder: Folder) -> io::Result<Vec<u8>> {
        match folder {
            Folder::Fixed { offset, size } => take(&self.source, offset, size as usize),
            Folder::Chain { first } => self.chain_bytes(first, None),
        }
    }

    /// The bytes of a chain of clusters: of a file as many as its size says, of a
    /// folder all.
    fn chain_bytes(&self, first: u32, size: Option<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let wanted = size.unwrap_or(MAXIMUM_FOLDER);
        let mut cluster = first;
        let mut steps = 0;
        while (bytes.len() as u64) < wanted {
            if !(2..self.clusters + 2).contains(&cluster) {
                return Err(damaged("a chain leads to a cluster that does not exist"));
            }
            steps += 1;
            if steps > self.clusters {
                return Err(damaged("a chain of clusters never ends"));
            }
            let offset = self.data + u64::from(cluster - 2) * self.cluster;
            let length = self.cluster.min(wanted - bytes.len() as u64);
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            self.source.read_at(offset, &mut bytes[start..])?;
            let next = self.next(cluster)?;
            if self.is_end(next) {
                break;
            }
            cluster = next;
        }
        match size {
            Some(size) if (bytes.len() as u64) < size => {
                Err(damaged("a chain of clusters is shorter than its file"))
            }
            None if bytes.len() as u64 >= MAXIMUM_FOLDER => {
                Err(damaged("a folder is larger than 2 MiB"))
            }
            _ => Ok(bytes),
        }
    }

    fn next(&self, cluster: u32) -> io::Result<u32> {
        let place = u64::from(cluster);
        let mut bytes = [0; 4];
        Ok(match self.kind {
            Kind::Fat12 => {
                self.source
                    .read_at(self.table + place * 3 / 2, &mut bytes[..2])?;
                let pair = u32::from_le_bytes(bytes);
                if cluster.is_multiple_of(2) {
                    pair & 0xfff
                } else {
                    pair >> 4
                }
            }
            Kind::Fat16 => {
                self.source
                    .read_at(self.table + place * 2, &mut bytes[..2])?;
                u32::from_le_bytes(bytes)
            }
            Kind::Fat32 => {
                self.source.read_at(self.table + place * 4, &mut bytes)?;
                u32::from_le_bytes(bytes) & 0x0fff_ffff
            }
        })
    }

    fn is_end(&self, value: u32) -> bool {
        value
            >= match self.kind {
                Kind::Fat12 => 0xff8,
                Kind::Fat16 => 0xfff8,
                Kind::Fat32 => 0x0fff_fff8,
            }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn text_of_label(raw: &[u8]) -> String {
    let label = String::from_utf8_lossy(raw).trim_end().to_owned();
    if label == "NO NAME" {
        String::new()
    } else {
        label
    }
}

/// The label entry of a root folder.
fn root_label(folder: &[u8]) -> Option<String> {
    folder
        .chunks_exact(ENTRY)
        .take_while(|entry| entry[0] != 0)
        .find(|entry| {
            let attributes = entry[11] & ATTRIBUTE_MASK;
            entry[0] != 0xe5
                && attributes != ATTRIBUTE_LONG_NAME
                && attributes & (ATTRIBUTE_VOLUME | ATTRIBUTE_DIRECTORY) == ATTRIBUTE_VOLUME
        })
        .map(|entry| text_of_label(&entry[..11]))
}

/// The files and folders of a folder.
fn entries(folder: &[u8], kind: Kind) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long = LongName::default();
    for raw in folder.chunks_exact(ENTRY).take_while(|raw| raw[0] != 0) {
        let attributes = raw[11] & ATTRIBUTE_MASK;
        if raw[0] == 0xe5 {
            long = LongName::default();
        } else if attributes == ATTRIBUTE_LONG_NAME {
            long.add(raw);
        } else {
            let name = std::mem::take(&mut long).finish(&raw[..11]);
            if attributes & ATTRIBUTE_VOLUME != 0 {
                continue;
            }
            let word =
                |offset: usize| u32::from(u16::from_le_bytes([raw[offset], raw[offset + 1]]));
            // Below FAT32 the upper half may hold something else.
            let upper = if kind == Kind::Fat32 { word(20) } else { 0 };
            found.push(Entry {
                name: name.unwrap_or_else(|| short_name(raw)),
                attributes,
                first: upper << 16 | word(26),
                size: word(30) << 16 | word(28),
            });
        }
    }
    found
}

/// The pieces of a long name, which come last piece first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
    missing: u8,
    valid: bool,
}

impl LongName {
    fn add(&mut self, raw: &[u8]) {
        const LAST: u8 = 0x40;
        const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let order = raw[0] & 0x1f;
        if raw[0] & LAST != 0 {
            *self = Self {
                checksum: raw[13],
                missing: order,
                valid: order > 0,
                units: Vec::new(),
            };
        }
        if !self.valid || order != self.missing || raw[13] != self.checksum || order == 0 {
            *self = Self::default();
            return;
        }
        let units = UNITS.map(|place| u16::from_le_bytes([raw[place], raw[place + 1]]));
        self.units.splice(0..0, units);
        self.missing -= 1;
    }

    /// The name, if all pieces were there and belong to this short one.
    fn finish(self, short: &[u8]) -> Option<String> {
        let sum = short
            .iter()
            .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if !self.valid || self.missing != 0 || sum != self.checksum {
            return None;
        }
        let end = self
            .units
            .iter()
            .position(|unit| *unit == 0)
            .unwrap_or(self.units.len());
        String::from_utf16(&self.units[..end]).ok()
    }
}

/// A name of eight and three characters.
fn short_name(raw: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stem, extension) = (part(&raw[..8]), part(&raw[8..11]));
    if extension.is_empty() {
        stem
    } else {
        format!("{stem}.{extension}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_volume_is_none() {
        assert!(Vfat::open(Vec::new()).unwrap().is_none());
        assert!(Vfat::open(vec![0; 1 << 20]).unwrap().is_none());
        let mut boot = vec![0; 512];
        boot[0] = 0xeb;
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(Vfat::open(boot).unwrap().is_none());
    }

    #[test]
    fn pieces_of_a_long_name_must_all_belong() {
        let mut piece = [0u8; ENTRY];
        piece[0] = 0x41;
        piece[11] = ATTRIBUTE_LONG_NAME;
        piece[1] = b'a';
        let short = *b"A          ";
        let sum = short
            .iter()
            .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        piece[13] = sum;
        let mut name = LongName::default();
        name.add(&piece);
        assert_eq!(name.finish(&short).as_deref(), Some("a"));
        let mut name = LongName::default();
        piece[13] = sum.wrapping_add(1);
        name.add(&piece);
        assert_eq!(name.finish(&short), None);
        piece[0] = 0x01;
        let mut name = LongName::default();
        name.add(&piece);
        assert_eq!(name.finish(&short), None);
    }
}
