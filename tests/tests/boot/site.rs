//! What a site gives its machine: a certificate authority, a certificate, and a
//! NodeConfig that names the cluster fully, so that no API has to be asked.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::certificates::Issued;
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
    /// The NodeConfig.
    pub node_config: String,
    /// User data that lays the certificate and its key down.
    pub cloud_config: String,
}

pub const TRUST_ANCHOR: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a";
pub const PROFILE: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:profile/b";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/hybrid-node";

impl Site {
    /// Makes the papers.
    pub fn papers(&self) -> Papers {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, _) = certificate(folder.path(), "authority");
        let (certificate, key) = certificate(folder.path(), "node");
        let encoded = |path: &Path| run("base64", &["-w0", path.to_str().expect("UTF-8")]);
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
            node_config,
            cloud_config,
            _folder: folder,
        }
    }
}

/// An entry of cloud-config's `write_files`.
pub fn file(path: &str, mode: &str, encoded: &str) -> String {
    format!(
        "  - path: {path}\n    permissions: '{mode}'\n    encoding: b64\n    content: {encoded}\n"
    )
}

/// Entries of `write_files`: the certificate of a site's node and its key, which is
/// `node-1`, as in `ROLES_ANYWHERE`.
pub fn node_certificate(issued: &Issued) -> String {
    let files = [
        ("pem", "0644", &issued.certificate),
        ("key", "0600", &issued.key),
    ];
    files
        .map(|(name, mode, text)| {
            let path = format!("/etc/iam/pki/server.{name}");
            file(&path, mode, &STANDARD.encode(text))
        })
        .concat()
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
