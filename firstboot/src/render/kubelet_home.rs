//! Where programs that the kubelet starts look for the SSM agent's credentials: in
//! the home of root, which a service is told of only when it is set.

use super::node::Node;
use super::{File, Part};
use crate::credentials::Provider;

const PATH: &str = "/etc/systemd/system/kubelet.service.d/10-nodekiln-home.conf";

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let Some(Provider::Ssm(_)) = node.provider() else {
        return None;
    };
    let content = "[Service]\nEnvironment=HOME=/root\n";
    Some(File::public(PATH, Part::Kubelet, content))
}
