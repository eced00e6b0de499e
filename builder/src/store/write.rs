//! Writing objects: a temporary file, a sync, a rename.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Digest, Store, object_path, write_error};
use crate::disk::is_zero;
use crate::error::{Context as _, Error, Result};

/// Bytes copied at once.
const PIECE: usize = 1 << 20;
/// Bytes of the smallest hole that is left.
const BLOCK: usize = 64 << 10;

/// An object that is being written. Dropped without [`Draft::keep`], it leaves
/// nothing.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    /// Its lock tells the sweep of other processes that it has a living writer.
    file: tempfile::NamedTempFile,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

impl Draft {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the object and gives it its name.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when its sha256 is not the expected one;
    /// [`crate::Class::Environment`] when it cannot be written.
    pub fn keep(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = Digest::from_bytes(self.hasher.finalize().into());
        check(expected, digest)?;
        // What was skipped at the end is part of it too.
        let length = self.file.as_file().set_len(self.size);
        length.map_err(|error| write_error("write an object".to_owned(), error))?;
        let (file, path) = self.file.into_parts();
        self.store.place(&file, &path, &digest)?;
        // It has its final name: there is nothing left to remove.
        path.keep().ok();
        Ok((digest, self.size))
    }
}

impl Draft {
    fn check_limit(&self, count: usize) -> io::Result<()> {
        if count as u64 <= self.limit - self.size {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            Error::dependency(format!(
                "write an object: it has more than the {} bytes that are allowed",
                self.limit
            )),
        ))
    }

    /// As `write_all`, but leaves a hole for each block of zeros.
    fn write_sparse(&mut self, bytes: &[u8]) -> io::Result<()> {
        for block in bytes.chunks(BLOCK) {
            if is_zero(block) {
                self.check_limit(block.len())?;
                self.file.seek(SeekFrom::Current(block.len() as i64))?;
                self.hasher.update(block);
                self.size += block.len() as u64;
            } else {
                self.write_all(block)?;
            }
        }
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check_limit(bytes.len())?;
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Begins an object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when the store cannot be written.
    pub fn draft(&self, limit: u64) -> Result<Draft> {
        let folder = self.folder().join("temporary");
        let failed = |error| write_error(format!("create a file in {}", folder.display()), error);
        let gate = self.gate().map_err(failed)?;
        gate.lock_shared().map_err(failed)?;
        let file = tempfile::Builder::new()
            .prefix("object-")
            .tempfile_in(&folder)
            .map_err(failed)?;
        file.as_file().lock().map_err(failed)?;
        Ok(Draft {
            store: self.clone(),
            file,
            hasher: Sha256::new(),
            size: 0,
            limit,
        })
    }

    /// Takes in everything that `reader` gives, at most `limit` bytes.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when the sha256 is not the expected one or
    /// there is more than `limit`; what `reader` fails with;
    /// [`crate::Class::Environment`] when the store cannot be written.
    pub fn add_reader(
        &self,
        reader: &mut dyn Read,
        expected: Option<Digest>,
        limit: u64,
    ) -> Result<(Digest, u64)> {
        let mut draft = self.draft(limit)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => draft.write_sparse(&buffer[..count]).map_err(|error| {
                    write_error(
                        format!("write an object into {}", self.folder().display()),
                        error,
                    )
                })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io("read what goes into the store", error));
                }
            }
        }
        draft.keep(expected.as_ref())
    }

    /// Takes in what `make` writes into the empty file that it is given.
    ///
    /// # Errors
    /// What `make` fails with; [`crate::Class::Environment`] when the store
    /// cannot be written.
    pub fn add_made(&self, make: impl FnOnce(&File) -> Result<()>) -> Result<(Digest, u64)> {
        let mut draft = self.draft(u64::MAX)?;
        make(draft.file.as_file())?;
        let mut buffer = vec![0; PIECE];
        loop {
            match draft.file.as_file().read_at(&mut buffer, draft.size) {
                Ok(0) => break,
                Ok(count) => {
                    draft.hasher.update(&buffer[..count]);
                    draft.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read back what went into the store", error)),
            }
        }
        draft.keep(None)
    }

    /// Takes in a copy of a regular file. Zeros become holes.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is absent or no regular file; else as
    /// [`Store::add_reader`].
    pub fn add_file(&self, path: &Path, expected: Option<Digest>) -> Result<(Digest, u64)> {
        // A pipe would hold the open for ever, so look before.
        let metadata = std::fs::metadata(path).doing(|| format!("open {}", path.display()))?;
        if !metadata.is_file() {
            return Err(Error::input(format!(
                "open {}: it is not a regular file",
                path.display()
            )));
        }
        let mut file = File::open(path).doing(|| format!("open {}", path.display()))?;
        self.add_reader(&mut file, expected, u64::MAX)
            .doing(|| format!("take {} into the store", path.display()))
    }

    /// Syncs a complete file of the store's file system and renames it to the
    /// name of its digest. An object that is there already is replaced: the
    /// content is the same, unless it was damaged.
    pub(super) fn place(&self, file: &File, path: &Path, digest: &Digest) -> Result<()> {
        let target = object_path(self.folder(), digest);
        let folder = target.parent().unwrap_or(self.folder());
        let place = || {
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()?;
            std::fs::create_dir_all(folder)?;
            std::fs::rename(path, &target)?;
            File::open(folder)?.sync_all()
        };
        place().map_err(|error| write_error(format!("write {}", target.display()), error))
    }

    /// Removes the temporary files whose writers are dead.
    pub(super) fn sweep(&self) -> Result<()> {
        let folder = self.folder().join("temporary");
        let sweep = || -> io::Result<()> {
            // Without the gate a file could be swept between its creation and
            // its lock. Who cannot have it leaves the work to the next one.
            let gate = self.gate()?;
            if gate.try_lock().is_err() {
                return Ok(());
            }
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path == gate_path(self.folder()) {
                    continue;
                }
                let dead = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
                if dead {
                    std::fs::remove_file(&path)?;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| write_error(format!("clean {}", folder.display()), error))
    }

    fn gate(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(gate_path(self.folder()))
    }
}

fn gate_path(folder: &Path) -> PathBuf {
    folder.join("temporary").join("gate")
}

/// Fails when `found` is not what was expected.
pub(super) fn check(expected: Option<&Digest>, found: Digest) -> Result<()> {
    match expected {
        Some(expected) if *expected != found => Err(Error::dependency(format!(
            "verify sha256: it is {found}, not {expected}"
        ))
        .hint(
            "the file is not the one that was locked: if the change is wanted, run `nodekiln lock --upgrade`",
        )),
        _ => Ok(()),
    }
}
