//! `nodekiln man`.

use std::path::PathBuf;

use clap::Args;
use nodekiln::{Error, Result};

use super::{Context, Printer, definition};

/// Print the manual page, or write one page a verb into a folder
#[derive(Debug, Args)]
pub struct Man {
    /// Write `nodekiln.1` and `nodekiln-VERB.1` into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Man {
    pub fn run(&self, _: &Context) -> Result<()> {
        match &self.output {
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(definition())
                    .render(&mut page)
                    .map_err(|error| Error::io("render the manual page", error))?;
                Printer::bytes(&page)
            }
            Some(folder) => {
                let doing = || format!("write manual pages into {}", folder.display());
                std::fs::create_dir_all(folder)
                    .and_then(|()| clap_mangen::generate_to(definition(), folder))
                    .map_err(|error| Error::io(doing(), error))
            }
        }
    }
}
