//! Kernel parameters that the kubelet insists on (`protectKernelDefaults`).

use super::{File, Part};

pub(super) fn file() -> File {
    File::public(
        "/etc/sysctl.d/99-nodeadm.conf",
        Part::Kernel,
        "vm.overcommit_memory=1\nkernel.panic=10\nkernel.panic_on_oops=1\nnet.ipv4.ip_forward=1",
    )
}
