//! ufw: what `ufw status` lists, and `ufw allow`.

use super::ports::{Port, range};
use super::{Error, is_installed, tell};
use crate::system::System;

const PROGRAM: &str = "ufw";

pub(super) fn is_running(system: &dyn System) -> Result<bool, Error> {
    Ok(is_installed(system, PROGRAM) && is_active(&tell(system, PROGRAM, &["status"])?))
}

fn is_active(status: &str) -> bool {
    status.lines().any(|line| line.trim() == "Status: active")
}

pub(super) fn closed(system: &dyn System, wanted: &[Port]) -> Result<Vec<Port>, Error> {
    let status = tell(system, PROGRAM, &["status"])?;
    Ok(wanted
        .iter()
        .filter(|port| !is_open(&status, **port))
        .copied()
        .collect())
}

pub(super) fn allow(system: &dyn System, ports: &[Port]) -> Result<(), Error> {
    for port in ports {
        tell(system, PROGRAM, &["allow", &port.with(":")])?;
    }
    Ok(())
}

/// Whether the rules for everybody let a port through. As in ufw, the first rule
/// that is about the port counts.
fn is_open(status: &str, port: Port) -> bool {
    let mut allowed = Vec::new();
    for rule in status.lines().filter_map(rule) {
        if rule.protocol.is_some_and(|it| it != port.protocol.name()) {
            continue;
        }
        let overlaps = |(first, last): &(u16, u16)| *first <= port.last && *last >= port.first;
        if rule.allows {
            allowed.extend(rule.ranges);
        } else if rule.ranges.iter().any(overlaps) {
            break;
        }
    }
    port.is_within(allowed)
}

struct Rule<'a> {
    ranges: Vec<(u16, u16)>,
    protocol: Option<&'a str>,
    allows: bool,
}

/// A line such as `30000:32767/tcp   ALLOW IN   Anywhere`; none for lines about
/// other sources, for IPv6 (which ufw writes in pairs with IPv4), routed traffic,
/// and names of applications.
fn rule(line: &str) -> Option<Rule<'_>> {
    let mut words = line.split_whitespace();
    let target = words.next()?;
    let verdict = words.next()?;
    let mut from = words.next()?;
    if from == "IN" {
        from = words.next()?;
    }
    if from != "Anywhere" {
        return None;
    }
    let (ports, protocol) = match target.split_once('/') {
        Some((ports, protocol)) => (ports, Some(protocol)),
        None => (target, None),
    };
    let ranges = if ports == "Anywhere" {
        vec![(0, u16::MAX)]
    } else {
        let ranges = ports.split(',').map(|text| range(text, ':'));
        ranges.collect::<Option<Vec<_>>>()?
    };
    let allows = match verdict {
        "ALLOW" => true,
        "DENY" | "REJECT" | "LIMIT" => false,
        _ => return None,
    };
    Some(Rule {
        ranges,
        protocol,
        allows,
    })
}
