//! What the world holds, as a JSON file says it. A person can write one by hand; tests
//! begin with [`World::sample`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::certificates::Authority;
use super::fault::Fault;
use super::identity::Key;

/// See the module documentation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct World {
    /// The account.
    pub account: String,
    /// The region of everything in it.
    pub region: String,
    /// Seconds by which the world's clock is ahead of this machine's.
    #[serde(default)]
    pub clock_ahead: i64,
    /// Access keys.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Actions that nobody may do, such as `eks:DescribeCluster`.
    #[serde(default)]
    pub forbidden: Vec<String>,
    /// Clusters.
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    /// The instance that the metadata service speaks of.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Types of instances that EC2 knows.
    #[serde(default)]
    pub instance_types: Vec<InstanceType>,
    /// Activations of Systems Manager.
    #[serde(default)]
    pub activations: Vec<Activation>,
    /// What Roles Anywhere trusts.
    #[serde(default)]
    pub trust_anchors: Vec<TrustAnchor>,
    /// Profiles of Roles Anywhere.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// Repositories of images.
    #[serde(default)]
    pub repositories: Vec<Repository>,
    /// What goes wrong from the start.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// A cluster of EKS.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `CREATING`, …
    pub status: String,
    /// Such as `1.34`.
    pub version: String,
    /// URL of the API server; that of this program's own stand-in if it is missing.
    pub endpoint: Option<String>,
    /// The authority of the API server's certificate, PEM; this program's own if it
    /// is missing.
    pub certificate_authority: Option<String>,
    /// The services' addresses.
    pub service_ipv4_cidr: String,
    /// Networks of hybrid nodes; none where the cluster has no such nodes.
    #[serde(default)]
    pub remote_node_networks: Vec<String>,
    /// ARNs of principals that may be nodes.
    #[serde(default)]
    pub access_entries: Vec<String>,
}

/// An EC2 instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Its type.
    pub instance_type: String,
    /// Its availability zone.
    pub availability_zone: String,
    /// Its primary interface's address.
    pub mac: String,
    /// Its private address.
    pub local_ipv4: String,
    /// Its private name.
    pub private_dns_name: String,
    /// Its host name, where its network has a domain of its own.
    #[serde(default)]
    pub host_name: Option<String>,
    /// Times that EC2 does not know the name yet.
    #[serde(default)]
    pub name_comes_after: u32,
    /// The role whose credentials the metadata service gives.
    #[serde(default)]
    pub role: Option<String>,
    /// User data, as text.
    #[serde(default)]
    pub user_data: Option<String>,
    /// How many routers an answer of the metadata service may pass.
    #[serde(default = "one")]
    pub hop_limit: u32,
}

const fn one() -> u32 {
    1
}

/// A type of instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceType {
    /// Its name.
    pub name: String,
    /// Interfaces of the default network card.
    pub interfaces: u32,
    /// IPv4 addresses of each.
    pub ipv4_per_interface: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// An activation of Systems Manager.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Activation {
    /// Its identifier, a UUID.
    pub id: String,
    /// Its secret.
    pub code: String,
    /// Name of the role of its machines.
    pub role: String,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires: Option<i64>,
    /// How many machines may register.
    pub limit: usize,
}

// By hand: the code is a secret.
impl std::fmt::Debug for Activation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Activation")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A trust anchor of Roles Anywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustAnchor {
    /// Its ARN.
    pub arn: String,
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// Whether it is in use.
    pub enabled: bool,
}

/// A profile of Roles Anywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// Its ARN.
    pub arn: String,
    /// ARNs of the roles that it gives.
    pub roles: Vec<String>,
    /// Whether a session may have a name that its user chose.
    pub accepts_session_name: bool,
}

/// A repository of a private registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// The account whose registry it is in.
    pub registry: String,
    /// Its name, such as `eks/pause`.
    pub name: String,
    /// Folder with its images as an OCI layout; the annotation
    /// `org.opencontainers.image.ref.name` is a tag.
    pub layout: PathBuf,
}

impl World {
    /// Has Roles Anywhere trust an authority, by this ARN.
    pub fn trust(&mut self, arn: &str, authority: &Authority) {
        self.trust_anchors.push(TrustAnchor {
            arn: arn.into(),
            certificate: authority.certificate.clone(),
            enabled: true,
        });
    }

    /// Adds a session of a role of the account, `ROLE/NAME`, with keys of its own.
    ///
    /// # Panics
    /// When it is not of that form.
    pub fn add_session(&mut self, session: &str) {
        let (_, name) = session.split_once('/').expect("ROLE/NAME");
        let number = self.keys.len();
        self.keys.push(Key {
            access_key_id: format!("ASIA{number:016}"),
            secret_access_key: format!("secret of session {number}"),
            session_token: Some(format!("token-of-session-{number}")),
            principal: format!("arn:aws:sts::{}:assumed-role/{session}", self.account),
            user_id: format!("AROA{number:016}:{name}"),
            expires: None,
        });
    }

    /// A small world: a cluster `farm`, an instance, an activation and one key.
    #[must_use]
    pub fn sample() -> Self {
        let account = "111122223333";
        let role = format!("arn:aws:iam::{account}:role/hybrid-node");
        Self {
            account: account.into(),
            region: "us-west-2".into(),
            clock_ahead: 0,
            keys: vec![Key {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
                session_token: None,
                principal: format!("arn:aws:iam::{account}:user/tester"),
                user_id: "AIDAEXAMPLEUSER".into(),
                expires: None,
            }],
            forbidden: Vec::new(),
            clusters: vec![Cluster {
                name: "farm".into(),
                status: "ACTIVE".into(),
                version: "1.34".into(),
                endpoint: None,
                certificate_authority: None,
                service_ipv4_cidr: "10.100.0.0/16".into(),
                remote_node_networks: vec!["10.0.0.0/8".into()],
                access_entries: vec![role.clone()],
            }],
            instance: Some(Instance {
                id: "i-0123456789abcdef0".into(),
                instance_type: "m5.large".into(),
                availability_zone: "us-west-2a".into(),
                mac: "0a:ff:11:22:33:44".into(),
                local_ipv4: "10.1.2.3".into(),
                private_dns_name: "ip-10-1-2-3.us-west-2.compute.internal".into(),
                host_name: None,
                name_comes_after: 0,
                role: Some("node-role".into()),
                user_data: None,
                hop_limit: 1,
            }),
            instance_types: vec![InstanceType {
                name: "m5.large".into(),
                interfaces: 3,
                ipv4_per_interface: 10,
                cpus: 2,
                memory_mib: 8192,
            }],
            activations: vec![Activation {
                id: "11111111-2222-4333-8444-555555555555".into(),
                code: "activation-code-of-tests".into(),
                role: "hybrid-node".into(),
                expires: None,
                limit: 10,
            }],
            trust_anchors: Vec::new(),
            profiles: vec![Profile {
                arn: format!("arn:aws:rolesanywhere:us-west-2:{account}:profile/b"),
                roles: vec![role],
                accepts_session_name: true,
            }],
            repositories: Vec::new(),
            faults: Vec::new(),
        }
    }
}
