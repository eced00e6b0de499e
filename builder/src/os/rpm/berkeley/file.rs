//! What all files of Berkeley DB 4 and 5 have in common: pages of one size, the first of
//! them with what holds for the file, and large values on pages of their own
//! (`src/dbinc/db_page.h` of its sources). Numbers are in the order of the machine that
//! wrote it, which the magic shows.

use super::super::{Pages, Problem, array};
use super::{MAGIC_HASH, MAGIC_TREE, PAGE_HEADER, kind, meta};

/// A file that is read; every page at most once.
pub(super) struct File<'a> {
    bytes: &'a [u8],
    /// One of the two magics.
    pub magic: u32,
    pub is_big_endian: bool,
    pub page_size: usize,
    walked: Pages,
}

impl<'a> File<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        let found = array(bytes, meta::MAGIC).ok_or("it is cut off")?;
        let (little, big) = (u32::from_le_bytes(found), u32::from_be_bytes(found));
        let is_known = |magic: u32| matches!(magic, MAGIC_HASH | MAGIC_TREE);
        let is_big_endian = is_known(big);
        if !is_big_endian && !is_known(little) {
            return Err("it is no hash of Berkeley DB, and no tree");
        }
        let mut file = Self {
            bytes,
            magic: if is_big_endian { big } else { little },
            is_big_endian,
            page_size: 0,
            walked: Pages::new(0),
        };
        let size = file.number(bytes, meta::PAGE_SIZE)? as usize;
        if !(512..=65_536).contains(&size) || !size.is_power_of_two() || bytes.len() < size {
            return Err("its page size is none");
        }
        // Encrypted, or with checksums: pages then have another header.
        let flags = bytes[meta::META_FLAGS];
        if bytes[meta::ENCRYPTION] != 0 || flags & meta::CHECKSUMS != 0 {
            return Err("its pages are encrypted or have checksums");
        }
        file.page_size = size;
        file.walked = Pages::new(bytes.len() / size);
        file.walked.take(0)?;
        Ok(file)
    }

    /// A number of the first page.
    pub fn meta(&self, at: usize) -> Result<u32, Problem> {
        self.number(self.bytes, at)
    }

    /// Pages of the file.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.page_size
    }

    pub fn number(&self, bytes: &[u8], at: usize) -> Result<u32, Problem> {
        let number = array(bytes, at).ok_or("a page is cut off")?;
        Ok(if self.is_big_endian {
            u32::from_be_bytes(number)
        } else {
            u32::from_le_bytes(number)
        })
    }

    pub fn short(&self, bytes: &[u8], at: usize) -> Result<usize, Problem> {
        let number = array(bytes, at).ok_or("a page is cut off")?;
        Ok(usize::from(if self.is_big_endian {
            u16::from_be_bytes(number)
        } else {
            u16::from_le_bytes(number)
        }))
    }

    /// A page that was not read yet.
    pub fn page(&mut self, number: usize) -> Result<&'a [u8], Problem> {
        self.walked.take(number)?;
        let start = number * self.page_size;
        let page = self
            .bytes
            .get(start..)
            .and_then(|rest| rest.get(..self.page_size));
        let page = page.ok_or("it names a page behind its end")?;
        // A page of a hash that nothing was ever put on is all zeros.
        let own = self.number(page, 8)? as usize;
        if own != number && page.iter().any(|byte| *byte != 0) {
            return Err("a page has another number than its own");
        }
        Ok(page)
    }

    /// A value that lies on pages of its own.
    pub fn pieces(&mut self, first: usize, size: usize) -> Result<Vec<u8>, Problem> {
        if size > self.bytes.len() {
            return Err("a value is larger than the file");
        }
        let mut value = Vec::with_capacity(size);
        let mut number = first;
        while value.len() < size {
            let page = self.page(number)?;
            if page[kind::AT] != kind::OVERFLOW {
                return Err("a piece of a value is none");
            }
            let length = self.short(page, 22)?;
            let piece = page.get(PAGE_HEADER..).and_then(|rest| rest.get(..length));
            let piece = piece.ok_or("a piece of a value is cut off")?;
            if piece.is_empty() || value.len() + piece.len() > size {
                return Err("the pieces of a value are not as long as it");
            }
            value.extend_from_slice(piece);
            number = self.number(page, 16)? as usize;
        }
        Ok(value)
    }

    /// The page after this one in its chain; 0 for none.
    pub fn next(&self, page: &[u8]) -> Result<usize, Problem> {
        Ok(self.number(page, 16)? as usize)
    }

    /// Where the items of a page begin.
    pub fn offsets(&self, page: &[u8]) -> Result<Vec<usize>, Problem> {
        let count = self.short(page, 20)?;
        let index = PAGE_HEADER + 2 * count;
        let offset = |item| {
            let at = self.short(page, PAGE_HEADER + 2 * item)?;
            if at < index || at >= page.len() {
                return Err("an item is outside its page");
            }
            Ok(at)
        };
        (0..count).map(offset).collect()
    }
}
