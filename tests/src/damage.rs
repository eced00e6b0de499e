//! Files that are damaged on purpose: bytes put in by hand, and partition tables
//! with checksums that are right all the same.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// Puts `bytes` at `offset` of the file at `path`.
///
/// # Panics
/// When that fails.
pub fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("opens");
    file.write_all_at(bytes, offset).expect("writes");
}

/// The `count` bytes at `offset` of the file at `path`.
///
/// # Panics
/// When they are not there.
pub fn bytes(path: &Path, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let file = File::open(path).expect("opens");
    file.read_exact_at(&mut bytes, offset).expect("reads");
    bytes
}

/// The big-endian number of 8 bytes at `offset`.
///
/// # Panics
/// When it is not there.
pub fn big_endian(path: &Path, offset: u64) -> u64 {
    u64::from_be_bytes(bytes(path, offset, 8).try_into().expect("eight bytes"))
}

/// Gives the file at `path` another size; what is new is zeros.
///
/// # Panics
/// When that fails.
pub fn resize(path: &Path, size: u64) {
    let file = File::options().write(true).open(path).expect("opens");
    file.set_len(size).expect("sizes");
}

/// A copy with holes where the original has them.
///
/// # Panics
/// When that fails.
pub fn copy(from: &Path, to: &Path) {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    crate::program::run("cp", &["--sparse=always", &text(from), &text(to)]);
}

/// One copy of a GUID partition table, to be changed in place.
/// Source of the layout: UEFI specification 2.10, section 5.3.
#[derive(Debug)]
pub struct Table<'a> {
    image: &'a Path,
    header: Vec<u8>,
    /// The entries, one after the other.
    pub entries: Vec<u8>,
}

impl<'a> Table<'a> {
    /// The first copy.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn primary(image: &'a Path) -> Self {
        Self::at(image, SECTOR)
    }

    /// The copy at the end.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn backup(image: &'a Path) -> Self {
        let size = fs::metadata(image).expect("is there").len();
        Self::at(image, size - SECTOR)
    }

    fn at(image: &'a Path, offset: u64) -> Self {
        let header = bytes(image, offset, 512);
        assert_eq!(&header[..8], b"EFI PART");
        let mut table = Self {
            image,
            header,
            entries: Vec::new(),
        };
        let length = table.entry_size() * table.number(80, 4);
        let start = table.number(72, 8) * SECTOR;
        table.entries = bytes(image, start, usize::try_from(length).expect("fits"));
        table
    }

    /// A little-endian number of the header.
    fn number(&self, offset: usize, length: usize) -> u64 {
        let mut number = [0; 8];
        number[..length].copy_from_slice(&self.header[offset..offset + length]);
        u64::from_le_bytes(number)
    }

    /// Bytes of an entry.
    pub fn entry_size(&self) -> u64 {
        self.number(84, 4)
    }

    /// First sector of the partition `number` and its last one.
    pub fn set_extent(&mut self, number: usize, first: u64, last: u64) {
        let start = (number - 1) * usize::try_from(self.entry_size()).expect("fits");
        self.entries[start + 32..start + 40].copy_from_slice(&first.to_le_bytes());
        self.entries[start + 40..start + 48].copy_from_slice(&last.to_le_bytes());
    }

    /// Makes entries of `size` bytes, half as many as fit into the same sectors.
    ///
    /// # Panics
    /// When `size` is not larger than that of the present ones.
    pub fn widen(&mut self, size: usize) {
        let old = usize::try_from(self.entry_size()).expect("fits");
        let count = self.entries.len() / size;
        let mut wide = vec![0; self.entries.len()];
        for number in 0..count {
            let entry = &self.entries[number * old..(number + 1) * old];
            wide[number * size..number * size + old].copy_from_slice(entry);
        }
        self.entries = wide;
        self.header[80..84].copy_from_slice(&u32::try_from(count).expect("few").to_le_bytes());
        self.header[84..88].copy_from_slice(&u32::try_from(size).expect("small").to_le_bytes());
    }

    /// Whether both checksums are right.
    pub fn is_sealed(&self) -> bool {
        let mut header = self.header.clone();
        header[16..20].fill(0);
        self.number(88, 4) == u64::from(crc32(&self.entries))
            && self.number(16, 4) == u64::from(crc32(&header[..92]))
    }

    /// Writes it back, with the right checksums.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(mut self) {
        let entries = crc32(&self.entries);
        self.header[88..92].copy_from_slice(&entries.to_le_bytes());
        self.header[16..20].fill(0);
        let own = crc32(&self.header[..92]);
        self.header[16..20].copy_from_slice(&own.to_le_bytes());
        patch(self.image, self.number(72, 8) * SECTOR, &self.entries);
        patch(self.image, self.number(24, 8) * SECTOR, &self.header);
    }
}

/// The checksum of partition tables (ISO 3309), written down a second time so
/// that the one that is tested is not its own witness.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
