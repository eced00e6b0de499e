//! Clusters of EKS.

use base64::Engine as _;
use serde::Deserialize;

use super::client::{Call, Client};
use super::endpoints::Service;
use super::error::AwsError;
use super::signature::encode;

const DESCRIBE: &str = "eks:DescribeCluster";
const LIST: &str = "eks:ListAccessEntries";

/// Most access entries that are read, and most pages of them.
const MOST_ENTRIES: usize = 20_000;
const MOST_PAGES: usize = 200;

/// A cluster that can be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The URL of its API server.
    pub endpoint: String,
    /// The certificate of its authority, in PEM.
    pub certificate_authority: Vec<u8>,
    /// Addresses of services, where the cluster has IPv4.
    pub service_ipv4_cidr: Option<String>,
    /// Addresses of services, where it has IPv6.
    pub service_ipv6_cidr: Option<String>,
    /// `ipv4` or `ipv6`.
    pub ip_family: Option<String>,
    /// Such as `1.34`.
    pub version: Option<String>,
    /// Networks of hybrid nodes and of their pods; `None` when the cluster takes none.
    pub remote_networks: Option<RemoteNetworks>,
    /// The identifier of a local cluster on an Outpost.
    pub id: Option<String>,
    /// The Outposts of a local cluster.
    pub outpost_arns: Vec<String>,
}

/// Networks outside of the VPC, in CIDR notation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteNetworks {
    /// Of nodes.
    pub nodes: Vec<String>,
    /// Of pods.
    pub pods: Vec<String>,
}

#[derive(Deserialize)]
struct Described {
    cluster: Wire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    status: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    certificate_authority: Option<Authority>,
    #[serde(default)]
    kubernetes_network_config: Option<NetworkWire>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    remote_network_config: Option<RemoteWire>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    outpost_config: Option<OutpostWire>,
}

#[derive(Deserialize)]
struct Authority {
    data: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct NetworkWire {
    #[serde(default)]
    service_ipv4_cidr: Option<String>,
    #[serde(default)]
    service_ipv6_cidr: Option<String>,
    #[serde(default)]
    ip_family: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoteWire {
    #[serde(default)]
    remote_node_networks: Option<Vec<Networks>>,
    #[serde(default)]
    remote_pod_networks: Option<Vec<Networks>>,
}

#[derive(Deserialize)]
struct Networks {
    #[serde(default)]
    cidrs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutpostWire {
    #[serde(default)]
    outpost_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    access_entries: Vec<String>,
    #[serde(default)]
    next_token: Option<String>,
}

impl Client<'_> {
    /// What a cluster is (`eks:DescribeCluster`). One that is not active, nor updated
    /// while it is, is an error, and so is one without remote networks when `is_hybrid`
    /// says that the node stands in one.
    pub fn describe_cluster(&self, name: &str, is_hybrid: bool) -> Result<Cluster, AwsError> {
        let body = self.call(&Call {
            service: Service::Eks,
            operation: DESCRIBE,
            method: "GET",
            target: format!("/clusters/{}", encode(name)),
            action: None,
            content_type: None,
            body: String::new(),
            subject: &format!("cluster {name}"),
        })?;
        read_cluster(name, &body, is_hybrid)
    }

    /// The principals that may enter a cluster (`eks:ListAccessEntries`), at most
    /// 20,000 of them.
    pub fn list_access_entries(&self, cluster: &str) -> Result<Vec<String>, AwsError> {
        let mut entries = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let path = format!(
                "/clusters/{}/access-entries?maxResults=100",
                encode(cluster)
            );
            let target = match &next {
                None => path,
                Some(token) => format!("{path}&nextToken={}", encode(token)),
            };
            let body = self.call(&Call {
                service: Service::Eks,
                operation: LIST,
                method: "GET",
                target,
                action: None,
                content_type: None,
                body: String::new(),
                subject: &format!("cluster {cluster}"),
            })?;
            let page: Page = read_json(LIST, &body)?;
            entries.extend(page.access_entries);
            if entries.len() > MOST_ENTRIES {
                break;
            }
            let token = page.next_token.filter(|token| !token.is_empty());
            match token {
                None => return Ok(entries),
                Some(token) if next.as_ref() == Some(&token) => {
                    return Err(AwsError::answer(LIST, "leads to the same page again"));
                }
                token => next = token,
            }
        }
        Err(AwsError::answer(LIST, "does not end"))
    }
}

fn read_json<'a, T: Deserialize<'a>>(
    operation: &'static str,
    body: &'a [u8],
) -> Result<T, AwsError> {
    serde_json::from_slice(body)
        .map_err(|error| AwsError::answer(operation, format!("cannot be read: {error}")))
}

fn read_cluster(name: &str, body: &[u8], is_hybrid: bool) -> Result<Cluster, AwsError> {
    let Described { cluster } = read_json(DESCRIBE, body)?;
    // While a cluster is updated its API server answers on, and nodes join.
    if !matches!(cluster.status.as_str(), "ACTIVE" | "UPDATING") {
        let status: String = cluster.status.chars().take(40).collect();
        return Err(AwsError::Unusable {
            reason: format!("cluster {name} is not active, but {status:?}"),
            hint: "a node joins when the cluster is ACTIVE or UPDATING",
            is_transient: matches!(status.as_str(), "CREATING" | "PENDING"),
        });
    }
    if is_hybrid && cluster.remote_network_config.is_none() {
        return Err(AwsError::Unusable {
            reason: format!("cluster {name} has no remote networks (remoteNetworkConfig)"),
            hint: "hybrid nodes need a cluster whose remoteNetworkConfig names their networks",
            is_transient: false,
        });
    }
    let lacks = |what: &str| AwsError::answer(DESCRIBE, format!("has no {what}"));
    let data = cluster
        .certificate_authority
        .ok_or_else(|| lacks("certificate authority"))?
        .data;
    let network = cluster.kubernetes_network_config.unwrap_or_default();
    let joined = |networks: Option<Vec<Networks>>| {
        let networks = networks.unwrap_or_default().into_iter();
        networks.flat_map(|it| it.cidrs).collect()
    };
    Ok(Cluster {
        name: name.into(),
        endpoint: cluster
            .endpoint
            .filter(|endpoint| endpoint.starts_with("https://"))
            .ok_or_else(|| lacks("endpoint"))?,
        certificate_authority: base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|_| lacks("certificate authority in base64"))?,
        service_ipv4_cidr: network.service_ipv4_cidr,
        service_ipv6_cidr: network.service_ipv6_cidr,
        ip_family: network.ip_family,
        version: cluster.version,
        remote_networks: cluster.remote_network_config.map(|it| RemoteNetworks {
            nodes: joined(it.remote_node_networks),
            pods: joined(it.remote_pod_networks),
        }),
        id: cluster.id,
        outpost_arns: cluster
            .outpost_config
            .map(|it| it.outpost_arns)
            .unwrap_or_default(),
    })
}
