//! `aws-auth-validation`: AWS accepts the node's credentials.
//!
//! A service that cannot be reached is no failure, as with nodeadm. Where the
//! NodeConfig says everything about the cluster, a machine that joins contacts nobody
//! but the cluster and the source of the credentials, for sites that reach nothing
//! else; that the cluster accepts them is then seen by
//! `k8s-authentication-validation`. Who looks with `check --live` asks in any case.

use super::{CloudError, Finding, Subject};
use crate::system;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    let Some(cloud) = subject.cloud else {
        return Ok(Finding::skipped("AWS is not asked"));
    };
    Ok(match cloud.caller() {
        Ok(arn) => Finding::ok(format!("the node is {arn}")),
        Err(CloudError::Unreachable(why)) => {
            Finding::could_not_run(format!("STS cannot be reached: {why}"))
        }
        Err(error) => Finding::failed(
            format!("AWS does not accept the node's credentials: {error}"),
            "look at the activation, or at the certificate, its trust anchor, profile and role",
        ),
    })
}
