//! A node as its cluster sees it, through kubectl.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::Stdio;

use nodekiln_tests::cluster::ControlPlane;
use nodekiln_tests::container_image::{BUSYBOX, WAIT};
use serde_json::{Value, json};

use super::expected::CPUS;

/// The longest wait for anything: a guest without hardware virtualisation is slow.
const PATIENCE: &str = "600s";

/// What a node has to be.
pub struct Node<'a> {
    pub control_plane: &'a ControlPlane,
    pub name: &'a str,
    pub provider_id: &'a str,
    pub address: Ipv4Addr,
    pub labels: &'a [(&'a str, &'a str)],
    pub taints: &'a [&'a str],
    pub max_pods: u32,
    /// Memory that is kept for the system, in MiB.
    pub reserved_mib: u64,
}

impl Node<'_> {
    /// Waits until the node is ready, and checks all that the cluster says of it; runs a
    /// pod of the image that the machine brings.
    pub fn assert(&self) {
        self.until_ready();
        let node = self.object();
        self.assert_identity();
        self.assert_resources(&node);
        self.assert_serving_certificate();
        self.assert_lease();
        self.assert_pod();
    }

    /// Waits until the node is ready.
    pub fn until_ready(&self) {
        let node = format!("node/{}", self.name);
        let timeout = format!("--timeout={PATIENCE}");
        self.control_plane.wait(&["--for=create", &timeout, &node]);
        self.control_plane
            .wait(&["--for=condition=Ready", &timeout, &node]);
    }

    /// The node as it is.
    pub fn object(&self) -> Value {
        self.control_plane.get(&["node", self.name])
    }

    /// It is who it has to be.
    pub fn assert_identity(&self) {
        let node = self.object();
        let info = &node["status"]["nodeInfo"];
        let version = format!("v{}", self.control_plane.version());
        assert_eq!(info["kubeletVersion"], version, "{info}");
        let runtime = info["containerRuntimeVersion"].as_str().unwrap_or_default();
        assert!(runtime.starts_with("containerd://1.6."), "{info}");
        assert_eq!(node["spec"]["providerID"], self.provider_id);
        let labels = &node["metadata"]["labels"];
        let usual = [
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", self.name),
        ];
        for (key, value) in usual.iter().chain(self.labels) {
            assert_eq!(labels[key], *value, "{key}: {labels}");
        }
        let taints: Vec<&str> = node["spec"]["taints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|taint| taint["key"].as_str())
            .collect();
        assert_eq!(taints, self.taints, "{node:#}");
        let address = |kind: &str| {
            let all = node["status"]["addresses"].as_array().into_iter().flatten();
            all.filter(|one| one["type"] == kind)
                .filter_map(|one| one["address"].as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(address("InternalIP"), [self.address.to_string()]);
        assert_eq!(address("Hostname"), [self.name]);
    }

    /// What pods may have is what there is less what the tables of nodeadm reserve and
    /// the kubelet keeps from being used up.
    fn assert_resources(&self, node: &Value) {
        let quantity = |kind: &str, name: &str| {
            let text = &node["status"][kind][name];
            text.as_str()
                .unwrap_or_else(|| unreachable!("{kind} {name}: {text}"))
                .to_owned()
        };
        assert_eq!(quantity("capacity", "cpu"), CPUS.to_string());
        assert_eq!(quantity("allocatable", "cpu"), "1930m");
        for kind in ["capacity", "allocatable"] {
            assert_eq!(quantity(kind, "pods"), self.max_pods.to_string());
        }
        let bytes = |kind: &str, name: &str| bytes(&quantity(kind, name));
        let kept = (self.reserved_mib + 100) << 20;
        let memory = bytes("capacity", "memory");
        assert_eq!(bytes("allocatable", "memory"), memory - kept);
        let disk = bytes("capacity", "ephemeral-storage");
        // As the kubelet reckons a percentage.
        let free = (disk as f64 * f64::from(0.1_f32)) as u64;
        let wanted = disk - free - (1 << 30);
        assert_eq!(bytes("allocatable", "ephemeral-storage"), wanted);
    }

    /// The kubelet's request was approved and signed; that it serves with it is shown by
    /// what the API server asks of it, which takes no other.
    fn assert_serving_certificate(&self) {
        let requests = self.control_plane.get(&["csr"]);
        let user = format!("system:node:{}", self.name);
        let mut all = requests["items"].as_array().into_iter().flatten();
        let issued = all.any(|one| {
            one["spec"]["username"] == *user
                && one["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
                && one["status"]["certificate"].is_string()
        });
        assert!(issued, "{requests:#}");
    }

    /// The kubelet says again and again that it lives.
    fn assert_lease(&self) {
        let lease = ["lease", self.name, "--namespace=kube-node-lease"];
        let found = self.control_plane.get(&lease);
        assert_eq!(found["spec"]["holderIdentity"], self.name);
        let before = found["spec"]["renewTime"].as_str().unwrap_or_default();
        self.until_changed(&lease, "{.spec.renewTime}", before);
    }

    /// Waits until a field of an object is another; gives it.
    pub fn until_changed(&self, object: &[&str], field: &str, before: &str) -> String {
        let format = format!("--output=jsonpath={field}{{\"\\n\"}}");
        let limit = format!("--request-timeout={PATIENCE}");
        let mut command = self
            .control_plane
            .command(&["get", "--watch", &format, &limit]);
        let mut child = command
            .args(object)
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let changed = lines
            .map_while(Result::ok)
            .find(|line| !line.is_empty() && line != before);
        // Only its first word was of interest.
        let _ = child.kill();
        let _ = child.wait();
        changed.unwrap_or_else(|| unreachable!("{field} of {object:?} stays {before}"))
    }

    /// A pod runs, its log can be read, and something can be done in it.
    fn assert_pod(&self) {
        let command = format!("echo \"a pod of $NODE\"; {}", WAIT[2]);
        let command = json!(["sh", "-c", command]);
        let pod = self.run_pod("probe", &command, false);
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        assert!(address.starts_with("10.85."), "{pod:#}");
        assert_eq!(
            self.said(&["logs", "probe"]),
            format!("a pod of {}\n", self.name)
        );
        assert_eq!(self.said(&["exec", "probe", "--", "hostname"]), "probe\n");
    }

    /// Runs a pod until it is ready; its container is the machine itself if it is
    /// `privileged`.
    pub fn run_pod(&self, pod: &str, command: &Value, privileged: bool) -> Value {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": pod },
            "spec": {
                // No scheduler is needed for that.
                "nodeName": self.name,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "hostPID": privileged,
                "containers": [{
                    "name": "busybox",
                    "image": BUSYBOX,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "env": [{
                        "name": "NODE",
                        "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } },
                    }],
                    "securityContext": { "privileged": privileged },
                }],
            },
        });
        self.control_plane.apply(&object.to_string());
        let timeout = format!("--timeout={PATIENCE}");
        let name = format!("pod/{pod}");
        self.control_plane
            .wait(&["--for=condition=Ready", &timeout, &name]);
        self.control_plane.get(&[&name])
    }

    /// What kubectl prints.
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.control_plane.kubectl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script on the machine itself, through a pod that may do so.
    pub fn on_machine(&self, script: &str) -> String {
        let enter = [
            "nsenter", "-t", "1", "-m", "-u", "-i", "-n", "--", "sh", "-c",
        ];
        let exec = ["exec", "root", "--"];
        self.said(&[&exec[..], &enter, &[script]].concat())
    }

    /// Restarts the machine in good order, and waits until the node is ready again.
    pub fn reboot(&self) {
        self.run_pod("root", &json!(WAIT), true);
        let node = self.object();
        let before = node["status"]["nodeInfo"]["bootID"].as_str();
        let before = before.expect("a node says so");
        self.on_machine("systemctl --no-block reboot");
        self.until_changed(&["node", self.name], "{.status.nodeInfo.bootID}", before);
        self.until_ready();
        let pods = ["--for=condition=Ready", "--timeout=600s", "pod/probe"];
        self.control_plane.wait(&pods);
    }

    /// How often the node was registered, by the audit log.
    pub fn registrations(&self) -> usize {
        let user = format!("system:node:{}", self.name);
        let audit = self.control_plane.audit();
        let created = audit.iter().filter(|event| {
            event.user.username == user
                && event.verb == "create"
                && event.object_ref["resource"] == "nodes"
                && event.response_status["code"] == 201
        });
        created.count()
    }
}

/// Bytes of a quantity of Kubernetes, such as `3016740Ki`.
fn bytes(quantity: &str) -> u64 {
    let (number, factor) = match quantity.strip_suffix("Ki") {
        Some(number) => (number, 1 << 10),
        None => (quantity, 1),
    };
    let number: u64 = number
        .parse()
        .unwrap_or_else(|error| unreachable!("{quantity}: {error}"));
    number * factor
}
