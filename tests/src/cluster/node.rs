//! A node as its cluster sees it, through kubectl.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::ControlPlane;
use crate::container_image::{BUSYBOX, WAIT};
use crate::unmet::{Met, Unmet, equal, must};

/// Cores of a machine of the tests, by which is reckoned what is reserved.
pub const CPUS: u32 = 2;

/// The longest wait for anything: a guest without hardware virtualisation is slow.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// What a node has to be.
#[derive(Debug)]
pub struct Node<'a> {
    /// The control plane of its cluster.
    pub control_plane: &'a ControlPlane,
    /// Its name.
    pub name: &'a str,
    /// `spec.providerID`.
    pub provider_id: String,
    /// Its `InternalIP`.
    pub address: Ipv4Addr,
    /// Labels that it has besides the usual ones.
    pub labels: &'a [(&'a str, &'a str)],
    /// Keys of its taints.
    pub taints: &'a [&'a str],
    /// Pods that it may run.
    pub max_pods: u32,
    /// Memory that is kept for the system, in MiB.
    pub reserved_mib: u64,
    /// The image of its pods: the one that the machine's image brings, or of a registry.
    pub image: &'a str,
    /// The longest wait for anything.
    pub patience: Duration,
}

impl<'a> Node<'a> {
    /// What a hybrid node of the sample world has to be: in its cluster `farm`, with what
    /// a machine of the tests has, and nothing that its NodeConfig changed.
    pub fn hybrid(control_plane: &'a ControlPlane, name: &'a str, address: Ipv4Addr) -> Self {
        Self {
            control_plane,
            name,
            provider_id: format!("eks-hybrid:///us-west-2/farm/{name}"),
            address,
            labels: &[],
            taints: &[],
            max_pods: 110,
            reserved_mib: 1024,
            image: BUSYBOX,
            patience: PATIENCE,
        }
    }

    /// Waits until the node is ready, and checks all that the cluster says of it; runs a
    /// pod of the image that the machine brings.
    ///
    /// # Errors
    /// What is not so, with what may be the reason.
    pub fn check(&self) -> Met {
        self.until_ready()?;
        let node = self.object()?;
        self.check_identity()?;
        self.check_resources(&node)?;
        self.check_serving_certificate()?;
        self.check_lease()?;
        self.check_pod()
    }

    /// Waits until the node is ready.
    ///
    /// # Errors
    /// When it is not there, or not ready, in time, with what may be the reason.
    pub fn until_ready(&self) -> Met {
        let node = format!("node/{}", self.name);
        self.until("create", &node)?;
        self.until("condition=Ready", &node)
    }

    /// Waits for what `kubectl wait` can wait for.
    fn until(&self, what: &str, object: &str) -> Met {
        let what = format!("--for={what}");
        let limit = format!("--timeout={}s", self.patience.as_secs());
        self.control_plane
            .wait(&[&what, &limit, object])
            .map_err(|unmet| unmet.with(self.reasons()))
    }

    /// What may be the reason that something does not come.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        // Where nobody answers, the rest says why.
        let node = self.object().unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready" && one["status"] != "True");
        reasons.extend(ready.map(|one| format!("the node: {}", one["message"])));
        let format = "--output=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
        let events = ["get", "events", "--field-selector=type=Warning", format];
        let events = self.control_plane.said(&events).unwrap_or_default();
        let events: BTreeSet<&str> = events.lines().collect();
        reasons.extend(events.into_iter().map(|event| format!("event: {event}")));
        let audit = self.control_plane.audit();
        let refused = audit.iter().filter(|event| {
            let code = event.response_status["code"].as_u64();
            code.is_some_and(|code| code == 401 || code == 403)
                && (event.user.username.is_empty() || event.user.username.contains("node"))
        });
        let refused: BTreeSet<String> = refused
            .map(|event| {
                let status = &event.response_status;
                let (verb, uri) = (&event.verb, &event.request_uri);
                format!(
                    "refused: {verb} {uri}: {} {}",
                    status["code"], status["message"]
                )
            })
            .collect();
        reasons.extend(refused);
        let dead = self.control_plane.dead().into_iter();
        reasons.extend(dead.map(|name| format!("{name} does not run")));
        reasons
    }

    /// The node as it is.
    ///
    /// # Errors
    /// When it is not there.
    pub fn object(&self) -> Met<Value> {
        self.control_plane.get(&["node", self.name])
    }

    /// It is who it has to be.
    ///
    /// # Errors
    /// What is not so.
    pub fn check_identity(&self) -> Met {
        let node = self.object()?;
        let info = &node["status"]["nodeInfo"];
        let version = format!("v{}", self.control_plane.version());
        equal("version of the kubelet", &info["kubeletVersion"], &version)?;
        let runtime = info["containerRuntimeVersion"].as_str().unwrap_or_default();
        must(runtime.starts_with("containerd://1.6."), || {
            format!("the runtime is {runtime}")
        })?;
        let id = &node["spec"]["providerID"];
        equal("spec.providerID", id, self.provider_id.as_str())?;
        let labels = &node["metadata"]["labels"];
        let usual = [
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", self.name),
        ];
        for (key, value) in usual.iter().chain(self.labels) {
            equal(key, &labels[key], value)?;
        }
        self.check_taints()?;
        let address = |kind: &str| {
            let all = node["status"]["addresses"].as_array().into_iter().flatten();
            all.filter(|one| one["type"] == kind)
                .filter_map(|one| one["address"].as_str())
                .collect::<Vec<_>>()
        };
        equal(
            "InternalIP",
            address("InternalIP"),
            [self.address.to_string()],
        )?;
        equal("Hostname", address("Hostname"), [self.name])
    }

    /// What pods may have is what there is less what the tables of nodeadm reserve and
    /// the kubelet keeps from being used up.
    fn check_resources(&self, node: &Value) -> Met {
        let quantity = |kind: &str, name: &str| {
            let text = node["status"][kind][name].as_str();
            text.ok_or_else(|| Unmet::new(format!("{kind} {name} is missing: {node:#}")))
        };
        let capacity = quantity("capacity", "cpu")?;
        equal("capacity cpu", capacity, CPUS.to_string())?;
        equal("allocatable cpu", quantity("allocatable", "cpu")?, "1930m")?;
        for kind in ["capacity", "allocatable"] {
            equal(kind, quantity(kind, "pods")?, self.max_pods.to_string())?;
        }
        let bytes = |kind: &str, name: &str| bytes(quantity(kind, name)?);
        let kept = (self.reserved_mib + 100) << 20;
        let memory = bytes("capacity", "memory")?;
        let allocatable = bytes("allocatable", "memory")?;
        equal("allocatable memory", allocatable + kept, memory)?;
        let disk = bytes("capacity", "ephemeral-storage")?;
        // As the kubelet reckons a percentage.
        let free = (disk as f64 * f64::from(0.1_f32)) as u64;
        let allocatable = bytes("allocatable", "ephemeral-storage")?;
        let wanted = disk - free - (1 << 30);
        equal("allocatable ephemeral-storage", allocatable, wanted)
    }

    /// The kubelet's request was approved and signed; that it serves with it is shown by
    /// what the API server asks of it, which takes no other.
    ///
    /// # Errors
    /// Who did not do their part.
    pub fn check_serving_certificate(&self) -> Met {
        // It may be ready before it asks.
        let asked = format!("kubernetes.io/kubelet-serving system:node:{}", self.name);
        let fields = "{.spec.signerName} {.spec.username}";
        self.watched(&["csr"], fields, |line| line == asked)
            .ok_or_else(|| {
                let text = format!("{} asked for no serving certificate", self.name);
                Unmet::new(text).with(self.reasons())
            })?;
        let own = self.request_for_serving()?.unwrap_or_default();
        let name = own["metadata"]["name"].as_str().unwrap_or_default();
        let issued = "jsonpath={.status.certificate}";
        self.until(issued, &format!("csr/{name}")).map_err(|unmet| {
            let own = self.request_for_serving().ok().flatten();
            let conditions = own.map(|one| one["status"]["conditions"][0]["type"].clone());
            let missing = match conditions {
                Some(condition) if condition == "Approved" => "approved, and signed by nobody",
                _ => "approved by nobody",
            };
            let text = format!("the serving certificate of {} was {missing}", self.name);
            Unmet::new(text).with([unmet.to_string()])
        })
    }

    /// The kubelet's last request for a serving certificate.
    fn request_for_serving(&self) -> Met<Option<Value>> {
        let by_age = "--sort-by=.metadata.creationTimestamp";
        let mut requests = self.control_plane.get(&["csr", by_age])?;
        let user = format!("system:node:{}", self.name);
        let mut all = requests["items"].as_array_mut().into_iter().flatten();
        let own = all.rfind(|one| {
            one["spec"]["username"] == *user
                && one["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
        });
        Ok(own.map(|one| one.take()))
    }

    /// The kubelet says again and again that it lives.
    fn check_lease(&self) -> Met {
        let lease = ["lease", self.name, "--namespace=kube-node-lease"];
        let found = self.control_plane.get(&lease)?;
        let holder = &found["spec"]["holderIdentity"];
        equal("holder of the lease", holder, self.name)?;
        let before = found["spec"]["renewTime"].as_str().unwrap_or_default();
        self.until_changed(&lease, "{.spec.renewTime}", before)
            .map(drop)
    }

    /// It has the taints that it has to have, and no other. What a controller puts on a
    /// node that is not ready, or is not reached, it takes off a moment after that is over.
    fn check_taints(&self) -> Met {
        let is_it = |line: &str| line.split_whitespace().eq(self.taints.iter().copied());
        let keys = "{.spec.taints[*].key}";
        let found = self.watched(&["node", self.name], keys, is_it);
        must(found.is_some(), || {
            let taints = self.object().map(|node| node["spec"]["taints"].clone());
            format!("taints: {taints:?} instead of {:?}", self.taints)
        })
    }

    /// Waits until a field of an object is another; gives it.
    ///
    /// # Errors
    /// When it stays.
    pub fn until_changed(&self, object: &[&str], field: &str, before: &str) -> Met<String> {
        let is_another = |line: &str| !line.is_empty() && line != before;
        let changed = self.watched(object, field, is_another);
        let stays = || format!("{field} of {} stays {before}", object.join(" "));
        changed.ok_or_else(|| Unmet::new(stays()).with(self.reasons()))
    }

    /// The first line of fields of objects, as they are and as they change, that `is_it`;
    /// none within the time.
    fn watched(
        &self,
        objects: &[&str],
        fields: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let format = format!("--output=jsonpath={fields}{{\"\\n\"}}");
        let limit = format!("--request-timeout={}s", self.patience.as_secs());
        let mut command = self
            .control_plane
            .command(&["get", "--watch", &format, &limit]);
        let mut child = command
            .args(objects)
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let found = lines.map_while(Result::ok).find(|line| is_it(line));
        // Only this word was of interest.
        let _ = child.kill();
        let _ = child.wait();
        found
    }

    /// A pod runs, its log can be read, and something can be done in it.
    ///
    /// # Errors
    /// When that is not so.
    pub fn check_pod(&self) -> Met {
        let command = format!("echo \"a pod of $NODE\"; {}", WAIT[2]);
        let command = json!(["sh", "-c", command]);
        let pod = self.run_pod("probe", &command, false)?;
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        must(address.starts_with("10.85."), || {
            format!("the pod has no address of its network: {pod:#}")
        })?;
        let said = self.control_plane.said(&["logs", "probe"])?;
        equal("log of the pod", said, format!("a pod of {}\n", self.name))?;
        let said = ["exec", "probe", "--", "hostname"];
        let said = self.control_plane.said(&said)?;
        equal("host name in the pod", said, "probe\n")
    }

    /// Runs a pod until it is ready; its container is the machine itself if it is
    /// `privileged`.
    ///
    /// # Errors
    /// When it does not become ready, with what may be the reason.
    pub fn run_pod(&self, pod: &str, command: &Value, privileged: bool) -> Met<Value> {
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
                // A node that is away for five minutes would lose it, and machines that are
                // emulated may take longer to restart.
                "tolerations": [{ "operator": "Exists", "effect": "NoExecute" }],
                "containers": [{
                    "name": "busybox",
                    "image": self.image,
                    "imagePullPolicy": if self.image == BUSYBOX { "Never" } else { "IfNotPresent" },
                    "command": command,
                    "env": [{
                        "name": "NODE",
                        "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } },
                    }],
                    "securityContext": { "privileged": privileged },
                }],
            },
        });
        self.control_plane.apply(&object.to_string())?;
        let name = format!("pod/{pod}");
        self.until("condition=Ready", &name)?;
        self.control_plane.get(&[&name])
    }

    /// Runs a script on the machine itself, through the pod `root`, which may do so.
    ///
    /// # Errors
    /// When it fails.
    pub fn on_machine(&self, script: &str) -> Met<String> {
        let enter = [
            "nsenter", "-t", "1", "-m", "-u", "-i", "-n", "--", "sh", "-c",
        ];
        let exec = ["exec", "root", "--"];
        self.control_plane
            .said(&[&exec[..], &enter, &[script]].concat())
    }

    /// Restarts the machine in good order, and waits until the node and its pod are ready
    /// again.
    ///
    /// # Errors
    /// When that does not come.
    pub fn reboot(&self) -> Met {
        self.run_pod("root", &json!(WAIT), true)?;
        let node = self.object()?;
        let before = node["status"]["nodeInfo"]["bootID"].as_str();
        let before = before.ok_or_else(|| Unmet::new("the node does not name its boot"))?;
        self.on_machine("systemctl --no-block reboot")?;
        self.until_changed(&["node", self.name], "{.status.nodeInfo.bootID}", before)?;
        self.until_ready()?;
        self.until_pod_is_back()
    }

    /// Waits until the pod of [`Self::check_pod`] is ready, after it was not.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_pod_is_back(&self) -> Met {
        self.until("condition=Ready", "pod/probe")
    }

    /// Switches the machine off in good order.
    ///
    /// # Errors
    /// When it cannot be told to.
    pub fn power_off(&self) -> Met {
        self.run_pod("root", &json!(WAIT), true)?;
        self.on_machine("systemctl --no-block poweroff").map(drop)
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
fn bytes(quantity: &str) -> Met<u64> {
    let (number, factor) = match quantity.strip_suffix("Ki") {
        Some(number) => (number, 1 << 10),
        None => (quantity, 1),
    };
    let number: u64 = number
        .parse()
        .map_err(|error| Unmet::new(format!("{quantity}: {error}")))?;
    Ok(number * factor)
}
