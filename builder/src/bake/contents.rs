//! Where a bake reads the bytes that it writes.

use std::fs::OpenOptions;
use std::io::{Cursor, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::{Content, Source};
use crate::store::Digest;

/// Opens the bytes of a [`Content`]. What it gives need not be trusted: what is
/// baked is hashed when it is read back.
pub trait Contents {
    /// The bytes, from the first one.
    ///
    /// # Errors
    /// What the source gives.
    fn open(&self, content: &Content) -> Result<Box<dyn Read + Send + '_>>;
}

/// Files of this machine and bytes in memory; what lies in the store comes from
/// `store`.
pub struct LocalContents<F> {
    store: F,
}

impl<F> LocalContents<F>
where
    F: Fn(&Digest) -> Result<Box<dyn Read + Send>>,
{
    /// With `store`, which opens an object of the store.
    pub fn new(store: F) -> Self {
        Self { store }
    }
}

impl<F> std::fmt::Debug for LocalContents<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LocalContents")
    }
}

impl<F> Contents for LocalContents<F>
where
    F: Fn(&Digest) -> Result<Box<dyn Read + Send>>,
{
    fn open(&self, content: &Content) -> Result<Box<dyn Read + Send + '_>> {
        match &content.source {
            Source::Store => (self.store)(&content.sha256),
            Source::File(path) => {
                open_file(path).map(|file| Box::new(file) as Box<dyn Read + Send>)
            }
            Source::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
        }
    }
}

/// Opens a regular file without following a link in its last component, and
/// without waiting on a pipe that took its place.
pub(super) fn open_file(path: &Path) -> Result<std::fs::File> {
    let doing = || format!("open {}", path.display());
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| Error::io(doing(), error))?;
    let metadata = file.metadata().map_err(|error| Error::io(doing(), error))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(Error::input(format!("{}: it is no regular file", doing())))
    }
}
