//! Registration of the machine with SSM, and its agent.

use std::time::Duration;

use super::journal::digest;
use super::work::{Patience, Work};
use super::{Error, Phase, unit};
use crate::credentials::ssm::{self, Agent, Refusal, Registration};
use crate::node_config::model::{NodeConfig, Ssm};
use crate::system::{System, Task, Variables};

/// nodeadm tries every ten seconds for a minute; a site whose network comes up
/// slowly needs more.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(10),
    longest: Duration::from_secs(10),
    budget: Duration::from_secs(240),
};

/// Time until the agent has written credentials, as nodeadm gives it.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(120);

/// Digest of what the registration is made from: nothing of the secret is in it.
pub(super) fn inputs(config: &NodeConfig, activation: &Ssm) -> String {
    let region = config.spec.cluster.region.as_bytes();
    digest([region, activation.activation_id.as_bytes()])
}

/// Makes sure that the machine is registered and its agent gives credentials; says
/// who it is.
pub(super) fn establish(
    work: &mut Work<'_>,
    config: &NodeConfig,
    activation: &Ssm,
    variables: &Variables,
) -> Result<Registration, Error> {
    let region = &config.spec.cluster.region;
    let was_done = work
        .journal
        .is_done(Phase::Registration, &inputs(config, activation));
    let agent = installed_agent(work.system)?;
    // Whose it is was established before: one that is there is this machine's own.
    let found = ssm::registration(work.system)?;
    let is_new = found.is_none();
    let registration = if let Some(found) = found {
        found
    } else {
        work.reopen(Phase::Registration);
        let task = ssm::register(agent, region, activation, variables);
        let new = work.patiently(Phase::Registration, PATIENCE, |work| {
            register(work.system, &task)
        })?;
        let text = format!("registered with SSM as {}", new.managed_instance_id);
        work.info(&text);
        work.system.milestone(&text);
        new
    };
    if registration.region != *region {
        work.warn(&format!(
            "the machine is registered with SSM in {}, not in {region}: its registration is kept",
            registration.region
        ));
    }
    let ran_before = unit::is_up(work.system, agent.unit)?;
    unit::ensure_active(work.system, agent.unit, is_new || !was_done, ran_before)?;
    wait_for_credentials(work, agent, variables)?;
    Ok(registration)
}

/// The agent. On Ubuntu it may be a snap that is unpacked only while the machine
/// boots for the first time.
fn installed_agent(system: &dyn System) -> Result<Agent, Error> {
    const SEEDED: &str = "snapd.seeded.service";
    if let Some(agent) = ssm::agent(system) {
        return Ok(agent);
    }
    if system.resolve("/usr/bin/snap").is_some() {
        unit::start(system, SEEDED)?;
    }
    ssm::agent(system).ok_or_else(|| Error::Machine {
        problem: "the SSM agent is not installed".into(),
        hint: "build the image with it (credentials: [ssm]), or use \
               spec.hybrid.iamRolesAnywhere"
            .into(),
    })
}

/// One attempt.
fn register(system: &dyn System, task: &Task) -> Result<Registration, Error> {
    let ended = system.run(task)?;
    if !ended.success {
        let said = format!("{}\n{}", ended.errors, task.for_people(ended.output));
        return Err(match Refusal::find(&said) {
            Some(refusal) => Error::Credentials {
                problem: refusal.problem().into(),
                hint: refusal.hint().into(),
                may_pass: false,
            },
            None => Error::Credentials {
                problem: format!(
                    "the SSM agent did not register the machine: {}",
                    reason(&said)
                ),
                hint: "ssm.REGION has to be reachable, through the proxy if one is set".into(),
                may_pass: true,
            },
        });
    }
    ssm::registration(system)?.ok_or_else(|| Error::Credentials {
        problem: format!(
            "the SSM agent says that it registered the machine, but {} does not",
            ssm::REGISTRATION
        ),
        hint: "look at /var/log/amazon/ssm".into(),
        may_pass: true,
    })
}

/// The line that says why, of a page that the agent says.
fn reason(said: &str) -> String {
    const LONGEST: usize = 300;
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.contains("Registration failed due to"))
        .or_else(|| lines().next_back())
        .unwrap_or("it gives no reason");
    let printable = line.chars().filter(|character| !character.is_control());
    printable.take(LONGEST).collect()
}

fn wait_for_credentials(
    work: &mut Work<'_>,
    agent: Agent,
    variables: &Variables,
) -> Result<(), Error> {
    let path = ssm::credentials(variables).to_owned();
    let is_there = |system: &dyn System| Ok(system.status(&path)?.is_some());
    if work.wait_for(Phase::Registration, &path, CREDENTIALS_LIMIT, &is_there)? {
        return Ok(());
    }
    Err(Error::Late {
        what: format!("{path}, which the SSM agent writes,"),
        limit: CREDENTIALS_LIMIT,
        hint: format!("journalctl -b -u {} says more", agent.unit),
    })
}
