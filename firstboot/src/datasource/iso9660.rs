//! A small reader of ISO 9660 (ECMA-119) with Rock Ridge names (IEEE P1282) and
//! Joliet: it finds one file by its path and reads it.
//!
//! Everything read is bounded, and only the way of the path is walked, so that no
//! image can make it loop.

use std::io;

use super::ReadAt;
use super::read_at::{take, u16_at, u32_at};

const SECTOR: u64 = 2048;
/// Where the volume descriptors begin, in sectors.
const FIRST_DESCRIPTOR: u64 = 16;
/// Most volume descriptors that are read.
const MAXIMUM_DESCRIPTORS: u64 = 32;
/// Largest folder that is read, in bytes.
const MAXIMUM_FOLDER: u32 = 1 << 20;
/// Most continuations of one system use field.
const MAXIMUM_CONTINUATIONS: usize = 8;

const FLAG_DIRECTORY: u8 = 0x02;
const FLAG_MULTIPLE_EXTENTS: u8 = 0x80;

/// A volume.
#[derive(Debug)]
pub struct Iso9660<R> {
    source: R,
    label: String,
    block: u64,
    root: Extent,
    joliet_root: Option<Extent>,
    /// How many bytes each system use field begins with that are not for us; `None`
    /// without Rock Ridge.
    rock_ridge_skip: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    block: u32,
    size: u32,
}

/// A directory record that was looked at.
struct Record {
    extent: Extent,
    flags: u8,
    is_interleaved: bool,
    is_compressed: bool,
    name: Vec<u8>,
    rock_ridge_name: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Names {
    Primary,
    Joliet,
}

impl<R: ReadAt> Iso9660<R> {
    /// Reads the volume descriptors; `None` when there are none.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn open(source: R) -> io::Result<Option<Self>> {
        let mut primary = None;
        let mut joliet_root = None;
        for index in 0..MAXIMUM_DESCRIPTORS {
            let start = (FIRST_DESCRIPTOR + index) * SECTOR;
            let sector = match take(&source, start, SECTOR as usize) {
                Ok(sector) => sector,
                // A small device ends here; what was found so far counts.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            };
            if &sector[1..6] != b"CD001" {
                break;
            }
            match sector[0] {
                1 if primary.is_none() => primary = Some(sector),
                2 if matches!(&sector[88..91], b"%/@" | b"%/C" | b"%/E") => {
                    joliet_root = extent(&sector[156..190]);
                }
                255 => break,
                _ => {}
            }
        }
        let Some(primary) = primary else {
            return Ok(None);
        };
        let block = u64::from(u16_at(&primary, 128).unwrap_or(0));
        let Some(root) = extent(&primary[156..190]) else {
            return Ok(None);
        };
        if !matches!(block, 512 | 1024 | 2048) {
            return Ok(None);
        }
        let label = String::from_utf8_lossy(&primary[40..72])
            .trim_end()
            .to_owned();
        let mut volume = Self {
            source,
            label,
            block,
            root,
            joliet_root,
            rock_ridge_skip: None,
        };
        volume.rock_ridge_skip = volume.find_rock_ridge();
        Ok(Some(volume))
    }

    /// The volume's label, without the blanks at its end.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Reads a file of at most `limit` bytes; `None` when there is none of this
    /// path. Components are parted by `/`.
    ///
    /// # Errors
    /// When the source cannot be read, the volume is damaged or the file larger
    /// ([`io::ErrorKind::FileTooLarge`]).
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut found = self.walk(path, self.root, Names::Primary)?;
        if found.is_none()
            && let Some(root) = self.joliet_root
        {
            found = self.walk(path, root, Names::Joliet)?;
        }
        let Some(record) = found else { return Ok(None) };
        if record.flags & FLAG_DIRECTORY != 0 {
            return Err(damaged("a folder stands where the file should"));
        }
        if record.flags & FLAG_MULTIPLE_EXTENTS != 0 || u64::from(record.extent.size) > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if record.is_interleaved || record.is_compressed {
            return Err(damaged("the file is interleaved or compressed"));
        }
        self.extent_bytes(record.extent).map(Some)
    }

    fn extent_bytes(&self, extent: Extent) -> io::Result<Vec<u8>> {
        take(
            &self.source,
            u64::from(extent.block) * self.block,
            extent.size as usize,
        )
    }

    fn walk(&self, path: &str, root: Extent, names: Names) -> io::Result<Option<Record>> {
        let mut folder = root;
        let mut components = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = components.next() {
            let Some(record) = self.lookup(folder, name, names)? else {
                return Ok(None);
            };
            if components.peek().is_none() {
                return Ok(Some(record));
            }
            if record.flags & FLAG_DIRECTORY == 0 {
                return Ok(None);
            }
            folder = record.extent;
        }
        Ok(None)
    }

    fn lookup(&self, folder: Extent, name: &str, names: Names) -> io::Result<Option<Record>> {
        if folder.size > MAXIMUM_FOLDER {
            return Err(damaged("a folder is larger than 1 MiB"));
        }
        let bytes = self.extent_bytes(folder)?;
        // A name in its full form goes before one that only resembles it when cut short.
        let mut similar = None;
        for raw in records(&bytes) {
            let Some(record) = self.record(raw, names) else {
                continue;
            };
            let (is_same, is_similar) = match (&record.rock_ridge_name, names) {
                (Some(own), Names::Primary) => (own == name.as_bytes(), false),
                (_, Names::Joliet) => (joliet_name(&record.name) == name, false),
                (None, Names::Primary) => {
                    let plain = plain_name(&record.name);
                    let is_mapped = plain.eq_ignore_ascii_case(&mapped_name(name));
                    let is_cut = plain.eq_ignore_ascii_case(&cut_name(name));
                    (plain.eq_ignore_ascii_case(name), is_mapped || is_cut)
                }
            };
            if is_same {
                return Ok(Some(record));
            }
            if is_similar {
                similar = similar.or(Some(record));
            }
        }
        Ok(similar)
    }

    fn record(&self, raw: &[u8], names: Names) -> Option<Record> {
        let name_length = usize::from(*raw.get(32)?);
        let name = raw.get(33..33 + name_length)?.to_vec();
        // The entries for the folder itself and the one above.
        if matches!(name.as_slice(), [0 | 1]) {
            return None;
        }
        let mut record = Record {
            extent: extent(raw)?,
            flags: *raw.get(25)?,
            is_interleaved: *raw.get(26)? != 0 || *raw.get(27)? != 0,
            is_compressed: false,
            name,
            rock_ridge_name: None,
        };
        if let (Some(skip), Names::Primary) = (self.rock_ridge_skip, names) {
            let system_use = raw
                .get(system_use_offset(name_length) + skip..)
                .unwrap_or_default();
            self.rock_ridge(system_use, &mut record);
        }
        Some(record)
    }

    /// Takes the name out of a system use field and its continuations.
    fn rock_ridge(&self, field: &[u8], record: &mut Record) {
        const CURRENT_OR_PARENT: u8 = 6;
        const LONGEST_NAME: usize = 1024;
        let mut name: Vec<u8> = Vec::new();
        let mut is_named = false;
        let mut field = field.to_vec();
        for _ in 0..MAXIMUM_CONTINUATIONS {
            let mut next = None;
            for (signature, data) in system_use_entries(&field) {
                match &signature {
                    b"NM"
                        if data
                            .first()
                            .is_some_and(|flags| flags & CURRENT_OR_PARENT == 0) =>
                    {
                        if name.len() < LONGEST_NAME {
                            name.extend_from_slice(&data[1..]);
                        }
                        is_named = true;
                    }
                    b"ZF" => record.is_compressed = true,
                    b"CE" => next = continuation(data),
                    _ => {}
                }
            }
            let Some((block, offset, length)) = next else {
                break;
            };
            let start = u64::from(block) * self.block + u64::from(offset);
            match take(&self.source, start, length as usize) {
                Ok(bytes) => field = bytes,
                Err(_) => break,
            }
        }
        if is_named {
            record.rock_ridge_name = Some(name);
        }
    }

    /// Looks for the entry `SP` of the root's own record (SUSP, section 5.3).
    fn find_rock_ridge(&self) -> Option<usize> {
        let first = take(&self.source, u64::from(self.root.block) * self.block, 255).ok()?;
        let raw = records(&first).next()?;
        let field = raw.get(system_use_offset(usize::from(*raw.get(32)?))..)?;
        match field {
            // CD-ROM XA puts its own 14 bytes first.
            [b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..] => Some(usize::from(*skip)),
            _ => match field.get(14..)? {
                [b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..] => Some(usize::from(*skip)),
                _ => None,
            },
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Where the system use field of a record begins: after the name, at an even place.
fn system_use_offset(name_length: usize) -> usize {
    33 + name_length + usize::from(name_length.is_multiple_of(2))
}

fn extent(record: &[u8]) -> Option<Extent> {
    let skipped = u32::from(*record.get(1)?);
    Some(Extent {
        block: u32_at(record, 2)?.checked_add(skipped)?,
        size: u32_at(record, 10)?,
    })
}

/// The records of a folder. None crosses a sector: a zero length leads to the next.
fn records(folder: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(*folder.get(offset)?);
            if length == 0 {
                offset = (offset / SECTOR as usize + 1) * SECTOR as usize;
                continue;
            }
            let record = folder.get(offset..(offset + length).min(folder.len()))?;
            offset += length;
            return Some(record);
        }
    })
}

/// Signatures and data of the entries of a system use field.
fn system_use_entries(field: &[u8]) -> impl Iterator<Item = ([u8; 2], &[u8])> {
    let mut rest = field;
    std::iter::from_fn(move || {
        let [first, second, length, _version, ..] = *rest else {
            return None;
        };
        let length = usize::from(length);
        if length < 4 || length > rest.len() {
            return None;
        }
        let (entry, after) = rest.split_at(length);
        rest = after;
        ([first, second] != *b"ST").then(|| ([first, second], &entry[4..]))
    })
}

/// Block, offset and length in bytes of the next system use field.
fn continuation(data: &[u8]) -> Option<(u32, u32, u32)> {
    let (block, offset, length) = (u32_at(data, 0)?, u32_at(data, 8)?, u32_at(data, 16)?);
    (u64::from(offset) + u64::from(length) <= SECTOR).then_some((block, offset, length))
}

/// A Joliet name: UCS-2, big-endian, perhaps with a version.
fn joliet_name(raw: &[u8]) -> String {
    let units = raw
        .chunks_exact(2)
        .map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
    let name: String = char::decode_utf16(units)
        .map(|found| found.unwrap_or('\u{fffd}'))
        .collect();
    name.strip_suffix(";1").map(str::to_owned).unwrap_or(name)
}

/// A name of the standard without version and closing dot.
fn plain_name(raw: &[u8]) -> String {
    let name = String::from_utf8_lossy(raw);
    let name = name.split(';').next().unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// A name in the characters of the standard: `user-data` is `USER_DATA`.
fn mapped_name(name: &str) -> String {
    let map = |character: char| match character.to_ascii_uppercase() {
        kept @ ('A'..='Z' | '0'..='9' | '_' | '.') => kept,
        _ => '_',
    };
    name.chars().map(map).collect()
}

/// [`mapped_name`] cut to eight characters and three, as level 1 asks.
fn cut_name(name: &str) -> String {
    let name = mapped_name(name);
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    let stem: String = stem.chars().take(8).collect();
    if extension.is_empty() {
        return stem;
    }
    let extension: String = extension.chars().take(3).collect();
    format!("{stem}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_as_the_standard_asks() {
        assert_eq!(mapped_name("user-data"), "USER_DATA");
        assert_eq!(cut_name("user-data"), "USER_DAT");
        assert_eq!(cut_name("meta_data.json"), "META_DAT.JSO");
        assert_eq!(plain_name(b"USER_DAT.;1"), "USER_DAT");
        assert_eq!(plain_name(b"META_DAT.JSO;1"), "META_DAT.JSO");
        assert_eq!(joliet_name(&[0, b'u', 0, b'd', 0, b';', 0, b'1']), "ud");
    }

    #[test]
    fn what_is_no_volume_is_none() {
        assert!(Iso9660::open(Vec::new()).unwrap().is_none());
        assert!(Iso9660::open(vec![0; 64 << 10]).unwrap().is_none());
    }
}
