//! `nodekiln init`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use nodekiln::{Error, Result};

use super::Context;

/// The profile that `init` writes.
const EXAMPLE: &str = include_str!("../../../profiles/example.yaml");

/// Write a commented profile to begin with
#[derive(Debug, Args)]
pub struct Init {
    /// The file to write; an existing one is left alone
    #[arg(value_name = "PROFILE", default_value = "profile.yaml")]
    file: PathBuf,
}

impl Init {
    pub fn run(&self, context: &Context) -> Result<()> {
        let doing = || format!("write {}", self.file.display());
        let mut file = std::fs::File::create_new(&self.file).map_err(|error| {
            let present = error.kind() == std::io::ErrorKind::AlreadyExists;
            let error = Error::io(doing(), error);
            if present {
                error.hint("name another file, or remove it")
            } else {
                error
            }
        })?;
        file.write_all(EXAMPLE.as_bytes())
            .map_err(|error| Error::io(doing(), error))?;
        context.printer.result(&self.file, |file| {
            format!(
                "{}: edit it, then run: nodekiln lock {}",
                file.display(),
                file.display()
            )
        })
    }
}
