//! The SOCI snapshotter, which loads and unpacks an image's layers side by side
//! (`spec.featureGates.FastImagePull`; EC2 only).

use super::node::{Node, gate};
use super::{File, Part};

/// Where it listens; the kubelet asks it for images, containerd for snapshots.
pub(super) const SOCKET: &str = "/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock";

/// Its configuration, which is written where it is used.
pub(crate) const CONFIG: &str = "/etc/soci-snapshotter-grpc/config.toml";

/// With less than this, side by side is slower.
const LEAST_CPUS: u32 = 4;
const LEAST_MEMORY_KIB: u64 = 7 << 20;

/// Whether it is used.
pub(super) fn is_active(node: &Node<'_>) -> bool {
    is_wanted(node) && obstacle(node).is_none()
}

fn is_wanted(node: &Node<'_>) -> bool {
    node.is_ec2() && gate(node.config, "FastImagePull")
}

/// What stands against it on this machine.
fn obstacle(node: &Node<'_>) -> Option<&'static str> {
    let facts = node.facts;
    let memory = if facts.online_memory_kib == 0 {
        facts.memory_kib
    } else {
        facts.online_memory_kib
    };
    if !facts.soci_snapshotter {
        Some("the SOCI snapshotter is not installed")
    } else if facts.logical_cpus < LEAST_CPUS {
        Some("the machine has less than 4 processors")
    } else if memory < LEAST_MEMORY_KIB {
        Some("the machine has less than 7 GiB of memory")
    } else {
        None
    }
}

/// Why it is not used although it is wanted.
pub(super) fn warning(node: &Node<'_>) -> Option<String> {
    if !is_wanted(node) {
        return None;
    }
    obstacle(node).map(|why| {
        format!("spec.featureGates.FastImagePull is not used: {why}; images are pulled as usual")
    })
}

/// Its configuration, and its place before containerd.
pub(super) fn files(node: &Node<'_>) -> Vec<File> {
    if !is_active(node) {
        return Vec::new();
    }
    // How much at once: as the EKS image has it, found by its makers.
    let config = r#"debug = false

[content_store]
type = "containerd"

[cri_keychain]
enable_keychain = true
image_service_path = "/run/containerd/containerd.sock"

[pull_modes.parallel_pull_unpack]
enable = true
concurrent_download_chunk_size = "16mb"
discard_unpacked_layers = true
max_concurrent_downloads = -1
max_concurrent_downloads_per_image = 20
max_concurrent_unpacks = -1
max_concurrent_unpacks_per_image = 12

[pull_modes.parallel_pull_unpack.decompress_streams.gzip]
path = "/usr/bin/unpigz"
args = ["-d", "-c"]
"#;
    let order = "[Unit]\nRequires=soci-snapshotter.service\nAfter=soci-snapshotter.service\n";
    vec![
        File::public(CONFIG, Part::Containerd, config),
        File::public(
            "/etc/systemd/system/containerd.service.d/10-soci-snapshotter.conf",
            Part::Containerd,
            order,
        ),
    ]
}
