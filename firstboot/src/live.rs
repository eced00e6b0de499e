//! `firstboot check --live`: the checks before joining, alone.

use std::path::Path;

use nodekiln_firstboot::datasource::{self, LinuxMachine};
use nodekiln_firstboot::node_config::{NodeConfig, with_defaults};
use nodekiln_firstboot::phases::{self, Error};
use nodekiln_firstboot::system::{Linux, Variables};
use nodekiln_firstboot::validation::{Report, Skips, UnknownName};

/// Why the checks could not be run.
pub(crate) enum Refused {
    /// `--skip` names no check.
    Unknown(UnknownName),
    /// The machine or its NodeConfig.
    Machine(Box<Error>),
}

fn machine(error: impl Into<Error>) -> Refused {
    Refused::Machine(Box::new(error.into()))
}

/// What the checks found, and remarks on what was asked for.
pub(crate) struct Checked {
    pub report: Report,
    pub remarks: Vec<String>,
}

/// Runs the checks on this machine and changes nothing.
pub(crate) fn check(config: Option<&Path>, skip: &[String]) -> Result<Checked, Refused> {
    let skips = Skips::new(skip.iter().map(String::as_str)).map_err(Refused::Unknown)?;
    let system = Linux::new();
    let skips = skips.with_file(&system).map_err(machine)?;
    let variables = Variables::from_process();
    let config = node_config(config, &system, &variables)?;
    Ok(Checked {
        report: phases::look(&system, config, &variables, &skips).map_err(machine)?,
        remarks: skips.remarks,
    })
}

/// The NodeConfig that `firstboot run` would find.
fn node_config(
    path: Option<&Path>,
    system: &Linux,
    variables: &Variables,
) -> Result<NodeConfig, Refused> {
    let search = datasource::Options {
        config: path.map(Path::to_owned),
        variables: variables.clone(),
        ..datasource::Options::default()
    };
    let found = datasource::find(&search, &LinuxMachine::default(), system).map_err(machine)?;
    let invalid = |problems| Error::Invalid { problems };
    let parsed = found.load().map_err(|it| machine(invalid(it)))?;
    let problems = parsed.check();
    if problems.is_empty() {
        Ok(with_defaults(parsed.config))
    } else {
        Err(machine(invalid(problems)))
    }
}
