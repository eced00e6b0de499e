//! What is done with a volume by more than one call.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::refusal::refuse;
use super::{Attributes, Kind, Problem, Volume, problem};
use crate::error::Result;
use crate::image_path::ImagePath;

/// Links followed in one path before it counts as a cycle (`MAXSYMLINKS` of
/// Linux).
const LINKS: usize = 40;
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

/// The literal path that `path` means once every link in it, its end included,
/// is followed as `chroot` would: absolute targets start at the root of the
/// image, `..` stops there. What does not exist is taken as it is written.
///
/// # Errors
/// [`Problem::NotSupported`] after 40 links.
pub fn resolve(volume: &mut dyn Volume, path: &ImagePath) -> Result<ImagePath> {
    let mut left: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    let mut done = ImagePath::root();
    let mut links = 0;
    while let Some(component) = left.pop_front() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done = done.parent().unwrap_or_else(ImagePath::root);
                continue;
            }
            _ => {}
        }
        let next = done.join(&component)?;
        if volume.metadata(&next)?.map(|found| found.kind) != Some(Kind::Symlink) {
            done = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(refuse(
                Problem::NotSupported,
                format!("follow the links of {path}"),
                format!("there are more than {LINKS}, the last at {next}"),
            ));
        }
        let target = volume.read_link(&next)?;
        if target.first() == Some(&b'/') {
            done = ImagePath::root();
        }
        for part in target.rsplit(|byte| *byte == b'/') {
            left.push_front(part.to_vec());
        }
    }
    Ok(done)
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
