//! Files that appear under their name only when they are complete.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::TempPath;

use crate::error::{Context as _, Error, Result};

/// End of the names of files that are not complete.
const SUFFIX: &str = ".partial";
/// Mode of finished files, before the umask.
const MODE: u32 = 0o644;

/// A file that is being written beside its final place. Dropped before
/// [`Pending::finish`], it is removed. It is locked as long as it is open, so
/// that [`clear_leftovers`] can tell what a killed process left.
#[derive(Debug)]
pub struct Pending {
    file: File,
    temporary: TempPath,
    target: PathBuf,
}

impl Pending {
    /// Begins the file that will be at `target`. Its folder must exist.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when the folder does not exist or `target` is a
    /// folder; [`crate::Class::Environment`] when the folder cannot be written.
    pub fn create(target: &Path) -> Result<Self> {
        let doing = || format!("create '{}'", target.display());
        let Some(name) = target.file_name() else {
            return Err(Error::input(doing()).hint("name a file, not a folder"));
        };
        if target.is_dir() {
            return Err(Error::input(doing())
                .caused_by("there is a folder of this name")
                .hint("name a file, or remove the folder"));
        }
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        loop {
            let (file, temporary) = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .permissions(Permissions::from_mode(MODE))
                .tempfile_in(folder(target))
                .doing(doing)?
                .into_parts();
            // Where locks are not known, nothing is cleared either.
            file.try_lock().ok();
            // Between creation and lock another process may have cleared it.
            if file.metadata().doing(doing)?.nlink() > 0 {
                return Ok(Self {
                    file,
                    temporary,
                    target: target.to_owned(),
                });
            }
        }
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Brings the content to the device, then gives the file its name; a file
    /// that had the name is replaced. Gives the file.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] with the reason; the temporary file is
    /// removed then.
    pub fn finish(self) -> Result<File> {
        let doing = || format!("write '{}'", self.target.display());
        self.file.sync_all().doing(doing)?;
        if let Err(tempfile::PathPersistError { error, .. }) = self.temporary.persist(&self.target)
        {
            let across = matches!(
                Errno::from_io_error(&error),
                Some(Errno::XDEV | Errno::BUSY)
            );
            let error = Error::io(doing(), error);
            return Err(if across {
                error.hint("another file system is mounted at this name: choose another one")
            } else {
                error
            });
        }
        sync_folder(folder(&self.target)).doing(doing)?;
        Ok(self.file)
    }
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A rename is only safe against a power cut when its folder is on the device.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Removes incomplete files of processes that are gone from `folder`; those that
/// are still being written stay. Gives their number.
///
/// # Errors
/// What reading the folder or removing a file gives.
pub fn clear_leftovers(folder: &Path) -> Result<usize> {
    let doing = || format!("clear '{}' of incomplete files", folder.display());
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).doing(doing)? {
        let entry = entry.doing(doing)?;
        if !is_temporary(&entry.file_name()) || !entry.file_type().doing(doing)?.is_file() {
            continue;
        }
        let file = match File::open(entry.path()) {
            Ok(file) => file,
            // It was finished, or cleared by somebody else.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(doing(), error)),
        };
        if file.try_lock().is_err() {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(doing(), error)),
        }
    }
    Ok(removed)
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::error::Class;

    fn names(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder)
            .expect("read the folder")
            .map(|entry| entry.expect("entry").file_name())
            .collect()
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let target = folder.path().join("disk.raw");
        let pending = Pending::create(&target).expect("create");
        pending.file().write_all(b"half").expect("write");
        assert!(!target.exists());
        drop(pending);
        assert!(names(folder.path()).is_empty());

        let pending = Pending::create(&target).expect("create");
        pending.file().write_all(b"whole").expect("write");
        pending.finish().expect("finish");
        assert_eq!(names(folder.path()), ["disk.raw"]);
        assert_eq!(std::fs::read(&target).expect("read"), b"whole");
    }

    #[test]
    fn replaces_an_earlier_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let target = folder.path().join("disk.raw");
        std::fs::write(&target, "old").expect("write");
        let pending = Pending::create(&target).expect("create");
        assert_eq!(std::fs::read(&target).expect("read"), b"old");
        pending.finish().expect("finish");
        assert_eq!(std::fs::read(&target).expect("read"), b"");
    }

    #[test]
    fn clears_what_a_killed_process_left_and_nothing_else() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pending = Pending::create(&folder.path().join("disk.raw")).expect("create");
        std::fs::write(folder.path().join(".disk.raw.AbCdEf.partial"), "left").expect("write");
        std::fs::write(folder.path().join("notes.partial"), "mine").expect("write");
        assert_eq!(clear_leftovers(folder.path()).expect("clear"), 1);
        assert_eq!(names(folder.path()).len(), 2);
        pending.finish().expect("the one in use is still there");
    }

    #[test]
    fn tells_where_it_cannot_write() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let absent = Pending::create(&folder.path().join("absent/disk.raw"));
        assert_eq!(absent.expect_err("absent").class(), Class::Input);
        let taken = Pending::create(folder.path());
        assert_eq!(taken.expect_err("a folder").class(), Class::Input);
        // Nobody can create files in /proc, root included.
        assert!(Pending::create(Path::new("/proc/disk.raw")).is_err());
    }
}
