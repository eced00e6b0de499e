//! The kubelet's flags, as the environment file of its unit.
//!
//! The unit names `$NODEADM_KUBELET_ARGS` as a word of its own, so systemd splits
//! the value at blanks and reads quotes in it as a shell does; user flags reach
//! that stage exactly as they were given.

use super::credential_provider::{self, CONFIG as PROVIDER_CONFIG};
use super::kubelet_config::{self, DROP_IN_FOLDER};
use super::node::{Flavour, Node};
use super::quoting::{environment_value, environment_words, shell_word};
use super::{File, Part, Version, kubeconfig, sandbox_image};

pub(super) fn file(node: &Node<'_>) -> File {
    let mut variables = vec![("NODEADM_KUBELET_ARGS", flags(node).join(" "))];
    // From 1.30 on the drop-ins need no word; the hybrid flavour says it all the same.
    let asks = !node.is_ec2() || node.facts.kubelet < Version::new(1, 30, 0);
    if kubelet_config::has_drop_in(node) && asks {
        variables.push(("KUBELET_CONFIG_DROPIN_DIR_ALPHA", "on".into()));
    }
    // nodeadm quotes on hybrid nodes and does not on EC2 nodes; systemd reads the
    // same from both.
    let written = |value: &str| match node.flavour {
        Flavour::Hybrid(_) => environment_value(value),
        Flavour::Ec2 { .. } => environment_words(value),
    };
    let content = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", written(value)))
        .collect::<Vec<_>>()
        .join("\n");
    File::public("/etc/eks/kubelet/environment", Part::Kubelet, content)
}

/// The flags that the two flavours do not share.
fn own_flags(node: &Node<'_>) -> Vec<String> {
    let name = format!("--hostname-override={}", shell_word(&node.name));
    match &node.flavour {
        Flavour::Hybrid(provider) => vec![
            // Empty on purpose: no cloud provider, not the default one.
            "--cloud-provider=".into(),
            name,
            format!(
                "--node-labels=eks.amazonaws.com/compute-type=hybrid,\
                 eks.amazonaws.com/hybrid-credential-provider={}",
                provider.label().unwrap_or_default()
            ),
        ],
        Flavour::Ec2 { address, .. } => {
            let mut flags = vec![
                "--cloud-provider=external".into(),
                name,
                format!("--node-ip={address}"),
                "--runtime-cgroups=/runtime.slice/containerd.service".into(),
            ];
            if node.facts.nvidia_gpu && node.facts.kubelet >= Version::new(1, 35, 0) {
                flags.push("--node-labels=nvidia.com/gpu.present=true".into());
            }
            flags
        }
    }
}

/// The generated flags in a fixed order, then the user's: the last one counts.
fn flags(node: &Node<'_>) -> Vec<String> {
    let mut flags = own_flags(node);
    flags.push(format!("--config={}", kubelet_config::PATH));
    if kubelet_config::has_drop_in(node) {
        flags.push(format!("--config-dir={DROP_IN_FOLDER}"));
    }
    // On an Outpost the kubelet makes the file itself, with what it asks for under the
    // other one's identity.
    if node.is_on_outpost() {
        flags.push(format!("--bootstrap-kubeconfig={}", kubeconfig::BOOTSTRAP));
    }
    flags.push(format!("--kubeconfig={}", kubeconfig::PATH));
    if let Some((folder, _)) = credential_provider::program(node) {
        flags.push(format!(
            "--image-credential-provider-bin-dir={}",
            shell_word(folder)
        ));
        flags.push(format!(
            "--image-credential-provider-config={PROVIDER_CONFIG}"
        ));
    }
    if !node.is_ec2() && node.facts.kubelet < Version::new(1, 29, 0) {
        let image = sandbox_image(node.region, node.facts);
        flags.push(format!(
            "--pod-infra-container-image={}",
            shell_word(&image)
        ));
    }
    flags.extend(node.config.spec.kubelet.flags.iter().cloned());
    flags
}
