//! Where the contents of a package go while it is read.

use std::fmt;
use std::io::{self, Cursor, Read};

use md5::{Digest as _, Md5 as Hasher};

use crate::error::{Error, Result};
use crate::lock::Stored;
use crate::plan::Content;
use crate::progress::Progress;
use crate::store::Store;

/// Files up to this size are hashed before they are written: most of them are there
/// already when a build is made again.
const SMALL: u64 = 1 << 20;

/// An MD5 sum: dpkg's database is made of them. Nothing is trusted for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Md5([u8; 16]);

impl fmt::Display for Md5 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Takes the contents of files.
pub trait Keep {
    /// Fails when the user asked to stop.
    ///
    /// # Errors
    /// [`crate::Class::Interrupted`].
    fn check(&self) -> Result<()>;

    /// Takes `size` bytes of `content`, which ends with them.
    ///
    /// # Errors
    /// What `content` and the store give.
    fn keep(&mut self, content: &mut dyn Read, size: u64) -> Result<Stored>;

    /// As [`Keep::keep`], with the MD5 sum of the bytes.
    ///
    /// # Errors
    /// As [`Keep::keep`]; an error of `content` is one of the package.
    fn keep_with_sum(&mut self, content: &mut dyn Read, size: u64) -> Result<(Stored, Md5)> {
        let mut summed = Summed {
            inner: content,
            hasher: Hasher::new(),
        };
        let stored = self.keep(&mut summed, size)?;
        Ok((stored, Md5(summed.hasher.finalize().into())))
    }
}

/// Sums what passes, and says of an error that the package is to blame.
struct Summed<'a> {
    inner: &'a mut dyn Read,
    hasher: Hasher,
}

impl Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let kind = error.kind();
            let blamed = match error.downcast::<Error>() {
                Ok(error) => error,
                Err(error) => Error::dependency("it is damaged").caused_by(error),
            };
            io::Error::new(kind, blamed)
        })?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Keeps contents in the store.
pub struct StoreKeep<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
}

impl<'a> StoreKeep<'a> {
    /// Into `store`, until the user asks to stop.
    pub fn new(store: &'a Store, progress: &'a dyn Progress) -> Self {
        Self { store, progress }
    }
}

impl fmt::Debug for StoreKeep<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreKeep")
    }
}

impl Keep for StoreKeep<'_> {
    fn check(&self) -> Result<()> {
        self.progress.check()
    }

    fn keep(&mut self, content: &mut dyn Read, size: u64) -> Result<Stored> {
        if size > SMALL {
            let (sha256, size) = self.store.add_reader(content, None, size)?;
            return Ok(Stored { sha256, size });
        }
        let mut bytes = Vec::new();
        content
            .take(SMALL + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read a file of it", error))?;
        let sha256 = Content::inline(&bytes[..]).sha256;
        if !self.store.contains(&sha256) {
            self.store
                .add_reader(&mut Cursor::new(&bytes), Some(sha256), SMALL)?;
        }
        let size = bytes.len() as u64;
        Ok(Stored { sha256, size })
    }
}
