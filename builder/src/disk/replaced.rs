//! A disk of which one part lies elsewhere.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::{Storage, check_range};
use crate::error::{Class, Error, Result};

/// The bytes of a disk, but for one range of them; for reading.
#[derive(Debug)]
pub struct Replaced {
    whole: Arc<dyn Storage>,
    range: Range<u64>,
    part: Arc<dyn Storage>,
}

impl Replaced {
    /// `whole`, with `part` in place of its bytes from `start` on.
    ///
    /// # Errors
    /// [`Class::Internal`] when `part` passes the end.
    pub fn new(whole: Arc<dyn Storage>, start: u64, part: Arc<dyn Storage>) -> Result<Self> {
        let range = match start.checked_add(part.size()) {
            Some(end) if end <= whole.size() => start..end,
            _ => {
                let text = format!("put {} bytes at {start} of a smaller disk", part.size());
                return Err(Error::new(Class::Internal, text));
            }
        };
        Ok(Self { whole, range, part })
    }
}

impl Storage for Replaced {
    fn size(&self) -> u64 {
        self.whole.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(
            self.size(),
            buffer.len(),
            offset,
            io::ErrorKind::UnexpectedEof,
        )?;
        let until = |end: u64, from: u64, left: usize| {
            left.min(usize::try_from(end.saturating_sub(from)).unwrap_or(left))
        };
        let (before, rest) = buffer.split_at_mut(until(self.range.start, offset, buffer.len()));
        if !before.is_empty() {
            self.whole.read_at(before, offset)?;
        }
        let at = offset + before.len() as u64;
        let (inside, after) = rest.split_at_mut(until(self.range.end, at, rest.len()));
        if !inside.is_empty() {
            self.part.read_at(inside, at - self.range.start)?;
        }
        if !after.is_empty() {
            self.whole.read_at(after, at + inside.len() as u64)?;
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let Range { start, end } = self.range;
        if offset < start {
            let found = self.whole.next_data(offset)?;
            if let Some(found) = found.filter(|found| found.start < start) {
                return Ok(Some(found.start..found.end.min(start)));
            }
        }
        if offset < end {
            let found = self.part.next_data(offset.max(start) - start)?;
            if let Some(found) = found {
                return Ok(Some(found.start + start..found.end + start));
            }
        }
        self.whole.next_data(offset.max(end))
    }

    fn zstd_frame(&self, offset: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
        if offset < self.range.end && self.range.start < offset.saturating_add(size) {
            return Ok(None);
        }
        self.whole.zstd_frame(offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::Memory;

    #[test]
    fn each_byte_comes_from_where_it_lies() {
        let whole = Memory::new(vec![1; 10_000]);
        let part = Memory::new(vec![2; 3000]);
        let disk = Replaced::new(Arc::new(whole), 4000, Arc::new(part)).expect("it fits");
        let expected: Vec<u8> = (0..10_000u64)
            .map(|at| if (4000..7000).contains(&at) { 2 } else { 1 })
            .collect();
        for (from, to) in [
            (0, 10_000),
            (0, 4000),
            (3999, 4001),
            (4500, 5000),
            (6999, 7001),
            (7000, 7000),
            (8000, 10_000),
        ] {
            let mut read = vec![0; to - from];
            disk.read_at(&mut read, from as u64).expect("read");
            assert_eq!(read, expected[from..to], "{from}..{to}");
        }
        assert!(disk.read_at(&mut [0; 2], 9999).is_err());
        assert!(disk.write_at(&[0], 0).is_err());
    }

    #[test]
    fn data_is_found_in_its_order() {
        let mut bytes = vec![0; 64 << 10];
        bytes[0] = 1;
        bytes[60 << 10] = 1;
        let mut inner = vec![0; 32 << 10];
        inner[16 << 10] = 1;
        let disk = Replaced::new(
            Arc::new(Memory::new(bytes.clone())),
            16 << 10,
            Arc::new(Memory::new(inner.clone())),
        )
        .expect("it fits");
        bytes[16 << 10..48 << 10].copy_from_slice(&inner);
        let mut covered = vec![false; bytes.len()];
        let mut at = 0;
        while let Some(found) = disk.next_data(at).expect("looked") {
            assert!(
                found.start >= at && found.start < found.end,
                "{found:?} after {at}"
            );
            covered[found.start as usize..found.end as usize].fill(true);
            at = found.end;
        }
        let missed = bytes
            .iter()
            .zip(&covered)
            .position(|(byte, covered)| *byte != 0 && !covered);
        assert_eq!(missed, None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (whole, part) = (Memory::new(vec![0; 100]), Memory::new(vec![0; 50]));
        assert!(Replaced::new(Arc::new(whole), 51, Arc::new(part)).is_err());
    }
}
