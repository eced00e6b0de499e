//! A volume with a label, of whichever file system it is.

use std::io;

use super::ReadAt;
use super::iso9660::Iso9660;
use super::vfat::Vfat;

/// A volume that may hold user data.
pub(super) enum Volume<R> {
    Iso9660(Iso9660<R>),
    Vfat(Vfat<R>),
}

impl<R: ReadAt + Clone> Volume<R> {
    /// Opens what a source holds; `None` when it is neither ISO 9660 nor FAT.
    pub fn open(source: &R) -> io::Result<Option<Self>> {
        if let Some(iso) = Iso9660::open(source.clone())? {
            return Ok(Some(Self::Iso9660(iso)));
        }
        Ok(Vfat::open(source.clone())?.map(Self::Vfat))
    }
}

impl<R: ReadAt> Volume<R> {
    pub fn label(&self) -> &str {
        match self {
            Self::Iso9660(volume) => volume.label(),
            Self::Vfat(volume) => volume.label(),
        }
    }

    pub fn file_system(&self) -> &'static str {
        match self {
            Self::Iso9660(_) => "iso9660",
            Self::Vfat(_) => "vfat",
        }
    }

    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Iso9660(volume) => volume.read(path, limit),
            Self::Vfat(volume) => volume.read(path, limit),
        }
    }
}
