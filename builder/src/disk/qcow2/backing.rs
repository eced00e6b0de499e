//! Backing files: what an image does not hold itself.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::Backing;
use super::{MAGIC, Qcow2};
use crate::disk::{Storage, raw::RawFile};
use crate::error::{Context as _, Error, Result};

/// Longest chain of files, the first image included.
const CHAIN_MAX: usize = 16;

/// The way from the image that the user named down to its last backing file.
#[derive(Debug)]
pub(super) struct Chain {
    allowed: bool,
    /// No backing file lies outside of this folder.
    folder: PathBuf,
    /// Device and inode of the files that are open already.
    seen: Vec<(u64, u64)>,
}

impl Chain {
    pub(super) fn new(image: &Path, file: &File, allowed: bool) -> Result<Self> {
        let folder = match image.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        Ok(Self {
            allowed,
            folder: folder
                .canonicalize()
                .doing(|| format!("find the folder '{}'", folder.display()))?,
            seen: vec![identity(file)?],
        })
    }

    /// Opens the backing file that the image at `image` names.
    pub(super) fn open(&mut self, image: &Path, backing: &Backing) -> Result<Arc<dyn Storage>> {
        let doing = || format!("open the backing file '{}'", backing.name.escape_ascii());
        if !self.allowed {
            return Err(Error::unsupported(doing())
                .caused_by("the image needs another file, and that was not allowed")
                .hint(
                    "allow it (allowBackingFile: true beside the base's path), or make the image whole: \
                     qemu-img convert -O qcow2 IMAGE base.qcow2",
                ));
        }
        if self.seen.len() >= CHAIN_MAX {
            return Err(Error::unsupported(doing())
                .caused_by(format!("the chain has more than {CHAIN_MAX} files"))
                .hint("make the image whole: qemu-img convert -O qcow2 IMAGE base.qcow2"));
        }
        let path = self.resolve(image, &backing.name).doing(doing)?;
        let file = crate::disk::open::open_file(&path).doing(doing)?;
        let identity = identity(&file).doing(doing)?;
        if self.seen.contains(&identity) {
            return Err(Error::input(doing())
                .caused_by("the chain of backing files leads back to itself")
                .hint("`qemu-img rebase` gives the image another backing file"));
        }
        self.seen.push(identity);
        self.open_as(file, &path, backing.format.as_deref())
            .doing(doing)
    }

    fn open_as(
        &mut self,
        file: File,
        path: &Path,
        format: Option<&[u8]>,
    ) -> Result<Arc<dyn Storage>> {
        let raw = RawFile::read_only(file).doing(|| "open it".to_owned())?;
        let is_qcow2 = match format {
            Some(b"qcow2") => true,
            Some(b"raw") => false,
            Some(other) => {
                return Err(Error::unsupported(format!(
                    "its format '{}' is neither raw nor qcow2",
                    other.escape_ascii()
                )));
            }
            None => {
                let mut begin = [0; 4];
                raw.size() >= 4
                    && raw
                        .read_at(&mut begin, 0)
                        .map(|()| begin == MAGIC)
                        .doing(|| "read its begin".to_owned())?
            }
        };
        Ok(if is_qcow2 {
            Arc::new(Qcow2::open_in_chain(Arc::new(raw), path, self)?)
        } else {
            Arc::new(raw)
        })
    }

    /// The name is relative to the image, and must stay below the folder of the
    /// first one: a foreign image must not read files of this machine.
    fn resolve(&self, image: &Path, name: &[u8]) -> Result<PathBuf> {
        const HINT: &str = "lay the backing file beside the image and rebase the image on it: \
                            qemu-img rebase -u -b NAME -F FORMAT IMAGE";
        let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        if first.contains(&b':') {
            return Err(Error::unsupported("it is not a file but a protocol").hint(HINT));
        }
        let path = image.with_file_name("").join(OsStr::from_bytes(name));
        let path = path
            .canonicalize()
            .doing(|| format!("find '{}'", path.display()))?;
        if path.starts_with(&self.folder) {
            Ok(path)
        } else {
            Err(Error::input(format!(
                "it lies outside of the image's folder '{}'",
                self.folder.display()
            ))
            .hint(HINT))
        }
    }
}

fn identity(file: &File) -> Result<(u64, u64)> {
    let metadata = file.metadata().doing(|| "look at the file".to_owned())?;
    Ok((metadata.dev(), metadata.ino()))
}
