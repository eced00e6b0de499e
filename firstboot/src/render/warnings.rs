//! What does not keep a node from being made, but should be known.

use super::node::{Flavour, Node, gate};
use super::{Error, Facts, soci};
use crate::node_config::model::{Instance, NodeConfig};

/// What a person should know about the node that these files make, one sentence
/// each.
pub fn warnings(config: &NodeConfig, facts: &Facts) -> Result<Vec<String>, Error> {
    let node = Node::new(config, facts)?;
    let mut warnings = Vec::new();
    match &node.flavour {
        Flavour::Ec2 { max_pods, .. } => {
            warnings.extend(max_pods.warning.clone());
            warnings.extend(soci::warning(&node));
        }
        Flavour::Hybrid(_) => warnings.extend(without_effect(config)),
    }
    Ok(warnings)
}

/// Settings that only EC2 nodes have; nodeadm's hybrid flavour does not know them.
fn without_effect(config: &NodeConfig) -> Vec<String> {
    let spec = &config.spec;
    [
        (spec.instance != Instance::default(), "spec.instance"),
        (
            !spec.kubelet.max_pods_expression.is_empty(),
            "spec.kubelet.maxPodsExpression",
        ),
        (
            !spec.containerd.base_runtime_spec.is_empty(),
            "spec.containerd.baseRuntimeSpec",
        ),
        (
            gate(config, "FastImagePull"),
            "spec.featureGates.FastImagePull",
        ),
        (
            gate(config, "InstanceIdNodeName"),
            "spec.featureGates.InstanceIdNodeName",
        ),
    ]
    .into_iter()
    .filter(|(is_given, _)| *is_given)
    .map(|(_, field)| format!("{field} has no effect on a hybrid node"))
    .collect()
}
