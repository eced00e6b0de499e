//! containerd's configuration, in the schema of its own major version: 2 for
//! containerd 1.x, 3 for 2.x. (nodeadm writes schema 2 for both and leaves the
//! migration to containerd.)

use super::node::Node;
use super::quoting::toml_string;
use super::{Error, File, Part, sandbox_image};

pub(super) fn files(node: &Node<'_>) -> Result<Vec<File>, Error> {
    let sandbox = toml_string(&sandbox_image(node.region, node.facts));
    let content = match node.facts.containerd.major {
        0 | 1 => schema_2(&sandbox),
        _ => schema_3(&sandbox),
    };
    let mut files = vec![File::public(
        "/etc/containerd/config.toml",
        Part::Containerd,
        content,
    )];
    let given = &node.config.spec.containerd.config;
    if !given.trim().is_empty() {
        let path = "/etc/containerd/config.d/00-nodeadm.toml";
        files.push(File::public(path, Part::Containerd, given.as_str()));
    }
    Ok(files)
}

fn head(version: u32) -> String {
    format!(
        r#"version = {version}
root = "/var/lib/containerd"
state = "/run/containerd"
# What spec.containerd.config of the NodeConfig holds is imported from here. A
# plugin's section in an imported file replaces the whole section of that plugin
# below: settings of it that are to stay must be repeated there.
imports = ["/etc/containerd/config.d/*.toml"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins]
"#
    )
}

fn schema_2(sandbox: &str) -> String {
    format!(
        r#"{head}  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = {sandbox}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#,
        head = head(2)
    )
}

fn schema_3(sandbox: &str) -> String {
    format!(
        r#"{head}  [plugins."io.containerd.cri.v1.images"]
    discard_unpacked_layers = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = {sandbox}
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#,
        head = head(3)
    )
}
