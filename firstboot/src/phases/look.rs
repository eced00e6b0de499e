//! The checks before joining, alone.

use super::cloud::Aws;
use super::{Error, cluster};
use crate::credentials::{Provider, provider, ssm};
use crate::node_config::NodeConfig;
use crate::render::aws_configuration;
use crate::system::{System, Variables, gather};
use crate::validation::{self, Cloud, DESCRIPTION, Finding, LIMIT, Moment, Report, Skips, Subject};

/// There once the kubelet's files are written.
const KUBECONFIG: &str = "/var/lib/kubelet/kubeconfig";

/// Looks at this machine as before joining, and changes nothing: AWS is asked with the
/// credentials that the node would have, and a machine that has to register with SSM
/// first has none yet.
///
/// # Errors
/// When the machine is not known well enough to be looked at.
pub fn look(
    system: &dyn System,
    config: NodeConfig,
    variables: &Variables,
    skips: &Skips,
) -> Result<Report, Error> {
    let facts = gather(system, variables)?;
    let settings = aws_configuration(&config, &facts)?;
    let settings = settings.map(|file| file.content);
    let cloud = Aws::new(system, &config, variables).with_settings(settings.as_deref());
    let has_credentials = match provider(&config)? {
        Provider::IamRolesAnywhere(_) => settings.is_some(),
        Provider::Ssm(_) => system.status(ssm::credentials(variables))?.is_some(),
        Provider::Ec2 => false,
    };
    let is_asked = cluster::is_asked_for(&config) && !skips.contains(DESCRIPTION);
    let asked = match (is_asked, has_credentials) {
        (false, _) => Ok(None),
        (true, false) => Err(Finding::skipped(
            "the machine has no credentials yet: SSM gives them when it joins",
        )),
        (true, true) => cluster::describe(&cloud, &config)
            .map(Some)
            .map_err(failure),
    };
    let described = asked.as_ref().ok().and_then(Option::as_ref);
    let filled = cluster::filled(config.clone(), described);
    let cluster = described.map(cluster::Described::as_checks_see_it);
    let subject = Subject {
        system,
        config: &filled,
        facts: &facts,
        variables,
        cluster: cluster.as_ref(),
        undescribed: asked.as_ref().err(),
        cloud: has_credentials.then_some(&cloud as &dyn Cloud),
        deadline: system.elapsed() + LIMIT,
    };
    let report = validation::run(&subject, Moment::Before, skips);
    if system.status(KUBECONFIG)?.is_none() {
        return Ok(report);
    }
    Ok(report.and(validation::run(&subject, Moment::Written, skips)))
}

fn failure(error: Error) -> Finding {
    let hint = error.hint().unwrap_or_default();
    if error.may_pass() {
        Finding::failed_for_now(error.chain(), hint)
    } else {
        Finding::failed(error.chain(), hint)
    }
}
