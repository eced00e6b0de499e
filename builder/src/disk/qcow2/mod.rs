//! qcow2 images, read in place.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::{OpenOptions, Storage};
use crate::error::{Error, Result};

/// The first four bytes of every version.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// An open image.
#[derive(Debug)]
pub struct Qcow2 {}

impl Qcow2 {
    pub(super) fn open(_file: File, _path: &Path, _options: OpenOptions) -> Result<Self> {
        Err(Error::unsupported("qcow2"))
    }
}

impl Storage for Qcow2 {
    fn size(&self) -> u64 {
        0
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn next_data(&self, _: u64) -> io::Result<Option<Range<u64>>> {
        Ok(None)
    }
}
