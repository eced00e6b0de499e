//! Reads a whole volume, whatever it gives, and plans changes of it: for fuzzing.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::agent::{Kernel, Place};
use super::{Attributes, Kind, Timestamp, Volume, remove_tree};
use crate::image_path::ImagePath;

/// Bytes of a file that are read.
const READ: usize = 1 << 20;

/// Walks the tree; gives the number of its folders.
pub(super) fn read_all(volume: &mut dyn Volume) -> usize {
    let mut folders = 0;
    let mut left = vec![ImagePath::root()];
    let _ = volume.space();
    while let Some(path) = left.pop() {
        let _ = volume.metadata(&path);
        let Ok(entries) = volume.read_directory(&path) else {
            continue;
        };
        folders += 1;
        for entry in entries {
            let Ok(below) = path.join(&entry.name) else {
                continue;
            };
            let _ = volume.metadata(&below);
            match entry.kind {
                Kind::Directory => left.push(below),
                Kind::File => drop(volume.read_file(&below, &mut Bounded(READ))),
                Kind::Symlink => drop(volume.read_link(&below)),
                Kind::Special => {}
            }
        }
    }
    folders
}

/// Takes so many bytes and then refuses, as readers of small files do.
struct Bounded(usize);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A place for a guest kernel that is never started, of `size` bytes.
pub(super) fn nowhere(size: u64) -> Place {
    Place {
        image: PathBuf::from("/nonexistent"),
        range: 0..size,
        work: std::env::temp_dir(),
        kernel: Kernel::new(PathBuf::from("/nonexistent"), Vec::new()),
    }
}

/// Plans changes of a volume in which the paths of the seed images may be: the file
/// `/etc/again` moves to `moved`, and the folders `removed` go.
pub(super) fn change(volume: &mut dyn Volume, moved: &str, removed: &[&str]) {
    let at = |path: &str| ImagePath::new(path).unwrap_or_else(|_| ImagePath::root());
    let attributes = Attributes {
        mode: 0o644,
        uid: 1,
        gid: 2,
        modified: Timestamp::default(),
        xattrs: BTreeMap::from([("user.a".to_owned(), vec![1; 300])]),
    };
    let _ = volume.remove_file(&at("/etc/pieces"));
    let _ = volume.remove_file(&at("/etc/pipe"));
    let _ = volume.append_file(&at("/etc/hostname"), &[7; 9000]);
    let _ = volume.set_attributes(&at("/etc/again"), &attributes);
    let _ = volume.write_file(&at("/usr/bin/large"), 1, &mut &[1_u8][..], &attributes);
    let _ = volume.create_directory(&at("/etc/new"), &attributes);
    let _ = volume.rename(&at("/usr"), &at("/etc/new/usr"));
    let _ = volume.rename(&at("/etc/again"), &at(moved));
    let _ = read_all(volume);
    for folder in removed {
        let _ = remove_tree(volume, &at(folder));
    }
}
