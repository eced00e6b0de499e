//! Ports of a node in the machine's own firewall.
//!
//! A firewall that is not installed or does not run is none. firewalld and ufw are
//! asked for what is open and told what is missing, and nothing of them is
//! restarted. A ruleset of the user's own (nftables) is never touched: a table of
//! ours could not let through what another table drops, and a rule put into a
//! foreign chain would be gone with the next reload of it. It is looked at, and the
//! rule that is missing is told.

mod firewalld;
mod nftables;
mod ports;
mod ufw;

use std::time::Duration;

pub use ports::{NODE_PORTS, Port, Protocol, VXLAN_PORTS};

use crate::system::{self, Ended, System, Task};

/// The time that a firewall's program has.
const LIMIT: Duration = Duration::from_secs(60);

/// Why the firewall could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its program refuses.
    #[error("{command} failed: {said}")]
    Refused {
        /// The command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] system::Error),
}

impl Error {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::System(system::Error::Deadline { .. }) => 6,
            Self::Refused { .. } | Self::System(_) => 4,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        "run the command by hand to see why, or open 10250/tcp, 10256/tcp and 30000-32767/tcp \
         yourself: what is open already is left alone"
            .into()
    }
}

/// A firewall that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// A ruleset in /etc/nftables.conf.
    Nftables,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Nftables => "nftables",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No firewall runs.
    Absent,
    /// The firewall lets all ports through already.
    AlreadyOpen(Kind),
    /// Ports were opened.
    Opened(Kind, Vec<Port>),
    /// Ports are closed, and it is for the user to open them.
    Closed {
        /// The firewall.
        kind: Kind,
        /// What is closed.
        ports: Vec<Port>,
        /// The command that opens them.
        command: String,
    },
}

/// The firewall that runs, if one does. firewalld and ufw come first: with them
/// the kernel's ruleset is theirs.
pub fn running(system: &dyn System) -> Result<Option<Kind>, Error> {
    if firewalld::is_running(system)? {
        return Ok(Some(Kind::Firewalld));
    }
    if ufw::is_running(system)? {
        return Ok(Some(Kind::Ufw));
    }
    Ok(nftables::is_running(system)?.then_some(Kind::Nftables))
}

/// The ports of `wanted` that a firewall does not let through from everywhere.
pub fn closed(system: &dyn System, kind: Kind, wanted: &[Port]) -> Result<Vec<Port>, Error> {
    match kind {
        Kind::Firewalld => firewalld::closed(system, wanted),
        Kind::Ufw => ufw::closed(system, wanted),
        Kind::Nftables => Ok(nftables::look(system, wanted)?.closed),
    }
}

/// Opens the ports of a node ([`NODE_PORTS`]) where a firewall runs and they are
/// not open yet. The ports of a CNI plugin are the user's to open, as with nodeadm.
pub fn open(system: &dyn System) -> Result<Outcome, Error> {
    let Some(kind) = running(system)? else {
        return Ok(Outcome::Absent);
    };
    let opened = match kind {
        Kind::Firewalld => firewalld::open(system, &NODE_PORTS)?,
        Kind::Ufw => {
            let missing = ufw::closed(system, &NODE_PORTS)?;
            ufw::allow(system, &missing)?;
            missing
        }
        Kind::Nftables => {
            let found = nftables::look(system, &NODE_PORTS)?;
            return Ok(match found.command() {
                None => Outcome::AlreadyOpen(kind),
                Some(command) => Outcome::Closed {
                    kind,
                    ports: found.closed,
                    command,
                },
            });
        }
    };
    Ok(if opened.is_empty() {
        Outcome::AlreadyOpen(kind)
    } else {
        Outcome::Opened(kind, opened)
    })
}

/// Whether a program is installed; asking a missing one costs nothing then.
fn is_installed(system: &dyn System, name: &str) -> bool {
    ["/usr/bin", "/usr/sbin"]
        .iter()
        .any(|folder| system.resolve(&format!("{folder}/{name}")).is_some())
}

fn ask(system: &dyn System, program: &str, arguments: &[&str]) -> Result<Ended, Error> {
    Ok(system.run(&Task::new(program, arguments, LIMIT))?)
}

/// The output of a program that has to end well.
fn tell(system: &dyn System, program: &str, arguments: &[&str]) -> Result<String, Error> {
    tell_task(system, &Task::new(program, arguments, LIMIT))
}

fn tell_task(system: &dyn System, task: &Task) -> Result<String, Error> {
    let ended = system.run(task)?;
    if ended.success {
        return Ok(ended.output);
    }
    let said: Vec<&str> = ended
        .errors
        .lines()
        .chain(ended.output.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    Err(Error::Refused {
        command: task.line(),
        said: said.join(" "),
    })
}

#[cfg(test)]
mod tests;
