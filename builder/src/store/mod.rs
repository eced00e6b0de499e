//! Content-addressed files by sha256.
//!
//! ```text
//! <folder>/sha256/ab/<digest>     a complete object, mode 0444
//! <folder>/temporary/…            what is being written; locked by its writer
//! <folder>/partial/<url hash>     a download that can be resumed
//! <folder>/locks/…                one build at a time for one object or URL
//! <folder>/damaged/<digest>       what no longer had the bytes of its name
//! ```
//!
//! Nothing under `sha256/` is ever half-written: an object is written under
//! `temporary/`, synced, and renamed. Whatever is read is hashed again, since a
//! cache outlives the disk, the kernel and the programs that filled it.

pub mod archive;
pub(crate) mod compression;
mod digest;
pub mod download;
mod exclusive;
mod http;
mod read;
mod retry;
pub mod signature;
pub mod tar;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use digest::Digest;
pub use download::{FetchOptions, Fetcher};
pub use exclusive::Exclusive;
pub(crate) use http::shown;
pub use read::{StoreFile, Verification};
pub use write::Draft;

use crate::error::{Context as _, Error, Result};

/// A store in a folder, with read-only mirrors behind it. Cloning is cheap; any
/// number of threads and processes may use one folder at once.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    mirrors: Vec<PathBuf>,
}

impl Store {
    /// Opens the store in `folder` and creates what is missing. What killed
    /// processes left half-written is removed.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when the folder cannot be written.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let store = Self {
            folder: folder.into(),
            mirrors: Vec::new(),
        };
        for name in ["sha256", "temporary", "partial", "locks"] {
            let folder = store.folder.join(name);
            std::fs::create_dir_all(&folder)
                .map_err(|error| write_error(format!("create {}", folder.display()), error))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Looks into these stores too, in order, when an object is not in its own
    /// folder. They are never written.
    #[must_use]
    pub fn with_mirrors(mut self, mirrors: Vec<PathBuf>) -> Self {
        self.mirrors = mirrors;
        self
    }

    /// The folder of the store.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the object is here or in a mirror. It is not hashed.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.locate(digest).is_some()
    }

    /// The size of an object in bytes, if it is here or in a mirror.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let (path, _) = self.locate(digest)?;
        std::fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    /// Opens an object for reading. The bytes are hashed on the way; see
    /// [`StoreFile`].
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when the store does not have it.
    pub fn open_object(&self, digest: &Digest) -> Result<StoreFile> {
        let (path, own) = self.locate(digest).ok_or_else(|| missing(digest))?;
        let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
        StoreFile::new(file, path, *digest, own.then(|| self.damaged_path(digest)))
    }

    /// The path of an object after its whole content was hashed: for files that
    /// are read at random, such as base images.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when the store does not have it or its bytes
    /// are not those of its name.
    pub fn verified_path(&self, digest: &Digest) -> Result<PathBuf> {
        let mut file = self.open_object(digest)?;
        file.verify()?;
        Ok(file.path().to_owned())
    }

    /// As [`Store::verified_path`], hashing in a thread: the path can be read at
    /// once, and [`Verification::finish`] tells whether it may be trusted.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when the store does not have it.
    pub fn verify_in_thread(&self, digest: &Digest) -> Result<Verification> {
        Ok(Verification::start(self.open_object(digest)?))
    }

    /// Where an object is, and whether that is in the store's own folder.
    fn locate(&self, digest: &Digest) -> Option<(PathBuf, bool)> {
        std::iter::once((&self.folder, true))
            .chain(self.mirrors.iter().map(|mirror| (mirror, false)))
            .map(|(folder, own)| (object_path(folder, digest), own))
            .find(|(path, _)| path.is_file())
    }

    fn damaged_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("damaged").join(digest.to_string())
    }
}

fn object_path(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join("sha256").join(&name[..2]).join(name)
}

fn missing(digest: &Digest) -> Error {
    Error::dependency(format!("open object {digest}: it is not in the store"))
        .hint("run `nodekiln fetch` where there is a network")
}

/// An I/O error on the store's own files, with the hint for that folder.
fn write_error(message: String, cause: std::io::Error) -> Error {
    use std::io::ErrorKind as Kind;
    let kind = cause.kind();
    let error = Error::io(message, cause);
    match kind {
        Kind::StorageFull
        | Kind::QuotaExceeded
        | Kind::ReadOnlyFilesystem
        | Kind::PermissionDenied => error.hint(
            "free some space or mend the permissions, or choose another folder with NODEKILN_CACHE",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
