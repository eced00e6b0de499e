//! What a kubelet asks of the API server, where no machine is needed to see how it is
//! answered: with tokens of the real aws-iam-authenticator, and kubectl.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::ControlPlane;
use crate::cloud::client::Cloud;
use crate::judges::judge;
use crate::program::{output, text};
use crate::unmet::Met;

/// See the module documentation.
#[derive(Debug)]
pub struct PlayedKubelet<'a> {
    control_plane: &'a ControlPlane,
    /// By which it says who it is.
    pub token: String,
}

impl<'a> PlayedKubelet<'a> {
    /// A kubelet with the keys of a session of the cloud's world, and a token for the
    /// cluster of this name.
    ///
    /// # Panics
    /// When there is no such session, or the authenticator makes no token.
    pub fn new(
        control_plane: &'a ControlPlane,
        cloud: &Cloud,
        session: &str,
        cluster: &str,
    ) -> Self {
        let world = cloud.world();
        let mut keys = world.keys.iter();
        let key = keys.find(|key| key.principal.ends_with(session));
        let key = key.expect("there is such a session");
        let output = Command::new(judge("authenticator"))
            .args(["token", "--token-only"])
            .arg(format!("--region={}", world.region))
            .arg(format!("--cluster-id={cluster}"))
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key)
            .env(
                "AWS_SESSION_TOKEN",
                key.session_token.as_deref().unwrap_or_default(),
            )
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{}", text(&output));
        let token = String::from_utf8_lossy(&output.stdout);
        Self {
            control_plane,
            token: token.trim_end().to_owned(),
        }
    }

    /// Registers a node; it may be refused.
    pub fn create_node(&self, name: &str) -> Output {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        self.create(&node.to_string())
    }

    /// Says where its node is; it may be refused.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_address(&self, name: &str, address: Ipv4Addr) -> Met<Output> {
        let mut node = self.control_plane.get(&["node", name])?;
        node["status"]["addresses"] = json!([
            { "type": "InternalIP", "address": address },
            { "type": "Hostname", "address": name },
        ]);
        let path = format!("--raw=/api/v1/nodes/{name}/status");
        let put = ["replace", &path, "--filename=-"];
        let node = node.to_string();
        Ok(self.control_plane.kubectl_with(&self.token, &put, &node))
    }

    /// Asks for a serving certificate for a node under names such as
    /// `IP:10.1.2.3,DNS:node-1`, by a request called `request`; it may be refused.
    ///
    /// # Panics
    /// When openssl is not installed.
    pub fn request_certificate(&self, request: &str, node: &str, names: &str) -> Output {
        let subject = format!("/O=system:nodes/CN=system:node:{node}");
        let names = format!("subjectAltName={names}");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let rest = ["-nodes", "-keyout", "/dev/null", "-subj", &subject];
        let words = [&["req", "-new"], &key[..], &rest, &["-addext", &names]];
        let made = output("openssl", &words.concat());
        assert!(made.status.success(), "{}", text(&made));
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": { "name": request },
            "spec": {
                "signerName": "kubernetes.io/kubelet-serving",
                "usages": ["digital signature", "server auth"],
                "request": STANDARD.encode(made.stdout),
            },
        });
        self.create(&object.to_string())
    }

    fn create(&self, object: &str) -> Output {
        let arguments = ["create", "--validate=false", "--filename=-"];
        self.control_plane
            .kubectl_with(&self.token, &arguments, object)
    }
}
