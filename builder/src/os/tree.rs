//! An image as one tree of paths, for those who only read.

use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::volume::{DirectoryEntry, Kind, Metadata};

/// Links that one path may pass, as Linux's `MAXSYMLINKS`.
const MAX_LINKS: usize = 40;
/// Largest text that is read whole: configuration, unit files, package lists.
pub const TEXT_LIMIT: u64 = 64 << 20;

/// Reads an image. The first four calls take literal paths and follow no link;
/// those that are provided follow links inside the image, as `chroot` would.
pub trait Tree {
    /// What is at `path`, or `None`; the link itself if it is one.
    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>>;
    /// The names in the folder `path`, sorted by bytes; none when there is no
    /// folder.
    fn list(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>>;
    /// A link's target, unchanged.
    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>>;
    /// The first bytes of a file: all of it, or `limit` when it is longer.
    fn read_head(&mut self, path: &ImagePath, limit: u64) -> Result<Vec<u8>>;

    /// The real path of `path`: every link followed, the last one too. What is
    /// missing at the end stays as it is written. `..` stops at the root.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when more than 40 links follow each other.
    fn resolve(&mut self, path: &ImagePath) -> Result<ImagePath> {
        let mut waiting: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut resolved = ImagePath::root();
        let mut links = 0;
        while let Some(component) = waiting.pop() {
            if component == b".." {
                resolved = resolved.parent().unwrap_or_else(ImagePath::root);
                continue;
            }
            let next = resolved.join(&component)?;
            let is_link = self
                .metadata(&next)?
                .is_some_and(|metadata| metadata.kind == Kind::Symlink);
            if !is_link {
                resolved = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::input(format!(
                    "follow {path} in the image: more than {MAX_LINKS} links"
                )));
            }
            let target = self.read_link(&next)?;
            if target.first() == Some(&b'/') {
                resolved = ImagePath::root();
            }
            let parts = target.split(|byte| *byte == b'/');
            waiting.extend(
                parts
                    .rev()
                    .filter(|part| !part.is_empty() && *part != b".")
                    .map(<[u8]>::to_vec),
            );
        }
        Ok(resolved)
    }

    /// The real path of the folder of `path`, with the last component as it is.
    ///
    /// # Errors
    /// As [`Tree::resolve`].
    fn resolve_parent(&mut self, path: &ImagePath) -> Result<ImagePath> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.resolve(&parent)?.join(name),
            _ => Ok(path.clone()),
        }
    }

    /// What `path` leads to, with its real path; `None` when nothing is there.
    ///
    /// # Errors
    /// What the volume gives.
    fn stat(&mut self, path: &ImagePath) -> Result<Option<(ImagePath, Metadata)>> {
        let real = self.resolve(path)?;
        Ok(self.metadata(&real)?.map(|metadata| (real, metadata)))
    }

    /// Whether a regular file is where `path` leads to.
    ///
    /// # Errors
    /// What the volume gives.
    fn is_file(&mut self, path: &ImagePath) -> Result<bool> {
        Ok(self
            .stat(path)?
            .is_some_and(|(_, metadata)| metadata.kind == Kind::File))
    }

    /// The names in the folder that `path` leads to; none when there is none.
    ///
    /// # Errors
    /// What the volume gives.
    fn list_following(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let real = self.resolve(path)?;
        self.list(&real)
    }

    /// The whole file that `path` leads to; `None` when there is no file.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is larger than [`TEXT_LIMIT`].
    fn read(&mut self, path: &ImagePath) -> Result<Option<Vec<u8>>> {
        match self.stat(path)? {
            Some((real, metadata)) if metadata.kind == Kind::File => {
                if metadata.size > TEXT_LIMIT {
                    return Err(Error::input(format!(
                        "read {path} of the image: {} bytes are more than such a file holds",
                        metadata.size
                    )));
                }
                self.read_head(&real, TEXT_LIMIT).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The file that `path` leads to as text; bytes that are not UTF-8 become
    /// U+FFFD.
    ///
    /// # Errors
    /// As [`Tree::read`].
    fn read_text(&mut self, path: &ImagePath) -> Result<Option<String>> {
        Ok(self
            .read(path)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A path that is written in this program.
///
/// # Panics
/// When it is not absolute and normal, which the tests would show.
pub(crate) fn fixed(path: &str) -> ImagePath {
    ImagePath::new(path).expect("paths written in this program are absolute and normal")
}
