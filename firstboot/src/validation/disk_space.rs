//! `disk-space-validation`: images and pods have room. The kubelet takes no pods
//! when less than 10 % of the node's file system or 15 % of that of images is
//! left (Kubernetes, "Node-pressure Eviction", defaults).

use super::{Finding, Subject};
use crate::system;

const GIB: u64 = 1 << 30;

/// Folders, and how many percent must be left there.
const FOLDERS: [(&str, u64); 2] = [("/var/lib/containerd", 15), ("/var/lib/kubelet", 10)];

/// Less holds not even the images that every node runs.
const LEAST: u64 = GIB;

/// Less is soon full.
const LITTLE: u64 = 10 * GIB;

const HINT: &str = "give the machine a larger disk and let its root grow, or put the folder on a \
                    disk of its own";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let mut seen = Vec::new();
    let mut worst: Option<Finding> = None;
    for (folder, percent) in FOLDERS {
        // Before the first start the folder may not be there: its parent's room counts.
        let parents = [folder, "/var/lib", "/var", "/"];
        let mut room = None;
        for place in parents {
            room = subject.system.space(place)?;
            if room.is_some() {
                break;
            }
        }
        let Some(room) = room.filter(|room| room.total > 0) else {
            return Ok(Finding::could_not_run(format!(
                "the room of {folder} is not known"
            )));
        };
        let left = format!(
            "{} of {} free for {folder}",
            gib(room.free),
            gib(room.total)
        );
        if room.free < LEAST {
            return Ok(Finding::failed(format!("only {left}"), HINT));
        }
        let pressed = u128::from(room.free) * 100 < u128::from(room.total) * u128::from(percent);
        if pressed {
            let text = format!("only {left}: below {percent} % the kubelet takes no pods");
            worst.get_or_insert(Finding::warning(text, HINT));
        } else if room.free < LITTLE {
            worst.get_or_insert(Finding::warning(format!("only {left}"), HINT));
        }
        seen.push(left);
    }
    Ok(worst.unwrap_or_else(|| Finding::ok(seen.join(", "))))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}
