//! The agent's program.

use crate::carried::Carried;
use crate::environment;
use crate::error::Result;
use crate::profile::model::Architecture;

/// The program that came along; empty where the build had none.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// The processors that the program is for, and the guest in which it runs: those of this
/// machine. `None` where there is no agent.
pub(super) const ARCHITECTURE: Option<Architecture> = if cfg!(target_arch = "x86_64") {
    Some(Architecture::X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(Architecture::Arm64)
} else {
    None
};

/// The program for `architecture`, which is [`ARCHITECTURE`]: that of `NODEKILN_AGENT`, else
/// the one that came along, else `agent-x86_64` or `agent-arm64` beside the command.
///
/// # Errors
/// As [`Carried::find`].
pub(super) fn find(architecture: Architecture) -> Result<Vec<u8>> {
    let carried = Carried {
        what: "the agent, which edits file systems in a guest kernel",
        embedded: EMBEDDED,
        name: format!("agent-{}", architecture.name()),
        architecture,
        variable: environment::NODEKILN_AGENT,
        script: format!("scripts/build-agent {}", architecture.name()),
    };
    Ok(carried.find(None)?.into_owned())
}
