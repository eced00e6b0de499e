//! The kubelet's image credential provider: how it gets at images in ECR.

use serde_json::json;

use super::node::Node;
use super::{File, Part, indented_json, signing_helper};
use crate::credentials::Provider;

/// Where the program lies unless `ECR_CREDENTIAL_PROVIDER_BIN_PATH` says otherwise.
pub const DEFAULT_PROGRAM: &str = "/etc/eks/image-credential-provider/ecr-credential-provider";

/// Its configuration.
pub(super) const CONFIG: &str = "/etc/eks/image-credential-provider/config.json";

/// Folder and name of the program, when it is installed.
pub(super) fn program<'a>(node: &'a Node<'_>) -> Option<(&'a str, &'a str)> {
    node.facts.credential_provider.as_deref()?.rsplit_once('/')
}

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let (_, name) = program(node)?;
    let mut provider = json!({
        "name": name,
        "matchImages": [
            "*.dkr.ecr.*.amazonaws.com",
            "*.dkr.ecr.*.amazonaws.com.cn",
            "*.dkr.ecr-fips.*.amazonaws.com",
            "*.dkr.ecr.*.c2s.ic.gov",
            "*.dkr.ecr.*.sc2s.sgov.gov",
        ],
        "defaultCacheDuration": "12h0m0s",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    });
    if let Provider::IamRolesAnywhere(settings) = &node.provider {
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
