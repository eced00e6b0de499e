//! The payload of an rpm: a cpio archive in the new format (cpio(5)), or rpm's own short
//! form of it for large files, whose entries are numbers of files in the header.

use std::io::{self, Read};

use super::super::Damage;

/// Bytes of the header of an entry, after its magic of six.
const FIELDS: usize = 104;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest path, with the zero at its end.
const PATH_LIMIT: u64 = 4097;

/// Which file the next content belongs to.
#[derive(Debug, PartialEq, Eq)]
pub enum Name {
    /// By its path.
    Path(Vec<u8>),
    /// By its number in the header; its size is there.
    Number(usize),
}

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Payload<R> {
    inner: R,
    /// Bytes after the content of the present entry.
    padding: u64,
    left: u64,
}

impl<R: Read> Payload<R> {
    /// Reads the archive `inner`, which is not compressed.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            padding: 0,
            left: 0,
        }
    }

    /// What follows in the stream below.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, with the size of its content; `None` at the end. `size` tells that
    /// of a file by its number.
    ///
    /// # Errors
    /// When the archive is damaged.
    pub fn next(
        &mut self,
        size: impl Fn(usize) -> Option<u64>,
    ) -> Result<Option<(Name, u64)>, Damage> {
        let skip = self.left + self.padding;
        let skipped = io::copy(&mut self.inner.by_ref().take(skip), &mut io::sink())?;
        if skipped < skip {
            return Err("its payload is cut off".into());
        }
        let mut magic = [0; 6];
        self.inner.read_exact(&mut magic)?;
        match &magic {
            b"070701" | b"070702" => {
                let mut fields = [0; FIELDS];
                self.inner.read_exact(&mut fields)?;
                let (size, length) = (number(&fields, 6)?, number(&fields, 11)?);
                if length == 0 || length > PATH_LIMIT {
                    return Err("a path of its payload is too long".into());
                }
                let mut path = vec![0; length as usize];
                self.inner.read_exact(&mut path)?;
                self.pad(6 + FIELDS as u64 + length)?;
                path.pop();
                if path == TRAILER {
                    return Ok(None);
                }
                self.begin(size);
                Ok(Some((Name::Path(path), size)))
            }
            b"07070X" => {
                let mut field = [0; 8];
                self.inner.read_exact(&mut field)?;
                let index = number(&field, 0)? as usize;
                self.pad(14)?;
                let size = size(index).ok_or("its payload names a file that it has not")?;
                self.begin(size);
                Ok(Some((Name::Number(index), size)))
            }
            _ => Err("its payload is no cpio archive".into()),
        }
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(4) - size;
    }

    /// Headers with their paths end at multiples of four.
    fn pad(&mut self, length: u64) -> Result<(), Damage> {
        let rest = (length.next_multiple_of(4) - length) as usize;
        let mut zeros = [0; 3];
        self.inner.read_exact(&mut zeros[..rest])?;
        Ok(())
    }
}

impl<R: Read> Read for Payload<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is cut off"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Field `index` of eight hexadecimal digits each.
fn number(fields: &[u8], index: usize) -> Result<u64, Damage> {
    let digits = fields.get(8 * index..8 * index + 8);
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| "a number of its payload is damaged".into())
}
