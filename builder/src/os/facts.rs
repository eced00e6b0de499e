//! Facts of an installed system that decide what a node needs of it, each found by
//! looking into it.

use serde::{Deserialize, Serialize};

use super::systems::{Cgroups, System};
use super::tree::{Tree, fixed};
use super::{OsRelease, boot_loader};
use crate::error::Result;
use crate::volume::Kind;

/// Folders of unit files, and of links that switch them on.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// How the SSM agent came into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SsmAgent {
    /// A deb or an rpm: `amazon-ssm-agent.service`.
    Package,
    /// Canonical's snap: `snap.amazon-ssm-agent.amazon-ssm-agent.service`.
    Snap,
}

/// Who answers questions for names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Resolver {
    /// systemd-resolved: `/etc/resolv.conf` names an address of this machine.
    SystemdResolved,
    /// The name servers of `/etc/resolv.conf`.
    #[default]
    Plain,
}

/// A firewall that is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// Red Hat's.
    Firewalld,
    /// Ubuntu's.
    Ufw,
    /// The rules of `/etc/nftables.conf` or `/etc/sysconfig/nftables.conf`.
    Nftables,
}

/// Where snaps are that are installed, and those that the first boot installs.
const SNAPS: [&str; 2] = ["/var/lib/snapd/snaps", "/var/lib/snapd/seed/snaps"];

/// The SSM agent, if there is one. A snap that the first boot is to install has no unit
/// yet.
pub(super) fn ssm_agent(image: &mut dyn Tree) -> Result<Option<SsmAgent>> {
    for (unit, form) in [
        ("amazon-ssm-agent.service", SsmAgent::Package),
        (
            "snap.amazon-ssm-agent.amazon-ssm-agent.service",
            SsmAgent::Snap,
        ),
    ] {
        for folder in UNITS {
            if image.is_file(&fixed(folder).join(unit)?)? {
                return Ok(Some(form));
            }
        }
    }
    for folder in SNAPS {
        let snaps = image.list_following(&fixed(folder))?;
        if snaps
            .iter()
            .any(|snap| snap.name.starts_with(b"amazon-ssm-agent_"))
        {
            return Ok(Some(SsmAgent::Snap));
        }
    }
    Ok(None)
}

/// Whether a link switches the unit on.
fn is_enabled(image: &mut dyn Tree, unit: &str) -> Result<bool> {
    let folder = fixed(UNITS[0]);
    for entry in image.list_following(&folder)? {
        let is_list = entry.name.ends_with(b".wants") || entry.name.ends_with(b".requires");
        if entry.kind == Kind::Directory && is_list {
            let link = folder.join(&entry.name)?.join(unit)?;
            if image.metadata(&link)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Who answers questions for names.
pub(super) fn resolver(image: &mut dyn Tree) -> Result<Resolver> {
    Ok(if is_enabled(image, "systemd-resolved.service")? {
        Resolver::SystemdResolved
    } else {
        Resolver::Plain
    })
}

/// The firewall that is switched on, if one is.
pub(super) fn firewall(image: &mut dyn Tree) -> Result<Option<Firewall>> {
    if is_enabled(image, "firewalld.service")? {
        return Ok(Some(Firewall::Firewalld));
    }
    let ufw = image.read_text(&fixed("/etc/ufw/ufw.conf"))?;
    if ufw.is_some_and(|text| text.lines().any(|line| line.trim() == "ENABLED=yes")) {
        return Ok(Some(Firewall::Ufw));
    }
    Ok(is_enabled(image, "nftables.service")?.then_some(Firewall::Nftables))
}

/// The hierarchy of control groups that the machine boots into.
pub(super) fn cgroups(image: &mut dyn Tree, release: &OsRelease) -> Result<Cgroups> {
    let by_itself = System::of(&release.id)
        .or_else(|| System::alike(release))
        .and_then(|system| system.release(&release.version_id))
        .map_or(Cgroups::V2, |release| release.cgroups);
    let arguments = boot_loader::arguments(image)?;
    Ok(by_itself.with_arguments(arguments.split_whitespace()))
}

/// Whether the system boots in FIPS mode: by the kernel's command line, or the policy that
/// `fips-mode-setup` and `update-crypto-policies` set.
pub(super) fn fips(image: &mut dyn Tree) -> Result<bool> {
    let arguments = boot_loader::arguments(image)?;
    if arguments.split_whitespace().any(|word| word == "fips=1") {
        return Ok(true);
    }
    let policy = image.read_text(&fixed("/etc/crypto-policies/state/current"))?;
    Ok(policy.is_some_and(|text| text.trim().split(':').next() == Some("FIPS")))
}
