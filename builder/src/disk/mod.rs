//! Disk images as bytes that can be read and written at any offset.
//!
//! Everything here is a [`Storage`]: a raw file, a qcow2 file, a copy-on-write
//! layer over either, a partition of any of them. The base of a build is only
//! ever opened for reading; what a bake changes lands in a [`cow::CowDisk`].

mod bits;
pub mod cow;
pub mod gpt;
pub mod memory;
mod open;
pub mod qcow2;
pub mod raw;
mod replaced;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use cow::CowDisk;
pub use open::{BaseImage, Format, OpenOptions, open_base};
pub use replaced::Replaced;

/// Bytes that can be read and written at any offset, from several threads.
///
/// Offsets and lengths are in bytes. Writes take `&self`: implementations lock
/// inside, since file-system drivers share the storage.
pub trait Storage: Send + Sync + Debug {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; holes read as zeros.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range passes the end; `InvalidData` when the
    /// format below is damaged; else what the file gives.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buffer` at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` when the range passes the end; `PermissionDenied` on a
    /// read-only storage; else what the file gives.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;

    /// Hands what is buffered to the operating system. It does not sync to the
    /// device: an output is synced once, when it is complete.
    ///
    /// # Errors
    /// What the file gives.
    fn flush(&self) -> io::Result<()>;

    /// The first range at or after `offset` that may hold something other than
    /// zeros; `None` when only zeros follow. Ranges may be larger than strictly
    /// needed, never smaller. This is what makes the cost of a build follow the
    /// content and not the virtual size.
    ///
    /// # Errors
    /// What the file gives.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// The zstd frame that holds exactly the `size` bytes from `offset`, where this
    /// storage has them in that form: who compresses the disk again can take it as
    /// it is.
    ///
    /// # Errors
    /// What the file gives.
    fn zstd_frame(&self, offset: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
        let _ = (offset, size);
        Ok(None)
    }

    /// The file whose bytes are exactly those of this storage, if there is one:
    /// the kernel can then copy from it without passing the bytes through here.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// Whether `bytes` holds zeros only.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing slices becomes memcmp, which is fast in every build profile.
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The range check that every storage of `size` bytes makes; gives the end.
pub(crate) fn check_range(
    size: u64,
    length: usize,
    offset: u64,
    kind: io::ErrorKind,
) -> io::Result<u64> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= size => Ok(end),
        _ => Err(io::Error::new(
            kind,
            format!("{length} bytes at {offset} pass the end of a disk of {size} bytes"),
        )),
    }
}

/// A part of a storage: a partition.
#[derive(Debug, Clone)]
pub struct Slice {
    whole: Arc<dyn Storage>,
    range: Range<u64>,
}

impl Slice {
    /// The bytes `range` of `whole`.
    ///
    /// # Errors
    /// `InvalidInput` when the range is empty, reversed or passes the end.
    pub fn new(whole: Arc<dyn Storage>, range: Range<u64>) -> io::Result<Self> {
        if range.start >= range.end || range.end > whole.size() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "bytes {}..{} do not lie in a disk of {} bytes",
                    range.start,
                    range.end,
                    whole.size()
                ),
            ));
        }
        Ok(Self { whole, range })
    }

    fn check(&self, length: usize, offset: u64, kind: io::ErrorKind) -> io::Result<u64> {
        let end = offset.checked_add(length as u64);
        match end {
            Some(end) if end <= self.size() => Ok(self.range.start + offset),
            _ => Err(io::Error::new(
                kind,
                format!(
                    "{length} bytes at {offset} pass the end of a partition of {} bytes",
                    self.size()
                ),
            )),
        }
    }
}

impl Storage for Slice {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = self.check(buffer.len(), offset, io::ErrorKind::UnexpectedEof)?;
        self.whole.read_at(buffer, start)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let start = self.check(buffer.len(), offset, io::ErrorKind::InvalidInput)?;
        self.whole.write_at(buffer, start)
    }

    fn flush(&self) -> io::Result<()> {
        self.whole.flush()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.size() {
            return Ok(None);
        }
        let found = self.whole.next_data(self.range.start + offset)?;
        Ok(found
            .filter(|data| data.start < self.range.end)
            .map(|data| {
                data.start - self.range.start..data.end.min(self.range.end) - self.range.start
            }))
    }
}
