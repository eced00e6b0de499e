//! What a site gives its machine: a certificate authority, a certificate, and a
//! NodeConfig that names the cluster fully, so that no API has to be asked.

use std::path::Path;

use nodekiln_qemu::{Part, Seed};
use nodekiln_tests::program::run;

/// What a test says about its cluster and node.
pub struct Site {
    pub cluster: &'static str,
    pub region: &'static str,
    pub endpoint: &'static str,
    pub cidr: &'static str,
    pub node: &'static str,
    /// More of the NodeConfig's `spec`, indented by two.
    pub more: &'static str,
}

/// The files of a site.
pub struct Papers {
    _folder: tempfile::TempDir,
    /// The cluster's certificate authority, PEM.
    pub authority: String,
    /// A line of the private key that must appear nowhere.
    pub secret: String,
    /// The NodeConfig.
    pub node_config: String,
    /// User data that lays the certificate and its key down.
    pub cloud_config: String,
}

pub const TRUST_ANCHOR: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a";
pub const PROFILE: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:profile/b";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/c";

impl Site {
    /// Makes the papers.
    pub fn papers(&self) -> Papers {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, _) = certificate(folder.path(), "authority");
        let (certificate, key) = certificate(folder.path(), "node");
        let encoded = |path: &Path| run("base64", &["-w0", path.to_str().expect("UTF-8")]);
        let read = |path: &Path| std::fs::read_to_string(path).expect("written by openssl");
        let secret = read(&key).lines().nth(1).expect("a key").to_owned();
        let node_config = format!(
            "apiVersion: node.eks.aws/v1alpha1\n\
             kind: NodeConfig\n\
             spec:\n  \
               cluster:\n    \
                 name: {}\n    \
                 region: {}\n    \
                 apiServerEndpoint: {}\n    \
                 certificateAuthority: {}\n    \
                 cidr: {}\n  \
               hybrid:\n    \
                 iamRolesAnywhere:\n      \
                   nodeName: {}\n      \
                   trustAnchorArn: {TRUST_ANCHOR}\n      \
                   profileArn: {PROFILE}\n      \
                   roleArn: {ROLE}\n{}",
            self.cluster,
            self.region,
            self.endpoint,
            encoded(&authority),
            self.cidr,
            self.node,
            self.more,
        );
        let mut cloud_config = "#cloud-config\nwrite_files:\n".to_owned();
        for (name, mode, path) in [("pem", "0644", &certificate), ("key", "0600", &key)] {
            cloud_config += &file(&format!("/etc/iam/pki/server.{name}"), mode, &encoded(path));
        }
        Papers {
            authority: read(&authority),
            secret,
            node_config,
            cloud_config,
            _folder: folder,
        }
    }
}

impl Papers {
    /// The seed of it all. The machine's name is not the node's.
    pub fn seed(&self) -> Seed {
        Seed {
            hostname: Some("machine-17".to_owned()),
            parts: vec![Part::of_cloud_init(&*self.cloud_config).expect("cloud-config")],
            ..Seed::of_node_config(&*self.node_config)
        }
    }
}

/// An entry of cloud-config's `write_files`.
pub fn file(path: &str, mode: &str, encoded: &str) -> String {
    format!(
        "  - path: {path}\n    permissions: '{mode}'\n    encoding: b64\n    content: {encoded}\n"
    )
}

fn certificate(folder: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (
        folder.join(format!("{name}.crt")),
        folder.join(format!("{name}.key")),
    );
    let subject = format!("/CN={name}");
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            key.to_str().expect("UTF-8"),
            "-out",
            certificate.to_str().expect("UTF-8"),
        ],
    );
    (certificate, key)
}
