//! The volumes of an image, mounted onto each other as the machine will.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::tree::{Tree, fixed};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::plan::Target;
use crate::volume::{DirectoryEntry, Kind, Metadata, Timestamp, Volume};

/// The volumes of an image as one tree: root at `/`, a separate boot volume at
/// `/boot`, the EFI system partition at `/boot/efi`.
#[derive(Debug)]
pub struct Image {
    volumes: BTreeMap<Target, Box<dyn Volume>>,
}

/// Where the volume of a target is mounted.
pub fn mount_point(target: Target) -> ImagePath {
    fixed(match target {
        Target::Root => "/",
        Target::Boot => "/boot",
        Target::Esp => "/boot/efi",
    })
}

impl Image {
    /// Takes the volumes.
    ///
    /// # Errors
    /// [`crate::Class::Internal`] without a root volume.
    pub fn new(volumes: BTreeMap<Target, Box<dyn Volume>>) -> Result<Self> {
        if volumes.contains_key(&Target::Root) {
            Ok(Self { volumes })
        } else {
            Err(Error::new(
                crate::Class::Internal,
                "look at an image without its root volume",
            ))
        }
    }

    /// When the root volume was last written.
    pub fn last_written(&self) -> Timestamp {
        self.volumes
            .get(&Target::Root)
            .map_or_else(Timestamp::default, |root| root.identity().last_written)
    }

    /// Gives the volumes back.
    pub fn into_volumes(self) -> BTreeMap<Target, Box<dyn Volume>> {
        self.volumes
    }

    /// The volumes.
    pub fn volumes(&self) -> &BTreeMap<Target, Box<dyn Volume>> {
        &self.volumes
    }

    /// The volumes, to change them.
    pub fn volumes_mut(&mut self) -> &mut BTreeMap<Target, Box<dyn Volume>> {
        &mut self.volumes
    }

    /// The volume that holds the literal `path`, and the path inside it.
    pub fn place(&self, path: &ImagePath) -> (Target, ImagePath) {
        place(path, |target| self.volumes.contains_key(&target))
    }

    fn volume(&mut self, target: Target) -> Result<&mut Box<dyn Volume>> {
        self.volumes.get_mut(&target).ok_or_else(|| {
            Error::new(
                crate::Class::Internal,
                format!("look at the volume {target:?}, which is not open"),
            )
        })
    }
}

/// The deepest mounted volume that holds `path`, and the path inside it.
pub(crate) fn place(path: &ImagePath, mounted: impl Fn(Target) -> bool) -> (Target, ImagePath) {
    for target in [Target::Esp, Target::Boot] {
        let point = mount_point(target);
        if mounted(target) && path.starts_with(&point) {
            let inside = &path.as_bytes()[point.as_bytes().len()..];
            let inside = if inside.is_empty() { &b"/"[..] } else { inside };
            let inside = ImagePath::new(inside).expect("the tail of a path is a path");
            return (target, inside);
        }
    }
    (Target::Root, path.clone())
}

/// Keeps the first bytes and ends the copy when it has them.
struct Head {
    kept: Vec<u8>,
    limit: usize,
}

impl Write for Head {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = self.limit - self.kept.len();
        if room == 0 && !buffer.is_empty() {
            return Err(io::Error::other("enough was read"));
        }
        let taken = room.min(buffer.len());
        self.kept.extend_from_slice(&buffer[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tree for Image {
    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let (target, inside) = self.place(path);
        self.volume(target)?.metadata(&inside)
    }

    fn list(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        match self.metadata(path)? {
            Some(metadata) if metadata.kind == Kind::Directory => {
                let (target, inside) = self.place(path);
                self.volume(target)?.read_directory(&inside)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let (target, inside) = self.place(path);
        self.volume(target)?.read_link(&inside)
    }

    fn read_head(&mut self, path: &ImagePath, limit: u64) -> Result<Vec<u8>> {
        let (target, inside) = self.place(path);
        let mut head = Head {
            kept: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        };
        match self.volume(target)?.read_file(&inside, &mut head) {
            Ok(_) => Ok(head.kept),
            Err(_) if head.kept.len() == head.limit => Ok(head.kept),
            Err(error) => Err(error),
        }
    }
}
