//! A control plane as EKS has one, of the real programs: etcd, kube-apiserver and
//! kube-controller-manager, and aws-iam-authenticator, which asks the cloud of the tests
//! whom a token speaks for. A node that joins it has joined; nothing here is played but
//! the approval of the kubelets' serving certificates, whose part in EKS is not public.
//!
//! It lives where its owner says, such as in a network namespace, and ends with it.

mod audit;
mod authenticator;
mod identities;
mod node;
mod played_kubelet;
mod process;
mod programs;

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cloud::Service;
use crate::cloud::client::Cloud;
use crate::cloud::world::Cluster;
use crate::unmet::{Met, Unmet, must};
use identities::Identities;
use process::{Place, Process};
use programs::Programs;

pub use audit::Event;
pub use node::{CPUS, Node, PATIENCE};
pub use played_kubelet::PlayedKubelet;

/// The minor version of Kubernetes that tests take, unless told otherwise.
pub const MINOR: &str = "1.34";

/// The minor version of Kubernetes that tests take: [`MINOR`], or another that
/// `tests/cluster/` pins, named by `NODEKILN_TEST_KUBERNETES`.
pub fn minor() -> String {
    std::env::var("NODEKILN_TEST_KUBERNETES").unwrap_or_else(|_| MINOR.to_owned())
}

const API_SERVER: &str = "kube-apiserver";
/// Where etcd serves the API server; nobody else reaches the loopback of its place.
const ETCD: &str = "http://127.0.0.1:2379";
/// What is written to the audit log: who did what to which object, never its content.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n\
    omitStages: [RequestReceived]\nrules:\n- level: Metadata\n";
/// What EKS allows nodes and the API server itself.
const RIGHTS: &str = include_str!("rights.yaml");

/// See the module documentation.
#[derive(Debug)]
pub struct ControlPlane {
    // The order is that in which they end: who asks before who answers.
    others: Vec<Process>,
    api_server: Option<Process>,
    etcd: Process,
    place: Place,
    programs: Programs,
    identities: Identities,
    address: Ipv4Addr,
    host: String,
    services: String,
    folder: TempDir,
}

impl ControlPlane {
    /// Starts the control plane of the cloud's first cluster and waits until it is ready.
    ///
    /// `place` makes a command that runs a program where the control plane lives, as
    /// [`crate::namespace::Namespace::command`] does. There `address` must be one of its
    /// own, port 443 free, and the names of AWS must lead to the cloud
    /// (`nodekiln-cloud --names`). `minor` is a version such as [`MINOR`]. The world is
    /// told of endpoint, authority and version. Its access entries become nodes: of EC2
    /// that of the instance's role, hybrid all others.
    ///
    /// Its processes end with the thread that calls this.
    ///
    /// # Panics
    /// When it does not become ready within two minutes.
    pub fn start(
        place: impl Fn(&Path) -> Command,
        address: Ipv4Addr,
        minor: &str,
        cloud: &Cloud,
    ) -> Self {
        let programs = Programs::of(minor);
        let folder = TempDir::with_prefix("nodekiln-cluster-").expect("a temporary folder");
        let place = Place::of(place, folder.path());
        let world = cloud.world();
        let cluster = world.clusters.first().expect("the world has a cluster");
        let host = Service::Cluster
            .host(&world.region)
            .expect("a cluster has a name");
        let identities = Identities::new(folder.path(), address, &host);
        cloud.change(|world| {
            let cluster: &mut Cluster = &mut world.clusters[0];
            cluster.endpoint = Some(format!("https://{host}"));
            cluster.certificate_authority = Some(identities.authority.clone());
            minor.clone_into(&mut cluster.version);
        });
        let etcd = etcd(&place, &programs, folder.path());
        let authenticator = authenticator::start(&place, cloud, &identities, folder.path());
        let mut control_plane = Self {
            others: vec![authenticator],
            api_server: None,
            etcd,
            place,
            programs,
            identities,
            address,
            services: cluster.service_ipv4_cidr.clone(),
            host,
            folder,
        };
        let place = control_plane.place.clone();
        control_plane
            .etcd
            .wait_for(&place, &format!("{ETCD}/readyz"), None);
        control_plane.start_api_server();
        control_plane.apply(RIGHTS).expect("EKS allows it");
        control_plane.start_controllers();
        control_plane.others[0].wait_for(
            &place,
            authenticator::HEALTH,
            Some(&control_plane.identities.file("ca.pem")),
        );
        control_plane
    }

    /// Goes over to another minor version of Kubernetes, as EKS upgrades a cluster before
    /// its nodes: other programs over the same etcd, with the same names and certificates.
    /// The world is told of the version. Call it on the thread that started the control
    /// plane.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn upgrade(&mut self, minor: &str, cloud: &Cloud) {
        self.programs = Programs::of(minor);
        // The authenticator is not of this version, and stays.
        self.others.truncate(1);
        self.stop_api_server();
        self.start_api_server();
        self.start_controllers();
        cloud.change(|world| minor.clone_into(&mut world.clusters[0].version));
    }

    /// URL of the API server, as EKS tells it.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.host)
    }

    /// The authority of its certificates, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.identities.authority
    }

    /// Version of Kubernetes, such as `1.34.4`.
    pub fn version(&self) -> &str {
        &self.programs.version
    }

    /// What kubectl needs to be who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.identities.file("admin.kubeconfig")
    }

    /// Runs kubectl as who may do everything.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl starts")
    }

    /// kubectl as who may do everything, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.kubectl_command(&self.kubeconfig());
        command.args(arguments);
        command
    }

    /// What kubectl prints, as who may do everything.
    ///
    /// # Errors
    /// When it fails.
    pub fn said(&self, arguments: &[&str]) -> Met<String> {
        said(&self.kubectl(arguments), arguments)
    }

    /// What kubectl gets, as who may do everything.
    ///
    /// # Errors
    /// When it fails.
    pub fn get(&self, arguments: &[&str]) -> Met<Value> {
        let text = self.said(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|error| Unmet::new(format!("{error}: {text}")))
    }

    /// Waits for what `kubectl wait` can wait for, as who may do everything.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait(&self, arguments: &[&str]) -> Met {
        self.said(&[&["wait"], arguments].concat()).map(drop)
    }

    /// Applies objects, YAML or JSON, as who may do everything.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, objects: &str) -> Met {
        let arguments = ["apply", "--filename=-"];
        let command = self.command(&arguments);
        said(&with_input(command, objects), &arguments).map(drop)
    }

    /// Runs kubectl with a token, and with `objects` as its input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn kubectl_with(&self, token: &str, arguments: &[&str], objects: &str) -> Output {
        let file = self.identities.kubeconfig_of_token(token);
        let mut command = self.kubectl_command(file.path());
        command.args(arguments);
        with_input(command, objects)
    }

    /// What the audit log holds until now.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn audit(&self) -> Vec<Event> {
        audit::read(&self.folder.path().join("audit.log"))
    }

    /// Kills a program of the control plane but the API server and etcd, for good.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn kill(&mut self, name: &str) {
        let mut others = self.others.iter_mut();
        let process = others.find(|process| process.name() == name);
        process.expect("a program of the control plane").kill();
    }

    /// Programs of the control plane that do not run.
    pub fn dead(&self) -> Vec<&'static str> {
        let all = self.others.iter().chain([&self.etcd]);
        let dead = all.filter(|process| !process.is_running());
        let api_server = self.api_server.as_ref();
        let is_down = api_server.is_none_or(|process| !process.is_running());
        dead.map(Process::name)
            .chain(is_down.then_some(API_SERVER))
            .collect()
    }

    /// Kills the API server, as if its machine had lost power. What it answered is kept.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn stop_api_server(&mut self) {
        drop(self.api_server.take());
    }

    /// Starts the API server, again after [`Self::stop_api_server`], and waits until it
    /// is ready. Call it on the thread that started the control plane.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_api_server(&mut self) {
        let mut command = self.place.command(&self.programs.path(API_SERVER));
        let file = |name: &str| self.identities.file(name).display().to_string();
        let audit = |name: &str| self.folder.path().join(name).display().to_string();
        let policy = audit("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY).expect("the policy can be written");
        let flags = [
            ("etcd-servers", ETCD.to_owned()),
            ("bind-address", self.address.to_string()),
            ("advertise-address", self.address.to_string()),
            ("secure-port", "443".to_owned()),
            ("service-cluster-ip-range", self.services.clone()),
            ("allow-privileged", "true".to_owned()),
            // Who comes, and what they may.
            ("client-ca-file", file("ca.pem")),
            ("tls-cert-file", file("server.pem")),
            ("tls-private-key-file", file("server.key")),
            (
                "authentication-token-webhook-config-file",
                file("webhook.kubeconfig"),
            ),
            ("authentication-token-webhook-version", "v1beta1".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            // Accounts of services.
            ("service-account-issuer", self.endpoint()),
            ("service-account-key-file", file("service-accounts.pem")),
            (
                "service-account-signing-key-file",
                file("service-accounts.key"),
            ),
            // How kubelets are asked: only one with a certificate of this cluster.
            ("kubelet-client-certificate", file("kubelet-client.pem")),
            ("kubelet-client-key", file("kubelet-client.key")),
            ("kubelet-certificate-authority", file("ca.pem")),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("audit-policy-file", policy),
            ("audit-log-path", audit("audit.log")),
        ];
        command.args(flags.map(|(name, value)| format!("--{name}={value}")));
        let mut process = Process::start(API_SERVER, command, self.folder.path());
        let ready = format!("https://{}/readyz", self.address);
        let authority = self.identities.file("ca.pem");
        process.wait_for(&self.place, &ready, Some(&authority));
        self.api_server = Some(process);
    }

    /// Starts the controllers, and the approver of serving certificates, and waits for
    /// the first work of theirs.
    fn start_controllers(&mut self) {
        let file = |name: &str| self.identities.file(name).display().to_string();
        let flags = [
            ("kubeconfig", file("controller-manager.kubeconfig")),
            ("leader-elect", "false".to_owned()),
            ("secure-port", "0".to_owned()),
            ("use-service-account-credentials", "true".to_owned()),
            ("root-ca-file", file("ca.pem")),
            (
                "service-account-private-key-file",
                file("service-accounts.key"),
            ),
            ("cluster-signing-cert-file", file("ca.pem")),
            ("cluster-signing-key-file", file("ca.key")),
        ];
        let mut command = self
            .place
            .command(&self.programs.path("kube-controller-manager"));
        command.args(flags.map(|(name, value)| format!("--{name}={value}")));
        let manager = Process::start("kube-controller-manager", command, self.folder.path());
        let name = "kubelet-serving-approver";
        let mut command = self.place.command(&self.programs.path(name));
        command.arg(file("approver.kubeconfig"));
        let approver = Process::start(name, command, self.folder.path());
        self.others.extend([manager, approver]);
        for first in ["configmap/kube-root-ca.crt", "serviceaccount/default"] {
            let limit = "--timeout=60s";
            self.wait(&["--for=create", limit, "--namespace=default", first])
                .expect("the controllers work");
        }
    }

    fn kubectl_command(&self, kubeconfig: &Path) -> Command {
        let mut command = self.place.command(&self.programs.path("kubectl"));
        command
            .stdin(Stdio::null())
            .arg("--kubeconfig")
            .arg(kubeconfig);
        command
    }
}

fn etcd(place: &Place, programs: &Programs, folder: &Path) -> Process {
    let mut command = place.command(&programs.path("etcd"));
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .arg(format!("--listen-client-urls={ETCD}"))
        .arg(format!("--advertise-client-urls={ETCD}"))
        .args([
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
        ])
        // It does not outlive the machine: no write has to.
        .arg("--unsafe-no-fsync");
    Process::start("etcd", command, folder)
}

/// What kubectl printed, if it succeeded.
fn said(output: &Output, arguments: &[&str]) -> Met<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    must(output.status.success(), || {
        format!("kubectl {}: {}", arguments.join(" "), errors.trim_end())
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that reads `input`.
fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    // It is small: it fits into the pipe, and one that ends early has not read it.
    let _ = child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it can be waited for")
}
