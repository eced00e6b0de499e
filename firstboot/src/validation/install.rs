//! `install-validation`: what a node is made of is there, and containerd's unit is
//! in a state from which it can start.

use std::time::Duration;

use super::{Finding, Subject};
use crate::system::{self, Task};

const LIMIT: Duration = Duration::from_secs(30);

/// Programs without which nothing runs.
const PROGRAMS: [&str; 2] = ["/usr/bin/kubelet", "/usr/bin/containerd"];

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    for program in PROGRAMS {
        if subject.system.resolve(program).is_none() {
            return Ok(Finding::failed(
                format!("{program} is not installed"),
                "build the image with it",
            ));
        }
    }
    let arguments = [
        "show",
        "--property=LoadState,ActiveState",
        "containerd.service",
    ];
    let ended = subject
        .system
        .run(&Task::new("systemctl", &arguments, LIMIT))?;
    let value = |name: &str| {
        let mut lines = ended.output.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let (load, active) = (value("LoadState"), value("ActiveState"));
    Ok(match (load, active) {
        (Some("loaded"), Some("failed")) => Finding::failed_for_now(
            "containerd failed to start",
            "journalctl -u containerd says why; systemctl reset-failed containerd forgets it",
        ),
        // Also one that is on its way: that is waited for anyway.
        (Some("loaded"), Some(state)) => {
            Finding::ok(format!("containerd is installed and {state}"))
        }
        _ => Finding::failed(
            "there is no unit containerd.service that can be started",
            "build the image with containerd, and do not mask its unit",
        ),
    })
}
