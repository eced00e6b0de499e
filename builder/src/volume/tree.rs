//! What is done with a volume by more than one call.

use std::io::{self, Write};

use super::refusal::refuse;
use super::{Attributes, Kind, Problem, Volume, problem};
use crate::error::Result;
use crate::image_path::ImagePath;

/// Deepest tree that is removed.
const DEPTH: usize = 512;

/// Makes the folder that holds `path`, and its parents, as far as they are
/// missing; those that exist stay as they are.
///
/// # Errors
/// [`Problem::NotADirectory`] when one of them is something else.
pub fn create_parents(
    volume: &mut dyn Volume,
    path: &ImagePath,
    attributes: &Attributes,
) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    match volume.metadata(&parent)?.map(|found| found.kind) {
        Some(Kind::Directory) => Ok(()),
        Some(_) => Err(refuse(
            Problem::NotADirectory,
            format!("create the folder {parent}"),
            "something else is there",
        )),
        None => {
            create_parents(volume, &parent, attributes)?;
            volume.create_directory(&parent, attributes)
        }
    }
}

/// Removes `path` with everything below it, following no link. What is not
/// there is removed already.
///
/// # Errors
/// [`Problem::NotSupported`] for the root and for trees deeper than 512
/// folders.
pub fn remove_tree(volume: &mut dyn Volume, path: &ImagePath) -> Result<()> {
    let Some(found) = volume.metadata(path)? else {
        return Ok(());
    };
    if path.is_root() {
        return Err(refuse(
            Problem::NotSupported,
            "remove the whole tree",
            "the root cannot be removed",
        ));
    }
    if found.kind != Kind::Directory {
        return volume.remove_file(path);
    }
    // A stack of folders with what is left in each, instead of recursion: the
    // depth is the image's choice.
    let mut stack = vec![(path.clone(), volume.read_directory(path)?)];
    while let Some((folder, entries)) = stack.last_mut() {
        let Some(entry) = entries.pop() else {
            volume.remove_directory(folder)?;
            stack.pop();
            continue;
        };
        let child = folder.join(&entry.name)?;
        if entry.kind != Kind::Directory {
            volume.remove_file(&child)?;
            continue;
        }
        if stack.len() >= DEPTH {
            return Err(refuse(
                Problem::NotSupported,
                format!("remove {path}"),
                format!("its folders are more than {DEPTH} deep"),
            ));
        }
        let inside = volume.read_directory(&child)?;
        stack.push((child, inside));
    }
    Ok(())
}

/// A file's content, if it has at most `limit` bytes.
///
/// # Errors
/// [`Problem::NotSupported`] when it is longer.
pub fn read_to_vec(volume: &mut dyn Volume, path: &ImagePath, limit: u64) -> Result<Vec<u8>> {
    let mut bounded = Bounded {
        bytes: Vec::new(),
        limit,
        passed: false,
    };
    match volume.read_file(path, &mut bounded) {
        Ok(_) => Ok(bounded.bytes),
        Err(error) if bounded.passed && problem(&error).is_none() => Err(refuse(
            Problem::NotSupported,
            format!("read {path}"),
            format!("it has more than {limit} bytes"),
        )),
        Err(error) => Err(error),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
    passed: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit {
            self.passed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
