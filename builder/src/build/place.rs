//! Where a build lands: `OUTPUT/PROFILE/KEY`, all at once or not at all.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context as _, Error, Result};
use crate::progress::Progress;
use crate::report::Manifest;
use crate::store::Digest;

/// Name of the manifest in the folder of a build.
pub const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// Reads the manifest of the build in `folder`.
///
/// # Errors
/// [`crate::Class::Input`] when there is none, or it is no manifest.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let doing = || format!("read {}", path.display());
    let mut text = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MANIFEST_LIMIT + 1).read_to_end(&mut text))
        .doing(doing)?;
    if text.len() as u64 > MANIFEST_LIMIT {
        return Err(Error::input(format!("{}: it is too large", doing())));
    }
    Manifest::parse(&text).map_err(|error| error.context(doing()))
}

/// Begins the names of folders that are not finished.
const WORK: &str = ".work-";

/// The final folder of a build, and the right to make it: one build of a profile
/// at a time, in all processes.
#[derive(Debug)]
pub struct Place {
    parent: PathBuf,
    folder: PathBuf,
    key: Digest,
    _lock: File,
}

impl Place {
    /// Takes the place, waiting for another build of the profile to end.
    pub fn take(
        output: &Path,
        profile: &str,
        key: &Digest,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let parent = output.join(profile);
        let doing = || format!("use the output folder {}", parent.display());
        std::fs::create_dir_all(&parent).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Error::input(doing())
                .caused_by(error)
                .hint("a file is in its place: move it, or choose another folder with --output"),
            _ => Error::io(doing(), error),
        })?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(parent.join(".lock"))
            .doing(doing)?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.note("waiting for another build of this profile");
                        told = true;
                    }
                    progress.check()?;
                    // Waiting without an end would not hear Ctrl-C.
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io(doing(), error)
                        .hint("choose an output folder on a file system with locks"));
                }
            }
        }
        let folder = parent.join(key.short());
        Ok(Self {
            parent,
            folder,
            key: *key,
            _lock: lock,
        })
    }

    /// The final folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest, when the build is there already, whole.
    pub fn present(&self) -> Result<Option<Manifest>> {
        let again = format!(
            "remove the folder {} and build again",
            self.folder.display()
        );
        let manifest = match read_manifest(&self.folder) {
            Ok(manifest) => manifest,
            Err(_) if !self.folder.join(MANIFEST).exists() => return Ok(None),
            Err(error) => return Err(error.hint(again)),
        };
        if manifest.build_key.as_deref() != Some(self.key.to_string().as_str()) {
            return Ok(None);
        }
        // Somebody may have taken an image away or cut it short since.
        for image in &manifest.images {
            let path = self.folder.join(&image.name);
            let size = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
            if size != Some(image.size) {
                return Err(Error::input(format!(
                    "use the build that is there already: {} is gone or has another size",
                    path.display()
                ))
                .hint(again));
            }
        }
        Ok(Some(manifest))
    }

    /// Removes what dead builds left, and makes the folder to work in.
    pub fn begin(&self) -> Result<PathBuf> {
        let doing = || format!("prepare {}", self.parent.display());
        for entry in std::fs::read_dir(&self.parent).doing(doing)? {
            let entry = entry.doing(doing)?;
            // Whoever made it held the lock that is ours now.
            if entry.file_name().to_string_lossy().starts_with(WORK) {
                std::fs::remove_dir_all(entry.path()).doing(doing)?;
            }
        }
        let work = self.parent.join(format!("{WORK}{}", self.key.short()));
        std::fs::create_dir(&work).doing(doing)?;
        Ok(work)
    }

    /// Gives the finished folder its name.
    pub fn finish(&self, work: &Path) -> Result<()> {
        let doing = || format!("finish {}", self.folder.display());
        sync(work).doing(doing)?;
        if self.folder.exists() {
            // A folder of this name without a manifest of this key is no build.
            std::fs::remove_dir_all(&self.folder).doing(doing)?;
        }
        std::fs::rename(work, &self.folder).doing(doing)?;
        sync(&self.parent).doing(doing)
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
