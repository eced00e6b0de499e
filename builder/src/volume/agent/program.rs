//! The agent's program.

use std::path::Path;

use crate::environment;
use crate::error::{Error, Result};

/// The program that came along; empty where the build had none.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent-x86_64"));

/// Largest program that is taken, in bytes.
const LIMIT: u64 = 16 << 20;

/// The program: that of `NODEKILN_AGENT`, else the one that came along, else
/// `agent-x86_64` beside the command.
///
/// # Errors
/// [`crate::Class::Environment`] when there is none at all; [`crate::Class::Input`] when
/// the named file is no program.
pub(super) fn find() -> Result<Vec<u8>> {
    let named = std::env::var_os(environment::NODEKILN_AGENT).filter(|value| !value.is_empty());
    if let Some(path) = named {
        return read(Path::new(&path));
    }
    if !EMBEDDED.is_empty() {
        return Ok(EMBEDDED.to_vec());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|command| Some(command.parent()?.join("agent-x86_64")))
        .filter(|path| path.is_file());
    match beside {
        Some(path) => read(&path),
        None => Err(Error::environment(
            "find the agent, which edits XFS: this nodekiln came without it",
        )
        .hint(format!(
            "make it with `scripts/build-agent` and name it with {}; `make build` makes a \
             command that brings it along",
            environment::NODEKILN_AGENT
        ))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("read the agent {}", path.display());
    let size = std::fs::metadata(path)
        .map_err(|error| Error::io(doing(), error))?
        .len();
    if size > LIMIT {
        return Err(Error::input(format!(
            "{}: {size} bytes are too many",
            doing()
        )));
    }
    let program = std::fs::read(path).map_err(|error| Error::io(doing(), error))?;
    if program.starts_with(b"\x7fELF") {
        Ok(program)
    } else {
        Err(Error::input(format!("{}: it is no ELF program", doing()))
            .hint("name the one that `scripts/build-agent` makes"))
    }
}
