//! The image file as it lies there, before it is mounted.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::disk::Storage;
use crate::error::{Error, Result};

/// The image file as a storage, for a look at it before it is mounted.
#[derive(Debug)]
pub(super) struct ReadOnly {
    file: File,
    range: Range<u64>,
}

impl ReadOnly {
    pub(super) fn new(image: &Path, range: Range<u64>) -> Result<Self> {
        let opened = File::open(image).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) =
            opened.map_err(|error| Error::io(format!("open {}", image.display()), error))?;
        if range.start >= range.end || range.end > size {
            return Err(Error::input(format!(
                "bytes {}..{} do not lie in {}",
                range.start,
                range.end,
                image.display()
            )));
        }
        Ok(Self { file, range })
    }
}

impl Storage for ReadOnly {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.file.read_exact_at(buffer, self.range.start + offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> std::io::Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }
}
