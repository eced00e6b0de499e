//! The agent's program.

use crate::carried::Carried;
use crate::environment;
use crate::error::Result;
use crate::profile::model::Architecture;

/// The program that came along; empty where the build had none.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent-x86_64"));

/// The program: that of `NODEKILN_AGENT`, else the one that came along, else
/// `agent-x86_64` beside the command.
///
/// # Errors
/// As [`Carried::find`].
pub(super) fn find() -> Result<Vec<u8>> {
    let carried = Carried {
        what: "the agent, which edits file systems in a guest kernel",
        embedded: EMBEDDED,
        name: "agent-x86_64".to_owned(),
        architecture: Architecture::X86_64,
        variable: environment::NODEKILN_AGENT,
        script: "scripts/build-agent".to_owned(),
    };
    Ok(carried.find(None)?.into_owned())
}
