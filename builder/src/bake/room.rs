//! Finds too little space before the first write.

use crate::error::Result;
use crate::plan::{Node, Target, VolumePlan};
use crate::volume::{Kind, Need, NeedOf, Volume};

/// Wants room for everything that `changes` writes. What it frees does not count:
/// the new content comes before the old one goes.
///
/// # Errors
/// [`crate::Class::Environment`] that says how much is missing.
pub(super) fn check(target: Target, changes: &VolumePlan, volume: &mut dyn Volume) -> Result<()> {
    let space = volume.space()?;
    let mut need = Need::new(volume.identity().file_system, &space);
    for (path, entry) in &changes.entries {
        let (kind, size) = match &entry.node {
            Node::File { content } => (Kind::File, content.size),
            Node::Symlink { target } => (Kind::Symlink, target.len() as u64),
            Node::Directory { .. } if volume.metadata(path)?.is_some() => continue,
            Node::Directory { .. } => (Kind::Directory, 0),
        };
        let xattrs = entry.attributes.xattrs.iter();
        need.add(&NeedOf {
            kind,
            size,
            name: path.file_name().map_or(0, <[u8]>::len),
            xattrs: xattrs.map(|(name, value)| name.len() + value.len()).sum(),
        });
    }
    need.check(&space).map_err(|error| {
        error
            .context(format!("bake the {} volume", target.name()))
            .hint("give spec.diskSize a larger value, or bake less")
    })
}
