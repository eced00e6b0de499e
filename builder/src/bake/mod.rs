//! Applies a plan to the volumes of an image, and reads it back.
//!
//! This is the only code that changes an image. It works on a layer over the
//! base: when anything fails, the layer is thrown away, so nothing here needs
//! to be undone.

mod ahead;
pub mod contents;
pub mod overlay;
mod room;
mod verify;

use std::collections::BTreeMap;
use std::io::{self, Read};

pub use contents::{Contents, LocalContents};
pub use verify::verify;

use crate::error::{Class, Error, Result};
use crate::image_path::ImagePath;
use crate::plan::{Content, Entry, Node, Plan, Target, VolumePlan};
use crate::progress::{Progress, Step};
use crate::volume::{Kind, Volume, remove_tree};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// What a bake did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Applied {
    /// Regular files written.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Links written.
    pub links: u64,
    /// Folders made or changed.
    pub directories: u64,
    /// Files, links and trees removed.
    pub removed: u64,
}

/// Bytes that [`apply`] will write.
pub fn total_bytes(plan: &Plan) -> u64 {
    plan.volumes
        .values()
        .flat_map(|volume| volume.entries.values())
        .map(|entry| match &entry.node {
            Node::File { content } => content.size,
            _ => 0,
        })
        .sum()
}

/// Makes the changes of `plan`: removals first, then entries in the order of
/// their paths. The volumes are still to be finished by the caller, and what was
/// written is not trusted before [`verify`] has hashed it.
///
/// # Errors
/// [`Class::Environment`] when there is too little room, found before the first
/// write; [`Class::Interrupted`] on request; else what contents and volume give.
/// The layer is to be thrown away after any of these.
pub fn apply(
    plan: &Plan,
    volumes: &mut BTreeMap<Target, Box<dyn Volume>>,
    contents: &dyn Contents,
    progress: &dyn Progress,
) -> Result<Applied> {
    for (target, changes) in &plan.volumes {
        room::check(*target, changes, open(volumes, *target)?)?;
    }
    progress.begin(Step::Bake, &plan.profile, Some(total_bytes(plan)));
    let mut applied = Applied::default();
    let result = plan.volumes.iter().try_for_each(|(target, changes)| {
        let volume = open(volumes, *target)?;
        apply_to(changes, volume, contents, progress, &mut applied)
            .map_err(|error| error.context(format!("bake the {} volume", target.name())))
    });
    progress.end(Step::Bake);
    result.map(|()| applied)
}

fn open(
    volumes: &mut BTreeMap<Target, Box<dyn Volume>>,
    target: Target,
) -> Result<&mut dyn Volume> {
    match volumes.get_mut(&target) {
        Some(volume) => Ok(volume.as_mut()),
        None => Err(Error::new(
            Class::Internal,
            format!("change the {} volume, which is not open", target.name()),
        )),
    }
}

fn apply_to(
    changes: &VolumePlan,
    volume: &mut dyn Volume,
    contents: &dyn Contents,
    progress: &dyn Progress,
    applied: &mut Applied,
) -> Result<()> {
    for path in changes.removals.keys() {
        progress.check()?;
        if volume.metadata(path)?.is_some() {
            remove_tree(volume, path)?;
            applied.removed += 1;
        }
    }
    for (path, entry) in &changes.entries {
        progress.check()?;
        apply_entry(path, entry, volume, contents, progress, applied)?;
    }
    Ok(())
}

fn apply_entry(
    path: &ImagePath,
    entry: &Entry,
    volume: &mut dyn Volume,
    contents: &dyn Contents,
    progress: &dyn Progress,
    applied: &mut Applied,
) -> Result<()> {
    let present = volume.metadata(path)?;
    if let Some(metadata) = &present
        && metadata.kind == Kind::Special
    {
        volume.remove_file(path)?;
    }
    match &entry.node {
        Node::Directory { keep } => match present {
            Some(metadata) if metadata.kind == Kind::Directory => {
                if !keep {
                    volume.set_attributes(path, &entry.attributes)?;
                    applied.directories += 1;
                }
            }
            Some(metadata) if metadata.kind != Kind::Special => {
                return Err(Error::input(format!(
                    "make folder {path}: the image has a {} there",
                    kind_name(metadata.kind)
                )));
            }
            _ => {
                volume.create_directory(path, &entry.attributes)?;
                applied.directories += 1;
            }
        },
        Node::File { content } => {
            write_content(path, content, entry, volume, contents, progress)?;
            applied.files += 1;
            applied.bytes += content.size;
        }
        Node::Symlink { target } => {
            volume.create_symlink(path, target.as_bytes(), &entry.attributes)?;
            applied.links += 1;
        }
    }
    Ok(())
}

fn write_content(
    path: &ImagePath,
    content: &Content,
    entry: &Entry,
    volume: &mut dyn Volume,
    contents: &dyn Contents,
    progress: &dyn Progress,
) -> Result<()> {
    let counted = Counted {
        inner: contents.open(content)?,
        progress,
    };
    let mut write =
        |source: &mut dyn Read| volume.write_file(path, content.size, source, &entry.attributes);
    let written = if content.size >= ahead::LEAST {
        ahead::read_ahead(counted, write)
    } else {
        // One large buffer between the source and the volume: the volume sees
        // full pieces whatever the source gives.
        write(&mut io::BufReader::with_capacity(PIECE, counted))
    };
    progress.check()?;
    written
}

/// Reports what passes, and ends when asked to.
struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Carried whole, so that its class reaches the exit code.
        self.progress.check().map_err(io::Error::other)?;
        let count = self.inner.read(buffer)?;
        self.progress.advance(Step::Bake, count as u64);
        Ok(count)
    }
}

/// A kind in words.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "folder",
        Kind::Symlink => "link",
        Kind::Special => "device, pipe or socket",
    }
}

#[cfg(test)]
mod tests;
