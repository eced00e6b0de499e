//! `cluster-access-validation`: the cluster has an access entry for the node's
//! role.

use super::{CloudError, Finding, Subject};
use crate::system;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    let Some(cloud) = subject.cloud.filter(|_| subject.cluster.is_some()) else {
        return Ok(Finding::skipped("AWS was not asked about the cluster"));
    };
    let asked = cloud
        .caller()
        .and_then(|arn| Ok((arn, cloud.access_entries()?)));
    let (arn, entries) = match asked {
        Ok(answers) => answers,
        // Not every node role may list them; what counts is asked of the cluster later.
        Err(error @ CloudError::Forbidden(_)) => {
            return Ok(Finding::could_not_run(format!(
                "the role may not list access entries (eks:ListAccessEntries): {error}"
            )));
        }
        Err(error) => return Ok(Finding::could_not_run(error.to_string())),
    };
    let Some(role) = role_of_session(&arn) else {
        return Ok(Finding::could_not_run(format!(
            "{arn} is no session of a role"
        )));
    };
    if entries.iter().any(|entry| role_name(entry) == Some(role)) {
        return Ok(Finding::ok(format!("the role {role} has an access entry")));
    }
    Ok(Finding::failed(
        format!("the cluster has no access entry for the role {role}"),
        "aws eks create-access-entry --type HYBRID_LINUX for the node's role",
    ))
}

/// `NAME` of `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`: the role's path is not
/// in it.
fn role_of_session(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':').nth(5)?.split('/');
    (parts.next()? == "assumed-role").then(|| parts.next())?
}

/// `NAME` of `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
fn role_name(arn: &str) -> Option<&str> {
    let resource = arn.splitn(6, ':').nth(5)?.strip_prefix("role/")?;
    resource.rsplit('/').next()
}
