//! The raw image.

use std::os::unix::fs::MetadataExt as _;

use super::Pending;
use crate::disk::{CowDisk, Storage as _};
use crate::error::{Class, Context as _, Error, Result};
use crate::progress::Progress;

/// What a raw image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of the file, which is that of the disk, in bytes.
    pub size: u64,
    /// What it takes of the file system, in bytes; the rest are holes.
    pub allocated: u64,
}

/// Makes the file behind `disk` the finished raw image and gives it its name.
/// `pending` must be the file that `disk` was made with, or another handle of
/// it.
///
/// # Errors
/// As [`CowDisk::materialize`] and [`Pending::finish`].
pub fn finish(disk: &CowDisk, pending: Pending, progress: &dyn Progress) -> Result<Written> {
    let doing = || format!("finish '{}'", pending.target().display());
    let identity = |file: &std::fs::File| {
        let metadata = file.metadata().doing(doing)?;
        Ok::<_, Error>((metadata.dev(), metadata.ino()))
    };
    if identity(disk.file())? != identity(pending.file())? {
        return Err(Error::new(
            Class::Internal,
            format!("{}: the working disk is another file", doing()),
        ));
    }
    disk.materialize(progress)?;
    let file = pending.finish()?;
    let metadata = file
        .metadata()
        .doing(|| "look at the raw image".to_owned())?;
    Ok(Written {
        size: disk.size(),
        allocated: metadata.blocks() * 512,
    })
}
