//! How the kubelet finds the cluster and proves who it is.

use super::node::{Flavour, Node};
use super::quoting::{yaml_string, yaml_url};
use super::{File, Part, certificate_authority};
use crate::credentials::Provider;

pub(super) const PATH: &str = "/var/lib/kubelet/kubeconfig";

/// Of a local cluster on an Outpost, whose nodes ask for a certificate.
pub(super) const BOOTSTRAP: &str = "/var/lib/kubelet/bootstrap-kubeconfig";

pub(super) fn file(node: &Node<'_>) -> File {
    let content = format!(
        r"---
apiVersion: v1
kind: Config
clusters:
  - name: kubernetes
    cluster:
      certificate-authority: {ca}
      server: {server}
current-context: kubelet
contexts:
  - name: kubelet
    context:
      cluster: kubernetes
      user: kubelet
users:
  - name: kubelet
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1beta1
{program}",
        ca = certificate_authority::PATH,
        server = yaml_url(&node.config.spec.cluster.api_server_endpoint),
        program = program(node),
    );
    let path = if node.is_on_outpost() {
        BOOTSTRAP
    } else {
        PATH
    };
    File::public(path, Part::Kubelet, content)
}

/// The program that makes tokens for the cluster, with its environment and arguments.
fn program(node: &Node<'_>) -> String {
    let cluster = yaml_string(node.cluster_identifier());
    let region = yaml_string(node.region);
    let provider = match &node.flavour {
        Flavour::Ec2 { .. } => {
            return format!(
                r#"        command: aws
        args:
          - "eks"
          - "get-token"
          - "--cluster-name"
          - {cluster}
          - "--region"
          - {region}
"#
            );
        }
        Flavour::Hybrid(provider) => provider,
    };
    let environment = match provider {
        Provider::IamRolesAnywhere(settings) => format!(
            r#"
        env:
          - name: "AWS_PROFILE"
            value: "default"
          - name: "AWS_CONFIG_FILE"
            value: {}"#,
            yaml_string(settings.aws_config_path)
        ),
        Provider::Ssm(_) | Provider::Ec2 => String::new(),
    };
    format!(
        r#"        command: "/usr/local/bin/aws-iam-authenticator"{environment}
        args:
          - "token"
          - "--cluster-id"
          - {cluster}
          - "--region"
          - {region}
"#
    )
}
