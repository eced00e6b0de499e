//! `firstboot check --live`: the checks before joining, alone.

use std::path::Path;

use nodekiln_firstboot::datasource::{self, LinuxMachine};
use nodekiln_firstboot::node_config::{NodeConfig, with_defaults};
use nodekiln_firstboot::phases::Error;
use nodekiln_firstboot::system::{Clock as _, Files as _, Linux, Variables, gather};
use nodekiln_firstboot::validation::{self, LIMIT, Moment, Report, Skips, Subject, UnknownName};

/// There once the kubelet's files are written.
const KUBECONFIG: &str = "/var/lib/kubelet/kubeconfig";

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

/// Runs the checks on this machine and changes nothing. Nobody is asked about the
/// cluster: what needs that is skipped, and says so.
pub(crate) fn check(config: Option<&Path>, skip: &[String]) -> Result<Checked, Refused> {
    let skips = Skips::new(skip.iter().map(String::as_str)).map_err(Refused::Unknown)?;
    let system = Linux::new();
    let skips = skips.with_file(&system).map_err(machine)?;
    let variables = Variables::from_process();
    let config = node_config(config, &system, &variables)?;
    let facts = gather(&system, &variables).map_err(machine)?;
    let subject = Subject {
        system: &system,
        config: &config,
        facts: &facts,
        variables: &variables,
        cluster: None,
        cloud: None,
        deadline: system.elapsed() + LIMIT,
    };
    let mut report = validation::run(&subject, Moment::Before, &skips);
    if system.status(KUBECONFIG).map_err(machine)?.is_some() {
        report = report.and(validation::run(&subject, Moment::Written, &skips));
    }
    Ok(Checked {
        report,
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
