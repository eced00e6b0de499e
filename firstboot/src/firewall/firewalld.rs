//! firewalld: the default zone, now and after a reload.
//!
//! nodeadm opens ports for good, reloads, and then makes all that is open now
//! permanent. The reload forgets what others opened for now only, and the last step
//! makes permanent what was not meant to be; here a port is opened now and for
//! good, and nothing else changes.

use super::ports::{Port, range};
use super::{Error, ask, is_installed, tell};
use crate::system::System;

const PROGRAM: &str = "firewall-cmd";

pub(super) fn is_running(system: &dyn System) -> Result<bool, Error> {
    Ok(is_installed(system, PROGRAM) && ask(system, PROGRAM, &["--state"])?.success)
}

/// What is closed now.
pub(super) fn closed(system: &dyn System, wanted: &[Port]) -> Result<Vec<Port>, Error> {
    let listed = tell(system, PROGRAM, &["--list-ports"])?;
    Ok(missing(&listed, wanted))
}

/// Opens what is missing, now and for good; gives what was.
pub(super) fn open(system: &dyn System, wanted: &[Port]) -> Result<Vec<Port>, Error> {
    let lasting = tell(system, PROGRAM, &["--permanent", "--list-ports"])?;
    let lasting = missing(&lasting, wanted);
    let now = closed(system, wanted)?;
    add(system, &["--permanent"], &lasting)?;
    add(system, &[], &now)?;
    let is_opened = |port: &&Port| lasting.contains(port) || now.contains(port);
    Ok(wanted.iter().filter(is_opened).copied().collect())
}

fn add(system: &dyn System, options: &[&str], ports: &[Port]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let ports: Vec<String> = ports
        .iter()
        .map(|port| format!("--add-port={port}"))
        .collect();
    let mut arguments = options.to_vec();
    arguments.extend(ports.iter().map(String::as_str));
    tell(system, PROGRAM, &arguments).map(drop)
}

/// The ports that a list such as `22/tcp 30000-32767/tcp` does not hold.
fn missing(listed: &str, wanted: &[Port]) -> Vec<Port> {
    let is_listed = |port: &Port| {
        let same = listed.split_whitespace().filter_map(|word| {
            let (ports, protocol) = word.split_once('/')?;
            (protocol == port.protocol.name()).then(|| range(ports, '-'))?
        });
        port.is_within(same)
    };
    wanted
        .iter()
        .filter(|port| !is_listed(port))
        .copied()
        .collect()
}
