//! rpm's database in Berkeley DB, as rpm before 4.16 keeps it (`lib/backend/db3.c`): the
//! headers in a hash by their numbers, `Packages`, and beside it a tree for each index.

mod database;
mod file;
mod hash;
mod tree;
mod writer;

pub(super) use database::{Index, Whole, write_any};

use super::{Problem, array};
use crate::error::Error;
use crate::packages::Damage;

/// Marks a database by hash, and one by order.
const MAGIC_HASH: u32 = 0x0006_1561;
const MAGIC_TREE: u32 = 0x0005_3162;
/// The version of both since Berkeley DB 4.6, up to 5.3.
const VERSION: u32 = 9;
/// Bytes of a page before its index.
const PAGE_HEADER: usize = 26;
/// Bytes of the first page that mean something.
const META_SIZE: usize = 512;
/// Shorter values are no headers: rpm keeps a counter under the key 0.
const SHORTEST_HEADER: usize = 16;

/// Takes a key and its value.
type Take<'a> = &'a mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<(), Problem>;

/// Kinds of page.
mod kind {
    /// Where a page says which it is.
    pub const AT: usize = 25;
    pub const HASH_UNSORTED: u8 = 2;
    pub const TREE_BRANCH: u8 = 3;
    pub const TREE_LEAF: u8 = 5;
    pub const OVERFLOW: u8 = 7;
    pub const HASH_META: u8 = 8;
    pub const TREE_META: u8 = 9;
    pub const HASH: u8 = 13;
}

/// Places in the first page.
mod meta {
    pub const MAGIC: usize = 12;
    pub const VERSION: usize = 16;
    pub const PAGE_SIZE: usize = 20;
    pub const ENCRYPTION: usize = 24;
    pub const META_FLAGS: usize = 26;
    pub const LAST_PAGE: usize = 32;
    pub const PARTS: usize = 36;
    pub const FLAGS: usize = 48;
    /// The file's own number.
    pub const IDENTITY: std::ops::Range<usize> = 52..72;
    // Of a hash.
    pub const LAST_BUCKET: usize = 72;
    pub const HIGH_MASK: usize = 76;
    pub const LOW_MASK: usize = 80;
    pub const FILL: usize = 84;
    pub const ELEMENTS: usize = 88;
    pub const HASH_OF_TEST: usize = 92;
    /// For each doubling of the buckets, what is added to a bucket to have its page.
    pub const SPARES: usize = 96;
    // Of a tree.
    pub const KEYS_OF_PAGE: usize = 76;
    pub const PADDING: usize = 84;
    pub const ROOT: usize = 88;
    /// One of the flags: pages have checksums.
    pub const CHECKSUMS: u8 = 1;
}

/// Hands `take` every value that can be a header.
pub(super) fn each(
    bytes: &[u8],
    take: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    hash::each(bytes, &mut |_, value| {
        if value.len() < SHORTEST_HEADER {
            return Ok(());
        }
        take(&value)
    })
}

/// What a file that is written anew keeps of the one before it.
#[derive(Debug, Clone)]
struct Meta {
    page_size: usize,
    identity: [u8; 20],
    /// Items that a page of a hash should have; 0 when nobody said.
    fill: u32,
}

impl Meta {
    /// Of a file that can be written anew.
    fn of(bytes: &[u8]) -> Result<Self, Damage> {
        let file = file::File::open(bytes)?;
        let number = |at| file.meta(at);
        if file.is_big_endian {
            return Err(unsupported(
                "it is of a machine with another order of bytes",
            ));
        }
        if number(meta::VERSION)? != VERSION {
            return Err(unsupported(
                "it is of another version of Berkeley DB than 5",
            ));
        }
        // Duplicates, databases in the database, compression, numbers of records; parts.
        let is_plain =
            number(meta::FLAGS)? == 0 && number(meta::PARTS)? == 0 && bytes[meta::META_FLAGS] == 0;
        if !is_plain {
            return Err(unsupported(
                "it has features of Berkeley DB that rpm does not use",
            ));
        }
        if file.magic == MAGIC_HASH {
            hash::check(bytes)?;
        }
        let fill = number(meta::FILL)?;
        Ok(Self {
            page_size: file.page_size,
            identity: array(bytes, meta::IDENTITY.start).ok_or("it is cut off")?,
            fill: if file.magic == MAGIC_HASH { fill } else { 0 },
        })
    }

    /// The beginning of a first page.
    fn page(&self, magic: u32, kind: u8) -> [u8; META_SIZE] {
        let mut page = [0; META_SIZE];
        page[..8].copy_from_slice(&writer::NOT_LOGGED);
        page[meta::MAGIC..meta::MAGIC + 4].copy_from_slice(&magic.to_le_bytes());
        page[meta::VERSION..meta::VERSION + 4].copy_from_slice(&VERSION.to_le_bytes());
        let size = self.page_size as u32;
        page[meta::PAGE_SIZE..meta::PAGE_SIZE + 4].copy_from_slice(&size.to_le_bytes());
        page[kind::AT] = kind;
        page[meta::IDENTITY].copy_from_slice(&self.identity);
        page
    }
}

fn unsupported(problem: &str) -> Damage {
    Error::unsupported(problem).into()
}
