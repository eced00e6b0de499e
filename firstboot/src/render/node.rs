//! A NodeConfig of which everything that the files need is known to be there.

use super::{Error, Facts};
use crate::credentials::{self, Provider};
use crate::node_config::model::NodeConfig;

/// Input of every renderer.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub config: &'a NodeConfig,
    pub facts: &'a Facts,
    pub provider: Provider<'a>,
    /// Name of the node in the cluster and of its role session.
    pub name: &'a str,
    /// The cluster's CA, decoded.
    pub certificate_authority: Vec<u8>,
}

impl<'a> Node<'a> {
    pub fn new(config: &'a NodeConfig, facts: &'a Facts) -> Result<Self, Error> {
        let provider = credentials::provider(config)?;
        let name = name(&provider, facts.managed_instance_id.as_deref())?;
        refuse_what_this_version_lacks(config)?;
        let cluster = &config.spec.cluster;
        for (field, value) in [
            ("spec.cluster.name", cluster.name.as_str()),
            ("spec.cluster.region", &cluster.region),
            ("spec.hybrid.iamRolesAnywhere.nodeName", name),
            (
                "spec.cluster.apiServerEndpoint",
                &cluster.api_server_endpoint,
            ),
        ] {
            one_line(field, value)?;
        }
        for flag in &config.spec.kubelet.flags {
            no_control("spec.kubelet.flags", flag)?;
        }
        if let Provider::IamRolesAnywhere(settings) = &provider {
            for (field, value) in settings.fields() {
                one_line(field, value)?;
            }
        }
        let certificate_authority = cluster
            .certificate_authority_pem()
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| Error::field("spec.cluster.certificateAuthority", "is not base64"))?;
        Ok(Self {
            config,
            facts,
            provider,
            name,
            certificate_authority,
        })
    }
}

/// Name of the node: only ever from the NodeConfig or the registration, whatever
/// the machine's host name is.
fn name<'a>(provider: &Provider<'a>, managed: Option<&'a str>) -> Result<&'a str, Error> {
    match provider {
        Provider::IamRolesAnywhere(settings) => Ok(settings.node_name),
        Provider::Ec2 => Err(Error::Unsupported {
            what: "an EC2 node (a NodeConfig without spec.hybrid)".into(),
            hint: "give spec.hybrid.iamRolesAnywhere".into(),
        }),
        Provider::Ssm(_) => managed.ok_or_else(|| Error::Unsupported {
            what: "registering the machine with SSM (spec.hybrid.ssm)".into(),
            hint: "use spec.hybrid.iamRolesAnywhere".into(),
        }),
    }
}

/// Whether this version can make a node from a NodeConfig, as far as that can be
/// said without the machine.
pub fn supported(config: &NodeConfig) -> Result<(), Error> {
    name(&credentials::provider(config)?, None)?;
    refuse_what_this_version_lacks(config)
}

fn refuse_what_this_version_lacks(config: &NodeConfig) -> Result<(), Error> {
    let cluster = &config.spec.cluster;
    let missing: Vec<&str> = [
        ("apiServerEndpoint", &cluster.api_server_endpoint),
        ("certificateAuthority", &cluster.certificate_authority),
        ("cidr", &cluster.cidr),
    ]
    .into_iter()
    .filter(|(_, value)| value.trim().is_empty())
    .map(|(name, _)| name)
    .collect();
    if !missing.is_empty() {
        return Err(Error::Unsupported {
            what: format!("asking EKS for the cluster's {}", missing.join(", ")),
            hint: format!(
                "give spec.cluster.{} in the NodeConfig; `aws eks describe-cluster` shows the values",
                missing.join(", spec.cluster.")
            ),
        });
    }
    if cluster.enable_outpost == Some(true) {
        return Err(Error::Unsupported {
            what: "a local cluster on an Outpost (spec.cluster.enableOutpost)".into(),
            hint: "leave enableOutpost out and give the endpoint of a cluster in a region".into(),
        });
    }
    Ok(())
}

/// Refuses what would end a line, or be nothing, in a file made of lines.
fn one_line(field: &str, value: &str) -> Result<(), Error> {
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
