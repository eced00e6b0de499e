//! What a node has to look like, written out here independently of the code that
//! renders it: the files, flags and settings of `nodeadm init` for a hybrid node
//! with Kubernetes 1.34.

use std::collections::BTreeSet;

use nodekiln_tests::units::{self, Units};
use serde_json::{Value, json};

use super::guest::{Answers, DROP_INS, FILES, PARAMETERS};
use super::site::{PROFILE, ROLE, TRUST_ANCHOR};

/// What differs between the nodes of the tests.
pub struct Expected {
    pub cluster: &'static str,
    pub region: &'static str,
    /// URL of the API server.
    pub endpoint: String,
    /// The authority of its certificate, PEM.
    pub authority: String,
    /// The node's name.
    pub node: String,
    pub credentials: Credentials,
    /// What must not be in the log.
    pub secret: String,
    pub cluster_dns: &'static str,
    pub sandbox_image: &'static str,
    /// `spec.kubelet.config` as the drop-in holds it.
    pub kubelet_drop_in: Option<Value>,
    /// `spec.containerd.config`.
    pub containerd_given: Option<&'static str>,
    /// `spec.kubelet.flags`.
    pub flags: &'static [&'static str],
    /// Where pods learn of name servers, if the configuration of the kubelet says it.
    pub resolver: Option<&'static str>,
    /// File system of the root, and where it begins on the disk, in bytes.
    pub root: (&'static str, u64),
    /// The units of the image before its first boot.
    pub units: Units,
}

/// How the node proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// By a certificate of its site.
    RolesAnywhere,
    /// By its registration with SSM.
    Ssm,
}

/// Cores and memory of the guest decide what is reserved: two cores (`cluster::CPUS`) keep 60 + 10
/// thousandths, and a memory just below 3 GiB counts as 2.
pub const MEMORY_MIB: u32 = 3072;
const RESERVED: (&str, &str) = ("70m", "1Gi");
/// Size of the machine's disk in bytes.
pub const DISK_SIZE: u64 = 6 << 30;

impl Expected {
    /// Compares everything.
    pub fn assert(&self, answers: &Answers) {
        self.assert_files(answers);
        self.assert_aws_config(answers);
        self.assert_kubelet_config(answers);
        self.assert_flags(answers);
        self.assert_drop_ins(answers);
        assert_modes(answers, self);
        assert_running(answers);
        assert_system(answers, self.root);
        self.assert_units(answers);
        assert_log(answers, &self.secret);
    }

    fn assert_files(&self, answers: &Answers) {
        assert_eq!(answers.text("ca").trim_end(), self.authority.trim_end());
        assert_eq!(answers.text("kubeconfig").trim_end(), self.kubeconfig());
        assert_eq!(
            answers.json("credential-provider"),
            self.credential_provider_config()
        );
        assert_eq!(answers.text("modules-load"), "overlay\nbr_netfilter");
        assert_eq!(
            answers.text("sysctl-d"),
            "vm.overcommit_memory=1\nkernel.panic=10\nkernel.panic_on_oops=1\nnet.ipv4.ip_forward=1"
        );
        self.assert_containerd(answers.text("containerd"));
    }

    /// The signing helper is called as the profile says; the agent writes its own file.
    fn assert_aws_config(&self, answers: &Answers) {
        if self.credentials == Credentials::Ssm {
            assert_ne!(answers.code("aws-config"), 0);
            return;
        }
        for profile in ["[profile default]", "[profile hybrid]"] {
            let text = answers.text("aws-config");
            let (_, rest) = text
                .split_once(profile)
                .unwrap_or_else(|| unreachable!("{profile} is missing:\n{text}"));
            let mut lines = rest.lines().skip(1);
            assert_eq!(lines.next(), Some(&*format!("region = {}", self.region)));
            assert_eq!(
                lines.next(),
                Some(&*format!(
                    "credential_process = /usr/local/bin/aws_signing_helper credential-process \
                     --certificate /etc/iam/pki/server.pem --private-key /etc/iam/pki/server.key \
                     --trust-anchor-arn {TRUST_ANCHOR} --profile-arn {PROFILE} \
                     --role-arn {ROLE} --role-session-name {}",
                    self.node
                ))
            );
        }
    }

    /// Byte for byte where the user gives nothing; else the same table with what is
    /// given merged into it.
    fn assert_containerd(&self, text: &str) {
        let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let Some(given) = self.containerd_given else {
            assert_eq!(plain.join("\n").trim_end(), self.containerd_config());
            return;
        };
        let table = |text: &str| text.parse::<toml::Table>().expect("TOML");
        let mut wanted = table(&self.containerd_config());
        wanted.extend(table(given));
        assert_eq!(table(text), wanted);
    }

    fn kubeconfig(&self) -> String {
        let environment = match self.credentials {
            Credentials::Ssm => "",
            Credentials::RolesAnywhere => {
                r#"        env:
          - name: "AWS_PROFILE"
            value: "default"
          - name: "AWS_CONFIG_FILE"
            value: "/etc/aws/hybrid/config"
"#
            }
        };
        format!(
            r#"---
apiVersion: v1
kind: Config
clusters:
  - name: kubernetes
    cluster:
      certificate-authority: /etc/kubernetes/pki/ca.crt
      server: {}
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
        command: "/usr/local/bin/aws-iam-authenticator"
{}        args:
          - "token"
          - "--cluster-id"
          - "{}"
          - "--region"
          - "{}""#,
            self.endpoint, environment, self.cluster, self.region
        )
    }

    /// Debian 12 has containerd 1.6, whose own schema is version 2.
    fn containerd_config(&self) -> String {
        format!(
            r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
imports = ["/etc/containerd/config.d/*.toml"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins]
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "{}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d""#,
            self.sandbox_image
        )
    }

    fn assert_kubelet_config(&self, answers: &Answers) {
        let mut wanted = json!({
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": "0.0.0.0",
            "authentication": {
                "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
                "webhook": {"enabled": true, "cacheTTL": "2m0s"},
                "anonymous": {"enabled": false}
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}
            },
            "cgroupDriver": "systemd",
            "cgroupRoot": "/",
            "clusterDNS": [self.cluster_dns],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "evictionHard": {
                "memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%"
            },
            "featureGates": {"RotateKubeletServerCertificate": true},
            "hairpinMode": "hairpin-veth",
            "kubeReserved": {"cpu": RESERVED.0, "ephemeral-storage": "1Gi", "memory": RESERVED.1},
            "kubeReservedCgroup": "/runtime",
            "systemReservedCgroup": "/system",
            "logging": {"verbosity": 2},
            "protectKernelDefaults": true,
            "providerID": format!(
                "eks-hybrid:///{}/{}/{}", self.region, self.cluster, self.node
            ),
            "readOnlyPort": 0,
            "serializeImagePulls": false,
            "serverTLSBootstrap": true,
            "tlsCipherSuites": [
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
                "TLS_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_RSA_WITH_AES_256_GCM_SHA384"
            ]
        });
        // Debian is not one of nodeadm's systems: there it is the resolver's stub,
        // which pods cannot reach, that calls for the way around it.
        let servers: Vec<&str> = answers
            .text("resolv-conf")
            .lines()
            .filter_map(|line| line.strip_prefix("nameserver "))
            .collect();
        assert_eq!(servers, ["127.0.0.53"]);
        if let Some(resolver) = self.resolver {
            wanted["resolvConf"] = resolver.into();
        }
        assert_eq!(answers.json("kubelet-config"), wanted);
    }

    /// The flags of the process that runs: those of nodeadm in any order, then the
    /// user's in theirs.
    fn assert_flags(&self, answers: &Answers) {
        let unit = [
            "/usr/bin/kubelet",
            "--config",
            "/etc/kubernetes/kubelet/config.json",
            "--kubeconfig",
            "/var/lib/kubelet/kubeconfig",
            "--container-runtime-endpoint",
            "unix:///run/containerd/containerd.sock",
        ];
        let all: Vec<&str> = answers.text("cmdline").lines().collect();
        let (first, rest) = all.split_at(unit.len().min(all.len()));
        assert_eq!(first, unit);
        let (ours, users) = rest.split_at(rest.len().saturating_sub(self.flags.len()));
        assert_eq!(users, self.flags, "the user's flags are the last");

        let name = format!("--hostname-override={}", self.node);
        let provider = match self.credentials {
            Credentials::RolesAnywhere => "iam-ra",
            Credentials::Ssm => "ssm",
        };
        let labels = format!(
            "--node-labels=eks.amazonaws.com/compute-type=hybrid,\
             eks.amazonaws.com/hybrid-credential-provider={provider}"
        );
        let mut wanted = BTreeSet::from([
            "--cloud-provider=",
            &name,
            &labels,
            "--config=/etc/kubernetes/kubelet/config.json",
            "--kubeconfig=/var/lib/kubelet/kubeconfig",
            "--image-credential-provider-bin-dir=/etc/eks/image-credential-provider",
            "--image-credential-provider-config=/etc/eks/image-credential-provider/config.json",
        ]);
        if self.kubelet_drop_in.is_some() {
            wanted.insert("--config-dir=/etc/kubernetes/kubelet/config.json.d");
        }
        assert_eq!(ours.iter().copied().collect::<BTreeSet<_>>(), wanted);
        assert_eq!(ours.len(), wanted.len(), "no flag is given twice");

        let environment = answers.text("environment");
        let variables: BTreeSet<&str> = environment
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            .collect();
        let mut wanted = BTreeSet::from(["NODEADM_KUBELET_ARGS"]);
        if self.kubelet_drop_in.is_some() {
            wanted.insert("KUBELET_CONFIG_DROPIN_DIR_ALPHA");
            assert!(environment.contains("KUBELET_CONFIG_DROPIN_DIR_ALPHA=\"on\""));
        }
        assert_eq!(variables, wanted);
    }

    fn assert_drop_ins(&self, answers: &Answers) {
        match &self.kubelet_drop_in {
            Some(wanted) => assert_eq!(&answers.json("kubelet-drop-in"), wanted),
            None => assert_ne!(answers.code("kubelet-drop-in"), 0),
        }
        assert_ne!(answers.code("containerd-drop-in"), 0);
    }

    /// First boot has switched on what it started, and nothing else has changed in what the
    /// system starts by itself.
    fn assert_units(&self, answers: &Answers) {
        let found = units::of_list(answers.text("units"));
        let changed = units::differences(&self.units, &found);
        let wanted: &[&str] = match self.credentials {
            // Debian's containerd starts by itself.
            Credentials::RolesAnywhere => &["kubelet.service disabled enabled"],
            Credentials::Ssm => &[
                "amazon-ssm-agent.service disabled enabled",
                "kubelet.service disabled enabled",
            ],
        };
        assert_eq!(changed, wanted);
    }

    fn credential_provider_config(&self) -> Value {
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": [{
                "name": "ecr-credential-provider",
                "matchImages": [
                    "*.dkr.ecr.*.amazonaws.com",
                    "*.dkr.ecr.*.amazonaws.com.cn",
                    "*.dkr.ecr-fips.*.amazonaws.com",
                    "*.dkr.ecr.*.c2s.ic.gov",
                    "*.dkr.ecr.*.sc2s.sgov.gov"
                ],
                "defaultCacheDuration": "12h0m0s",
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1"
            }]
        });
        if self.credentials == Credentials::RolesAnywhere {
            config["providers"][0]["env"] = json!([
                {"name": "AWS_CONFIG_FILE", "value": "/etc/aws/hybrid/config"},
                {"name": "AWS_PROFILE", "value": "default"},
                {"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/eks-hybrid/.aws/credentials"}
            ]);
        }
        config
    }
}

fn assert_modes(answers: &Answers, expected: &Expected) {
    let present = [expected.kubelet_drop_in.is_some(), false];
    let drop_ins = DROP_INS.iter().zip(present).filter(|(_, there)| *there);
    let has_config = expected.credentials == Credentials::RolesAnywhere;
    let wanted: Vec<String> = FILES
        .iter()
        .filter(|(name, _)| *name != "aws-config" || has_config)
        .chain(drop_ins.map(|(file, _)| file))
        .map(|(name, path)| {
            let owner = if *name == "resolv-conf" {
                "systemd-resolve:systemd-resolve"
            } else {
                "root:root"
            };
            format!("644 {owner} {path}")
        })
        .chain(["755 root:root /etc/eks/kubelet".to_owned()])
        .collect();
    let found: Vec<&str> = answers.any("modes").lines().collect();
    assert_eq!(found, wanted);
}

fn assert_running(answers: &Answers) {
    assert_eq!(answers.text("active"), "active\nactive\nactive\n");
    assert_eq!(answers.text("enabled"), "enabled\nenabled\nenabled\n");
    assert_eq!(answers.text("healthz"), "ok");
    let stays: Vec<&str> = answers.any("stays").split_whitespace().collect();
    assert_eq!(stays, ["124", "0", "0", "0"], "the kubelet ended");
    let interface = answers
        .rows("plugins")
        .into_iter()
        .find(|row| row.get(1) == Some(&"cri"));
    assert_eq!(interface.and_then(|row| row.last().copied()), Some("ok"));
    assert!(answers.text("forward").contains("-P FORWARD ACCEPT"));
    let status = answers.json("status");
    assert_eq!(status["state"], "done", "{status}");
}

fn assert_system(answers: &Answers, (root, begins): (&str, u64)) {
    assert_eq!(answers.any("system"), "running\n", "no unit has failed");
    let values: Vec<&str> = answers.text("parameters").lines().collect();
    assert_eq!(values, PARAMETERS.map(|(_, value)| value));
    let machine = answers.text("machine-id").trim_end();
    assert_eq!(machine.len(), 32, "{machine}");
    assert!(machine.chars().all(|c| c.is_ascii_hexdigit()), "{machine}");
    assert_eq!(answers.text("hostname"), "machine-17\n");
    let rows = answers.rows("root");
    let [_, kind, size, options] = *rows[0] else {
        unreachable!("{rows:?}")
    };
    assert_eq!(kind, root);
    assert!(options.starts_with("rw,"), "{options}");
    // The machine's disk is half as large again as the image: the root took the rest, of
    // which a file system needs something for itself.
    let size: u64 = size.parse().expect("bytes");
    let rest = DISK_SIZE - begins;
    assert!(size > rest / 10 * 9, "the root has {size} of {rest} bytes");
    assert_eq!(answers.text("esp"), "vfat\n");
}

/// The log of first boot is JSON, tells the way, and holds no secret.
fn assert_log(answers: &Answers, secret: &str) {
    let text = answers.text("journal");
    assert!(!text.contains(secret), "a secret is logged");
    let messages: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("journalctl writes JSON"))
        .filter(|entry| entry["_TRANSPORT"] == "stdout")
        .map(|entry| {
            let message = entry["MESSAGE"].as_str().expect("text");
            serde_json::from_str(message)
                .unwrap_or_else(|error| unreachable!("no JSON ({error}): {message}"))
        })
        .collect();
    let has = |wanted: &str| {
        messages.iter().any(|entry| {
            let text = entry["message"].as_str().unwrap_or_default();
            entry["level"] == "info" && text.starts_with(wanted)
        })
    };
    for wanted in [
        "node configuration from ",
        "containerd is active",
        "kubelet is active",
        "done in ",
    ] {
        assert!(has(wanted), "'{wanted}' is not in {messages:#?}");
    }
    assert!(messages.iter().all(|entry| entry["level"] != "error"));
}
