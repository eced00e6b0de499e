//! `cluster-description-validation`: EKS says what the NodeConfig leaves out of the
//! cluster. nodeadm asks while it completes its configuration, and has no name for it.

use super::{Finding, Subject};
use crate::system;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    if let Some(finding) = subject.undescribed {
        return Ok(finding.clone());
    }
    Ok(match subject.cluster {
        Some(cluster) => Finding::ok(format!(
            "EKS describes cluster {} of {}",
            subject.config.spec.cluster.name,
            cluster.version.as_deref().unwrap_or("an unknown version")
        )),
        None => Finding::skipped("the NodeConfig says all of the cluster"),
    })
}
