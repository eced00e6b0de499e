//! A disk in memory, for unit tests.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use crate::disk::Storage;

/// Bytes in memory as a [`Storage`].
#[derive(Debug)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    /// `size` zeros.
    pub fn new(size: usize) -> Self {
        Self::from(vec![0; size])
    }

    /// A copy of what it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }
}

impl Storage for Memory {
    fn size(&self) -> u64 {
        self.0.lock().expect("not poisoned").len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.0.lock().expect("not poisoned");
        let source = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..offset.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().expect("not poisoned");
        usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get_mut(offset..offset.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::InvalidInput)?
            .copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }
}
