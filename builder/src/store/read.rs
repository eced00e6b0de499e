//! Reading objects: every byte is hashed on its way out.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use super::Digest;
use crate::error::{Context as _, Error, Result};

/// Bytes read at once when a file is only hashed.
const PIECE: usize = 1 << 20;

/// An object that is hashed while it is read.
///
/// The read that would give the last byte fails when the bytes are not those of
/// the object's name: whoever reads to the end has read the right content. The
/// bad object is moved aside, so that the next fetch replaces it. The error is
/// an [`io::Error`] that carries an [`Error`] of class
/// [`crate::Class::Dependency`].
#[derive(Debug)]
pub struct StoreFile {
    file: File,
    path: PathBuf,
    digest: Digest,
    /// Where a bad object goes; `None` in a mirror, which is never written.
    aside: Option<PathBuf>,
    hasher: Sha256,
    size: u64,
    left: u64,
}

impl StoreFile {
    pub(super) fn new(
        file: File,
        path: PathBuf,
        digest: Digest,
        aside: Option<PathBuf>,
    ) -> Result<Self> {
        let size = file
            .metadata()
            .doing(|| format!("read the size of {}", path.display()))?
            .len();
        let mut opened = Self {
            file,
            path,
            digest,
            aside,
            hasher: Sha256::new(),
            size,
            left: size,
        };
        if size == 0 {
            opened.check()?;
        }
        Ok(opened)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the object lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and hashes what has not been read yet.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when the bytes are not those of the name.
    pub fn verify(&mut self) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io(format!("verify {}", self.path.display()), error));
                }
            }
        }
    }

    fn check(&mut self) -> Result<()> {
        let found = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        if found == self.digest {
            return Ok(());
        }
        Err(self.put_aside(&format!("its sha256 is {found}, not {}", self.digest)))
    }

    fn put_aside(&self, problem: &str) -> Error {
        let error = Error::dependency(format!(
            "read {} of the store: {problem}",
            self.path.display()
        ));
        match &self.aside {
            None => error.hint("the mirror holds a damaged object: mend or leave out the mirror"),
            Some(aside) => {
                let moved = aside
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .and_then(|()| std::fs::rename(&self.path, aside));
                match moved {
                    Ok(()) => error.hint("it was moved aside: `nodekiln fetch` gets it anew"),
                    Err(_) => error.hint(format!("remove {}", self.path.display())),
                }
            }
        }
    }
}

impl Read for StoreFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            let error = self.put_aside(&format!("it ends {} bytes early", self.left));
            self.left = 0;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.hasher.update(&buffer[..count]);
        self.left -= count as u64;
        if self.left == 0 {
            self.check()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(count)
    }
}

/// An object that is being hashed in a thread.
#[derive(Debug)]
pub struct Verification {
    path: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl Verification {
    pub(super) fn start(mut file: StoreFile) -> Self {
        Self {
            path: file.path.clone(),
            thread: std::thread::spawn(move || file.verify()),
        }
    }

    /// Where the object lies. Do not publish what was made of it before
    /// [`Verification::finish`] says that it is right.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the hash.
    ///
    /// # Errors
    /// As [`super::Store::verified_path`].
    pub fn finish(self) -> Result<PathBuf> {
        match self.thread.join() {
            Ok(result) => result.map(|()| self.path),
            Err(_) => Err(Error::new(
                crate::Class::Internal,
                format!("verify {}: the thread died", self.path.display()),
            )),
        }
    }
}
