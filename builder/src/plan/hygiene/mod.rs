//! What a clone must not carry: identity, secrets and the traces of a machine.
//!
//! A registry of small checks. Each looks at a tree and says what has to go;
//! that a check could not look is not the same as that it found nothing. The
//! plan is made from the findings in the base, and the finished image is looked
//! at again.

mod access;
mod first_boot;
mod identity;
mod network;
mod traces;

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Content, Node};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::store::Digest;
use crate::volume::{Kind, Metadata};

/// One thing to look for.
#[derive(Clone, Copy)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// What is wrong where it finds something, in words.
    pub about: &'static str,
    /// Whose word makes a finding a wish: how the reasons of such entries begin.
    wished_by: &'static [&'static str],
    look: fn(&mut dyn Tree) -> Result<Vec<Finding>>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Check({})", self.name)
    }
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Literal path in the image.
    pub path: ImagePath,
    /// What mends it.
    pub remedy: Remedy,
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// It goes away, with everything below it.
    Remove,
    /// It stays, with this text instead.
    Write(String),
    /// It stays, with lines of its text changed: also where the plan adds to it.
    Edit(String),
    /// It becomes a link.
    Link(&'static str),
}

/// What came of a check.
#[derive(Debug)]
pub enum Outcome {
    /// It looked; perhaps it found nothing.
    Found(Vec<Finding>),
    /// It could not look.
    CouldNotRun(Error),
}

impl Check {
    /// Whether the profile may ask for what it finds.
    pub fn has_exceptions(&self) -> bool {
        !self.wished_by.is_empty()
    }
}

/// How the reasons of entries begin that `spec.users` asks for.
const USERS: &[&str] = &["user "];
/// Those of overlays.
const OVERLAYS: &[&str] = &["overlay "];
/// Both: the profile's own word.
const PROFILE: &[&str] = &["user ", "overlay "];

/// The checks, in the order of their report.
pub const CHECKS: &[Check] = &[
    Check {
        name: "machine-id",
        about: "carries the identity of one machine",
        wished_by: &[],
        look: identity::machine_id,
    },
    Check {
        name: "ssh-host-keys",
        about: "is the SSH host key of one machine",
        wished_by: &[],
        look: identity::ssh_host_keys,
    },
    Check {
        name: "ssh-keys",
        about: "is somebody's private SSH key",
        wished_by: &[],
        look: access::ssh_keys,
    },
    Check {
        name: "storage-identity",
        about: "names one machine to its storage",
        wished_by: &[],
        look: identity::storage_identity,
    },
    Check {
        name: "authorized-keys",
        about: "lets somebody in who was not asked for",
        wished_by: USERS,
        look: access::authorized_keys,
    },
    Check {
        name: "passwords",
        about: "lets somebody in by a password",
        wished_by: &[],
        look: access::passwords,
    },
    Check {
        name: "sudo",
        about: "lets somebody become root without a password who was not asked for",
        wished_by: PROFILE,
        look: access::sudo,
    },
    Check {
        name: "cloud-init",
        about: "makes cloud-init believe that it ran",
        wished_by: &[],
        look: identity::cloud_init,
    },
    Check {
        name: "node-identity",
        about: "is the AWS identity of one node",
        wished_by: &[],
        look: identity::node_identity,
    },
    Check {
        name: "subscription",
        about: "is the subscription of one machine",
        wished_by: &[],
        look: identity::subscription,
    },
    Check {
        name: "random-seed",
        about: "gives all clones the same entropy",
        wished_by: &[],
        look: identity::random_seed,
    },
    Check {
        name: "network-state",
        about: "is the network state of one machine",
        wished_by: &[],
        look: network::network_state,
    },
    Check {
        name: "network-configuration",
        about: "is the network configuration of one machine",
        wished_by: OVERLAYS,
        look: network::network_configuration,
    },
    Check {
        name: "resolver",
        about: "names the resolver of the machine that built the base",
        wished_by: &[],
        look: network::resolver,
    },
    Check {
        name: "swap",
        about: "keeps the kubelet from starting",
        wished_by: &[],
        look: first_boot::swap,
    },
    Check {
        name: "first-boot-traps",
        about: "stops or delays the first boot",
        wished_by: &[],
        look: first_boot::traps,
    },
    Check {
        name: "logs",
        about: "tells of another machine",
        wished_by: &[],
        look: traces::logs,
    },
    Check {
        name: "history",
        about: "is somebody's command history",
        wished_by: &[],
        look: traces::history,
    },
    Check {
        name: "mail",
        about: "is somebody's mail",
        wished_by: &[],
        look: traces::mail,
    },
    Check {
        name: "crash-dumps",
        about: "holds the memory of a program of another machine",
        wished_by: &[],
        look: traces::crash_dumps,
    },
    Check {
        name: "package-caches",
        about: "is out of date on the first boot",
        wished_by: &[],
        look: traces::package_caches,
    },
    Check {
        name: "temporary-files",
        about: "is somebody's temporary file",
        wished_by: &[],
        look: traces::temporary_files,
    },
    Check {
        name: "installer",
        about: "is left over from the installer and may hold passwords",
        wished_by: &[],
        look: traces::installer,
    },
];

/// Runs every check.
pub fn inspect(tree: &mut dyn Tree) -> Vec<(&'static Check, Outcome)> {
    CHECKS
        .iter()
        .map(|check| {
            let outcome = match (check.look)(tree) {
                Ok(findings) => Outcome::Found(findings),
                Err(error) => Outcome::CouldNotRun(error),
            };
            (check, outcome)
        })
        .collect()
}

/// Plans the remedies. What another part of the plan lays is looked at too: an
/// overlay cannot bake an identity. What the profile's own word lets in stays;
/// those files are given back with the sha256 of their content.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<BTreeMap<ImagePath, Digest>> {
    let mut exceptions = BTreeMap::new();
    for (check, outcome) in inspect(draft) {
        let findings = match outcome {
            Outcome::Found(findings) => findings,
            Outcome::CouldNotRun(error) => {
                return Err(error.context(format!("run the hygiene check '{}'", check.name)));
            }
        };
        let reason = format!("hygiene: {}", check.name);
        for finding in findings {
            if let Some(planned) = draft.planned(&finding.path) {
                if is_wished(check, &planned.reason) {
                    if let Node::File { content } = &planned.node {
                        exceptions.insert(finding.path, content.sha256);
                    }
                    continue;
                }
                let is_edit = matches!(finding.remedy, Remedy::Edit(_)) && planned.reason == EDITED;
                if !is_edit {
                    return Err(refusal(&finding, &planned.reason, check));
                }
            }
            mend(draft, &finding, &reason)?;
        }
    }
    Ok(exceptions)
}

/// The reason of files of accounts to which the plan adds lines.
const EDITED: &str = "users";

fn is_wished(check: &Check, reason: &str) -> bool {
    check.wished_by.iter().any(|who| reason.starts_with(who))
}

fn refusal(finding: &Finding, reason: &str, check: &Check) -> Error {
    Error::input(format!(
        "plan {} for {reason}: it {}",
        finding.path, check.about
    ))
    .hint("an image is cloned many times: nothing of one machine may be baked")
}

fn mend(draft: &mut Draft<'_>, finding: &Finding, reason: &str) -> Result<()> {
    let path = &finding.path;
    let present = draft.metadata(path)?;
    match &finding.remedy {
        Remedy::Remove => draft.remove(path, reason),
        Remedy::Edit(text) => draft.edit_text(path, text.clone(), reason),
        Remedy::Link(target) => draft.put_link(path, target, reason),
        Remedy::Write(text) => {
            // A link would be written through on the machine; here it is
            // replaced, with the rights of a plain file.
            let attributes = match present {
                Some(Metadata {
                    kind: Kind::File,
                    attributes,
                    ..
                }) => {
                    let plain = draft.owned(attributes.mode, attributes.uid, attributes.gid);
                    crate::volume::Attributes {
                        xattrs: attributes.xattrs,
                        ..plain
                    }
                }
                _ => draft.root_owned(0o644),
            };
            let content = Content::inline(text.as_bytes());
            draft.put(path, Node::File { content }, attributes, reason)
        }
    }
}

fn remove(path: ImagePath) -> Finding {
    Finding {
        path,
        remedy: Remedy::Remove,
    }
}

/// The findings for those of `paths` that exist.
fn present(tree: &mut dyn Tree, paths: &[&str]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in paths {
        let path = tree.resolve_parent(&fixed(path))?;
        if tree.metadata(&path)?.is_some() {
            findings.push(remove(path));
        }
    }
    Ok(findings)
}

/// The findings for those in `folder` whose name `matches`. A folder that is a
/// link is followed, what is in it is not.
fn within(
    tree: &mut dyn Tree,
    folder: &str,
    matches: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Finding>> {
    let folder = tree.resolve(&fixed(folder))?;
    let mut findings = Vec::new();
    for entry in tree.list(&folder)? {
        if matches(&entry.name) {
            findings.push(remove(folder.join(&entry.name)?));
        }
    }
    Ok(findings)
}

fn all(_: &[u8]) -> bool {
    true
}

/// Home directories: root's, and those below `/home`.
fn homes(tree: &mut dyn Tree) -> Result<Vec<ImagePath>> {
    let mut homes = vec![fixed("/root")];
    let folder = tree.resolve(&fixed("/home"))?;
    for entry in tree.list(&folder)? {
        if entry.kind == Kind::Directory {
            homes.push(folder.join(&entry.name)?);
        }
    }
    Ok(homes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Image;
    use crate::plan::tests::machine;
    use crate::volume::model::MemoryVolume;

    /// An image with these files.
    pub(super) fn image(files: &[(&str, &str)]) -> Image {
        let mut volume = MemoryVolume::new();
        for (path, text) in files {
            volume = volume.with_file(path, *text).expect("a small image");
        }
        machine::image(volume)
    }

    /// Where something was found, sorted.
    pub(super) fn paths(findings: &[Finding]) -> Vec<String> {
        let mut paths: Vec<String> = findings
            .iter()
            .map(|finding| finding.path.to_string())
            .collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_documentation_names_every_check_and_no_other() {
        let text = include_str!("../../../../docs/hygiene.md");
        let rows: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .collect();
        let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
        let checks: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names, checks);
        for (check, (_, about)) in CHECKS.iter().zip(&rows) {
            assert!(about.starts_with(check.about), "{}: {about}", check.name);
        }
    }
}
