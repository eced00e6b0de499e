//! A plain file as a storage, as small as can be: so that a test of what works
//! on storages needs no other part of nodekiln.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln::disk::Storage;

/// See the module documentation.
#[derive(Debug)]
pub struct Plain(pub File);

impl Plain {
    /// Opens `path` for reading and writing.
    ///
    /// # Panics
    /// When that fails.
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }
}

impl Storage for Plain {
    fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buffer, offset)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Everything may be data: the worst case for what relies on it.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }
}
