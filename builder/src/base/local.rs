//! A base image that lies on this machine, and how it comes into the store.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::disk::{BaseImage, Format, OpenOptions, open_base};
use crate::error::{Class, Context as _, Error, Result};
use crate::lock::{LocalBase, Stored};
use crate::output::qcow2;
use crate::progress::Progress;
use crate::store::{Digest, Store};

/// Bytes hashed at once.
const PIECE: usize = 1 << 20;

/// Takes the image at `path` into the store. A qcow2 that stands alone is copied
/// as it is. A raw image and one with a backing file are written anew as one
/// qcow2 of their content: so the store holds nothing that depends on a file
/// beside it, and its cost, and that of hashing it at every build, follows the
/// content and not the size of the disk. The same content gives the same bytes.
///
/// # Errors
/// [`Class::Input`] when it is no image, or not the one that is expected; as
/// [`open_base`] and [`Store::add_file`].
pub(super) fn add(
    store: &Store,
    path: &Path,
    expected: Option<Digest>,
    allow_backing_file: bool,
    progress: &dyn Progress,
) -> Result<LocalBase> {
    let before = stamp(path)?;
    let (image, is_whole) = open(path, allow_backing_file)?;
    if image.format == Format::Qcow2 && is_whole {
        let (sha256, size) = store
            .add_file(path, expected)
            .map_err(|error| wrong_file(path, error))?;
        return Ok(LocalBase {
            image: Stored { sha256, size },
            is_rewritten: false,
        });
    }
    if let Some(expected) = expected {
        verify(path, expected, progress)?;
    }
    // Plain clusters: a build reads them as fast as the file itself.
    let options = qcow2::Options {
        compression: qcow2::Compression::None,
        ..qcow2::Options::default()
    };
    let (sha256, size) = store
        .add_made(|file| {
            qcow2::write(image.storage.as_ref(), file, &options, progress)?;
            if stamp(path)? == before {
                Ok(())
            } else {
                Err(Error::input("it changed while it was read")
                    .hint("try again when nothing writes to it any more"))
            }
        })
        .doing(|| format!("take {} into the store", path.display()))?;
    Ok(LocalBase {
        image: Stored { sha256, size },
        is_rewritten: true,
    })
}

/// Opens the image; tells whether it stands alone.
fn open(path: &Path, allow_backing_file: bool) -> Result<(BaseImage, bool)> {
    match open_base(path, &OpenOptions::default()) {
        // A backing file is one of the things that may be missing from what is
        // supported by default; all others are missing the second time too.
        Err(error) if allow_backing_file && error.class() == Class::Unsupported => {
            let options = OpenOptions {
                allow_backing_file: true,
            };
            Ok((open_base(path, &options)?, false))
        }
        opened => Ok((opened?, true)),
    }
}

fn verify(path: &Path, expected: Digest, progress: &dyn Progress) -> Result<()> {
    let doing = || format!("read {}", path.display());
    let mut file = File::open(path).doing(doing)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        progress.check()?;
        let count = file.read(&mut buffer).doing(doing)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let found = Digest::from_bytes(hasher.finalize().into());
    if found == expected {
        return Ok(());
    }
    let error = Error::dependency(format!("verify sha256: it is {found}, not {expected}"));
    Err(wrong_file(path, error))
}

/// What changes when somebody writes to the file.
fn stamp(path: &Path) -> Result<(u64, SystemTime)> {
    let look = || {
        let metadata = std::fs::metadata(path)?;
        Ok::<_, std::io::Error>((metadata.len(), metadata.modified()?))
    };
    look().map_err(|error| {
        let is_absent = error.kind() == std::io::ErrorKind::NotFound;
        let error = Error::io(format!("open {}", path.display()), error);
        if is_absent {
            error.hint("base.path starts from the folder of the profile")
        } else {
            error
        }
    })
}

/// A local file is the user's own: a wrong one is wrong input.
pub(super) fn wrong_file(path: &Path, error: Error) -> Error {
    if error.class() == Class::Dependency {
        Error::input(format!(
            "read {}: its sha256 is not the expected one",
            path.display()
        ))
        .caused_by(error)
        .hint("correct the sha256 in the profile, or run `nodekiln lock` when the file was changed on purpose")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;
    use crate::disk::Storage;
    use crate::progress::Silent;

    const SIZE: u64 = 1 << 30;

    /// A store, and a raw disk of 1 GiB with 4 KiB of content at its end.
    fn world() -> (tempfile::TempDir, Store, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(folder.path().join("store")).expect("writable");
        let path = folder.path().join("base.raw");
        let file = File::create(&path).expect("own");
        file.set_len(SIZE).expect("sparse");
        file.write_all_at(&[7; 4096], SIZE - 4096).expect("own");
        (folder, store, path)
    }

    fn content(storage: &dyn Storage, offset: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        storage.read_at(&mut bytes, offset).expect("inside");
        bytes
    }

    #[test]
    fn a_raw_base_costs_what_its_content_costs() {
        let (_folder, store, path) = world();
        let base = add(&store, &path, None, false, &Silent).expect("added");
        assert!(base.is_rewritten);
        assert!(base.image.size < 1 << 20, "{}", base.image.size);
        let again = add(&store, &path, None, false, &Silent).expect("added");
        assert_eq!(again.image, base.image);
        let object = store.verified_path(&base.image.sha256).expect("there");
        let opened = open_base(&object, &OpenOptions::default()).expect("an image");
        assert_eq!(opened.virtual_size, SIZE);
        assert_eq!(content(opened.storage.as_ref(), SIZE - 4096), [7; 4096]);
        assert_eq!(content(opened.storage.as_ref(), 0), [0; 4096]);
    }

    #[test]
    fn the_sha256_of_the_profile_is_that_of_the_original() {
        let (_folder, store, path) = world();
        let bytes = vec![1; 65536];
        std::fs::write(&path, &bytes).expect("own");
        let right = Digest::from_bytes(Sha256::digest(&bytes).into());
        let base = add(&store, &path, Some(right), false, &Silent).expect("the right one");
        assert_ne!(base.image.sha256, right);
        let wrong = Digest::from_bytes([1; 32]);
        let error = add(&store, &path, Some(wrong), false, &Silent).expect_err("another one");
        assert_eq!(error.class(), Class::Input);
    }

    #[test]
    fn a_base_with_a_backing_file_is_whole_in_the_store() {
        let (folder, store, path) = world();
        let top = folder.path().join("top.qcow2");
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw"])
            .arg(&top)
            .status()
            .expect("qemu-img is installed");
        assert!(made.success());
        let error = add(&store, &top, None, false, &Silent).expect_err("not asked for");
        assert_eq!(error.class(), Class::Unsupported);
        let base = add(&store, &top, None, true, &Silent).expect("asked for");
        assert!(base.is_rewritten);
        std::fs::remove_file(&path).expect("own");
        let object = store.verified_path(&base.image.sha256).expect("there");
        let opened = open_base(&object, &OpenOptions::default()).expect("stands alone");
        assert_eq!(content(opened.storage.as_ref(), SIZE - 4096), [7; 4096]);
    }

    #[test]
    fn a_whole_qcow2_is_copied_as_it_is() {
        let (folder, store, _) = world();
        let path = folder.path().join("whole.qcow2");
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&path)
            .arg("1G")
            .status()
            .expect("qemu-img is installed");
        assert!(made.success());
        let base = add(&store, &path, None, true, &Silent).expect("added");
        assert!(!base.is_rewritten);
        let object = store.verified_path(&base.image.sha256).expect("there");
        assert_eq!(
            std::fs::read(&object).expect("there"),
            std::fs::read(&path).expect("own")
        );
        assert_eq!(object.metadata().expect("there").size(), base.image.size);
    }
}
