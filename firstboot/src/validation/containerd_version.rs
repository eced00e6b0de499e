//! `containerd-version-validation`: Ubuntu 24.04 confines runc such that an older
//! containerd cannot stop pods (Launchpad bug 2065423). A warning.

use super::{Finding, Subject};
use crate::render::Version;
use crate::system;

const SINCE: Version = Version::new(1, 7, 19);

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let release = subject.text("/etc/os-release")?.unwrap_or_default();
    let mut lines = release.lines();
    let version = lines.find_map(|line| line.trim().strip_prefix("VERSION_ID="));
    let is_noble =
        subject.facts.os == "ubuntu" && version.map(|it| it.trim_matches('"')) == Some("24.04");
    let containerd = subject.facts.containerd;
    Ok(if is_noble && containerd < SINCE {
        Finding::warning(
            format!("containerd {containerd} on Ubuntu 24.04 leaves pods that do not terminate"),
            "build the image with containerd 1.7.19 or newer",
        )
    } else {
        Finding::ok(format!("containerd {containerd}"))
    })
}
