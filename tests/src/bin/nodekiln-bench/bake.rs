//! The bake as a program of its own, so that its memory is its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::disk::Storage as _;
use nodekiln::volume::agent::Kernel;
use nodekiln::volume::{Access, FileSystem, detect, open};
use nodekiln_tests::volumes::{EPOCH, RawFile, at, plain};
use nodekiln_tests::xfs::through;

/// Lays the folder `payload` into the image `image` and syncs it: in process into ext4, by
/// the guest kernel into XFS.
pub fn bake(image: &Path, payload: &Path) {
    let storage = RawFile::open(image).expect("the image can be opened");
    let range = 0..storage.size();
    let kind = detect(&storage).expect("the image can be read");
    let mut volume = if kind == Some(FileSystem::Xfs) {
        let kernel = Kernel::find().expect("user-mode Linux is installed");
        through(kernel, image, range, false).expect("the volume can be opened")
    } else {
        open(Arc::new(storage), Access::Write, EPOCH).expect("the volume can be opened")
    };
    let mut left = vec![PathBuf::new()];
    while let Some(inside) = left.pop() {
        let mut entries: Vec<_> = fs::read_dir(payload.join(&inside))
            .expect("the folder can be listed")
            .map(|entry| entry.expect("the folder can be listed"))
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inside = inside.join(entry.file_name());
            let path = at(&format!("/{}", inside.display()));
            if entry.file_type().expect("the kind is known").is_dir() {
                volume
                    .create_directory(&path, &plain(0o755))
                    .expect("the folder is made");
                left.push(inside);
            } else {
                let mut file = File::open(entry.path()).expect("the file can be opened");
                let size = file.metadata().expect("the size is known").len();
                volume
                    .write_file(&path, size, &mut file, &plain(0o644))
                    .expect("the file is written");
            }
        }
    }
    volume.finish().expect("the volume is finished");
    File::open(image)
        .and_then(|file| file.sync_all())
        .expect("the image is synced");
}
