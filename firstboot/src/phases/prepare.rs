//! What has to be known before files can be made: the machine, its credentials,
//! and of the cluster what the NodeConfig does not say.

use super::work::Work;
use super::{Error, Phase, credentials, registration};
use crate::credentials::{Provider, provider};
use crate::node_config::NodeConfig;
use crate::render::Facts;
use crate::system::{Variables, gather};

/// Finds it out, and completes the NodeConfig with it.
pub(super) fn prepare(
    work: &mut Work<'_>,
    config: &mut NodeConfig,
    variables: &Variables,
) -> Result<Facts, Error> {
    let provider = provider(config)?;
    let mut facts = work.phase(Phase::Credentials, "", |work| {
        let facts = gather(work.system, variables)?;
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
