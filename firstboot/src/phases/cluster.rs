//! What EKS says of the cluster, where the NodeConfig leaves something out.

use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::cloud::Aws;
use super::journal::digest;
use super::work::{Patience, Work};
use super::{Error, Phase};
use crate::aws;
use crate::node_config::NodeConfig;
use crate::render::{Facts, File, aws_configuration};
use crate::system::{Files, Variables, is_current, write_if_changed};
use crate::validation;

/// What EKS said the last time.
pub(super) const REMEMBERED: &str = "/var/lib/nodekiln/firstboot/cluster.json";

const LIMIT: usize = 1 << 20;

/// A cluster that is being made becomes active, and a network that comes up slowly
/// is there, within this time.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(20),
    budget: Duration::from_secs(240),
};

/// A cluster, as EKS describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    api_server_endpoint: String,
    /// In base64, as in a NodeConfig.
    certificate_authority: String,
    cidr: Option<String>,
    version: Option<String>,
    remote_node_networks: Vec<String>,
}

/// It, and what it was asked for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    name: String,
    region: String,
    /// Digest of the NodeConfig and the kubelet's version.
    node_config: String,
    cluster: Described,
}

impl Described {
    /// The part that checks look at.
    pub fn as_checks_see_it(&self) -> validation::Cluster {
        validation::Cluster {
            version: self.version.clone(),
            remote_node_networks: self.remote_node_networks.clone(),
        }
    }
}

impl From<aws::Cluster> for Described {
    fn from(cluster: aws::Cluster) -> Self {
        let engine = base64::engine::general_purpose::STANDARD;
        Self {
            api_server_endpoint: cluster.endpoint,
            certificate_authority: engine.encode(cluster.certificate_authority),
            cidr: cluster.service_ipv4_cidr,
            version: cluster.version,
            remote_node_networks: cluster.remote_networks.unwrap_or_default().nodes,
        }
    }
}

/// Whether the NodeConfig of a hybrid node leaves something out of the cluster.
pub(super) fn is_asked_for(config: &NodeConfig) -> bool {
    let cluster = &config.spec.cluster;
    let given = [
        &cluster.api_server_endpoint,
        &cluster.certificate_authority,
        &cluster.cidr,
    ];
    config.spec.hybrid.is_some() && given.iter().any(|value| value.trim().is_empty())
}

/// Asks EKS if the NodeConfig of a hybrid node leaves something out, and nobody
/// otherwise. A node that passed its checks with an answer keeps to it while its
/// NodeConfig and its kubelet stay the same, so that it starts without a network: before
/// a new kubelet the cluster was upgraded.
pub(super) fn establish(
    work: &mut Work<'_>,
    config: &NodeConfig,
    facts: &Facts,
    variables: &Variables,
) -> Result<Option<Described>, Error> {
    if !is_asked_for(config) {
        return work.phase(Phase::Cluster, "", |_| Ok(None));
    }
    let key = key(config, facts);
    work.phase(Phase::Cluster, &key, |work| {
        if work.journal.ended(Phase::Validation)
            && let Some(described) = remembered(work.system, config, &key)?
        {
            return Ok(Some(described));
        }
        let described = ask(work, config, facts, variables)?;
        remember(work.system, config, key.clone(), &described)?;
        Ok(Some(described))
    })
}

/// The NodeConfig with what it left out.
pub(super) fn filled(mut config: NodeConfig, described: Option<&Described>) -> NodeConfig {
    let Some(described) = described else {
        return config;
    };
    let cluster = &mut config.spec.cluster;
    let cidr = described.cidr.as_deref().unwrap_or_default();
    for (given, found) in [
        (
            &mut cluster.api_server_endpoint,
            described.api_server_endpoint.as_str(),
        ),
        (
            &mut cluster.certificate_authority,
            &described.certificate_authority,
        ),
        (&mut cluster.cidr, cidr),
    ] {
        if given.trim().is_empty() {
            found.clone_into(given);
        }
    }
    config
}

fn key(config: &NodeConfig, facts: &Facts) -> String {
    let text = serde_json::to_vec(config)
        .expect("a NodeConfig of text and numbers can always be written to memory");
    digest([text.as_slice(), facts.kubelet.to_string().as_bytes()])
}

fn remembered(
    files: &dyn Files,
    config: &NodeConfig,
    key: &str,
) -> Result<Option<Described>, Error> {
    let bytes = files.read(REMEMBERED, LIMIT)?;
    let remembered: Option<Remembered> =
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let cluster = &config.spec.cluster;
    let is_same = |it: &Remembered| {
        it.name == cluster.name && it.region == cluster.region && it.node_config == key
    };
    Ok(remembered.filter(is_same).map(|it| it.cluster))
}

fn remember(
    files: &dyn Files,
    config: &NodeConfig,
    key: String,
    described: &Described,
) -> Result<(), Error> {
    let remembered = Remembered {
        name: config.spec.cluster.name.clone(),
        region: config.spec.cluster.region.clone(),
        node_config: key,
        cluster: described.clone(),
    };
    let text = serde_json::to_vec_pretty(&remembered)
        .expect("a cluster of text can always be written to memory");
    write_if_changed(files, REMEMBERED, &text, 0o600)?;
    Ok(())
}

fn ask(
    work: &mut Work<'_>,
    config: &NodeConfig,
    facts: &Facts,
    variables: &Variables,
) -> Result<Described, Error> {
    if let Some(file) = aws_configuration(config, facts)? {
        write_ahead(work, &file)?;
    }
    work.system
        .status_line(&format!("{}: asking EKS", Phase::Cluster));
    let described = work.patiently(Phase::Cluster, PATIENCE, |work| {
        describe(&Aws::new(work.system, config, variables), config)
    })?;
    let version = described.version.as_deref().unwrap_or("an unknown version");
    work.info(&format!(
        "EKS describes cluster {} of {version}",
        config.spec.cluster.name
    ));
    Ok(described)
}

/// Asks once.
pub(super) fn describe(cloud: &Aws<'_>, config: &NodeConfig) -> Result<Described, Error> {
    let cluster = &config.spec.cluster;
    let described = cloud.ask(|client| client.describe_cluster(&cluster.name, true))?;
    if cluster.cidr.trim().is_empty() && described.service_ipv4_cidr.is_none() {
        return Err(Error::Machine {
            problem: format!(
                "cluster {} gives its services no IPv4 addresses",
                cluster.name
            ),
            hint: "hybrid nodes need a cluster of the IP family ipv4".into(),
        });
    }
    Ok(described.into())
}

/// Writes the AWS configuration before all other files, as nodeadm does: without it
/// EKS cannot be asked. That it is ours is noted first.
fn write_ahead(work: &mut Work<'_>, file: &File) -> Result<(), Error> {
    if is_current(work.system, &file.path, &file.content, file.mode)? {
        return Ok(());
    }
    if !work.journal.files.contains(&file.path) {
        work.journal.files.push(file.path.clone());
        work.save()?;
    }
    Ok(work.system.write(&file.path, &file.content, file.mode)?)
}
