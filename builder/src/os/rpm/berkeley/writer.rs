//! Pages of a file of Berkeley DB that is written anew, in the order of the machines that
//! are supported: the least significant byte first.

use super::{PAGE_HEADER, kind, meta};
use crate::packages::Damage;

/// Largest file that is written.
const SIZE_LIMIT: usize = 1 << 30;
/// The log sequence number of what is in no log (`LSN_NOT_LOGGED`): file 0, offset 1.
pub(super) const NOT_LOGGED: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

pub(super) struct Writer {
    page_size: usize,
    bytes: Vec<u8>,
}

impl Writer {
    /// With `count` pages; page 0 is written last.
    pub fn new(page_size: usize, count: usize) -> Result<Self, Damage> {
        let mut writer = Self {
            page_size,
            bytes: Vec::new(),
        };
        writer.grow(count)?;
        Ok(writer)
    }

    /// Bytes of a page that items and their index share.
    pub fn room(page_size: usize) -> usize {
        page_size - PAGE_HEADER
    }

    fn grow(&mut self, count: usize) -> Result<(), Damage> {
        let size = count.checked_mul(self.page_size);
        match size.and_then(|more| more.checked_add(self.bytes.len())) {
            Some(size) if size <= SIZE_LIMIT => {
                self.bytes.resize(size, 0);
                Ok(())
            }
            _ => Err(format!("it would be larger than {} MiB", SIZE_LIMIT >> 20).into()),
        }
    }

    /// One page more, by its number.
    pub fn add(&mut self) -> Result<usize, Damage> {
        self.grow(1)?;
        Ok(self.bytes.len() / self.page_size - 1)
    }

    fn page(&mut self, number: usize) -> &mut [u8] {
        let start = number * self.page_size;
        &mut self.bytes[start..start + self.page_size]
    }

    fn short(&self, number: usize, at: usize) -> usize {
        let at = number * self.page_size + at;
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn set_short(&mut self, number: usize, at: usize, value: usize) {
        // 65536, the end of an empty page of that size, is written as 0.
        self.page(number)[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
    }

    fn set_number(&mut self, number: usize, at: usize, value: usize) {
        // Files are much smaller than 2^32 pages.
        self.page(number)[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }

    /// Makes a page an empty one of a kind, with the one before it in its chain.
    pub fn start(&mut self, number: usize, kind: u8, level: u8, previous: usize) {
        let size = self.page_size;
        self.page(number)[..8].copy_from_slice(&NOT_LOGGED);
        self.set_number(number, 8, number);
        self.set_number(number, 12, previous);
        self.set_short(number, 22, size);
        self.page(number)[24] = level;
        self.page(number)[kind::AT] = kind;
    }

    /// Says that `next` is the page after this one.
    pub fn chain(&mut self, number: usize, next: usize) {
        self.set_number(number, 16, next);
    }

    /// Items of a page, and where the first of them begins in it.
    fn state(&self, number: usize) -> (usize, usize) {
        let free = match self.short(number, 22) {
            0 => self.page_size,
            free => free,
        };
        (self.short(number, 20), free)
    }

    /// Whether items of `size` bytes, with their places in the index, fit.
    pub fn has_room(&self, number: usize, size: usize) -> bool {
        let (count, free) = self.state(number);
        PAGE_HEADER + 2 * count + size <= free
    }

    /// Puts an item on a page that has room for it.
    pub fn put(&mut self, number: usize, item: &[u8]) {
        let (count, free) = self.state(number);
        let start = free - item.len();
        self.page(number)[start..free].copy_from_slice(item);
        self.set_short(number, PAGE_HEADER + 2 * count, start);
        self.set_short(number, 20, count + 1);
        self.set_short(number, 22, start);
    }

    /// Puts a value on pages of its own (`__db_poff`), and gives the first.
    pub fn pieces(&mut self, value: &[u8]) -> Result<u32, Damage> {
        let mut pages = Vec::new();
        for piece in value.chunks(Self::room(self.page_size)) {
            let page = self.add()?;
            let previous = pages.last().copied().unwrap_or(0);
            self.start(page, kind::OVERFLOW, 0, previous);
            if previous != 0 {
                self.chain(previous, page);
            }
            // In place of the number of items, how many refer to it.
            self.set_short(page, 20, 1);
            self.set_short(page, 22, piece.len());
            self.page(page)[PAGE_HEADER..PAGE_HEADER + piece.len()].copy_from_slice(piece);
            pages.push(page);
        }
        let first = pages.first().ok_or("a value of it is empty")?;
        Ok(*first as u32)
    }

    /// The whole file with this first page.
    pub fn finish(mut self, meta_page: &[u8]) -> Vec<u8> {
        let last = self.bytes.len() / self.page_size - 1;
        self.page(0)[..meta_page.len()].copy_from_slice(meta_page);
        self.set_number(0, meta::LAST_PAGE, last);
        self.bytes
    }
}
