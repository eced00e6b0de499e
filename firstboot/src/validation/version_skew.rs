//! `kubelet-version-skew-validation`: the kubelet is not newer than the cluster,
//! and at most three minor versions older (Kubernetes, "Version Skew Policy").

use super::{Finding, Subject};
use crate::system;

/// Minor versions that a kubelet may be behind.
const OLDEST: u32 = 3;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let Some(cluster) = subject.cluster else {
        return Ok(Finding::skipped("EKS was not asked about the cluster"));
    };
    let Some(version) = &cluster.version else {
        return Ok(Finding::skipped("EKS does not say the cluster's version"));
    };
    let Some((major, minor)) = numbers(version) else {
        return Ok(Finding::could_not_run(
            "EKS gives a version of the cluster that is none",
        ));
    };
    let kubelet = subject.facts.kubelet;
    let seen = format!("kubelet {kubelet}, cluster {major}.{minor}");
    if kubelet.major != major || kubelet.minor > minor {
        return Ok(Finding::failed(
            format!("the kubelet is newer than the cluster: {seen}"),
            "upgrade the cluster first, or use an image with an older kubelet",
        ));
    }
    if minor - kubelet.minor > OLDEST {
        return Ok(Finding::failed(
            format!("the kubelet is too old for the cluster: {seen}"),
            "use an image with a kubelet that is at most three minor versions older",
        ));
    }
    Ok(Finding::ok(seen))
}

/// The first two numbers of `1.34` or `v1.34.1`.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let mut parts = text
        .trim()
        .strip_prefix('v')
        .unwrap_or(text.trim())
        .split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
