//! Kernel modules that containerd and the CNI plugins need.

use super::{File, Part};

/// Names of the modules, as /sys/module shows them.
pub const MODULES: [&str; 2] = ["overlay", "br_netfilter"];

pub(super) fn file() -> File {
    File::public(
        "/etc/modules-load.d/containerd.conf",
        Part::Kernel,
        MODULES.join("\n"),
    )
}
