//! Finds too little space before the first write.

use crate::error::{Error, Result};
use crate::plan::{Node, Target, VolumePlan};
use crate::volume::Volume;

/// Bytes that one directory entry takes at most, on average, beside its name.
const NAME_OVERHEAD: u64 = 16;

/// Wants room for everything that `changes` writes, taking nothing into account
/// that it frees: an estimate that may be larger than needed, not smaller.
///
/// # Errors
/// [`crate::Class::Environment`] that says how much is missing.
pub(super) fn check(target: Target, changes: &VolumePlan, volume: &mut dyn Volume) -> Result<()> {
    let space = volume.space()?;
    let block = u64::from(space.block_size.max(1));
    let mut bytes: u64 = 0;
    let mut inodes: u64 = 0;
    let mut names: u64 = 0;
    for (path, entry) in &changes.entries {
        // What is replaced still counts: its blocks are freed after the new ones
        // are taken.
        let content = match &entry.node {
            Node::File { content } => content.size,
            Node::Symlink { target } => target.len() as u64,
            Node::Directory { .. } => {
                if volume.metadata(path)?.is_some() {
                    continue;
                }
                block
            }
        };
        let xattrs: usize = entry
            .attributes
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        bytes = bytes
            .saturating_add(content.div_ceil(block).saturating_mul(block))
            .saturating_add((xattrs as u64).div_ceil(block).saturating_mul(block));
        inodes += 1;
        names += path.file_name().map_or(0, <[u8]>::len) as u64 + NAME_OVERHEAD;
    }
    // Extents and directory blocks: one block for each 64 MiB and the names.
    let needed = bytes
        .saturating_add((bytes >> 26).saturating_mul(block))
        .saturating_add(names.div_ceil(block).saturating_mul(block));
    if needed > space.free {
        return Err(Error::environment(format!(
            "bake the {} volume: {needed} bytes are needed and {} are free: {} are missing",
            target.name(),
            space.free,
            needed - space.free
        ))
        .hint("give spec.diskSize a larger value, or bake less"));
    }
    match space.free_inodes {
        Some(free) if inodes > free => Err(Error::environment(format!(
            "bake the {} volume: {inodes} inodes are needed and {free} are free: {} are missing",
            target.name(),
            inodes - free
        ))
        .hint("give spec.diskSize a larger value: inodes come with it")),
        _ => Ok(()),
    }
}
