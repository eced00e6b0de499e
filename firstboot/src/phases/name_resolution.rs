//! Name servers of the NodeConfig, and the names of a local cluster in /etc/hosts.

use std::time::Duration;

use super::steps::Node;
use super::work::Work;
use super::{Error, Phase, unit};
use crate::render::{Part, api_server_host, hosts};
use crate::system::write_if_changed;

/// The resolver's unit.
pub(super) const RESOLVED: &str = "systemd-resolved.service";
const HOSTS: &str = "/etc/hosts";

/// Time to look the cluster's API up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Largest /etc/hosts that is changed, in bytes.
const HOSTS_LIMIT: usize = 1 << 20;

/// Digest of what the resolver reads.
pub(super) fn inputs(node: &Node<'_>) -> String {
    node.digest_of(Part::Resolver)
}

/// Restarts the resolver when its files are new, and brings /etc/hosts up
/// to date.
pub(super) fn establish(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    let is_done = work.journal.is_done(Phase::NameResolution, inputs);
    let is_configured = node.files.iter().any(|file| file.part == Part::Resolver);
    // Where its files went away it was told at once.
    if !is_done && is_configured {
        unit::restart(work.system, RESOLVED)?;
    }
    let mut facts = node.facts.clone();
    let cluster = &node.config.spec.cluster;
    if cluster.enable_outpost == Some(true)
        && let Some(host) = api_server_host(&cluster.api_server_endpoint)
    {
        match work.system.lookup(host, LOOKUP_LIMIT) {
            Ok(addresses) => facts.api_server_addresses = addresses,
            // Cut off from the region, what was written before is what helps.
            Err(error) => {
                work.warn(&format!("{HOSTS} stays as it is: {error}"));
                return Ok(());
            }
        }
    }
    let current = work.system.read(HOSTS, HOSTS_LIMIT)?.unwrap_or_default();
    // Whose text is not ours to understand is left alone.
    let Ok(text) = String::from_utf8(current) else {
        work.warn(&format!("{HOSTS} is not text and stays as it is"));
        return Ok(());
    };
    if let Some(new) = hosts(node.config, &facts, &text) {
        let mode = work
            .system
            .status(HOSTS)?
            .map_or(0o644, |status| status.mode);
        write_if_changed(work.system, HOSTS, new.as_bytes(), mode)?;
        work.info("/etc/hosts was brought up to date");
    }
    Ok(())
}
