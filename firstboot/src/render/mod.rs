//! Every file that a node needs, as pure functions from a NodeConfig and facts
//! about the machine to bytes: no clock, no file system, no network.
//!
//! The files and their meaning are those of nodeadm's two flavours (`aws/eks-hybrid`,
//! `internal/{kubelet,containerd,system,aws}`; `awslabs/amazon-eks-ami`,
//! `nodeadm/internal`); each source file here names where it departs from them on
//! purpose. The flavour is that of the NodeConfig: with `spec.hybrid` a hybrid
//! node, without it an EC2 node.

mod aws_config;
mod certificate_authority;
mod containerd;
mod credential_provider;
mod environment;
mod expression;
mod facts;
mod hosts;
pub(crate) mod instance_types;
mod kubeconfig;
mod kubelet_config;
mod kubelet_environment;
mod kubelet_home;
mod max_pods;
mod modules;
mod node;
mod node_name;
mod quoting;
mod reserved;
mod resolver;
mod runtime_spec;
mod sandbox_image;
mod signing_helper;
mod soci;
mod swap;
mod sysctl;
mod warnings;

pub(crate) use containerd::LOCAL_SANDBOX_IMAGE;
pub use credential_provider::DEFAULT_PROGRAM as CREDENTIAL_PROVIDER;
pub use expression::{ExpressionError, Variables as ExpressionVariables, evaluate};
pub use facts::{Facts, Instance, InterfaceLimits, Names, Version};
pub use hosts::{api_server_host, hosts};
pub use kubelet_config::{cluster_dns, merge};
pub use modules::MODULES;
pub use reserved::{kube_reserved_cpu, kube_reserved_memory, kube_reserved_memory_of_pods};
pub use sandbox_image::{dns_suffix, sandbox_image};
pub use signing_helper::UNIT as SIGNING_HELPER_UNIT;
pub(crate) use soci::CONFIG as SOCI_CONFIG;
pub use swap::{SwapArea, active_swap, fstab_without_swap, unescape_octal};
pub use warnings::warnings;

use node::Node;

use crate::node_config::model::NodeConfig;

/// What has to be done again when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The AWS configuration and what refreshes credentials from it.
    Credentials,
    /// Kernel modules and parameters.
    Kernel,
    /// The service manager: environments of services.
    Manager,
    /// Name resolution.
    Resolver,
    /// The container runtime.
    Containerd,
    /// The kubelet.
    Kubelet,
}

/// A file of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The whole content.
    pub content: Vec<u8>,
    /// Whether the content must never be shown.
    pub secret: bool,
    /// What reads it.
    pub part: Part,
}

impl File {
    fn public(path: impl Into<String>, part: Part, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            content: content.into(),
            secret: false,
            part,
        }
    }
}

/// Why a node's files cannot be made from a NodeConfig.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something that this version does not do.
    #[error("{what} is not supported in this version")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to give in its place.
        hint: String,
    },
    /// Of the cluster something is not known: it stands not in the NodeConfig, and
    /// EKS was not asked for it.
    #[error("of the cluster {missing} is not known")]
    Cluster {
        /// Names of the fields.
        missing: String,
        /// What to do about it.
        hint: String,
    },
    /// Of the machine something is not known.
    #[error("{what} is not known")]
    Fact {
        /// What it is.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A field without which no file can be written, or with a value that no
    /// file can hold.
    #[error("{field} {problem}")]
    Field {
        /// Path of the field, such as `spec.cluster.cidr`.
        field: String,
        /// What is wrong with it. Never holds the value.
        problem: String,
    },
}

impl Error {
    fn field(field: &str, problem: impl Into<String>) -> Self {
        Self::Field {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unsupported { hint, .. }
            | Self::Cluster { hint, .. }
            | Self::Fact { hint, .. } => Some(hint),
            Self::Field { .. } => None,
        }
    }
}

/// All files of the node, in the order in which they are written: what is read
/// first comes first.
pub fn render(config: &NodeConfig, facts: &Facts) -> Result<Vec<File>, Error> {
    let node = Node::new(config, facts)?;
    let mut files = vec![modules::file(), sysctl::file()];
    files.extend(environment::files(&node)?);
    files.extend(resolver::file(&node)?);
    files.extend(aws_config::file(&node));
    files.extend(signing_helper::file(&node));
    files.extend(soci::files(&node));
    files.extend(containerd::files(&node)?);
    files.extend(runtime_spec::file(&node));
    files.push(certificate_authority::file(&node));
    files.push(kubeconfig::file(&node));
    files.extend(credential_provider::file(&node));
    files.extend(kubelet_config::files(&node)?);
    files.push(kubelet_environment::file(&node));
    files.extend(kubelet_home::file(&node));
    Ok(files)
}

/// The AWS configuration of a node with IAM Roles Anywhere, as [`render`] makes it,
/// but before anything is known about the cluster; none for others.
pub fn aws_configuration(config: &NodeConfig, facts: &Facts) -> Result<Option<File>, Error> {
    aws_config::alone(config, facts)
}

/// The name that a node gets: that of its registration or instance, or the one in
/// the NodeConfig with its templates filled.
pub fn name(config: &NodeConfig, facts: &Facts) -> Result<String, Error> {
    Ok(Node::new(config, facts)?.name)
}

/// JSON as nodeadm writes it: indented, without a final newline.
fn indented_json(value: &serde_json::Value, indent: &str) -> Vec<u8> {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .expect("a JSON value can always be written to memory");
    bytes
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
