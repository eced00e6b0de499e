//! `node-inactive-validation`: nobody made a node of this machine before. A
//! warning only.

use std::time::Duration;

use super::{Finding, Subject};
use crate::phases::JOURNAL;
use crate::system::{self, Task};

const LIMIT: Duration = Duration::from_secs(30);

/// What is there where a node was.
const TRACES: [&str; 2] = ["/etc/eks/kubelet/environment", "/etc/kubernetes"];

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    // What this program wrote itself on an earlier boot is no trace of others.
    if wrote_them_itself(subject)? {
        return Ok(Finding::ok("this program made the node on an earlier boot"));
    }
    for trace in TRACES {
        if subject.system.resolve(trace).is_some() {
            return Ok(Finding::warning(
                format!("{trace} is there already"),
                "a machine that was a node before keeps what the new one does not replace; \
                 build the image without it",
            ));
        }
    }
    let task = Task::new("systemctl", &["is-active", "kubelet.service"], LIMIT);
    if subject.system.run(&task)?.output.trim() == "active" {
        return Ok(Finding::warning(
            "the kubelet is running already",
            "do not enable the kubelet in the image",
        ));
    }
    Ok(Finding::ok("no trace of an earlier node"))
}

fn wrote_them_itself(subject: &Subject<'_>) -> Result<bool, system::Error> {
    Ok(subject
        .text(JOURNAL)?
        .is_some_and(|text| text.contains(TRACES[0])))
}
