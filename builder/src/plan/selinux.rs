//! The SELinux label of everything that is laid.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Node, Partition, Target};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::selinux::{ATTRIBUTE, FileType, Policy, sources};
use crate::os::tree::fixed;
use crate::os::{Tree as _, place};
use crate::volume::FileSystem;

/// Folders that first boot, containerd and the kubelet make, with the modes that these
/// give them. Parents come first.
///
/// Not here: what a node has of its own ([`hygiene`](super::hygiene) takes it out of every
/// image), and what the plan lays anyway.
const MADE_AT_BOOT: [(&str, u32); 8] = [
    ("/etc/containerd", 0o755),
    ("/etc/kubernetes", 0o755),
    ("/etc/kubernetes/kubelet", 0o755),
    ("/var/lib/cni", 0o755),
    ("/var/lib/containerd", 0o711),
    ("/var/lib/kubelet/pods", 0o750),
    ("/var/log/containers", 0o755),
    ("/var/log/pods", 0o755),
];

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
    lay_folders(draft, &policy)?;
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

/// Lays those of [`MADE_AT_BOOT`] that would get another type at boot than the policy has
/// for them: a new file has the type of its folder, unless a rule for the process says
/// otherwise, and so has all that is made in it later.
fn lay_folders(draft: &mut Draft<'_>, policy: &Policy) -> Result<()> {
    let type_of = |path: &ImagePath| {
        let label = policy.label(path, FileType::Directory);
        label.and_then(|label| label.split(':').nth(2))
    };
    for (path, mode) in MADE_AT_BOOT {
        let path = fixed(path);
        let wanted = type_of(&path);
        if wanted.is_some() && wanted != path.parent().as_ref().and_then(type_of) {
            draft.put_directory(
                &path,
                mode,
                "SELinux: made at boot, it would get another label",
            )?;
        }
    }
    Ok(())
}
