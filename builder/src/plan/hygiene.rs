//! What a clone must not carry: identity, secrets and the traces of a machine.
//!
//! A registry of small checks. Each looks at a tree and says what has to go;
//! that a check could not look is not the same as that it found nothing. The
//! plan is made from the findings in the base, and the finished image is looked
//! at again.

use super::draft::Draft;
use super::{Content, Node};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::volume::{Kind, Metadata};

/// One thing to look for.
#[derive(Clone, Copy)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// What is wrong where it finds something, in words.
    pub about: &'static str,
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

/// The checks, in the order of their report.
pub const CHECKS: &[Check] = &[
    Check {
        name: "machine-id",
        about: "carries the identity of one machine",
        look: machine_id,
    },
    Check {
        name: "ssh-host-keys",
        about: "is the SSH host key of one machine",
        look: ssh_host_keys,
    },
    Check {
        name: "ssh-keys",
        about: "is somebody's private SSH key",
        look: ssh_keys,
    },
    Check {
        name: "storage-identity",
        about: "names one machine to its storage",
        look: storage_identity,
    },
    Check {
        name: "authorized-keys",
        about: "lets somebody in who was not asked for",
        look: authorized_keys,
    },
    Check {
        name: "cloud-init",
        about: "makes cloud-init believe that it ran",
        look: cloud_init,
    },
    Check {
        name: "node-identity",
        about: "is the AWS identity of one node",
        look: node_identity,
    },
    Check {
        name: "subscription",
        about: "is the subscription of one machine",
        look: subscription,
    },
    Check {
        name: "random-seed",
        about: "gives all clones the same entropy",
        look: random_seed,
    },
    Check {
        name: "network-state",
        about: "is the network state of one machine",
        look: network_state,
    },
    Check {
        name: "resolver",
        about: "names the resolver of the machine that built the base",
        look: resolver,
    },
    Check {
        name: "swap",
        about: "keeps the kubelet from starting",
        look: swap,
    },
    Check {
        name: "logs",
        about: "tells of another machine",
        look: logs,
    },
    Check {
        name: "history",
        about: "is somebody's command history",
        look: history,
    },
    Check {
        name: "package-caches",
        about: "is out of date on the first boot",
        look: package_caches,
    },
    Check {
        name: "temporary-files",
        about: "is somebody's temporary file",
        look: temporary_files,
    },
    Check {
        name: "installer",
        about: "is left over from the installer and may hold passwords",
        look: installer,
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
/// overlay cannot bake an identity. Only keys of users that the profile asks for
/// may stay.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<()> {
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
                if planned.reason.starts_with("user ") {
                    continue;
                }
                return Err(Error::input(format!(
                    "plan {} for {}: it {}",
                    finding.path, planned.reason, check.about
                ))
                .hint("an image is cloned many times: nothing of one machine may be baked"));
            }
            mend(draft, &finding, &reason)?;
        }
    }
    Ok(())
}

fn mend(draft: &mut Draft<'_>, finding: &Finding, reason: &str) -> Result<()> {
    let path = &finding.path;
    let present = draft.metadata(path)?;
    match &finding.remedy {
        Remedy::Remove => draft.remove(path, reason),
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

/// `/etc/machine-id` stays as an empty file: systemd fills it at boot, and an
/// empty one is no "first boot", which would apply presets
/// (machine-id(5), "First Boot Semantics").
fn machine_id(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let path = tree.resolve_parent(&fixed("/etc/machine-id"))?;
    let is_empty_file = tree
        .metadata(&path)?
        .is_some_and(|found| found.kind == Kind::File && found.size == 0);
    if !is_empty_file {
        findings.push(Finding {
            path,
            remedy: Remedy::Write(String::new()),
        });
    }
    let dbus = tree.resolve_parent(&fixed("/var/lib/dbus/machine-id"))?;
    if tree
        .metadata(&dbus)?
        .is_some_and(|found| found.kind == Kind::File)
    {
        findings.push(Finding {
            path: dbus,
            remedy: Remedy::Link("/etc/machine-id"),
        });
    }
    Ok(findings)
}

fn ssh_host_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    within(tree, "/etc/ssh", |name| name.starts_with(b"ssh_host_"))
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

/// Every private key begins with a line `-----BEGIN ... PRIVATE KEY-----`,
/// whatever its file is called.
fn ssh_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const KEY: &[u8] = b"PRIVATE KEY-----";
    let mut findings = Vec::new();
    for home in homes(tree)? {
        let folder = tree.resolve(&home.join(".ssh")?)?;
        for entry in tree.list(&folder)? {
            if entry.kind != Kind::File {
                continue;
            }
            let path = folder.join(&entry.name)?;
            let head = tree.read_head(&path, 64)?;
            if head.starts_with(BEGIN) && head.windows(KEY.len()).any(|part| part == KEY) {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

/// Storage tells machines apart by these names; where they are absent, their
/// services or the administrator make new ones.
fn storage_identity(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    present(
        tree,
        &[
            "/etc/iscsi/initiatorname.iscsi",
            "/etc/nvme/hostnqn",
            "/etc/nvme/hostid",
        ],
    )
}

fn authorized_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for home in homes(tree)? {
        for name in ["authorized_keys", "authorized_keys2"] {
            let path = tree.resolve_parent(&home.join(".ssh")?.join(name)?)?;
            if tree.metadata(&path)?.is_some_and(|found| found.size > 0) {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

fn cloud_init(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/lib/cloud", |name| {
        // Scripts and handlers belong to the image, what ran and what was
        // received to the machine.
        [&b"data"[..], b"instance", b"instances", b"sem", b"seed"].contains(&name)
    })?;
    findings.extend(within(tree, "/etc/netplan", |name| {
        name.starts_with(b"50-cloud-init")
    })?);
    findings.extend(within(tree, "/etc/network/interfaces.d", |name| {
        name.starts_with(b"50-cloud-init")
    })?);
    Ok(findings)
}

fn node_identity(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = present(
        tree,
        &[
            "/root/.aws",
            "/eks-hybrid",
            "/etc/iam/pki",
            "/etc/eks/kubelet/environment",
            "/var/lib/kubelet/kubeconfig",
            "/var/lib/kubelet/pki",
            "/etc/kubernetes/pki",
        ],
    )?;
    findings.extend(within(tree, "/var/lib/amazon/ssm", all)?);
    findings.extend(within(tree, "/var/lib/nodekiln", all)?);
    Ok(findings)
}

fn subscription(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/etc/pki/consumer", all)?;
    findings.extend(within(tree, "/etc/pki/entitlement", all)?);
    findings.extend(within(tree, "/var/lib/ubuntu-advantage/private", all)?);
    Ok(findings)
}

fn random_seed(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    present(
        tree,
        &[
            "/var/lib/systemd/random-seed",
            "/var/lib/systemd/credential.secret",
            "/var/lib/urandom/random-seed",
            "/boot/efi/loader/random-seed",
        ],
    )
}

fn network_state(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in [
        "/var/lib/dhcp",
        "/var/lib/dhclient",
        "/var/lib/NetworkManager",
    ] {
        findings.extend(within(tree, folder, |name| {
            name.ends_with(b".leases")
                || name.ends_with(b".lease")
                || name == b"secret_key"
                || name == b"timestamps"
        })?);
    }
    findings.extend(within(tree, "/var/lib/dhcpcd", all)?);
    findings.extend(within(tree, "/etc/udev/rules.d", |name| {
        name == b"70-persistent-net.rules"
    })?);
    Ok(findings)
}

/// A link to the machine's own resolver stays; a file is what mmdebstrap and
/// other builders copied in. systemd-resolved's stub takes its place where the
/// image has that; else the file goes.
fn resolver(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let path = tree.resolve_parent(&fixed("/etc/resolv.conf"))?;
    let is_filled = tree
        .metadata(&path)?
        .is_some_and(|found| found.kind == Kind::File && found.size > 0);
    if !is_filled {
        return Ok(Vec::new());
    }
    let has_resolved = tree.is_file(&fixed("/lib/systemd/systemd-resolved"))?
        || tree.is_file(&fixed("/usr/lib/systemd/systemd-resolved"))?;
    let remedy = if has_resolved {
        Remedy::Link("../run/systemd/resolve/stub-resolv.conf")
    } else {
        Remedy::Remove
    };
    Ok(vec![Finding { path, remedy }])
}

/// The third field of a line of fstab is `swap` (fstab(5)).
fn swap(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let path = tree.resolve(&fixed("/etc/fstab"))?;
    let Some(text) = tree.read_text(&path)? else {
        return Ok(Vec::new());
    };
    let is_swap = |line: &str| {
        let mut fields = line.split_whitespace();
        !line.trim_start().starts_with('#') && fields.nth(2) == Some("swap")
    };
    if !text.lines().any(is_swap) {
        return Ok(Vec::new());
    }
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| !is_swap(line))
        .collect();
    Ok(vec![Finding {
        path,
        remedy: Remedy::Write(kept),
    }])
}

/// Logs that programs expect to exist are emptied; journals and what rotation
/// left behind go.
fn logs(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/log/journal", all)?;
    let folder = tree.resolve(&fixed("/var/log"))?;
    let mut folders = vec![(folder, 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in tree.list(&folder)? {
            let path = folder.join(&entry.name)?;
            match entry.kind {
                Kind::Directory if entry.name == b"journal" || entry.name == b"installer" => {}
                Kind::Directory if depth < 4 => folders.push((path, depth + 1)),
                Kind::File if is_rotated(&entry.name) => findings.push(remove(path)),
                Kind::File if tree.metadata(&path)?.is_some_and(|found| found.size > 0) => {
                    findings.push(Finding {
                        path,
                        remedy: Remedy::Write(String::new()),
                    });
                }
                _ => {}
            }
        }
    }
    Ok(findings)
}

fn is_rotated(name: &[u8]) -> bool {
    let ends_in_number = name
        .rsplit(|byte| *byte == b'.')
        .next()
        .is_some_and(|end| end.len() < name.len() && end.iter().all(u8::is_ascii_digit));
    ends_in_number
        || [&b".gz"[..], b".xz", b".old"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn history(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    const NAMES: [&str; 9] = [
        ".bash_history",
        ".zsh_history",
        ".ash_history",
        ".sh_history",
        ".python_history",
        ".lesshst",
        ".viminfo",
        ".wget-hsts",
        ".ssh/known_hosts",
    ];
    let mut findings = Vec::new();
    for home in homes(tree)? {
        for name in NAMES {
            let path = name
                .split('/')
                .try_fold(home.clone(), |path, step| path.join(step))?;
            let path = tree.resolve_parent(&path)?;
            if tree.metadata(&path)?.is_some() {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

fn package_caches(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/lib/apt/lists", |name| {
        name != b"lock" && name != b"partial" && name != b"auxfiles"
    })?;
    findings.extend(within(tree, "/var/cache/apt", |name| {
        name.ends_with(b".bin")
    })?);
    findings.extend(within(tree, "/var/cache/apt/archives", |name| {
        name.ends_with(b".deb")
    })?);
    findings.extend(within(tree, "/var/cache/dnf", all)?);
    Ok(findings)
}

fn temporary_files(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/tmp", all)?;
    findings.extend(within(tree, "/var/tmp", all)?);
    Ok(findings)
}

fn installer(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/log/installer", all)?;
    findings.extend(present(
        tree,
        &["/root/anaconda-ks.cfg", "/root/original-ks.cfg"],
    )?);
    Ok(findings)
}
