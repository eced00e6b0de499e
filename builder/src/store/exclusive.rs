//! One process at a time for one thing: locks that die with their holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{Store, write_error};
use crate::error::Result;
use crate::progress::Progress;

/// Between two looks at a lock that somebody else holds. The kernel offers no
/// wait that a stop on request could end.
const POLL: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped, by this process or its death.
#[derive(Debug)]
pub struct Exclusive {
    /// Holds the lock: it ends when the file is closed.
    _file: File,
    path: PathBuf,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // While the lock is held nobody else can hold this file; who waits for
        // it sees that its name is gone and opens a new one.
        std::fs::remove_file(&self.path).ok();
    }
}

impl Store {
    /// Waits until this process is the only one that works on `name` (a digest,
    /// the hash of a URL) in this store.
    ///
    /// # Errors
    /// [`crate::Class::Interrupted`] when the user stops the wait;
    /// [`crate::Class::Environment`] when the store cannot be written.
    pub fn exclusive(&self, name: &str, progress: &dyn Progress) -> Result<Exclusive> {
        let path = self.folder().join("locks").join(name);
        let mut told = false;
        loop {
            let failed = |error| write_error(format!("lock {}", path.display()), error);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {
                    let held = file.metadata().map_err(failed)?.ino();
                    if std::fs::metadata(&path).is_ok_and(|named| named.ino() == held) {
                        return Ok(Exclusive { _file: file, path });
                    }
                }
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.note("another build is fetching the same file: waiting for it");
                        told = true;
                    }
                    progress.check()?;
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}
