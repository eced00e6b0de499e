//! `NodeConfig` of `node.eks.aws/v1alpha1`, in both flavours (hybrid and EC2).
//!
//! The fields and their meaning are those of nodeadm's two repositories:
//! `aws/eks-hybrid` `api/v1alpha1/nodeconfig_types.go` and
//! `awslabs/amazon-eks-ami` `nodeadm/api/v1alpha1/nodeconfig_types.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `apiVersion` of the only version there is.
pub const API_VERSION: &str = "node.eks.aws/v1alpha1";
/// `kind` of a NodeConfig.
pub const KIND: &str = "NodeConfig";

/// Free JSON, as for the kubelet's own configuration.
pub type Document = serde_json::Map<String, serde_json::Value>;

/// How a machine joins a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// `node.eks.aws/v1alpha1`.
    pub api_version: String,
    /// `NodeConfig`.
    pub kind: String,
    /// Kubernetes object metadata; ignored.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub metadata: Document,
    /// The configuration itself.
    pub spec: Spec,
}

/// The configuration itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spec {
    /// The cluster to join.
    pub cluster: Cluster,
    /// The kubelet's settings.
    pub kubelet: Kubelet,
    /// containerd's settings.
    pub containerd: Containerd,
    /// The EC2 instance's settings.
    pub instance: Instance,
    /// Feature gates by name; unknown ones count as off.
    pub feature_gates: BTreeMap<String, bool>,
    /// Its presence, even empty, makes the node a hybrid one.
    pub hybrid: Option<Hybrid>,
}

/// The cluster to join.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// Name of the EKS cluster.
    pub name: String,
    /// AWS region; hybrid nodes only.
    pub region: String,
    /// URL of the Kubernetes API.
    pub api_server_endpoint: String,
    /// The cluster's CA certificates in PEM, in base64 (kept as text; see
    /// [`Cluster::certificate_authority_pem`]).
    pub certificate_authority: String,
    /// Service CIDR of the cluster.
    pub cidr: String,
    /// Whether the cluster is a local one on an Outpost.
    pub enable_outpost: Option<bool>,
    /// Identifier of an Outpost cluster.
    pub id: String,
}

impl Cluster {
    /// The decoded CA bundle; `None` when the text is no standard base64.
    pub fn certificate_authority_pem(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let text: String = self
            .certificate_authority
            .chars()
            .filter(|character| !character.is_ascii_whitespace())
            .collect();
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}

/// The kubelet's settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubelet {
    /// A partial `KubeletConfiguration`.
    pub config: Document,
    /// Flags put after the generated ones, in order.
    pub flags: Vec<String>,
    /// CEL expression for the number of pods; EC2 only.
    pub max_pods_expression: String,
}

/// containerd's settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Containerd {
    /// TOML for containerd.
    pub config: String,
    /// A partial OCI runtime specification; EC2 only.
    pub base_runtime_spec: Document,
}

/// The EC2 instance's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Instance {
    /// Local disks.
    pub local_storage: LocalStorage,
    /// Environment by service; `default` means all.
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    /// Name resolution.
    pub network: Network,
}

/// Local disks of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalStorage {
    /// `RAID0`, `RAID10` or `Mount`.
    pub strategy: String,
    /// Where they are mounted.
    pub mount_path: String,
    /// `Containerd`, `PodLogs`, `SOCI`.
    pub disabled_mounts: Vec<String>,
}

/// Name resolution of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub domains: Vec<String>,
}

/// What a hybrid node needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hybrid {
    /// Whether pods may use the node's credentials at `/eks-hybrid/.aws`.
    pub enable_credentials_file: bool,
    /// IAM Roles Anywhere; exactly one of this and `ssm`.
    pub iam_roles_anywhere: Option<IamRolesAnywhere>,
    /// AWS Systems Manager.
    pub ssm: Option<Ssm>,
}

/// IAM Roles Anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IamRolesAnywhere {
    /// Name of the node and of its role session; 64 bytes at most.
    pub node_name: String,
    /// ARN of the trust anchor.
    pub trust_anchor_arn: String,
    /// ARN of the profile.
    pub profile_arn: String,
    /// ARN of the role.
    pub role_arn: String,
    /// Where the AWS configuration is written.
    pub aws_config_path: String,
    /// The node's certificate.
    pub certificate_path: String,
    /// The node's private key.
    pub private_key_path: String,
}

/// Default of [`IamRolesAnywhere::aws_config_path`].
pub const DEFAULT_AWS_CONFIG_PATH: &str = "/etc/aws/hybrid/config";
/// Default of [`IamRolesAnywhere::certificate_path`].
pub const DEFAULT_CERTIFICATE_PATH: &str = "/etc/iam/pki/server.pem";
/// Default of [`IamRolesAnywhere::private_key_path`].
pub const DEFAULT_PRIVATE_KEY_PATH: &str = "/etc/iam/pki/server.key";

/// AWS Systems Manager.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ssm {
    /// The activation's code: a secret.
    pub activation_code: String,
    /// The activation's identifier.
    pub activation_id: String,
}

// By hand, so that no log or panic message can hold the code.
impl std::fmt::Debug for Ssm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ssm")
            .field("activation_code", &"(hidden)")
            .field("activation_id", &self.activation_id)
            .finish()
    }
}
