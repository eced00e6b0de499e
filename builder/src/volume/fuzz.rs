//! What the targets of fuzzing share: a whole volume is read, whatever it gives, and changes
//! of it are planned. All that counts is that this ends, so what is refused is passed over.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::agent::{Kernel, Place};
use super::{
    Access, Attributes, Kind, Timestamp, Volume, check_partition, needs_replay, open,
    open_for_agent, remove_tree,
};
use crate::disk::Storage;
use crate::disk::memory::Memory;
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

/// A seed image of a file system that a guest kernel edits.
#[derive(Debug)]
pub(super) struct Seed {
    /// Most folders that it has room for, whatever is changed.
    pub folders: usize,
    /// Where the file `/etc/again` moves to.
    pub moved: &'static str,
    /// Folders that go: all but what has moved into them.
    pub removed: &'static [&'static str],
}

impl Seed {
    /// Does with the image `bytes` whatever a build does in this process: checks, lists,
    /// reads, plans changes; `more` is what this file system alone has.
    pub(super) fn enter(&self, bytes: Vec<u8>, more: impl Fn(&Arc<dyn Storage>)) {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(bytes));
        let _ = check_partition(Arc::clone(&storage));
        if let Ok(mut volume) = open(Arc::clone(&storage), Access::Read, Timestamp::default()) {
            let folders = read_all(volume.as_mut());
            assert!(folders <= self.folders, "{folders} folders");
        }
        let _ = needs_replay(&storage);
        more(&storage);
        let place = nowhere(storage.size());
        if let Ok(mut volume) = open_for_agent(&storage, place, Timestamp::default(), true) {
            self.change(volume.as_mut());
        }
    }

    /// Plans changes of a volume in which the paths of the image may be.
    fn change(&self, volume: &mut dyn Volume) {
        let attributes = attributes();
        let _ = volume.remove_file(&at("/etc/pieces"));
        let _ = volume.remove_file(&at("/etc/pipe"));
        let _ = volume.append_file(&at("/etc/hostname"), &[7; 9000]);
        let _ = volume.set_attributes(&at("/etc/again"), &attributes);
        let _ = volume.write_file(&at("/usr/bin/large"), 1, &mut &[1_u8][..], &attributes);
        let _ = volume.create_directory(&at("/etc/new"), &attributes);
        let _ = volume.rename(&at("/usr"), &at("/etc/new/usr"));
        let _ = volume.rename(&at("/etc/again"), &at(self.moved));
        let _ = read_all(volume);
        for folder in self.removed {
            let _ = remove_tree(volume, &at(folder));
        }
    }

    /// Makes sure that the image `bytes` is sound, has so many `folders`, and takes every
    /// change.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, bytes: Vec<u8>, folders: usize) {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(bytes));
        let found = check_partition(Arc::clone(&storage)).expect("runs");
        assert_eq!(found, Vec::<String>::new());
        let mut volume =
            open(Arc::clone(&storage), Access::Read, Timestamp::default()).expect("opens");
        assert_eq!(read_all(volume.as_mut()), folders);
        let place = nowhere(storage.size());
        let mut volume =
            open_for_agent(&storage, place, Timestamp::default(), false).expect("opens");
        self.change(volume.as_mut());
        assert_eq!(read_all(volume.as_mut()), 1, "all was removed");
    }
}

/// A place for a guest kernel that is never started, of `size` bytes.
fn nowhere(size: u64) -> Place {
    Place {
        image: PathBuf::from("/nonexistent"),
        range: 0..size,
        work: std::env::temp_dir(),
        kernel: Kernel::new(PathBuf::from("/nonexistent"), Vec::new()),
    }
}

/// A path of a seed image.
pub(super) fn at(path: &str) -> ImagePath {
    ImagePath::new(path).unwrap_or_else(|_| ImagePath::root())
}

/// What is given to files and folders.
pub(super) fn attributes() -> Attributes {
    Attributes {
        mode: 0o644,
        uid: 1,
        gid: 2,
        modified: Timestamp::default(),
        xattrs: BTreeMap::from([("user.a".to_owned(), vec![1; 300])]),
    }
}

/// The image `fuzz/fixtures/NAME.zst`.
#[cfg(test)]
pub(super) fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fixtures");
    let packed = std::fs::read(folder.join(name).with_extension("zst"));
    zstd::decode_all(&packed.expect("the image is there")[..]).expect("zstd")
}
