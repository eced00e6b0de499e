//! Who one machine is: to the network, to AWS, to its vendor, to its storage.

use super::{Finding, Remedy, all, present, within};
use crate::error::Result;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::volume::Kind;

/// `/etc/machine-id` stays as an empty file: systemd fills it at boot, and an
/// empty one is no "first boot", which would apply presets
/// (machine-id(5), "First Boot Semantics").
pub fn machine_id(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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

pub fn ssh_host_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    within(tree, "/etc/ssh", |name| name.starts_with(b"ssh_host_"))
}

/// Storage tells machines apart by these names; where they are absent, their
/// services or the administrator make new ones.
pub fn storage_identity(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    present(
        tree,
        &[
            "/etc/iscsi/initiatorname.iscsi",
            "/etc/nvme/hostnqn",
            "/etc/nvme/hostid",
            "/etc/lvm/devices/system.devices",
            "/etc/multipath/bindings",
            "/etc/multipath/wwids",
        ],
    )
}

pub fn cloud_init(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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

pub fn node_identity(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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

pub fn subscription(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/etc/pki/consumer", all)?;
    findings.extend(within(tree, "/etc/pki/entitlement", all)?);
    findings.extend(within(tree, "/var/lib/rhsm", all)?);
    findings.extend(within(tree, "/var/lib/ubuntu-advantage/private", all)?);
    findings.extend(present(
        tree,
        &[
            "/etc/sysconfig/rhn/systemid",
            "/etc/insights-client/machine-id",
            "/etc/insights-client/.registered",
            "/etc/insights-client/.unregistered",
            // Made from the entitlement, with the paths of its keys.
            "/etc/yum.repos.d/redhat.repo",
        ],
    )?);
    Ok(findings)
}

pub fn random_seed(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
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
