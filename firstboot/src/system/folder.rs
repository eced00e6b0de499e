//! Files below a folder that stands for the root of a machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::{Error, Files, NewFile, Space, Status, tree};

/// Longest chain of links that is followed, as in the kernel.
const LINKS: usize = 40;

/// Files below a folder. In a folder other than `/` no link is followed, so that
/// nothing in a foreign tree leads out of it; on the machine's own root the links
/// are the system's own.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    is_system: bool,
}

impl Folder {
    /// Takes a folder for the root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let is_system = root == Path::new("/");
        Self { root, is_system }
    }

    /// The path below the root, if no link is on the way where none may be.
    fn locate(&self, path: &str) -> io::Result<PathBuf> {
        let mut located = self.root.clone();
        let mut parts = Path::new(path).components().peekable();
        while let Some(part) = parts.next() {
            match part {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => located.push(name),
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "a path that goes up",
                    ));
                }
            }
            // The last part may be a link: it is never followed, only replaced.
            if !self.is_system && parts.peek().is_some() && located.is_symlink() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{} is a link", located.display()),
                ));
            }
        }
        Ok(located)
    }

    fn open(&self, path: &str) -> io::Result<Option<File>> {
        let located = self.locate(path)?;
        let mut options = OpenOptions::new();
        // Not to hang on a pipe that lies where a file should.
        let mut flags = OFlags::NONBLOCK;
        if !self.is_system {
            flags |= OFlags::NOFOLLOW;
        }
        match options
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(located)
        {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file beside its place, and has the disk begin with it.
    fn prepare(&self, new: &NewFile<'_>) -> io::Result<Prepared> {
        let place = self.locate(new.path)?;
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file name"));
        };
        make_folders(folder)?;
        let temporary = temporary_name(folder, name);
        remove_if_there(&temporary)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(new.mode)
            .open(&temporary)?;
        let written = (|| {
            // The mask of the process may have taken bits away.
            file.set_permissions(fs::Permissions::from_mode(new.mode))?;
            file.write_all(new.content)?;
            // Of several files the disk then takes all at once. Only advice: the sync
            // that follows is what counts.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            Ok(())
        })();
        let prepared = Prepared {
            file,
            temporary,
            place,
        };
        match written {
            Ok(()) => Ok(prepared),
            Err(error) => {
                prepared.discard();
                Err(error)
            }
        }
    }
}

/// A file that is written, but not yet in its place.
struct Prepared {
    file: File,
    temporary: PathBuf,
    place: PathBuf,
}

impl Prepared {
    /// The folder is not synced: a journalling file system keeps the order, so a cut
    /// shows the old file or the new one, and what is looked at anew on the next
    /// start need not be there sooner. It would double the cost.
    fn put_in_place(&self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.place)
    }

    fn discard(&self) {
        // The first error is the one to tell; a leftover is taken over next time.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Files for Folder {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let content = || -> io::Result<Option<Vec<u8>>> {
            let Some(file) = self.open(path)? else {
                return Ok(None);
            };
            let mut content = Vec::new();
            file.take(limit as u64 + 1).read_to_end(&mut content)?;
            Ok(Some(content))
        };
        match content().map_err(failed("reading", path))? {
            Some(content) if content.len() > limit => Err(Error::TooLarge {
                path: path.into(),
                limit,
            }),
            content => Ok(content),
        }
    }

    fn status(&self, path: &str) -> Result<Option<Status>, Error> {
        let metadata = self.locate(path).and_then(fs::symlink_metadata);
        match metadata {
            Ok(metadata) => Ok(Some(Status {
                mode: metadata.mode() & 0o7777,
                modified: metadata.modified().map_err(failed("looking at", path))?,
                is_file: metadata.is_file(),
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("looking at", path)(error)),
        }
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let entries = match self.locate(folder).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed("listing", folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("listing", folder))?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let mut current = PathBuf::from(path);
        for _ in 0..LINKS {
            let located = self.locate(current.to_str()?).ok()?;
            match fs::read_link(&located) {
                Ok(target) => current = lexically(&current.parent()?.join(target)),
                Err(_) => {
                    return located
                        .exists()
                        .then(|| current.to_string_lossy().into_owned());
                }
            }
        }
        None
    }

    fn write_all(&self, files: &[NewFile<'_>]) -> Result<(), Error> {
        let mut prepared = Vec::with_capacity(files.len());
        let mut outcome = Ok(());
        for new in files {
            match self.prepare(new) {
                Ok(file) => prepared.push((new.path, file)),
                Err(error) => {
                    outcome = Err(failed("writing", new.path)(error));
                    break;
                }
            }
        }
        for (path, file) in &prepared {
            if outcome.is_ok() {
                outcome = file.put_in_place().map_err(failed("writing", path));
            }
            if outcome.is_err() {
                file.discard();
            }
        }
        outcome
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.locate(path)
            .and_then(|path| remove_if_there(&path))
            .map_err(failed("removing", path))
    }

    fn remove_empty(&self, folder: &str) -> Result<(), Error> {
        let is_left = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
            )
        };
        match self.locate(folder).and_then(fs::remove_dir) {
            Err(error) if !is_absent(&error) && !is_left(&error) => {
                Err(failed("removing", folder)(error))
            }
            _ => Ok(()),
        }
    }

    fn empty(&self, folder: &str) -> Result<(), Error> {
        self.locate(folder)
            .and_then(|folder| tree::empty(&folder))
            .map_err(failed("emptying", folder))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let act = || -> io::Result<()> {
            let (source, target) = (self.locate(from)?, self.locate(to)?);
            if let Some(folder) = target.parent() {
                make_folders(folder)?;
            }
            match fs::rename(source, target) {
                Err(error) if !is_absent(&error) => Err(error),
                _ => Ok(()),
            }
        };
        act().map_err(failed("moving", from))
    }

    fn link(&self, path: &str, target: &str) -> Result<(), Error> {
        let act = || -> io::Result<()> {
            let place = self.locate(path)?;
            let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file name"));
            };
            make_folders(folder)?;
            let temporary = temporary_name(folder, name);
            remove_if_there(&temporary)?;
            std::os::unix::fs::symlink(target, &temporary)?;
            fs::rename(&temporary, &place).inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(&temporary);
            })
        };
        act().map_err(failed("linking", path))
    }

    fn space(&self, path: &str) -> Result<Option<Space>, Error> {
        match self
            .locate(path)
            .and_then(|path| Ok(rustix::fs::statvfs(path)?))
        {
            Ok(room) => Ok(Some(Space {
                free: room.f_bavail.saturating_mul(room.f_frsize),
                total: room.f_blocks.saturating_mul(room.f_frsize),
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("looking at", path)(error)),
        }
    }

    fn link_target(&self, path: &str) -> Result<Option<String>, Error> {
        match self.locate(path).and_then(fs::read_link) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            // `InvalidInput`: it is there and no link.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                Ok(None)
            }
            Err(error) => Err(failed("looking at", path)(error)),
        }
    }
}

/// One fixed name: what a killed run left behind is taken over, not piled up.
fn temporary_name(folder: &Path, name: &std::ffi::OsStr) -> PathBuf {
    folder.join(format!(".{}.nodekiln-new", name.to_string_lossy()))
}

/// Without `.` and `..`, as if no folder on the way were a link.
fn lexically(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Makes a folder and those above it, each 0755 whatever the mask says. It gets its
/// name last: one with a wrong mode that a killed run leaves would never be mended.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    make_folders(parent)?;
    let temporary = temporary_name(parent, name);
    // A killed run may have left it, or a file or link under its name.
    if !fs::symlink_metadata(&temporary).is_ok_and(|found| found.is_dir()) {
        remove_if_there(&temporary)?;
        fs::create_dir(&temporary)?;
    }
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(&temporary, folder))
        .inspect_err(|_| {
            // The first error is the one to tell.
            let _ = fs::remove_dir(&temporary);
        })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_if_changed;
    use super::*;

    #[test]
    fn modes_are_right_whatever_the_mask() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let written = folder.write("/a/b/public", b"x", 0o644);
        rustix::process::umask(old);
        written.unwrap();
        assert_eq!(folder.status("/a").unwrap().unwrap().mode, 0o755);
        assert_eq!(folder.status("/a/b").unwrap().unwrap().mode, 0o755);
        assert_eq!(folder.status("/a/b/public").unwrap().unwrap().mode, 0o644);
        assert_eq!(folder.read("/a/b/public", 1).unwrap().unwrap(), b"x");
        assert_eq!(folder.names("/a/b").unwrap(), ["public"]);
    }

    #[test]
    fn what_a_killed_run_left_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        fs::write(root.path().join(".file.nodekiln-new"), "half").unwrap();
        folder.write("/file", b"whole", 0o600).unwrap();
        assert_eq!(folder.names("/").unwrap(), ["file"]);
        assert_eq!(folder.status("/file").unwrap().unwrap().mode, 0o600);
    }

    #[test]
    fn a_folder_of_a_killed_run_gets_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let left = root.path().join(".a.nodekiln-new");
        fs::create_dir(&left).unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o700)).unwrap();
        folder.write("/a/b/file", b"x", 0o600).unwrap();
        assert_eq!(folder.names("/").unwrap(), ["a"]);
        assert_eq!(folder.status("/a").unwrap().unwrap().mode, 0o755);
        assert_eq!(folder.names("/a").unwrap(), ["b"]);
        // A file where a folder belongs stays, and nothing lies beside it.
        assert!(folder.write("/a/b/file/new", b"x", 0o600).is_err());
        assert_eq!(folder.names("/a/b").unwrap(), ["file"]);
        // What a killed run left of a file or a link never becomes the folder.
        fs::write(root.path().join(".c.nodekiln-new"), "half").unwrap();
        std::os::unix::fs::symlink("a", root.path().join(".d.nodekiln-new")).unwrap();
        for path in ["/c/file", "/d/file"] {
            folder.write(path, b"x", 0o600).unwrap();
        }
        assert_eq!(folder.names("/").unwrap(), ["a", "c", "d"]);
        assert!(root.path().join("d").symlink_metadata().unwrap().is_dir());
    }

    #[test]
    fn links_are_put_in_place_and_folders_moved() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        folder.write("/a/file", b"x", 0o600).unwrap();
        assert_eq!(folder.link_target("/a/file").unwrap(), None);
        assert_eq!(folder.link_target("/none").unwrap(), None);
        folder.link("/a/file", "/root/.aws").unwrap();
        assert_eq!(
            folder.link_target("/a/file").unwrap().as_deref(),
            Some("/root/.aws")
        );
        assert!(!folder.status("/a/file").unwrap().unwrap().is_file);
        folder.rename("/a", "/b/c").unwrap();
        assert_eq!(folder.names("/b/c").unwrap(), ["file"]);
        folder.rename("/a", "/b/d").unwrap();
        assert_eq!(folder.names("/b").unwrap(), ["c"]);
        let error = folder.rename("/b/c", "/b/c/d").unwrap_err();
        assert_eq!(error.to_string(), "moving /b/c");
    }

    #[test]
    fn only_what_differs_is_written() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        assert!(write_if_changed(&folder, "/file", b"one", 0o644).unwrap());
        assert!(!write_if_changed(&folder, "/file", b"one", 0o644).unwrap());
        assert!(write_if_changed(&folder, "/file", b"one", 0o600).unwrap());
        assert!(write_if_changed(&folder, "/file", b"on", 0o600).unwrap());
    }

    #[test]
    fn no_link_leads_out_of_a_foreign_tree() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        std::os::unix::fs::symlink(outside.path(), root.path().join("etc")).unwrap();
        assert!(folder.write("/etc/passwd", b"x", 0o644).is_err());
        assert!(folder.write("/../passwd", b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        fs::write(outside.path().join("target"), "kept").unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), root.path().join("file"))
            .unwrap();
        assert!(folder.read("/file", 10).is_err());
        folder.write("/file", b"new", 0o644).unwrap();
        assert_eq!(fs::read(outside.path().join("target")).unwrap(), b"kept");
        assert_eq!(fs::read(root.path().join("file")).unwrap(), b"new");
    }

    #[test]
    fn a_large_file_is_refused_and_an_absent_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        fs::write(root.path().join("file"), vec![0; 11]).unwrap();
        assert!(matches!(
            folder.read("/file", 10),
            Err(Error::TooLarge { limit: 10, .. })
        ));
        assert_eq!(folder.read("/file/x", 10).unwrap(), None);
        assert_eq!(folder.read("/none", 10).unwrap(), None);
        assert_eq!(folder.status("/none").unwrap(), None);
        assert_eq!(folder.space("/none").unwrap(), None);
        let room = folder.space("/").unwrap().unwrap();
        assert!(room.free <= room.total && room.total > 0, "{room:?}");
        folder.remove("/none").unwrap();
    }

    #[test]
    fn links_are_resolved() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        folder
            .write("/run/systemd/resolve/stub-resolv.conf", b"", 0o644)
            .unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(
            "../run/systemd/resolve/stub-resolv.conf",
            root.path().join("etc/resolv.conf"),
        )
        .unwrap();
        assert_eq!(
            folder.resolve("/etc/resolv.conf").as_deref(),
            Some("/run/systemd/resolve/stub-resolv.conf")
        );
        std::os::unix::fs::symlink("loop", root.path().join("loop")).unwrap();
        assert_eq!(folder.resolve("/loop"), None);
    }
}
