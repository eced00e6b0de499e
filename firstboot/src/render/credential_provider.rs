//! The kubelet's image credential provider: how it gets at images in ECR.

use serde_json::json;

use super::node::Node;
use super::{File, Part, Version, dns_suffix, indented_json, signing_helper};
use crate::credentials::Provider;

/// Where the program lies unless `ECR_CREDENTIAL_PROVIDER_BIN_PATH` says otherwise.
pub const DEFAULT_PROGRAM: &str = "/etc/eks/image-credential-provider/ecr-credential-provider";

/// Its configuration.
pub(super) const CONFIG: &str = "/etc/eks/image-credential-provider/config.json";

/// Folder and name of the program, when it is installed.
pub(super) fn program<'a>(node: &'a Node<'_>) -> Option<(&'a str, &'a str)> {
    node.facts.credential_provider.as_deref()?.rsplit_once('/')
}

/// Registries of a hybrid node.
const HYBRID_IMAGES: &[&str] = &[
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr.ecr.*.c2s.ic.gov",
    "*.dkr.ecr.*.sc2s.sgov.gov",
];

/// Registries of an EC2 node.
const EC2_IMAGES: &[&str] = &[
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr-ecr.*.on.aws",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr-ecr.*.on.amazonwebservices.com.cn",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr-ecr-fips.*.on.aws",
    "*.dkr.ecr.*.c2s.ic.gov",
    "*.dkr.ecr.*.sc2s.sgov.gov",
    "*.dkr.ecr.*.cloud.adc-e.uk",
    "*.dkr.ecr.*.csp.hci.ic.gov",
    "*.dkr.ecr.*.amazonaws.eu",
    "public.ecr.aws",
];

/// The images that the provider is asked for.
fn images(node: &Node<'_>) -> Vec<String> {
    let given = if node.is_ec2() {
        EC2_IMAGES
    } else {
        HYBRID_IMAGES
    };
    let mut images: Vec<String> = given.iter().map(ToString::to_string).collect();
    if node.is_ec2() && node.facts.kubelet >= Version::new(1, 32, 0) {
        images.push("ecr-public.aws.com".into());
    }
    // nodeadm's list for hybrid nodes lacks the newest partitions: their nodes could
    // pull nothing.
    let own = format!("*.dkr.ecr.*.{}", dns_suffix(node.region));
    if !images.contains(&own) {
        images.push(own);
    }
    images
}

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let (_, name) = program(node)?;
    let mut provider = json!({
        "name": name,
        "matchImages": images(node),
        "defaultCacheDuration": "12h0m0s",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    });
    if let Some(Provider::IamRolesAnywhere(settings)) = node.provider() {
        provider["env"] = json!([
            { "name": "AWS_CONFIG_FILE", "value": settings.aws_config_path },
            { "name": "AWS_PROFILE", "value": "default" },
            { "name": "AWS_SHARED_CREDENTIALS_FILE", "value": signing_helper::CREDENTIALS },
        ]);
    }
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    });
    Some(File::public(
        CONFIG,
        Part::Kubelet,
        indented_json(&config, "  "),
    ))
}
