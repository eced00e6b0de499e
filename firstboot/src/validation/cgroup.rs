//! `cgroup-validation`: the version of cgroups against the kubelet's. Version 1 is
//! in maintenance from Kubernetes 1.31 on, and refused from 1.35 on unless the
//! kubelet's `failCgroupV1` is off (KEP-4569, KEP-5573).

use serde_json::Value;

use super::{Finding, Subject};
use crate::render::Version;
use crate::system;

const MAINTENANCE: Version = Version::new(1, 31, 0);
const REFUSED: Version = Version::new(1, 35, 0);

/// Is there only where the unified hierarchy is mounted at the root.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";

const HINT: &str = "boot with systemd.unified_cgroup_hierarchy=1, or use an OS that has cgroups v2";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if let Some(controllers) = subject.text(UNIFIED)? {
        let lacks: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|wanted| !controllers.split_whitespace().any(|it| it == *wanted))
            .collect();
        return Ok(if lacks.is_empty() {
            Finding::ok("cgroups v2")
        } else {
            Finding::failed(
                format!("cgroups v2 without the controllers {}", lacks.join(", ")),
                "boot a kernel that has them, and without cgroup_disable=",
            )
        });
    }
    if subject.system.resolve("/sys/fs/cgroup").is_none() {
        return Ok(Finding::could_not_run("/sys/fs/cgroup is not there"));
    }
    let kubelet = subject.facts.kubelet;
    let seen = format!("cgroups v1 with kubelet {kubelet}");
    let allowed =
        subject.config.spec.kubelet.config.get("failCgroupV1") == Some(&Value::Bool(false));
    Ok(if kubelet >= REFUSED && !allowed {
        Finding::failed(format!("{seen}, which does not start there"), HINT)
    } else if kubelet >= MAINTENANCE {
        Finding::warning(format!("{seen}, which Kubernetes no longer develops"), HINT)
    } else {
        Finding::ok(seen)
    })
}
