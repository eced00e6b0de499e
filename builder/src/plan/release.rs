//! What the image tells of itself.

use std::collections::BTreeMap;

use super::compute::Inputs;
use super::draft::Draft;
use super::{Content, Node, Plan, Target};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::profile::model::ComponentName;
use crate::report::{Component, InstalledPackage, Manifest};
use crate::store::Digest;

/// For shells: `KEY="value"` lines.
pub const RELEASE_PATH: &str = "/etc/nodekiln-release";
/// For programs: the build's manifest, without what is only known of the
/// finished image files.
pub const MANIFEST_PATH: &str = "/usr/share/nodekiln/manifest.json";
/// The files that carry the build key, and that therefore are not part of it.
pub const FILES: [&str; 2] = [RELEASE_PATH, MANIFEST_PATH];

const REASON: &str = "release";

/// Takes the two names, so that nothing else is laid there.
pub(super) fn reserve(draft: &mut Draft<'_>) -> Result<()> {
    for path in FILES {
        let path = fixed(path);
        if draft.resolve_parent(&path)? != path {
            return Err(Error::unsupported(format!(
                "plan {path}: a folder on the way is a link in the image"
            )));
        }
        draft.put_text(&path, 0o644, "", REASON)?;
    }
    Ok(())
}

/// Writes the two files once the key is known.
pub(super) fn fill(plan: &mut Plan, inputs: &Inputs<'_>) {
    let key = plan.key();
    let contents = [
        (RELEASE_PATH, release_text(inputs, key)),
        (
            MANIFEST_PATH,
            manifest(inputs, &plan.exceptions, Some(key)).to_json(),
        ),
    ];
    let Some(root) = plan.volumes.get_mut(&Target::Root) else {
        return;
    };
    for (path, text) in contents {
        if let Some(entry) = root.entries.get_mut(&fixed(path)) {
            entry.node = Node::File {
                content: Content::inline(text),
            };
        }
    }
}

fn release_text(inputs: &Inputs<'_>, key: Digest) -> String {
    let spec = &inputs.profile.spec;
    let lines = [
        ("NODEKILN_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("BUILD_KEY", key.to_string()),
        ("PROFILE", inputs.profile.metadata.name.clone()),
        ("KUBERNETES_VERSION", spec.kubernetes.version.clone()),
        ("ARCHITECTURE", spec.architecture.name().to_owned()),
        ("BASE_SHA256", inputs.locked.base.sha256.to_string()),
        ("BASE_OS", inputs.os.pretty_name.clone()),
        ("SOURCE_DATE_EPOCH", inputs.epoch.to_string()),
    ];
    lines.iter().fold(String::new(), |text, (key, value)| {
        text + key + "=" + &quoted(value) + "\n"
    })
}

/// A value that shells and os-release readers take literally.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for character in value.chars() {
        if ['"', '\\', '$', '`'].contains(&character) {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// The manifest as far as it is known before the image is made.
pub fn manifest(
    inputs: &Inputs<'_>,
    exceptions: &BTreeMap<ImagePath, Digest>,
    key: Option<Digest>,
) -> Manifest {
    let mut components: BTreeMap<String, Component> = inputs
        .locked
        .components
        .iter()
        .map(|(name, locked)| (name.name().to_owned(), Component::baked(locked)))
        .collect();
    for (name, source) in &inputs.profile.spec.kubernetes.components {
        if source.from_base {
            let version = match name {
                ComponentName::Containerd => inputs
                    .os
                    .containerd
                    .as_ref()
                    .and_then(|program| program.version.clone()),
                _ => None,
            };
            components.insert(name.name().to_owned(), Component::from_base(version));
        }
    }
    let exceptions = exceptions
        .iter()
        .map(|(path, digest)| (path.to_string(), digest.to_string()))
        .collect();
    let packages = inputs.packages.iter();
    Manifest {
        packages: packages
            .map(|package| (package.name().to_owned(), InstalledPackage::baked(package)))
            .collect(),
        exceptions,
        ..Manifest::new(
            inputs.profile,
            &inputs.locked.base,
            components,
            inputs.os.clone(),
            inputs.epoch,
            key,
        )
    }
}
