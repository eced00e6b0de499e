//! What the services stand on: ports in the machine's firewall, and an instance's
//! own disks.

use super::journal::digest;
use super::steps::Node;
use super::work::Work;
use super::{Error, Phase, instance};
use crate::credentials::Provider;
use crate::{firewall, storage};

/// Ports are opened on hybrid nodes, as with nodeadm; EC2 has security groups.
pub(super) fn firewall_inputs(node: &Node<'_>) -> String {
    match node.provider {
        Provider::Ec2 => String::new(),
        _ => digest([b"ports of a node".as_slice()]),
    }
}

/// Opens the node's ports once; whoever closes one later means it.
pub(super) fn open_firewall(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    if inputs.is_empty() || work.journal.is_done(Phase::Firewall, inputs) {
        return Ok(());
    }
    match firewall::open(work.system)? {
        firewall::Outcome::Absent | firewall::Outcome::AlreadyOpen(_) => {}
        firewall::Outcome::Opened(kind, ports) => {
            work.info(&format!(
                "{} ports were opened in {}",
                ports.len(),
                kind.name()
            ));
        }
        firewall::Outcome::Closed { kind, command, .. } => work.warn(&format!(
            "{} keeps ports of the node closed; this opens them: {command}",
            kind.name()
        )),
    }
    Ok(())
}

/// Digest of what is to be made of the disks; empty when nothing is.
pub(super) fn storage_inputs(node: &Node<'_>) -> String {
    let wanted = &node.config.spec.instance.local_storage;
    if !matches!(node.provider, Provider::Ec2) || wanted.strategy.is_empty() {
        return String::new();
    }
    let words = [&wanted.strategy, &wanted.mount_path];
    let words = words.into_iter().chain(&wanted.disabled_mounts);
    digest(words.map(|word| word.as_bytes()))
}

/// Looks at the disks on every boot: an instance that was stopped comes back with
/// empty ones.
pub(super) fn set_up_storage(
    work: &mut Work<'_>,
    node: &Node<'_>,
    inputs: &str,
) -> Result<(), Error> {
    if matches!(node.provider, Provider::Ec2) {
        // Here, as with nodeadm: the files are written, and the disks come next.
        instance::mark_configured(work.system)?;
    }
    if inputs.is_empty() {
        return Ok(());
    }
    let wanted = &node.config.spec.instance.local_storage;
    if matches!(
        storage::set_up(work.system, wanted)?,
        storage::Outcome::NoDisks
    ) {
        work.info("the instance has no disks of its own");
    }
    Ok(())
}
