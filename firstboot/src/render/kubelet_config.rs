//! The kubelet's configuration file, and the drop-in with what the user wants.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::node::{Flavour, Node};
use super::reserved::{kube_reserved_cpu, kube_reserved_memory, kube_reserved_memory_of_pods};
use super::{Error, Facts, File, Part, Version, certificate_authority, indented_json, soci};
use crate::node_config::model::Document;

pub(super) const PATH: &str = "/etc/kubernetes/kubelet/config.json";
pub(super) const DROP_IN_FOLDER: &str = "/etc/kubernetes/kubelet/config.json.d";
const DROP_IN: &str = "00-nodeadm.conf";
const EC2_DROP_IN: &str = "40-nodeadm.conf";
const INDENT: &str = "    ";

/// Whether the kubelet merges a folder of drop-ins itself. It does from 1.29 on; the
/// EC2 flavour leaves it to kubelets of every version.
pub(super) fn reads_drop_ins(node: &Node<'_>) -> bool {
    node.is_ec2() || node.facts.kubelet >= Version::new(1, 29, 0)
}

/// Whether a drop-in is written.
pub(super) fn has_drop_in(node: &Node<'_>) -> bool {
    reads_drop_ins(node) && !node.config.spec.kubelet.config.is_empty()
}

pub(super) fn files(node: &Node<'_>) -> Result<Vec<File>, Error> {
    let given = &node.config.spec.kubelet.config;
    let mut config = generated(node)?;
    if has_drop_in(node) {
        let drop_in = Value::Object(with_type(given, node.is_ec2()));
        let name = if node.is_ec2() { EC2_DROP_IN } else { DROP_IN };
        return Ok(vec![
            File::public(
                PATH,
                Part::Kubelet,
                indented_json(&Value::Object(config), INDENT),
            ),
            File::public(
                format!("{DROP_IN_FOLDER}/{name}"),
                Part::Kubelet,
                indented_json(&drop_in, INDENT),
            ),
        ]);
    }
    merge(&mut config, given);
    Ok(vec![File::public(
        PATH,
        Part::Kubelet,
        indented_json(&Value::Object(config), INDENT),
    )])
}

/// The user's settings under a `kind` and `apiVersion`: those that there are, or,
/// on EC2 nodes, the user's if any are given.
fn with_type(given: &Document, users_win: bool) -> Document {
    let mut document = Document::new();
    document.insert("kind".into(), "KubeletConfiguration".into());
    document.insert("apiVersion".into(), "kubelet.config.k8s.io/v1beta1".into());
    for (key, value) in given {
        if users_win {
            document.insert(key.clone(), value.clone());
        } else {
            document.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    document
}

fn generated(node: &Node<'_>) -> Result<Document, Error> {
    let cluster = &node.config.spec.cluster;
    let facts = node.facts;
    let Value::Object(mut config) = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": "0.0.0.0",
        "authentication": {
            "x509": { "clientCAFile": certificate_authority::PATH },
            "webhook": { "enabled": true, "cacheTTL": "2m0s" },
            "anonymous": { "enabled": false },
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": { "cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s" },
        },
        "cgroupDriver": "systemd",
        "cgroupRoot": "/",
        "clusterDNS": [cluster_dns(&cluster.cidr)?],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
        },
        "featureGates": { "RotateKubeletServerCertificate": true },
        "hairpinMode": "hairpin-veth",
        "kubeReserved": {
            "cpu": format!("{}m", kube_reserved_cpu(facts.logical_cpus)),
            "ephemeral-storage": "1Gi",
            "memory": reserved_memory(node),
        },
        "kubeReservedCgroup": "/runtime",
        "systemReservedCgroup": "/system",
        "logging": { "verbosity": 2 },
        "protectKernelDefaults": true,
        "providerID": provider_id(node),
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
            "TLS_RSA_WITH_AES_256_GCM_SHA384",
        ],
    }) else {
        unreachable!("the literal above is an object")
    };
    if pods_need_upstream_resolvers(facts) {
        config.insert(
            "resolvConf".into(),
            "/run/systemd/resolve/resolv.conf".into(),
        );
    }
    if let Flavour::Ec2 { max_pods, .. } = &node.flavour {
        config.insert("maxPods".into(), max_pods.number.into());
        merge(&mut config, &of_ec2(node));
    }
    Ok(config)
}

fn provider_id(node: &Node<'_>) -> String {
    match &node.flavour {
        Flavour::Hybrid(_) => {
            let cluster = &node.config.spec.cluster.name;
            format!("eks-hybrid:///{}/{cluster}/{}", node.region, node.name)
        }
        Flavour::Ec2 { instance, .. } => {
            format!("aws:///{}/{}", instance.availability_zone, instance.id)
        }
    }
}

fn reserved_memory(node: &Node<'_>) -> String {
    match &node.flavour {
        Flavour::Hybrid(_) => kube_reserved_memory(node.facts.memory_kib),
        Flavour::Ec2 { max_pods, .. } => kube_reserved_memory_of_pods(max_pods.number),
    }
}

/// What the EC2 flavour adds, by version of the kubelet.
fn of_ec2(node: &Node<'_>) -> Document {
    let is_at_least = |minor| node.facts.kubelet >= Version::new(1, minor, 0);
    let mut config = Document::new();
    if is_at_least(33) {
        config.insert(
            "featureGates".into(),
            json!({ "DynamicResourceAllocation": true }),
        );
    }
    if is_at_least(34) {
        config["featureGates"]["MutableCSINodeAllocatableCount"] = true.into();
        config.insert("shutdownGracePeriod".into(), "2m30s".into());
        config.insert("shutdownGracePeriodCriticalPods".into(), "30s".into());
    }
    if soci::is_active(node) {
        config.insert(
            "imageServiceEndpoint".into(),
            format!("unix://{}", soci::SOCKET).into(),
        );
    }
    config
}

/// Ubuntu always, as nodeadm has it; never where nodeadm knows the distribution
/// and leaves it out; elsewhere (Debian, ...) when pods would inherit an address
/// that only answers on the machine itself and make the cluster's DNS loop.
fn pods_need_upstream_resolvers(facts: &Facts) -> bool {
    match facts.os.as_str() {
        "ubuntu" => true,
        "amzn" | "rhel" => false,
        _ => facts.resolver_stub,
    }
}

/// Address of the cluster's DNS: the tenth of the service network, by nodeadm's
/// rule, which looks at the text and not at the prefix's length.
pub fn cluster_dns(cidr: &str) -> Result<String, Error> {
    let refuse = || {
        Error::field(
            "spec.cluster.cidr",
            "is not a network such as 10.100.0.0/16",
        )
    };
    let (address, prefix) = cidr.split_once('/').ok_or_else(refuse)?;
    let ip: IpAddr = address.parse().map_err(|_| refuse())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !prefix.parse::<u32>().is_ok_and(|length| length <= longest) {
        return Err(refuse());
    }
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, third, _] = ip.octets();
            Ok(format!("{first}.{second}.{third}.10"))
        }
        IpAddr::V6(_) => {
            let dns = format!("{address}a");
            dns.parse::<IpAddr>().map_err(|_| refuse())?;
            Ok(dns)
        }
    }
}

/// Lays `over` on `base` as nodeadm does: objects are merged, everything else,
/// null too, is replaced.
pub fn merge(base: &mut Document, over: &Document) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(over)) => merge(inner, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_address_follows_the_text_of_the_cidr() {
        let table = [
            ("10.100.0.0/16", "10.100.0.10"),
            ("172.20.5.0/24", "172.20.5.10"),
            ("10.100.0.128/25", "10.100.0.10"),
            ("fc00::/7", "fc00::a"),
            ("fd30:1c53:5f8a::/108", "fd30:1c53:5f8a::a"),
        ];
        for (cidr, dns) in table {
            assert_eq!(cluster_dns(cidr).unwrap(), dns, "{cidr}");
        }
        for cidr in [
            "",
            "10.100.0.0",
            "10.100.0.0/33",
            "10.100.0.0/",
            "10.100.0.0/+8",
            "x/8",
            "fc00::/129",
            "1:2:3:4:5:6:7:8888/64",
            "10.0.0.0/8/8",
        ] {
            let error = cluster_dns(cidr).unwrap_err();
            assert!(
                error.to_string().starts_with("spec.cluster.cidr "),
                "{cidr}: {error}"
            );
        }
    }

    #[test]
    fn merging_replaces_all_but_objects() {
        let document = |value: Value| value.as_object().unwrap().clone();
        let mut base = document(json!({
            "a": {"x": 1, "y": {"z": [1, 2]}}, "b": [1], "c": "text", "d": {"k": 1}, "e": {"k": 1}
        }));
        merge(
            &mut base,
            &document(json!({
                "a": {"y": {"z": []}}, "b": [2, 3], "c": 0, "d": {}, "e": null, "f": false
            })),
        );
        assert_eq!(
            Value::Object(base),
            json!({
                "a": {"x": 1, "y": {"z": []}}, "b": [2, 3], "c": 0, "d": {"k": 1}, "e": null,
                "f": false
            })
        );
    }

    #[test]
    fn resolvers_by_distribution() {
        for (os, stub, expected) in [
            ("ubuntu", false, true),
            ("ubuntu", true, true),
            ("amzn", true, false),
            ("rhel", true, false),
            ("debian", true, true),
            ("debian", false, false),
        ] {
            let facts = Facts {
                os: os.into(),
                resolver_stub: stub,
                ..Facts::default()
            };
            assert_eq!(
                pods_need_upstream_resolvers(&facts),
                expected,
                "{os} {stub}"
            );
        }
    }
}
