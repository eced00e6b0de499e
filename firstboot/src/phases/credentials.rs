//! What the node proves its own with, as far as it lies on the machine.

use std::time::Duration;

use super::work::{Patience, Work};
use super::{Error, Phase};
use crate::credentials::{Finding, Provider, Settings, inspect_files};
use crate::render::Facts;

/// A clock that is set over the network is right within this time.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(10),
    budget: Duration::from_secs(120),
};

/// Looks at certificate and key before anything is changed. A certificate that is not
/// valid yet, or no longer by a clock that nobody set, is one of a machine whose clock is
/// yet to be set: it is waited for, and does not keep a node that joined before from
/// starting.
pub(super) fn inspect(work: &mut Work<'_>, provider: &Provider<'_>) -> Result<(), Error> {
    let Provider::IamRolesAnywhere(settings) = provider else {
        return Ok(());
    };
    if !work.journal.is_complete() {
        return work.patiently(Phase::Credentials, PATIENCE, |work| look(work, settings));
    }
    match look(work, settings) {
        Err(error) if error.may_pass() => {
            work.warn(&format!("{}: the node starts all the same", error.chain()));
            Ok(())
        }
        looked => looked,
    }
}

fn look(work: &Work<'_>, settings: &Settings<'_>) -> Result<(), Error> {
    for finding in inspect_files(settings, work.system)? {
        match finding {
            Finding::Fatal {
                problem,
                hint,
                may_pass,
            } => {
                return Err(Error::Credentials {
                    problem,
                    hint,
                    may_pass,
                });
            }
            Finding::Warning(text) => work.warn(&text),
        }
    }
    Ok(())
}

/// Tells of programs without which a node starts but does not work.
pub(super) fn look_for_programs(work: &Work<'_>, provider: &Provider<'_>, facts: &Facts) {
    let programs: &[&str] = match provider {
        Provider::IamRolesAnywhere(_) => &[
            "/usr/local/bin/aws-iam-authenticator",
            "/usr/local/bin/aws_signing_helper",
        ],
        Provider::Ssm(_) => &["/usr/local/bin/aws-iam-authenticator"],
        Provider::Ec2 => &[],
    };
    for program in programs {
        if work.system.resolve(program).is_none() {
            work.warn(&format!(
                "{program} is not installed: the kubelet cannot prove who it is"
            ));
        }
    }
    if facts.credential_provider.is_none() {
        work.warn("no image credential provider is installed: images in ECR cannot be pulled");
    }
}
