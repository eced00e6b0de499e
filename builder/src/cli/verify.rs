//! `nodekiln verify`.

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::Args;
use nodekiln::build::verify::{self, Outcome};
use nodekiln::{Error, Result};

use super::Context;

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Check an image or the folder of a build: checksums, partition table, file
/// systems, hygiene, SELinux labels
#[derive(Debug, Args)]
pub struct Verify {
    /// An image file, or the folder of a build
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

impl Verify {
    pub fn run(&self, context: &Context) -> Result<()> {
        let progress = context.reporter.as_ref();
        let checks = if self.path.is_dir() {
            verify::folder(&self.path, progress)?
        } else {
            verify::image(&self.path, progress)?
        };
        context.printer.result(&checks, |checks| {
            let line = |check: &verify::Check| {
                let (style, word, detail) = match &check.outcome {
                    Outcome::Passed => (GREEN, "passed       ", String::new()),
                    Outcome::Failed(text) => (RED, "failed       ", format!(": {text}")),
                    Outcome::CouldNotRun(text) => (YELLOW, "could not run", format!(": {text}")),
                };
                format!("{style}{word}{style:#}  {}{detail}\n", check.name)
            };
            checks.iter().map(line).collect()
        })?;
        let bad = checks
            .iter()
            .filter(|check| check.outcome != Outcome::Passed)
            .count();
        if bad == 0 {
            return Ok(());
        }
        Err(Error::check_failed(format!(
            "verify {}: {bad} of {} checks did not pass",
            self.path.display(),
            checks.len()
        )))
    }
}
