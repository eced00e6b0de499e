//! Removing whole folders without ever leaving them: no link is followed and no
//! mount is crossed, not even one that appears meanwhile.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, fstat, openat, openat2, unlinkat};
use rustix::io::Errno;

/// Folders within folders that are gone through. Each keeps a file open.
const DEEPEST: usize = 400;

const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes all that a folder holds, and leaves the folder, on which something may
/// be mounted. That it is not there is no error.
pub(super) fn empty(folder: &Path) -> io::Result<()> {
    match openat(CWD, folder, FOLDER, Mode::empty()) {
        Ok(opened) => empty_opened(opened.as_fd(), DEEPEST),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn empty_opened(folder: BorrowedFd<'_>, deeper: usize) -> io::Result<()> {
    let names = names(folder)?;
    for name in names {
        match unlinkat(folder, &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            // A folder: Linux says the first, POSIX the second.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(deeper) = deeper.checked_sub(1) else {
            return Err(io::Error::other("folders are nested too deeply"));
        };
        let inner = open_within(folder, &name).map_err(|error| match error {
            Errno::XDEV => io::Error::other(format!(
                "something is mounted at {} in it",
                name.to_string_lossy()
            )),
            error => error.into(),
        })?;
        empty_opened(inner.as_fd(), deeper)?;
        match unlinkat(folder, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<Box<CStr>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.into());
        }
    }
    Ok(names)
}

/// Opens a folder in another on the same mount.
fn open_within(folder: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let within = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(folder, name, FOLDER, Mode::empty(), within) {
        Err(Errno::NOSYS) => {
            // Before Linux 5.6: at least another file system is noticed.
            let opened = openat(folder, name, FOLDER, Mode::empty())?;
            if fstat(&opened)?.st_dev == fstat(folder)?.st_dev {
                Ok(opened)
            } else {
                Err(Errno::XDEV)
            }
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_goes_but_what_links_lead_to() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        fs::create_dir_all(folder.join("a/b/c")).unwrap();
        fs::write(folder.join("a/b/file"), "x").unwrap();
        symlink(outside.path(), folder.join("a/link")).unwrap();
        symlink(outside.path(), folder.join("link")).unwrap();
        empty(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
        empty(&root.path().join("none")).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("folder")).unwrap();
        // Neither a folder nor ours: nothing happens, or it is an error.
        let _ = empty(&root.path().join("folder"));
        assert!(outside.path().join("kept").exists());
    }

    /// Names the folder to the test that runs in mounts of its own.
    const FOLDER_VARIABLE: &str = "NODEKILN_TEST_FOLDER";

    #[test]
    fn a_mount_is_never_crossed_and_what_is_behind_it_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("pods/1/volume");
        fs::create_dir_all(&place).unwrap();
        // A bind mount within one file system, which no device number tells.
        let script = "mount --bind \"$1\" \"$2\" && exec \"$3\" --exact --ignored \
                      system::tree::tests::emptying_stops_at_the_mount";
        let status = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([outside.path(), place.as_path()])
            .arg(std::env::current_exe().unwrap())
            .env(FOLDER_VARIABLE, root.path())
            .status()
            .expect("unshare must be installed, and these tests run as root");
        assert!(status.success());
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"x");
    }

    #[test]
    #[ignore = "runs within the test of mounts, in mounts of its own"]
    fn emptying_stops_at_the_mount() {
        let folder = std::env::var_os(FOLDER_VARIABLE).expect("the other test sets it");
        let error = empty(Path::new(&folder)).unwrap_err();
        assert_eq!(error.to_string(), "something is mounted at volume in it");
    }

    #[test]
    fn what_is_nested_without_end_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let mut path = root.path().to_path_buf();
        for _ in 0..DEEPEST + 2 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        let error = empty(root.path()).unwrap_err();
        assert_eq!(error.to_string(), "folders are nested too deeply");
    }
}
