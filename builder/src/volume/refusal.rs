//! How volumes say no: one mapping from a [`Problem`] to an [`Error`].

use std::io;

use super::{Kind, Problem, VolumeError};
use crate::error::{Class, Error, Result};

/// An error of a volume: `doing` says what was done to what, `text` why it was
/// refused.
pub(crate) fn refuse(problem: Problem, doing: impl Into<String>, text: impl Into<String>) -> Error {
    let class = match problem {
        Problem::NotSupported => Class::Unsupported,
        Problem::NoSpace | Problem::Io => Class::Environment,
        Problem::NotFound
        | Problem::Exists
        | Problem::NotADirectory
        | Problem::IsADirectory
        | Problem::NotEmpty
        | Problem::Damaged => Class::Input,
    };
    let error = Error::new(class, doing).caused_by(VolumeError {
        problem,
        text: text.into(),
    });
    match problem {
        Problem::NoSpace => {
            error.hint("let the image grow (spec.diskSize in the profile), or bake less into it")
        }
        Problem::Damaged => {
            error.hint("check a copy of the partition with: e2fsck -fy, fsck.vfat -a")
        }
        _ => error,
    }
}

/// Refuses what is no regular file: only those have content to read.
pub(crate) fn regular_file(kind: Kind, doing: &str) -> Result<()> {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(refuse(Problem::IsADirectory, doing, "it is a folder")),
        Kind::Symlink | Kind::Special => Err(refuse(
            Problem::NotSupported,
            doing,
            "it is no regular file",
        )),
    }
}

/// What the storage below a file system says, as a refusal. Reads past the end
/// and damaged container formats are damage of the image; the rest is the
/// machine's fault.
pub(crate) fn storage_failed(doing: impl Into<String>, error: &io::Error) -> Error {
    let problem = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Problem::Damaged,
        _ => Problem::Io,
    };
    let refusal = refuse(problem, doing, error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            refusal.hint("free some space, or choose another folder with --output")
        }
        _ => refusal,
    }
}
