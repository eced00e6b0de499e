//! A disk in memory: for tests, and for what is too small to be a file.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::{Storage, check_range};

/// Bytes in memory as a disk.
#[derive(Default)]
pub struct Memory(RwLock<Vec<u8>>);

impl Memory {
    /// A disk with this content.
    pub fn new(content: Vec<u8>) -> Self {
        Self(RwLock::new(content))
    }

    /// A copy of its content.
    pub fn content(&self) -> Vec<u8> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Memory({} bytes)", self.size())
    }
}

impl Storage for Memory {
    fn size(&self) -> u64 {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let kind = io::ErrorKind::UnexpectedEof;
        let end = check_range(bytes.len() as u64, buffer.len(), offset, kind)?;
        buffer.copy_from_slice(&bytes[offset as usize..end as usize]);
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kind = io::ErrorKind::InvalidInput;
        let end = check_range(bytes.len() as u64, buffer.len(), offset, kind)?;
        bytes[offset as usize..end as usize].copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let size = self.size();
        Ok((offset < size).then_some(offset..size))
    }
}
