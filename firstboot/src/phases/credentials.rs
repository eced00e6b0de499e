//! What the node proves its own with, as far as it lies on the machine.

use super::Error;
use super::work::Work;
use crate::credentials::{Finding, Provider, inspect_files};
use crate::render::Facts;

/// Looks at certificate and key before anything is changed.
pub(super) fn inspect(work: &mut Work<'_>, provider: &Provider<'_>) -> Result<(), Error> {
    let Provider::IamRolesAnywhere(settings) = provider else {
        return Ok(());
    };
    for finding in inspect_files(settings, work.system, work.system.now())? {
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
