//! The SELinux label of everything that is laid.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Node, Partition, Target};
use crate::error::{Error, Result};
use crate::os::selinux::{ATTRIBUTE, FileType, Policy, sources};
use crate::os::{Tree as _, place};
use crate::volume::FileSystem;

/// Gives each entry the label that the image's policy has for its path. What the
/// policy leaves without one (`<<none>>`) keeps what it has.
///
/// # Errors
/// As [`Policy::read`]; [`crate::Class::Unsupported`] when the profile lays a
/// file of the policy itself.
pub(super) fn plan(draft: &mut Draft<'_>, partitions: &BTreeMap<Target, Partition>) -> Result<()> {
    for path in sources(draft)? {
        let real = draft.resolve(&path)?;
        let by = draft.planned(&real).map(|entry| entry.reason.clone());
        if let Some(by) = by {
            return Err(Error::unsupported(format!(
                "plan {path} for {by}: what the files of the base are labelled by is not changed"
            ))
            .hint("change the policy in the base, where its files can be relabelled"));
        }
    }
    let Some(policy) = Policy::read(draft)? else {
        return Ok(());
    };
    draft.set_attribute(ATTRIBUTE, |path, entry| {
        let (target, _) = place(path, |target| partitions.contains_key(&target));
        // FAT has no attributes: the mount gives all of it one label.
        if partitions.get(&target)?.file_system == FileSystem::Fat {
            return None;
        }
        let kind = match &entry.node {
            Node::Directory { .. } => FileType::Directory,
            Node::File { .. } => FileType::File,
            Node::Symlink { .. } => FileType::Symlink,
        };
        policy.attribute(path, kind)
    });
    Ok(())
}
