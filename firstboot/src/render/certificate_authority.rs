//! The cluster's CA, byte for byte as the NodeConfig gives it.

use super::node::Node;
use super::{File, Part};

pub(super) const PATH: &str = "/etc/kubernetes/pki/ca.crt";

pub(super) fn file(node: &Node<'_>) -> File {
    File::public(PATH, Part::Kubelet, node.certificate_authority.clone())
}
