//! `kernel-validation`: the kernel's version against what Kubernetes and the CNI
//! plugins that hybrid nodes use ask for. A warning: what the cluster uses is not
//! known here.

use super::{Finding, Subject};
use crate::render::Version;
use crate::system;

/// kubeadm refuses older ones from Kubernetes 1.32 on (k8s.io/system-validators).
const KUBERNETES: (u32, u32) = (4, 19);
const KUBERNETES_SINCE: Version = Version::new(1, 32, 0);

/// Cilium from 1.17.9 and 1.18 on ("System Requirements").
const CILIUM: (u32, u32) = (5, 10);

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let release = subject.text("/proc/sys/kernel/osrelease")?;
    let Some(release) = release.as_deref().map(str::trim) else {
        return Ok(Finding::could_not_run(
            "the kernel does not say its version",
        ));
    };
    let Some(version) = numbers(release) else {
        return Ok(Finding::could_not_run(format!(
            "the kernel's version {release:?} is none"
        )));
    };
    let kubelet = subject.facts.kubelet;
    Ok(if version < KUBERNETES && kubelet >= KUBERNETES_SINCE {
        Finding::warning(
            format!("kernel {release} is older than 4.19, which Kubernetes 1.32 and newer ask for"),
            "use an OS with a newer kernel, or a kubelet older than 1.32",
        )
    } else if version < CILIUM && subject.is_hybrid() {
        Finding::warning(
            format!("kernel {release} is older than 5.10, which Cilium asks for from 1.17.9 on"),
            "use an OS with a newer kernel, an older Cilium, or Calico",
        )
    } else {
        Finding::ok(format!("kernel {release}"))
    })
}

/// The first two numbers of `6.1.155-176.282.amzn2023.x86_64`.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
