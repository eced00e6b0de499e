//! What has to be known before files can be made: the machine and its credentials.

use super::work::Work;
use super::{Error, Phase, credentials, instance, registration};
use crate::credentials::{Provider, provider};
use crate::node_config::NodeConfig;
use crate::render::Facts;
use crate::system::{Variables, gather};

/// Finds it out.
pub(super) fn prepare(
    work: &mut Work<'_>,
    config: &NodeConfig,
    variables: &Variables,
) -> Result<Facts, Error> {
    let provider = provider(config)?;
    let mut facts = work.phase(Phase::Credentials, "", |work| {
        let mut facts = gather(work.system, variables)?;
        if matches!(provider, Provider::Ec2) {
            facts.instance = Some(instance::establish(work, config, variables)?);
        }
        credentials::inspect(work, &provider)?;
        credentials::look_for_programs(work, &provider, &facts);
        Ok(facts)
    })?;
    if let Provider::Ssm(activation) = &provider {
        let inputs = registration::inputs(config, activation);
        let registration = work.phase(Phase::Registration, &inputs, |work| {
            registration::establish(work, config, activation, variables)
        })?;
        facts.managed_instance_id = Some(registration.managed_instance_id);
    } else {
        work.phase(Phase::Registration, "", |_| Ok(()))?;
    }
    Ok(facts)
}
