//! The storage as the driver's block device, with a write-back layer.
//!
//! The driver writes one block at a time and rewrites the superblock, the group
//! descriptors, bitmaps and inode tables with every call. Small writes are
//! therefore kept in memory as pages and written in long runs; file content,
//! which comes in large pieces, goes straight through.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_ext4::block_io::BlockDevice;
use fs_ext4::error::Result;

use crate::disk::Storage;

/// Size of a page in bytes.
const PAGE: usize = 4096;
/// Dirty pages kept before all are written: 16 MiB.
const PAGES: usize = 4096;
/// Writes of at least this many bytes bypass the pages.
const LARGE: usize = 128 << 10;
/// Longest single write to the storage, in bytes.
const RUN: usize = 1 << 20;

/// See the module documentation.
#[derive(Debug)]
pub struct Device {
    storage: Arc<dyn Storage>,
    writable: bool,
    dirty: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Device {
    /// The device over `storage`.
    pub fn new(storage: Arc<dyn Storage>, writable: bool) -> Self {
        Self {
            storage,
            writable,
            dirty: Mutex::new(BTreeMap::new()),
        }
    }

    /// Writes every dirty page to the storage, and flushes that.
    pub fn write_back(&self) -> io::Result<()> {
        self.write_pages(&mut self.pages())?;
        self.storage.flush()
    }

    fn pages(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        // A panic between two pages leaves whole pages: nothing to repair.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pages(&self, pages: &mut BTreeMap<u64, Box<[u8]>>) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0u64;
        for (number, page) in pages.iter() {
            let offset = number * PAGE as u64;
            if !run.is_empty() && (start + run.len() as u64 != offset || run.len() + PAGE > RUN) {
                self.storage.write_at(&run, start)?;
                run.clear();
            }
            if run.is_empty() {
                start = offset;
            }
            run.extend_from_slice(page);
        }
        if !run.is_empty() {
            self.storage.write_at(&run, start)?;
        }
        pages.clear();
        Ok(())
    }

    /// Size of page `number` in bytes: the last one may be short.
    fn page_size(&self, number: u64) -> usize {
        let left = self.storage.size().saturating_sub(number * PAGE as u64);
        usize::try_from(left).map_or(PAGE, |left| left.min(PAGE))
    }

    fn write_small(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut pages = self.pages();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (number, inside) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let size = self.page_size(number);
            let length = (bytes.len() - done).min(size.saturating_sub(inside));
            if length == 0 {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let page = match pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut page = vec![0; size].into_boxed_slice();
                    if length < size {
                        self.storage.read_at(&mut page, number * PAGE as u64)?;
                    }
                    entry.insert(page)
                }
            };
            page[inside..inside + length].copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
        if pages.len() >= PAGES {
            self.write_pages(&mut pages)?;
        }
        Ok(())
    }

    fn write_large(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut pages = self.pages();
        let end = offset + bytes.len() as u64;
        let (first, last) = (offset / PAGE as u64, (end - 1) / PAGE as u64);
        // Pages that the write covers in part keep their other bytes.
        for edge in [first, last] {
            if let Some(page) = pages.get(&edge) {
                let begin = edge * PAGE as u64;
                if begin < offset || begin + page.len() as u64 > end {
                    self.storage.write_at(page, begin)?;
                }
            }
        }
        let covered: Vec<u64> = pages
            .range(first..=last)
            .map(|(number, _)| *number)
            .collect();
        for number in covered {
            pages.remove(&number);
        }
        self.storage.write_at(bytes, offset)
    }
}

impl BlockDevice for Device {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let pages = self.pages();
        let end = offset
            .checked_add(buffer.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let (number, inside) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        if let Some(whole) = pages
            .get(&number)
            .and_then(|page| page.get(inside..inside + buffer.len()))
        {
            buffer.copy_from_slice(whole);
            return Ok(());
        }
        self.storage.read_at(buffer, offset)?;
        for (number, page) in pages.range(number..end.div_ceil(PAGE as u64)) {
            let begin = number * PAGE as u64;
            let from = offset.max(begin);
            let to = end.min(begin + page.len() as u64);
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&page[(from - begin) as usize..(to - begin) as usize]);
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.storage.size()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if !self.writable || end.is_none_or(|end| end > self.storage.size()) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        if bytes.len() >= LARGE {
            self.write_large(offset, bytes)?;
        } else {
            self.write_small(offset, bytes)?;
        }
        Ok(())
    }

    // The driver asks for it up to four times a call; the layer that is edited
    // is thrown away when anything fails, so that one flush at the end does.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn is_writable(&self) -> bool {
        self.writable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::memory::Memory;

    #[test]
    fn reads_back_what_was_written_in_any_mix() {
        let size = 300 * 1024 + 512;
        let memory = Arc::new(Memory::new(size));
        let device = Device::new(memory.clone(), true);
        let mut expected = vec![0u8; size];
        let mut state = 88_172_645_463_325_252u64;
        for round in 0..400u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let length = if round % 9 == 0 {
                LARGE + (state % 5000) as usize
            } else {
                1 + (state % 9000) as usize
            };
            let offset = (state >> 17) as usize % (size - length + 1);
            let bytes = vec![state as u8; length];
            device.write_at(offset as u64, &bytes).expect("written");
            expected[offset..offset + length].copy_from_slice(&bytes);
            let from = (state >> 30) as usize % size;
            let mut read = vec![0; (size - from).min(20_000)];
            device.read_at(from as u64, &mut read).expect("read");
            assert!(read == expected[from..from + read.len()], "round {round}");
        }
        device.write_back().expect("written back");
        assert!(memory.bytes() == expected);
        assert!(device.write_at(size as u64 - 1, &[1, 2]).is_err());
    }
}
