//! Reads a whole volume, whatever it gives: for fuzzing.

use std::io;

use super::{Kind, Volume};
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
