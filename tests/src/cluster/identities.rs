//! Who is who in a cluster: its authority, and the certificates, keys and kubeconfigs
//! of its parts, as files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use time::OffsetDateTime;

use super::authenticator;
use crate::cloud::certificates::{Authority, Issued};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Identities {
    folder: PathBuf,
    server: String,
    /// The authority's certificate, PEM.
    pub authority: String,
}

/// Who come with a certificate: file, name, group.
const CLIENTS: [(&str, &str, &str); 3] = [
    ("admin", "kubernetes-admin", "system:masters"),
    ("approver", "kubelet-serving-approver", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
];

impl Identities {
    /// Makes all of them. The API server is at an address and has a name.
    pub fn new(folder: &Path, address: Ipv4Addr, host: &str) -> Self {
        let folder = folder.join("identities");
        fs::create_dir(&folder).expect("the folder can be written");
        let authority = Authority::new("the cluster of tests");
        let this = Self {
            folder,
            server: format!("https://{address}"),
            authority: authority.certificate.clone(),
        };
        this.write("ca.pem", &authority.certificate);
        this.write("ca.key", &authority.key());
        let yesterday = OffsetDateTime::now_utc() - time::Duration::DAY;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = [
            host,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        let server = authority.server(&[IpAddr::V4(address), loopback], &names, yesterday);
        this.write_both("server", &server);
        this.write_both(
            "kubelet-client",
            &authority.client("kube-apiserver-kubelet-client", ""),
        );
        this.write_both(
            "service-accounts",
            &authority.client("service-accounts", ""),
        );
        for (file, name, group) in CLIENTS {
            let issued = authority.client(name, group);
            let user = json!({
                "client-certificate-data": STANDARD.encode(issued.certificate),
                "client-key-data": STANDARD.encode(issued.key),
            });
            let text = this.kubeconfig(&this.server, &user);
            this.write(&format!("{file}.kubeconfig"), &text);
        }
        let webhook = authority.server(&[loopback], &[], yesterday);
        fs::create_dir(this.file("authenticator")).expect("the folder can be written");
        this.write("authenticator/cert.pem", &webhook.certificate);
        this.write("authenticator/key.pem", &webhook.key);
        let text = this.kubeconfig(authenticator::URL, &json!({}));
        this.write("webhook.kubeconfig", &text);
        this
    }

    /// A file: `ca.pem`, `NAME.pem` with `NAME.key`, `NAME.kubeconfig`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What kubectl needs to come with a token.
    pub fn kubeconfig_of_token(&self, token: &str) -> NamedTempFile {
        let file = NamedTempFile::new_in(&self.folder).expect("the folder can be written");
        fs::write(
            file.path(),
            self.kubeconfig(&self.server, &json!({ "token": token })),
        )
        .expect("it can be written");
        file
    }

    fn kubeconfig(&self, server: &str, user: &Value) -> String {
        let authority = STANDARD.encode(&self.authority);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "cluster",
            "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "user" } }],
            "clusters": [{
                "name": "cluster",
                "cluster": { "server": server, "certificate-authority-data": authority },
            }],
            "users": [{ "name": "user", "user": user }],
        })
        .to_string()
    }

    fn write_both(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &issued.certificate);
        self.write(&format!("{name}.key"), &issued.key);
    }

    fn write(&self, name: &str, content: &str) {
        use std::io::Write as _;
        let mut options = fs::File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(self.file(name))
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
