//! Installed packages by the rpm database: SQLite (Amazon Linux 2023, Red Hat Enterprise
//! Linux 9) or Berkeley DB (Red Hat Enterprise Linux 8). Both keep one header a package.
//!
//! The image is not trusted: every read is bounded by the file, and no page is read twice
//! in one walk.

mod berkeley;
mod database;
mod header;
mod index;
mod record;
mod sqlite;

pub use database::{Database, Recorded};

use super::packages::Versions;
use super::tree::{Tree, fixed};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::volume::Kind;

/// Where the database is: since rpm 4.16 in the first, with links from the second, or the
/// other way round.
pub const FOLDERS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// Larger than any: a machine with 5,000 packages has about 300 MB.
const SIZE_LIMIT: u64 = 512 << 20;

/// How a database is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Sqlite,
    Berkeley,
    /// SUSE's; no supported system has it.
    Ndb,
}

/// The files by which each is known.
const FILES: [(&str, Kept); 3] = [
    ("rpmdb.sqlite", Kept::Sqlite),
    ("Packages.db", Kept::Ndb),
    ("Packages", Kept::Berkeley),
];

/// What is wrong with a database, in words.
type Problem = &'static str;

/// The packages of the rpm database; `None` when the image has none. Of a package that is
/// there several times, such as the kernel, the one that was installed last counts.
///
/// # Errors
/// [`crate::Class::Unsupported`] for a database of a kind that is not read;
/// [`crate::Class::CheckFailed`] for one that is damaged.
pub fn installed(image: &mut dyn Tree) -> Result<Option<Versions>> {
    let Some((path, size, kept)) = locate(image)? else {
        return Ok(None);
    };
    let bytes = whole(image, &path, size, kept)?;
    let versions = packages(&bytes, kept).map_err(|problem| {
        Error::check_failed(format!("{}: it is damaged: {problem}", reading(&path)))
            .hint("is the base whole? In a machine of the base, rpm --rebuilddb mends it")
    })?;
    Ok(Some(versions))
}

/// Where the database is, its size and its kind.
fn locate(image: &mut dyn Tree) -> Result<Option<(ImagePath, u64, Kept)>> {
    for folder in FOLDERS {
        for (name, kept) in FILES {
            let path = fixed(folder).join(name)?;
            let Some((real, metadata)) = image.stat(&path)? else {
                continue;
            };
            if metadata.kind == Kind::File && metadata.size > 0 {
                return Ok(Some((real, metadata.size, kept)));
            }
        }
    }
    Ok(None)
}

fn reading(path: &ImagePath) -> String {
    format!("read the rpm database {path} of the image")
}

/// The bytes of a database of a kind that is read.
fn whole(image: &mut dyn Tree, path: &ImagePath, size: u64, kept: Kept) -> Result<Vec<u8>> {
    let doing = reading(path);
    if kept == Kept::Ndb {
        return Err(Error::unsupported(format!(
            "{doing}: it is in the format ndb, which is not read"
        ))
        .hint(
            "convert it in a machine of the base: rpmdb --rebuilddb --define '_db_backend sqlite'",
        ));
    }
    if size > SIZE_LIMIT {
        return Err(Error::unsupported(format!(
            "{doing}: it has {} MiB, more than the {} MiB that are read",
            size >> 20,
            SIZE_LIMIT >> 20
        ))
        .hint("make it smaller in a machine of the base: rpm --rebuilddb"));
    }
    if kept == Kept::Sqlite {
        let log = ImagePath::new([path.as_bytes(), b"-wal"].concat())?;
        let unwritten = image.stat(&log)?.is_some_and(|(_, log)| log.size > 0);
        if unwritten {
            return Err(Error::unsupported(format!(
                "{doing}: a part of it is still in {log}, for it was not closed"
            ))
            .hint("let rpm write it in a machine of the base (rpm -qa), and shut that down"));
        }
    }
    image.read_head(path, size)
}

fn packages(bytes: &[u8], kept: Kept) -> Result<Versions, Problem> {
    let mut versions = Versions::new();
    let mut take = |blob: &[u8]| {
        let package = header::package(blob)?;
        versions.insert(package.name, package.version);
        Ok(())
    };
    match kept {
        Kept::Berkeley => berkeley::each(bytes, &mut take)?,
        _ => sqlite::each(bytes, "Packages", &mut take)?,
    }
    Ok(versions)
}

/// Reads `bytes` as a database of either kind and as a header, for fuzzing; one in Berkeley
/// DB is written anew, too, and must then hold the same.
pub(crate) fn read_any(bytes: &[u8]) {
    packages(bytes, Kept::Sqlite).ok();
    packages(bytes, Kept::Berkeley).ok();
    header::package(bytes).ok();
    berkeley::write_any(bytes);
}

/// A number of the file, by its bytes.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A set of pages, each of which may be walked once.
struct Pages(Vec<bool>);

impl Pages {
    fn new(count: usize) -> Self {
        Self(vec![false; count])
    }

    /// Takes a page; an error when it was taken before or is outside the file.
    fn take(&mut self, page: usize) -> Result<(), Problem> {
        match self.0.get_mut(page) {
            Some(taken) if !*taken => {
                *taken = true;
                Ok(())
            }
            Some(_) => Err("a page is in it twice"),
            None => Err("it names a page behind its end"),
        }
    }
}

#[cfg(test)]
mod tests;
