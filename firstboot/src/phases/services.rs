//! The services of the node.

use std::time::Duration;

use super::steps::Node;
use super::work::Work;
use super::{Error, Phase, unit};
use crate::credentials::Provider;
use crate::render::{Part, SIGNING_HELPER_UNIT};
use crate::system::System;

/// Where pods that may use the node's credentials look for them, as with nodeadm.
pub(super) const SHARED_FOLDER: &str = "/eks-hybrid/.aws";

/// Where the SSM agent keeps the credentials that it refreshes.
pub(super) const AGENTS_FOLDER: &str = "/root/.aws";

/// Has the service manager read its files, when some of them are new.
pub(super) fn reload_manager(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    if !inputs.is_empty() && !work.journal.is_done(Phase::ServiceManager, inputs) {
        unit::reload_manager(work.system)?;
    }
    Ok(())
}

/// Digest of what refreshes credentials for pods; empty when nothing does.
pub(super) fn credentials_file_inputs(node: &Node<'_>) -> String {
    match node.provider {
        Provider::IamRolesAnywhere(_) if node.shares_credentials() => {
            node.digest_of(Part::Credentials)
        }
        // The SSM agent refreshes its own, to which a link leads.
        _ => String::new(),
    }
}

/// Keeps credentials for pods fresh.
pub(super) fn credentials_file(
    work: &mut Work<'_>,
    _: &Node<'_>,
    inputs: &str,
) -> Result<(), Error> {
    const CREDENTIALS: &str = "/eks-hybrid/.aws/credentials";
    const LIMIT: Duration = Duration::from_secs(120);
    if inputs.is_empty() {
        return Ok(());
    }
    let system = work.system;
    let anew = !work.journal.is_done(Phase::CredentialsFile, inputs);
    let ran_before = unit::is_up(system, SIGNING_HELPER_UNIT)?;
    unit::ensure_active(system, SIGNING_HELPER_UNIT, anew, ran_before)?;
    let is_there = |system: &dyn System| Ok(system.status(CREDENTIALS)?.is_some());
    if work.wait_for(Phase::CredentialsFile, CREDENTIALS, LIMIT, &is_there)? {
        return Ok(());
    }
    Err(Error::Late {
        what: CREDENTIALS.into(),
        limit: LIMIT,
        hint: format!("journalctl -b -u {SIGNING_HELPER_UNIT} says more"),
    })
}

/// Starts the container runtime, or restarts it on new files.
pub(super) fn containerd(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    const UNIT: &str = "containerd.service";
    let system = work.system;
    // Asked before anything is let go: what runs now runs on the old files.
    let ran_before = unit::is_up(system, UNIT)?;
    // From here on the units that are ordered after this one may start. They must:
    // this program waits for them now.
    system.ready();
    let anew = !work.journal.is_done(Phase::Containerd, inputs);
    unit::ensure_active(system, UNIT, anew, ran_before)?;
    system.milestone("containerd is active");
    work.info("containerd is active");
    Ok(())
}

/// Starts the kubelet, or restarts it on new files.
pub(super) fn kubelet(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    const UNIT: &str = "kubelet.service";
    let anew = !work.journal.is_done(Phase::Kubelet, inputs);
    // By now it may have been started on the new files by the manager; once more
    // does no harm, too little would.
    unit::ensure_active(work.system, UNIT, anew, true)?;
    work.system.milestone("kubelet is active");
    work.info("kubelet is active");
    Ok(())
}
