//! `nodekiln completion`.

use clap::Args;
use clap_complete::Shell;
use nodekiln::Result;

use super::{Context, Printer, definition};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(&self, _: &Context) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "nodekiln", &mut script);
        Printer::bytes(&script)
    }
}
