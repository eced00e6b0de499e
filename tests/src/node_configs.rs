//! NodeConfigs of each flavour, and machines that go with them.

use std::fmt::Write as _;

use serde_json::{Value, json};

const CERTIFICATE: &str = include_str!("../../firstboot/src/node_config/testdata/ca.pem");

/// The flavours of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Hybrid, with the certificate of a site.
    RolesAnywhere,
    /// Hybrid, with an activation.
    Ssm,
    /// An EC2 instance.
    Ec2,
}

/// All of them.
pub const FLAVOURS: [Flavour; 3] = [Flavour::RolesAnywhere, Flavour::Ssm, Flavour::Ec2];

/// A NodeConfig; `more` are further lines of `spec`, indented by two.
pub fn node_config(flavour: Flavour, more: &str) -> String {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(CERTIFICATE);
    let mut text = format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: farm\n    \
         apiServerEndpoint: https://example.us-west-2.eks.amazonaws.com\n    \
         certificateAuthority: {authority}\n    cidr: 10.100.0.0/16\n"
    );
    let hybrid = match flavour {
        Flavour::Ec2 => "",
        Flavour::Ssm => {
            "    region: us-west-2\n  hybrid:\n    ssm:\n      activationCode: activation-code-of-tests\n      \
             activationId: 11111111-2222-4333-8444-555555555555\n"
        }
        Flavour::RolesAnywhere => {
            "    region: us-west-2\n  hybrid:\n    enableCredentialsFile: true\n    iamRolesAnywhere:\n      \
             nodeName: node-1\n      \
             trustAnchorArn: arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a\n      \
             profileArn: arn:aws:rolesanywhere:us-west-2:111122223333:profile/b\n      \
             roleArn: arn:aws:iam::111122223333:role/c\n"
        }
    };
    let _ = write!(text, "{hybrid}{more}");
    text
}

/// What is known of a machine of this flavour that has these versions of the kubelet
/// and containerd.
pub fn facts(flavour: Flavour, kubelet: &str, containerd: &str) -> Value {
    let mut facts = json!({
        "os": "ubuntu", "kubelet": kubelet, "containerd": containerd,
        "logicalCpus": 4, "memoryKib": 16_000_000,
    });
    match flavour {
        Flavour::RolesAnywhere => {}
        Flavour::Ssm => facts["managedInstanceId"] = json!("mi-0123456789abcdef0"),
        Flavour::Ec2 => {
            facts["os"] = json!("amzn");
            facts["sandboxImage"] = json!("localhost/kubernetes/pause:latest");
            facts["instance"] = json!({
                "id": "i-0123456789abcdef0", "region": "us-west-2",
                "availabilityZone": "us-west-2a", "instanceType": "m5.large",
                "mac": "0a:ff:11:22:33:44", "localIpv4": "10.1.2.3",
                "privateDnsName": "ip-10-1-2-3.us-west-2.compute.internal",
            });
        }
    }
    facts
}
