//! What one machine knows of its network.

use super::{Finding, Remedy, all, remove, within};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::volume::Kind;

pub fn network_state(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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
        name == b"70-persistent-net.rules" || name == b"70-persistent-cd.rules"
    })?);
    Ok(findings)
}

/// A link to the machine's own resolver stays; a file is what mmdebstrap and
/// other builders copied in. systemd-resolved's stub takes its place where the
/// image has that; else the file goes.
pub fn resolver(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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

/// A folder of network configuration, and how a file there shows that it is for one
/// machine alone: a vendor's `dhcp on any card` stays.
struct Configurations {
    folder: &'static str,
    /// How the names of the files begin that a tool of an installer makes.
    made: &'static [&'static str],
    /// How lines begin that name a card, or an address of it.
    lines: &'static [&'static str],
}

const CONFIGURATIONS: [Configurations; 4] = [
    // netplan: subiquity and cloud-init.
    Configurations {
        folder: "/etc/netplan",
        made: &["00-installer-config", "01-netcfg", "50-cloud-init"],
        lines: &["macaddress:"],
    },
    // nm-settings-keyfile(5).
    Configurations {
        folder: "/etc/NetworkManager/system-connections",
        made: &["cloud-init-"],
        lines: &["mac-address=", "address1=", "addresses=", "timestamp="],
    },
    // nm-settings-ifcfg-rh(5). Anaconda gives each a UUID.
    Configurations {
        folder: "/etc/sysconfig/network-scripts",
        made: &[],
        lines: &["HWADDR=", "UUID=", "IPADDR="],
    },
    // systemd.network(5).
    Configurations {
        folder: "/etc/systemd/network",
        made: &["10-cloud-init-"],
        lines: &["MACAddress=", "PermanentMACAddress="],
    },
];

/// Cards and addresses by which an installer, or cloud-init, configured the machine
/// that the base was made on. cloud-init and the vendor's defaults configure a clone.
pub fn network_configuration(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for kind in &CONFIGURATIONS {
        let folder = tree.resolve(&fixed(kind.folder))?;
        for entry in tree.list(&folder)? {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            if entry.kind != Kind::File || name == "ifcfg-lo" {
                continue;
            }
            let path = folder.join(&entry.name)?;
            let is_made = kind.made.iter().any(|made| name.starts_with(made));
            if is_made || names_a_card(tree, &path, kind.lines)? {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

fn names_a_card(tree: &mut dyn Tree, path: &ImagePath, lines: &[&str]) -> Result<bool> {
    let text = tree.read_text(path)?.unwrap_or_default();
    let names = |line: &str| {
        lines
            .iter()
            .any(|begin| line.trim_start().starts_with(begin))
    };
    Ok(text.lines().any(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hygiene::tests::{image, paths};

    #[test]
    fn what_names_one_machines_cards_goes_and_a_vendors_default_stays() {
        let mut image = image(&[
            (
                "/etc/netplan/00-installer-config.yaml",
                "network: {version: 2}\n",
            ),
            ("/etc/netplan/90-vendor.yaml", "network:\n  version: 2\n"),
            (
                "/etc/netplan/99-card.yaml",
                "  match:\n    macaddress: 52:54:00:1:2:3\n",
            ),
            (
                "/etc/NetworkManager/system-connections/ens3.nmconnection",
                "[connection]\nid=ens3\ntimestamp=1700000000\n",
            ),
            (
                "/etc/NetworkManager/system-connections/any.nmconnection",
                "[connection]\nid=any\n[ipv4]\nmethod=auto\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-lo",
                "IPADDR=127.0.0.1\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-eth0",
                "BOOTPROTO=dhcp\nDEVICE=eth0\nONBOOT=yes\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-ens3",
                "BOOTPROTO=dhcp\nUUID=9f0c2d1e\n",
            ),
            (
                "/etc/systemd/network/10-cloud-init-eth0.network",
                "[Match]\n",
            ),
            ("/etc/systemd/network/80-any.network", "[Match]\nName=en*\n"),
        ]);
        let findings = network_configuration(&mut image).expect("readable");
        assert_eq!(
            paths(&findings),
            [
                "/etc/NetworkManager/system-connections/ens3.nmconnection",
                "/etc/netplan/00-installer-config.yaml",
                "/etc/netplan/99-card.yaml",
                "/etc/sysconfig/network-scripts/ifcfg-ens3",
                "/etc/systemd/network/10-cloud-init-eth0.network",
            ]
        );
    }
}
