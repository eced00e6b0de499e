//! The kubelet's flags, as the environment file of its unit.
//!
//! The unit names `$NODEADM_KUBELET_ARGS` as a word of its own, so systemd splits
//! the value at blanks and reads quotes in it as a shell does; user flags reach
//! that stage exactly as they were given.

use super::credential_provider::{self, CONFIG as PROVIDER_CONFIG};
use super::kubelet_config::{self, DROP_IN_FOLDER};
use super::node::Node;
use super::quoting::{environment_value, shell_word};
use super::{File, Part, kubeconfig, sandbox_image};

pub(super) fn file(node: &Node<'_>) -> File {
    let mut variables = vec![("NODEADM_KUBELET_ARGS", flags(node).join(" "))];
    if kubelet_config::has_drop_in(node) {
        variables.push(("KUBELET_CONFIG_DROPIN_DIR_ALPHA", "on".into()));
    }
    let content = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", environment_value(value)))
        .collect::<Vec<_>>()
        .join("\n");
    File::public("/etc/eks/kubelet/environment", Part::Kubelet, content)
}

/// The generated flags in a fixed order, then the user's: the last one counts.
fn flags(node: &Node<'_>) -> Vec<String> {
    let mut flags = vec![
        // Empty on purpose: no cloud provider, not the default one.
        "--cloud-provider=".into(),
        format!("--hostname-override={}", shell_word(node.name)),
        format!(
            "--node-labels=eks.amazonaws.com/compute-type=hybrid,\
             eks.amazonaws.com/hybrid-credential-provider={}",
            node.provider.label().unwrap_or_default()
        ),
        format!("--config={}", kubelet_config::PATH),
    ];
    if kubelet_config::has_drop_in(node) {
        flags.push(format!("--config-dir={DROP_IN_FOLDER}"));
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
    if !kubelet_config::reads_drop_ins(node) {
        let image = sandbox_image(&node.config.spec.cluster.region, node.facts);
        flags.push(format!(
            "--pod-infra-container-image={}",
            shell_word(&image)
        ));
    }
    flags.extend(node.config.spec.kubelet.flags.iter().cloned());
    flags
}
