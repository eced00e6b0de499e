//! rpm's database of an image, to be read whole and added to.

use super::{Kept, Problem, locate, record, sqlite, whole};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::tree::Tree;
use crate::packages::Damage;
use crate::packages::rpm::header::Header;

/// A database in SQLite: the only kind that is added to.
#[derive(Debug)]
pub struct Database {
    path: ImagePath,
    bytes: Vec<u8>,
}

impl Database {
    /// Reads the database of an image.
    ///
    /// # Errors
    /// [`crate::Class::Unsupported`] when there is none, or one of another kind; as
    /// [`super::installed`].
    pub fn read(image: &mut dyn Tree) -> Result<Self> {
        let doing = "record packages in the rpm database of the image";
        let hint =
            "install the packages in a machine of the base, or lay their files with an overlay";
        let Some((path, size, kept)) = locate(image)? else {
            return Err(Error::unsupported(format!("{doing}: it has none")).hint(hint));
        };
        if kept == Kept::Berkeley {
            return Err(Error::unsupported(format!(
                "{doing}: {path} is in Berkeley DB, which is only read"
            ))
            .hint(hint));
        }
        let bytes = whole(image, &path, size, kept)?;
        Ok(Self { path, bytes })
    }

    /// The headers of all installed packages.
    ///
    /// # Errors
    /// [`crate::Class::CheckFailed`] when it is damaged.
    pub fn headers(&self) -> Result<Vec<Header>> {
        let mut headers = Vec::new();
        let mut take = |blob: &[u8]| -> Result<(), Problem> {
            let header = Header::parse(blob.to_vec()).map_err(|_| "a header of it is damaged")?;
            headers.push(header);
            Ok(())
        };
        sqlite::each(&self.bytes, "Packages", &mut take)
            .map_err(|problem| self.damaged(&problem.into()))?;
        Ok(headers)
    }

    /// The database with more installed packages, and where it belongs.
    ///
    /// # Errors
    /// [`crate::Class::CheckFailed`] when it is damaged, or not as rpm makes it.
    pub fn with(self, headers: &[Vec<u8>]) -> Result<(ImagePath, Vec<u8>)> {
        match record::add(self.bytes, headers) {
            Ok(bytes) => Ok((self.path, bytes)),
            Err(damage) => Err(damaged(&self.path, &damage)),
        }
    }

    /// What is wrong with it, as an error.
    pub fn damaged(&self, damage: &Damage) -> Error {
        damaged(&self.path, damage)
    }
}

fn damaged(path: &ImagePath, damage: &Damage) -> Error {
    Error::check_failed(format!(
        "record packages in the rpm database {path} of the image: {damage}"
    ))
    .hint("is the base whole? In a machine of the base, rpm --rebuilddb mends it")
}
