//! NodeConfigs and facts that tests share.

use base64::Engine as _;

use super::{Facts, Instance, Version};
use crate::node_config::model::{
    API_VERSION, Hybrid, IamRolesAnywhere, KIND, NodeConfig, Spec, Ssm,
};

/// Stands where a secret would.
pub const ACTIVATION_CODE: &str = "Planted+Activation+Code";

pub fn iam_roles_anywhere() -> NodeConfig {
    let mut spec = Spec::default();
    spec.cluster.name = "my-cluster".into();
    spec.cluster.region = "us-west-2".into();
    spec.cluster.api_server_endpoint = "https://example.gr7.us-west-2.eks.amazonaws.com".into();
    spec.cluster.certificate_authority =
        base64::engine::general_purpose::STANDARD.encode("certificateAuthority");
    spec.cluster.cidr = "10.100.0.0/16".into();
    spec.hybrid = Some(Hybrid {
        iam_roles_anywhere: Some(IamRolesAnywhere {
            node_name: "mock-hybrid-node".into(),
            trust_anchor_arn: "arn:aws:rolesanywhere:us-west-2:123456789012:trust-anchor/a".into(),
            profile_arn: "arn:aws:rolesanywhere:us-west-2:123456789012:profile/b".into(),
            role_arn: "arn:aws:iam::123456789012:role/c".into(),
            ..IamRolesAnywhere::default()
        }),
        ..Hybrid::default()
    });
    NodeConfig {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        metadata: serde_json::Map::new(),
        spec,
    }
}

pub fn ssm() -> NodeConfig {
    let mut config = iam_roles_anywhere();
    config.spec.hybrid = Some(Hybrid {
        ssm: Some(Ssm {
            activation_code: ACTIVATION_CODE.into(),
            activation_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
        }),
        ..Hybrid::default()
    });
    config
}

/// An EC2 node, as managed node groups describe it.
pub fn ec2() -> NodeConfig {
    let mut config = iam_roles_anywhere();
    config.spec.hybrid = None;
    config.spec.cluster.region.clear();
    config
}

/// The facts of [`facts`] on an EC2 instance.
pub fn ec2_facts(kubelet_minor: u32, containerd_major: u32) -> Facts {
    Facts {
        os: "amzn".into(),
        instance: Some(Instance {
            id: "i-1234567890abcdef0".into(),
            region: "us-west-2".into(),
            availability_zone: "us-west-2f".into(),
            instance_type: "m4.xlarge".into(),
            mac: "0a:ff:12:00:00:01".into(),
            private_dns_name: Some("ip-10-0-0-1.us-west-2.compute.internal".into()),
            local_ipv4: Some("10.0.0.1".into()),
            local_ipv6: Some("fd00:ec2::1".into()),
            interface_limits: None,
        }),
        ..facts(kubelet_minor, containerd_major)
    }
}

pub fn facts(kubelet_minor: u32, containerd_major: u32) -> Facts {
    Facts {
        os: "ubuntu".into(),
        kubelet: Version::new(1, kubelet_minor, 0),
        containerd: Version::new(containerd_major, 0, 0),
        logical_cpus: 4,
        memory_kib: 16_000_000,
        resolver_stub: false,
        ..Facts::default()
    }
}
