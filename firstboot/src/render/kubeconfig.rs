//! How the kubelet reaches the cluster and proves who it is.

use super::node::Node;
use super::quoting::{yaml_string, yaml_url};
use super::{File, Part, certificate_authority};
use crate::credentials::Provider;

pub(super) const PATH: &str = "/var/lib/kubelet/kubeconfig";

pub(super) fn file(node: &Node<'_>) -> File {
    let cluster = &node.config.spec.cluster;
    let environment = match &node.provider {
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
    let content = format!(
        r#"---
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
        command: "/usr/local/bin/aws-iam-authenticator"{environment}
        args:
          - "token"
          - "--cluster-id"
          - {name}
          - "--region"
          - {region}
"#,
        ca = certificate_authority::PATH,
        server = yaml_url(&cluster.api_server_endpoint),
        name = yaml_string(&cluster.name),
        region = yaml_string(&cluster.region),
    );
    File::public(PATH, Part::Kubelet, content)
}
