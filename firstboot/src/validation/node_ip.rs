//! `node-ip-validation`: the node's address lies in a remote node network of the
//! cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::interfaces::{addresses, default_interface};
use super::{Cluster, Finding, Subject};
use crate::credentials::Provider;
use crate::system;

const LIMIT: Duration = Duration::from_secs(5);

const FLAG: &str = "--node-ip=";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    let Some(cluster) = subject.cluster else {
        return Ok(Finding::skipped("EKS was not asked about the cluster"));
    };
    if cluster.remote_node_networks.is_empty() {
        return Ok(Finding::failed(
            "the cluster has no remote node networks",
            "give the cluster a remoteNetworkConfig with the networks of its hybrid nodes",
        ));
    }
    let flags = &subject.config.spec.kubelet.flags;
    let flag = flags.iter().rev().find_map(|flag| flag.strip_prefix(FLAG));
    let address = match flag {
        Some(text) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Some(address),
            Ok(IpAddr::V6(_)) | Err(_) => {
                return Ok(Finding::failed(
                    "the kubelet's flag --node-ip is not one IPv4 address",
                    "hybrid nodes have one IPv4 address; leave the flag out or give it",
                ));
            }
        },
        None => found(subject)?,
    };
    Ok(match address {
        Some(address) => judge(address, cluster),
        None => Finding::failed_for_now(
            "the machine has no IPv4 address on its default route",
            "let the machine get an address and a default route, or give --node-ip",
        ),
    })
}

/// The address that the kubelet will find: that of the node's name if it is one of
/// the machine's, else that of the default route.
fn found(subject: &Subject<'_>) -> Result<Option<Ipv4Addr>, system::Error> {
    let own = addresses(subject)?;
    if let Some(Provider::IamRolesAnywhere(settings)) = subject.provider() {
        let limit = subject.at_most(LIMIT);
        // Most node names are in no DNS: that says nothing.
        let named = subject
            .system
            .lookup(settings.node_name, limit)
            .unwrap_or_default();
        let mine = |address: &Ipv4Addr| own.iter().any(|it| it.address == *address);
        let named = named.into_iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        if let Some(address) = named.into_iter().find(mine) {
            return Ok(Some(address));
        }
    }
    let interface = default_interface(subject)?;
    let first = own
        .into_iter()
        .find(|it| Some(&it.interface) == interface.as_ref());
    Ok(first.map(|it| it.address))
}

fn judge(address: Ipv4Addr, cluster: &Cluster) -> Finding {
    let networks = &cluster.remote_node_networks;
    if let Some(network) = networks.iter().find(|it| contains(it, address)) {
        return Finding::ok(format!("{address} is in {network}"));
    }
    Finding::failed(
        format!(
            "{address} is in none of the remote node networks {}",
            networks.join(", ")
        ),
        "add its network to the cluster's remoteNetworkConfig, or give --node-ip with another",
    )
}

/// Whether a CIDR such as `10.0.0.0/16` holds an address.
fn contains(network: &str, address: Ipv4Addr) -> bool {
    let Some((base, length)) = network.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(length)) = (base.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
        return false;
    };
    if length > 32 {
        return false;
    }
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    base.to_bits() & mask == address.to_bits() & mask
}
