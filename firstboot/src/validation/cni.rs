//! `cni-validation`: where a firewall runs, it lets the VXLAN of Cilium or that of
//! Calico through.

use super::{Finding, Subject};
use crate::firewall::{self, Error, Kind, VXLAN_PORTS};
use crate::system;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    match judge(subject) {
        Ok(finding) => Ok(finding),
        Err(Error::System(error)) => Err(error),
        Err(error) => Ok(Finding::could_not_run(error.to_string())),
    }
}

fn judge(subject: &Subject<'_>) -> Result<Finding, Error> {
    let Some(kind) = firewall::running(subject.system)? else {
        return Ok(Finding::ok("no firewall runs"));
    };
    let name = kind.name();
    let closed = firewall::closed(subject.system, kind, &VXLAN_PORTS)?;
    let open = VXLAN_PORTS.iter().find(|port| !closed.contains(port));
    if let Some(port) = open {
        return Ok(Finding::ok(format!("{name} lets {port} through")));
    }
    let detail = format!("{name} lets neither 8472/udp (Cilium) nor 4789/udp (Calico) through");
    Ok(match kind {
        Kind::Firewalld => Finding::failed(
            detail,
            "firewall-cmd --permanent --add-port=8472/udp, and the same without --permanent",
        ),
        Kind::Ufw => Finding::failed(detail, "ufw allow 8472/udp"),
        // The ruleset may let it through in a way that is not understood here.
        Kind::Nftables => Finding::warning(
            detail,
            "add `udp dport 8472 accept` to the chain of /etc/nftables.conf that drops",
        ),
    })
}
