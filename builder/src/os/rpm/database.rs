//! rpm's database of an image, to be read whole and added to.

use super::berkeley::{Index, Whole};
use super::index::INDEXES;
use super::{Kept, Problem, locate, record, sqlite, whole};
use crate::Class;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::tree::Tree;
use crate::packages::Damage;
use crate::packages::rpm::header::Header;
use crate::volume::Kind;

/// What the memory that rpm's processes share is called, in files beside the database. It
/// holds pages of it, and locks.
const SHARED_MEMORY: &[u8] = b"__db.";

/// A database that is added to.
#[derive(Debug)]
pub struct Database {
    path: ImagePath,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Sqlite(Vec<u8>),
    Berkeley {
        packages: Whole,
        indexes: Vec<(ImagePath, Index)>,
        shared: Vec<ImagePath>,
    },
}

/// What recording packages changes in the image.
#[derive(Debug)]
pub struct Recorded {
    /// Files with their new contents.
    pub files: Vec<(ImagePath, Vec<u8>)>,
    /// Files that are not right any more.
    pub stale: Vec<ImagePath>,
}

impl Database {
    /// Reads the database of an image.
    ///
    /// # Errors
    /// [`Class::Unsupported`] when there is none, or one of another kind; as
    /// [`super::installed`].
    pub fn read(image: &mut dyn Tree) -> Result<Self> {
        let Some((path, size, kept)) = locate(image)? else {
            let text = "record packages in the rpm database of the image: it has none";
            return Err(Error::unsupported(text).hint(
                "install the packages in a machine of the base, or lay their files with an overlay",
            ));
        };
        let bytes = whole(image, &path, size, kept)?;
        let form = match kept {
            Kept::Berkeley => berkeley(image, &path, &bytes)?,
            _ => Form::Sqlite(bytes),
        };
        Ok(Self { path, form })
    }

    /// The headers of all installed packages.
    ///
    /// # Errors
    /// [`Class::CheckFailed`] when it is damaged.
    pub fn headers(&self) -> Result<Vec<Header>> {
        let mut headers = Vec::new();
        let mut take = |blob: &[u8]| -> Result<(), Problem> {
            let header = Header::parse(blob.to_vec()).map_err(|_| "a header of it is damaged")?;
            headers.push(header);
            Ok(())
        };
        let taken = match &self.form {
            Form::Sqlite(bytes) => sqlite::each(bytes, "Packages", &mut take),
            Form::Berkeley { packages, .. } => packages.headers().try_for_each(|blob| take(blob)),
        };
        taken.map_err(|problem| self.damaged(&problem.into()))?;
        Ok(headers)
    }

    /// The database with more installed packages.
    ///
    /// # Errors
    /// [`Class::CheckFailed`] when it is damaged, or not as rpm makes it.
    pub fn with(self, headers: &[Vec<u8>]) -> Result<Recorded> {
        let path = self.path;
        match self.form {
            Form::Sqlite(bytes) => {
                let bytes =
                    record::add(bytes, headers).map_err(|damage| damaged(&path, &damage))?;
                Ok(Recorded {
                    files: vec![(path, bytes)],
                    stale: Vec::new(),
                })
            }
            Form::Berkeley {
                packages,
                indexes,
                shared,
            } => {
                let (names, indexes): (Vec<_>, Vec<_>) = indexes.into_iter().unzip();
                let written = packages.with(indexes, headers);
                let (bytes, indexes) = written.map_err(|damage| damaged(&path, &damage))?;
                let mut files = vec![(path, bytes)];
                files.extend(names.into_iter().zip(indexes));
                Ok(Recorded {
                    files,
                    stale: shared,
                })
            }
        }
    }

    /// What is wrong with it, as an error.
    pub fn damaged(&self, damage: &Damage) -> Error {
        damaged(&self.path, damage)
    }
}

/// A database in Berkeley DB: the file of the headers, and those beside it.
fn berkeley(image: &mut dyn Tree, path: &ImagePath, bytes: &[u8]) -> Result<Form> {
    let packages = Whole::read(bytes).map_err(|damage| damaged(path, &damage))?;
    let folder = path.parent().unwrap_or_else(ImagePath::root);
    // An index that is not there is made by rpm, out of the headers.
    let mut indexes = Vec::new();
    for (name, _) in INDEXES {
        let Some((real, metadata)) = image.stat(&folder.join(name)?)? else {
            continue;
        };
        if metadata.kind != Kind::File {
            return Err(damaged(&real, &"it is no file".into()));
        }
        let bytes = whole(image, &real, metadata.size, Kept::Berkeley)?;
        let index = Index::read(name, &bytes).map_err(|damage| damaged(&real, &damage))?;
        indexes.push((real, index));
    }
    let mut shared = Vec::new();
    for entry in image.list(&folder)? {
        if entry.name.starts_with(SHARED_MEMORY) {
            shared.push(folder.join(&entry.name)?);
        }
    }
    Ok(Form::Berkeley {
        packages,
        indexes,
        shared,
    })
}

fn damaged(path: &ImagePath, damage: &Damage) -> Error {
    let text = format!("record packages in the rpm database {path} of the image: {damage}");
    match damage {
        Damage::Other(error) if error.class() == Class::Unsupported => Error::unsupported(text)
            .hint("let the rpm of the base write it anew, in a machine of it: rpm --rebuilddb"),
        _ => Error::check_failed(text)
            .hint("is the base whole? In a machine of the base, rpm --rebuilddb mends it"),
    }
}
