//! What a NodeConfig may be and must not, by example.

mod checking;
pub(crate) mod corpus;
mod decoding;
mod fields;
mod merging;
mod reading;
mod schema;

use super::*;

/// A hybrid NodeConfig with everything that first boot needs.
pub(super) fn hybrid() -> String {
    use base64::Engine as _;
    let authority =
        base64::engine::general_purpose::STANDARD.encode(include_bytes!("../testdata/ca.pem"));
    format!(
        "apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: farm
    region: eu-central-1
    apiServerEndpoint: https://ABC.gr7.eu-central-1.eks.amazonaws.com
    certificateAuthority: {authority}
    cidr: 10.100.0.0/16
  kubelet:
    config:
      maxPods: 50
    flags:
      - --v=2
  hybrid:
    iamRolesAnywhere:
      nodeName: node-1
      trustAnchorArn: arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/a
      profileArn: arn:aws:rolesanywhere:eu-central-1:123456789012:profile/b
      roleArn: arn:aws:iam::123456789012:role/c
"
    )
}

/// A NodeConfig with the given lines as its `spec`.
pub(super) fn with_spec(spec: &str) -> String {
    format!("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n{spec}\n")
}

/// Problems as `line:column field message`.
pub(super) fn lines(problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let Problem {
            line,
            column,
            field,
            message,
            ..
        } = problem;
        format!("{line}:{column} {field}: {message}")
    };
    problems.iter().map(line).collect()
}
