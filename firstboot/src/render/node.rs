//! A NodeConfig of which everything that the files need is known to be there.

use std::net::IpAddr;

use super::max_pods::{self, MaximumPods};
use super::{Error, Facts, Instance, node_name};
use crate::credentials::{self, Provider};
use crate::node_config::model::NodeConfig;

/// Input of every renderer.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub config: &'a NodeConfig,
    pub facts: &'a Facts,
    pub flavour: Flavour<'a>,
    /// Name of the node in the cluster and of its role session.
    pub name: String,
    /// AWS region of the cluster.
    pub region: &'a str,
    /// The cluster's CA, decoded.
    pub certificate_authority: Vec<u8>,
}

/// What kind of node it is: nodeadm's two programs.
#[derive(Debug)]
pub(super) enum Flavour<'a> {
    /// A machine outside of EC2.
    Hybrid(Provider<'a>),
    /// An EC2 instance.
    Ec2 {
        instance: &'a Instance,
        /// Address that the kubelet announces.
        address: &'a str,
        max_pods: MaximumPods,
    },
}

impl<'a> Node<'a> {
    pub fn new(config: &'a NodeConfig, facts: &'a Facts) -> Result<Self, Error> {
        described(config)?;
        let cluster = &config.spec.cluster;
        let (flavour, name, region) = if config.spec.hybrid.is_some() {
            let provider = credentials::provider(config)?;
            let name = hybrid_name(&provider, facts)?;
            (Flavour::Hybrid(provider), name, cluster.region.as_str())
        } else {
            ec2(config, facts)?
        };
        let node = Self {
            config,
            facts,
            flavour,
            name,
            region,
            certificate_authority: cluster
                .certificate_authority_pem()
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(|| {
                    Error::field("spec.cluster.certificateAuthority", "is not base64")
                })?,
        };
        node.check_lines()?;
        Ok(node)
    }

    /// Nothing that goes into a file made of lines may end one.
    fn check_lines(&self) -> Result<(), Error> {
        let cluster = &self.config.spec.cluster;
        for (field, value) in [
            ("spec.cluster.name", cluster.name.as_str()),
            ("spec.cluster.region", self.region),
            (
                "spec.cluster.apiServerEndpoint",
                &cluster.api_server_endpoint,
            ),
        ] {
            one_line(field, value)?;
        }
        if self.is_on_outpost() {
            one_line("spec.cluster.id", &cluster.id)?;
        }
        for flag in &self.config.spec.kubelet.flags {
            no_control("spec.kubelet.flags", flag)?;
        }
        match &self.flavour {
            Flavour::Hybrid(Provider::IamRolesAnywhere(settings)) => {
                for (field, value) in settings.fields() {
                    one_line(field, value)?;
                }
            }
            Flavour::Hybrid(_) => {}
            Flavour::Ec2 { instance, .. } => {
                for (what, value) in [
                    ("the instance's id", &instance.id),
                    (
                        "the instance's availability zone",
                        &instance.availability_zone,
                    ),
                ] {
                    if value.is_empty() || value.chars().any(char::is_control) {
                        return Err(unknown(what));
                    }
                }
            }
        }
        one_line("the node's name", &self.name)
    }

    /// The hybrid node's credential provider; none for EC2 nodes.
    pub fn provider(&self) -> Option<&Provider<'a>> {
        match &self.flavour {
            Flavour::Hybrid(provider) => Some(provider),
            Flavour::Ec2 { .. } => None,
        }
    }

    pub fn is_ec2(&self) -> bool {
        matches!(self.flavour, Flavour::Ec2 { .. })
    }

    /// Whether the cluster is a local one on an Outpost.
    pub fn is_on_outpost(&self) -> bool {
        self.config.spec.cluster.enable_outpost == Some(true)
    }

    /// What tokens for the cluster name: its name, or its id on an Outpost.
    pub fn cluster_identifier(&self) -> &'a str {
        let cluster = &self.config.spec.cluster;
        if self.is_on_outpost() {
            &cluster.id
        } else {
            &cluster.name
        }
    }
}

/// Refuses a NodeConfig whose cluster nobody has described yet.
fn described(config: &NodeConfig) -> Result<(), Error> {
    let cluster = &config.spec.cluster;
    let missing: Vec<&'static str> = [
        ("apiServerEndpoint", &cluster.api_server_endpoint),
        ("certificateAuthority", &cluster.certificate_authority),
        ("cidr", &cluster.cidr),
    ]
    .into_iter()
    .filter(|(_, value)| value.trim().is_empty())
    .map(|(name, _)| name)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Cluster {
        missing: missing.join(", "),
        hint: format!(
            "give spec.cluster.{} in the NodeConfig; `aws eks describe-cluster` shows the values",
            missing.join(", spec.cluster.")
        ),
    })
}

/// Name of a hybrid node: only ever from the NodeConfig or the registration.
pub(super) fn hybrid_name(provider: &Provider<'_>, facts: &Facts) -> Result<String, Error> {
    match provider {
        Provider::IamRolesAnywhere(settings) => node_name::expand(settings.node_name, facts),
        Provider::Ssm(_) | Provider::Ec2 => {
            facts
                .managed_instance_id
                .clone()
                .ok_or_else(|| Error::Fact {
                    what: "the machine's registration with SSM".into(),
                    hint: "the node is named after it: register the machine first".into(),
                })
        }
    }
}

/// What an instance says of itself, its name and its region.
fn ec2<'a>(
    config: &'a NodeConfig,
    facts: &'a Facts,
) -> Result<(Flavour<'a>, String, &'a str), Error> {
    let instance = facts
        .instance
        .as_ref()
        .ok_or_else(|| unknown("the EC2 instance (a NodeConfig without spec.hybrid)"))?;
    if instance.region.is_empty() {
        return Err(unknown("the instance's region"));
    }
    let (address, family) = if is_ipv6(&config.spec.cluster.cidr) {
        (&instance.local_ipv6, "the instance's IPv6 address")
    } else {
        (&instance.local_ipv4, "the instance's IPv4 address")
    };
    let address = address
        .as_deref()
        .filter(|text| text.parse::<IpAddr>().is_ok())
        .ok_or_else(|| unknown(family))?;
    let flavour = Flavour::Ec2 {
        instance,
        address,
        max_pods: max_pods::of(&config.spec.kubelet.max_pods_expression, instance),
    };
    Ok((flavour, ec2_name(config, instance)?, &instance.region))
}

fn ec2_name(config: &NodeConfig, instance: &Instance) -> Result<String, Error> {
    if gate(config, "InstanceIdNodeName") {
        return Ok(instance.id.clone());
    }
    let name = instance.private_dns_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(unknown("the instance's private DNS name"));
    }
    Ok(name.into())
}

/// Whether a feature gate of the NodeConfig is on; unknown ones are off.
pub(super) fn gate(config: &NodeConfig, name: &str) -> bool {
    config.spec.feature_gates.get(name) == Some(&true)
}

fn is_ipv6(cidr: &str) -> bool {
    cidr.split('/').next().is_some_and(|address| {
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6())
    })
}

/// Something that EC2's metadata has to say first.
fn unknown(what: &str) -> Error {
    Error::Fact {
        what: what.into(),
        hint: "it comes from the instance's metadata and from EC2's API".into(),
    }
}

/// Refuses what would end a line, or be nothing, in a file made of lines.
pub(super) fn one_line(field: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() {
        return Err(Error::field(field, "is empty"));
    }
    no_control(field, value)
}

fn no_control(field: &str, value: &str) -> Result<(), Error> {
    if value.chars().any(char::is_control) {
        return Err(Error::field(
            field,
            "holds a control character or a line break",
        ));
    }
    Ok(())
}
