//! A file whose bytes are those of the disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Storage, check_range};

/// A raw image, read and written in place with `pread` and `pwrite`.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    size: u64,
    writable: bool,
}

impl RawFile {
    /// Takes a file that was opened for reading; writes are refused.
    ///
    /// # Errors
    /// What asking for the size gives.
    pub fn read_only(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self {
            file,
            size,
            writable: false,
        })
    }

    /// Takes a file that was opened for reading and writing.
    ///
    /// # Errors
    /// What asking for the size gives.
    pub fn writable(file: File) -> io::Result<Self> {
        let raw = Self::read_only(file)?;
        Ok(Self {
            writable: true,
            ..raw
        })
    }
}

impl Storage for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(
            self.size,
            buffer.len(),
            offset,
            io::ErrorKind::UnexpectedEof,
        )?;
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a base image is never written",
            ));
        }
        check_range(self.size, buffer.len(), offset, io::ErrorKind::InvalidInput)?;
        self.file.write_all_at(buffer, offset)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        next_data(&self.file, self.size, offset)
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

/// The first range of `file` at or after `offset` that is no hole, below `size`.
pub(crate) fn next_data(file: &File, size: u64, offset: u64) -> io::Result<Option<Range<u64>>> {
    if offset >= size {
        return Ok(None);
    }
    // The position that this moves is used by nobody: all else is pread, pwrite.
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        // Only a hole follows.
        Err(Errno::NXIO) => return Ok(None),
        // The file system does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..size)),
        Err(error) => return Err(error.into()),
    };
    if start >= size {
        return Ok(None);
    }
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.clamp(start + 1, size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_data_between_holes() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(8 << 20).expect("grow");
        file.write_all_at(&[7; 4096], 4 << 20).expect("write");
        let raw = RawFile::read_only(file).expect("open");
        let data = raw.next_data(0).expect("seek").expect("some data");
        assert!(data.start <= 4 << 20 && data.end >= (4 << 20) + 4096);
        assert!(
            data.end - data.start < 1 << 20,
            "holes must be seen: {data:?}"
        );
        assert_eq!(raw.next_data(data.end).expect("seek"), None);
        assert_eq!(raw.next_data(8 << 20).expect("seek"), None);
    }

    #[test]
    fn keeps_to_its_bounds_and_its_mode() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(1024).expect("grow");
        let raw = RawFile::read_only(file).expect("open");
        let kind = |result: io::Result<()>| result.expect_err("refused").kind();
        assert_eq!(
            kind(raw.read_at(&mut [0; 2], 1023)),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            kind(raw.read_at(&mut [0; 2], u64::MAX)),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            kind(raw.write_at(&[0; 2], 0)),
            io::ErrorKind::PermissionDenied
        );
    }
}
