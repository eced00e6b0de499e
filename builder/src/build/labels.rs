//! Whether what nodekiln laid into an image has the labels of its policy.

use super::verify::{Outcome, flat};
use crate::error::{Class, Result};
use crate::image_path::ImagePath;
use crate::os::selinux::{ATTRIBUTE, FileType, Policy};
use crate::os::tree::fixed;
use crate::os::{Image, Tree as _};
use crate::plan::{firstboot, release};
use crate::report::Manifest;
use crate::volume::FileSystem;

/// Differences that are named; the others are counted.
const NAMED: usize = 5;

/// Judges the files that the manifest in the image lists, and nodekiln's own.
/// `None` for an image without SELinux, or without a manifest: nodekiln did not
/// make it.
pub(super) fn check(image: &mut Image, manifest: Option<&Manifest>) -> Option<Outcome> {
    let paths = laid(manifest?);
    let differences = Policy::read(image).and_then(|policy| {
        let differ = |policy| differences(image, &policy, &paths);
        policy.map(differ).transpose()
    });
    match differences {
        Ok(None) => None,
        Ok(Some(different)) if different.is_empty() => Some(Outcome::Passed),
        Ok(Some(different)) => {
            let more = different.len().saturating_sub(NAMED);
            let mut text = different[..different.len() - more].join("; ");
            if more > 0 {
                text += &format!("; and {more} more");
            }
            Some(Outcome::Failed(text))
        }
        Err(error) if error.class() == Class::Input => Some(Outcome::Failed(flat(&error))),
        Err(error) => Some(Outcome::CouldNotRun(flat(&error))),
    }
}

fn laid(manifest: &Manifest) -> Vec<ImagePath> {
    let components = manifest.components.values();
    let listed = components
        .flat_map(|component| component.files.keys())
        .chain(manifest.exceptions.keys())
        .filter_map(|path| ImagePath::new(path).ok());
    let own = release::FILES
        .into_iter()
        .chain([firstboot::PROGRAM, firstboot::LINK])
        .map(fixed);
    listed.chain(own).collect()
}

fn differences(image: &mut Image, policy: &Policy, paths: &[ImagePath]) -> Result<Vec<String>> {
    let mut different = Vec::new();
    for path in paths {
        let real = image.resolve_parent(path)?;
        let Some(found) = image.metadata(&real)? else {
            continue;
        };
        let (target, _) = image.place(&real);
        let volume = image.volumes().get(&target);
        if volume.is_some_and(|volume| volume.identity().file_system == FileSystem::Fat) {
            continue;
        }
        let kind = FileType::of(found.kind);
        let Some(wanted) = kind.and_then(|kind| policy.label(&real, kind)) else {
            continue;
        };
        let label = found.attributes.xattrs.get(ATTRIBUTE);
        let label = label.map(|label| label.strip_suffix(b"\0").unwrap_or(label));
        if label != Some(wanted.as_bytes()) {
            let shown = label.map_or("no label".into(), |label| {
                String::from_utf8_lossy(label).escape_debug().to_string()
            });
            different.push(format!("{real} has {shown}, not {wanted}"));
        }
    }
    Ok(different)
}
