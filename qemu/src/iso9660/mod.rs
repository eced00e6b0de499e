//! A writer of small ISO 9660 file systems: a handful of files, in memory, the
//! same bytes for the same input.
//!
//! It is our own because a seed needs 400 lines of what a crate does in
//! 17,000, and because the crates that write Joliet and Rock Ridge together
//! take their time stamps from the clock.
//!
//! Three names for every file, so that every reader finds it: the ISO 9660
//! identifier (interchange level 2, ECMA-119 7.5), the Joliet name (UCS-2, what
//! Windows and libblkid read) and the Rock Ridge name with mode and time (IEEE
//! P1282, what Linux prefers). Both directory trees share the file extents.

mod record;
mod tree;

use record::{both_endian_16, both_endian_32, long_time, padded, ucs2};
use tree::{Flavour, Tree};

/// Bytes of a logical sector (ECMA-119 6.1.2).
pub const SECTOR: usize = 2048;
/// Sectors before the first volume descriptor (ECMA-119 6.2.1).
const SYSTEM_AREA: usize = 16;
/// Most that all files together may have: a seed is small, and it is built in
/// memory.
pub const CONTENT_LIMIT: usize = 64 << 20;

/// A regular file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path with `/` between its parts, without a leading one.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// What cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The volume label is empty, longer than 16 characters or not ASCII.
    #[error("the label '{0}' is not 1 to 16 ASCII characters")]
    Label(String),
    /// A path has an empty part, a part that is too long, or characters outside
    /// letters, digits, `.`, `-` and `_`.
    #[error("the path '{0}' cannot be a name on an ISO 9660 file system")]
    Path(String),
    /// Two paths have the same ISO 9660 identifier, or one is both file and
    /// folder.
    #[error("'{0}' collides with another path")]
    Collision(String),
    /// All files together are too large.
    #[error("more than {} MiB of files", CONTENT_LIMIT >> 20)]
    TooLarge,
    /// A directory or the path table does not fit where it must.
    #[error("too many files")]
    TooMany,
    /// The time is before 1970 or after 2155.
    #[error("the time {0} cannot be written")]
    Time(i64),
}

/// Writes `files` as an image with the volume label `label`; every time stamp
/// is `time`, in seconds since 1970.
///
/// # Errors
/// [`Unwritable`], before anything is built.
pub fn write(label: &str, files: &[File], time: i64) -> Result<Vec<u8>, Unwritable> {
    if label.is_empty() || label.len() > 16 || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unwritable::Label(label.to_owned()));
    }
    let total = files
        .iter()
        .try_fold(0_usize, |sum, file| sum.checked_add(file.content.len()))
        .ok_or(Unwritable::TooLarge)?;
    if total > CONTENT_LIMIT {
        return Err(Unwritable::TooLarge);
    }
    let stamp = record::Stamp::new(time).ok_or(Unwritable::Time(time))?;
    let mut tree = Tree::new(files)?;

    // Both trees need the extents of the files, and the extents lie behind the
    // trees: so sizes first, places second, bytes last.
    let flavours = [Flavour::RockRidge, Flavour::Joliet];
    let mut next = SYSTEM_AREA + 3;
    let mut tables = Vec::new();
    for flavour in flavours {
        let length = tree.path_table(flavour, false).len();
        if length > SECTOR {
            return Err(Unwritable::TooMany);
        }
        tables.push((next, next + 1, length));
        next += 2;
    }
    let continuation = next;
    next += 1;
    for flavour in flavours {
        next = tree.place_folders(flavour, next, &stamp);
    }
    next = tree.place_files(next);

    let mut image = vec![0_u8; next * SECTOR];
    for (index, flavour) in flavours.into_iter().enumerate() {
        let (little, big, length) = tables[index];
        put(&mut image, little, &tree.path_table(flavour, false));
        put(&mut image, big, &tree.path_table(flavour, true));
        let descriptor = Descriptor {
            flavour,
            label,
            sectors: next as u32,
            table_length: length as u32,
            table_little: little as u32,
            table_big: big as u32,
            root: tree.root_record(flavour, &stamp),
            stamp: &stamp,
        };
        put(&mut image, SYSTEM_AREA + index, &descriptor.bytes());
        for (sector, bytes) in tree.folders(flavour, continuation as u32, &stamp) {
            put(&mut image, sector, &bytes);
        }
    }
    put(&mut image, SYSTEM_AREA + 2, b"\xffCD001\x01");
    put(&mut image, continuation, &record::extension_reference());
    for (sector, content) in tree.contents() {
        put(&mut image, sector, content);
    }
    Ok(image)
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) {
    let start = sector * SECTOR;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

/// A primary (ECMA-119 8.4) or supplementary (8.5) volume descriptor.
struct Descriptor<'a> {
    flavour: Flavour,
    label: &'a str,
    sectors: u32,
    table_length: u32,
    table_little: u32,
    table_big: u32,
    root: Vec<u8>,
    stamp: &'a record::Stamp,
}

impl Descriptor<'_> {
    fn bytes(&self) -> Vec<u8> {
        let joliet = self.flavour == Flavour::Joliet;
        let text = |value: &str, length: usize| {
            if joliet {
                ucs2(value, length)
            } else {
                padded(value, length)
            }
        };
        let mut bytes = Vec::with_capacity(SECTOR);
        bytes.push(if joliet { 2 } else { 1 });
        bytes.extend(b"CD001\x01\x00");
        bytes.extend(text("", 32));
        bytes.extend(text(self.label, 32));
        bytes.extend([0; 8]);
        bytes.extend(both_endian_32(self.sectors));
        let mut escapes = [0_u8; 32];
        if joliet {
            // UCS-2 level 3, the Joliet specification, section 1.
            escapes[..3].copy_from_slice(b"%/E");
        }
        bytes.extend(escapes);
        bytes.extend(both_endian_16(1)); // volumes in the set
        bytes.extend(both_endian_16(1)); // number of this one
        bytes.extend(both_endian_16(SECTOR as u16));
        bytes.extend(both_endian_32(self.table_length));
        bytes.extend(self.table_little.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.table_big.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.root);
        bytes.extend(text("", 128)); // volume set
        bytes.extend(text("", 128)); // publisher
        bytes.extend(text("", 128)); // preparer
        bytes.extend(text("NODEKILN", 128)); // application
        for _ in 0..3 {
            bytes.extend(text("", 37)); // copyright, abstract, bibliography
        }
        bytes.extend(long_time(Some(self.stamp))); // created
        bytes.extend(long_time(Some(self.stamp))); // changed
        bytes.extend(long_time(None)); // expires
        bytes.extend(long_time(None)); // effective
        bytes.push(1);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> File {
        File {
            path: path.to_owned(),
            content: content.to_vec(),
        }
    }

    #[test]
    fn lays_out_descriptors_and_files_on_sectors() {
        let image = write("cidata", &[file("meta-data", b"one")], 1_700_000_000).expect("written");
        assert_eq!(image.len() % SECTOR, 0);
        assert_eq!(&image[16 * SECTOR..16 * SECTOR + 6], b"\x01CD001");
        assert_eq!(&image[17 * SECTOR..17 * SECTOR + 6], b"\x02CD001");
        assert_eq!(&image[18 * SECTOR..18 * SECTOR + 6], b"\xffCD001");
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 46], b"cidata");
        let sectors = u32::from_le_bytes(
            image[16 * SECTOR + 80..16 * SECTOR + 84]
                .try_into()
                .expect("four bytes"),
        );
        assert_eq!(sectors as usize * SECTOR, image.len());
        assert!(image.windows(3).any(|window| window == b"one"));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let files = [file("b", b"2"), file("a/c", b"1")];
        let reversed = [files[1].clone(), files[0].clone()];
        assert_eq!(write("x", &files, 5), write("x", &reversed, 5));
        assert_ne!(write("x", &files, 5), write("x", &files, 86_400));
    }

    #[test]
    fn refuses_what_it_cannot_write() {
        let refuse = |label: &str, path: &str| write(label, &[file(path, b"")], 0).err();
        assert_eq!(refuse("", "a"), Some(Unwritable::Label(String::new())));
        assert!(matches!(
            refuse("seventeen-letters", "a"),
            Some(Unwritable::Label(_))
        ));
        for path in ["", "/a", "a//b", "a/../b", "é", "a b", &"x".repeat(32)] {
            assert!(
                matches!(refuse("x", path), Some(Unwritable::Path(_))),
                "{path}"
            );
        }
        let collide = |one: &str, two: &str| write("x", &[file(one, b""), file(two, b"")], 0).err();
        assert_eq!(
            collide("user-data", "user_data"),
            Some(Unwritable::Collision("user_data".to_owned()))
        );
        assert!(collide("a", "a/b").is_some());
        assert!(collide("a", "a").is_some());
        assert_eq!(write("x", &[], -1).err(), Some(Unwritable::Time(-1)));
        assert!(write("x", &[], 253_402_300_800).is_err());
    }
}
