//! The machine's network interfaces, as `ip` of iproute2 tells them.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use super::Subject;
use crate::system::{self, Task};

const LIMIT: Duration = Duration::from_secs(30);

/// An interface and one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub interface: String,
    pub address: Ipv4Addr,
}

/// All global IPv4 addresses; none where `ip` says nothing that is understood.
pub(super) fn addresses(subject: &Subject<'_>) -> Result<Vec<Address>, system::Error> {
    let interfaces = json(subject, &["-json", "-4", "address", "show"])?;
    let mut addresses = Vec::new();
    for interface in interfaces.as_array().into_iter().flatten() {
        let name = interface["ifname"].as_str().unwrap_or_default();
        for entry in interface["addr_info"].as_array().into_iter().flatten() {
            let local = entry["local"].as_str().and_then(|text| text.parse().ok());
            if let Some(address) = local.filter(|_| entry["scope"] == "global") {
                let interface = name.to_owned();
                addresses.push(Address { interface, address });
            }
        }
    }
    Ok(addresses)
}

/// The interface that leads everywhere: that of the default route that counts most.
pub(super) fn default_interface(subject: &Subject<'_>) -> Result<Option<String>, system::Error> {
    let routes = json(subject, &["-json", "-4", "route", "show", "default"])?;
    let routes = routes.as_array().into_iter().flatten();
    let best = routes
        .filter(|route| route["dev"].is_string())
        .min_by_key(|route| route["metric"].as_u64().unwrap_or(0));
    Ok(best.and_then(|route| Some(route["dev"].as_str()?.to_owned())))
}

fn json(subject: &Subject<'_>, arguments: &[&str]) -> Result<Value, system::Error> {
    let task = Task::new("ip", arguments, LIMIT).keeping(1 << 20);
    let ended = subject.system.run(&task)?;
    Ok(serde_json::from_str(&ended.output).unwrap_or_default())
}
