//! The values of a hash database of Berkeley DB 4 and 5 (`src/dbinc/db_page.h` of its
//! sources): the file `Packages` of rpm before 4.16. Numbers are in the order of the
//! machine that wrote it, which the magic shows.

use super::{Pages, Problem, array};

/// Marks a database by hash.
const MAGIC: u32 = 0x0006_1561;
/// Bytes of a page before its index.
const PAGE_HEADER: usize = 26;
/// Kinds of page: hash, unsorted and sorted; a piece of a large value.
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
/// Kinds of value: in the page itself; on pages of its own.
const INLINE: u8 = 1;
const OFF_PAGE: u8 = 3;
/// Shorter values are no headers: rpm keeps a counter under the key 0.
const SHORTEST_HEADER: usize = 16;

struct Database<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    page_size: usize,
    walked: Pages,
}

/// Hands `take` every value that can be a header, in the order of the pages.
pub(super) fn each(
    bytes: &[u8],
    take: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut database = Database::open(bytes)?;
    let count = bytes.len() / database.page_size;
    for number in 1..count {
        let page = database.page(number)?;
        let kind = page[25];
        if kind == HASH || kind == HASH_UNSORTED {
            database.values(page, take)?;
        }
    }
    Ok(())
}

impl<'a> Database<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        let magic = array(bytes, 12).ok_or("it is cut off")?;
        let is_big_endian = u32::from_be_bytes(magic) == MAGIC;
        if !is_big_endian && u32::from_le_bytes(magic) != MAGIC {
            return Err("it is no hash of Berkeley DB");
        }
        let mut database = Self {
            bytes,
            is_big_endian,
            page_size: 0,
            walked: Pages::new(0),
        };
        let size = database.number(bytes, 20)? as usize;
        if !(512..=65_536).contains(&size) || !size.is_power_of_two() {
            return Err("its page size is none");
        }
        // Encrypted, or with checksums: pages then have another header.
        if bytes.get(24) != Some(&0) || bytes.get(26).is_none_or(|flags| flags & 1 != 0) {
            return Err("its pages are encrypted or have checksums");
        }
        database.page_size = size;
        database.walked = Pages::new(bytes.len() / size);
        Ok(database)
    }

    fn number(&self, bytes: &[u8], at: usize) -> Result<u32, Problem> {
        let number = array(bytes, at).ok_or("a page is cut off")?;
        Ok(if self.is_big_endian {
            u32::from_be_bytes(number)
        } else {
            u32::from_le_bytes(number)
        })
    }

    fn short(&self, bytes: &[u8], at: usize) -> Result<usize, Problem> {
        let number = array(bytes, at).ok_or("a page is cut off")?;
        Ok(usize::from(if self.is_big_endian {
            u16::from_be_bytes(number)
        } else {
            u16::from_le_bytes(number)
        }))
    }

    fn page(&self, number: usize) -> Result<&'a [u8], Problem> {
        let start = number.checked_mul(self.page_size);
        let page = start.and_then(|start| self.bytes.get(start..)?.get(..self.page_size));
        page.ok_or("it names a page behind its end")
    }

    /// The values of a page of keys and values: every second item.
    fn values(
        &mut self,
        page: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let items = self.short(page, 20)?;
        for index in (1..items).step_by(2) {
            let start = self.short(page, PAGE_HEADER + 2 * index)?;
            // Items lie one before the other, from the end of the page on.
            let end = self.short(page, PAGE_HEADER + 2 * (index - 1))?;
            let item = page.get(start..end).ok_or("an item is outside its page")?;
            match item.first() {
                Some(&INLINE) => {
                    if item.len() > SHORTEST_HEADER {
                        take(&item[1..])?;
                    }
                }
                Some(&OFF_PAGE) => {
                    let first = self.number(item, 4)? as usize;
                    let size = self.number(item, 8)? as usize;
                    take(&self.pieces(first, size)?)?;
                }
                _ => return Err("an item is of no kind"),
            }
        }
        Ok(())
    }

    /// A value that lies on pages of its own.
    fn pieces(&mut self, first: usize, size: usize) -> Result<Vec<u8>, Problem> {
        if size > self.bytes.len() {
            return Err("a value is larger than the file");
        }
        let mut value = Vec::with_capacity(size);
        let mut number = first;
        while value.len() < size {
            self.walked.take(number)?;
            let page = self.page(number)?;
            if page[25] != OVERFLOW {
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
}
