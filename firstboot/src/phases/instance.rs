//! Who the EC2 instance is that this machine is.

use std::time::Duration;

use super::cloud::BUDGET;
use super::work::{Patience, Work};
use super::{Error, Phase};
use crate::aws::credentials::{self, InstanceRole};
use crate::aws::{AwsError, Client, Imds, ImdsError};
use crate::node_config::NodeConfig;
use crate::render::{Instance, InterfaceLimits, instance_types};
use crate::system::{Files, Variables, write_if_changed};

/// Tells udev rules of EKS images that interfaces may be managed from now on: the
/// same file that nodeadm makes.
const CONFIGURED: &str = "/run/nodeadm/init";

/// Says that this boot has configured the instance.
pub(super) fn mark_configured(files: &dyn Files) -> Result<(), Error> {
    write_if_changed(files, CONFIGURED, b"", 0o644)?;
    Ok(())
}

/// What the instance said of itself the last time.
pub(super) const REMEMBERED: &str = "/var/lib/nodekiln/firstboot/instance.json";

const LIMIT: usize = 64 << 10;

/// Names that EC2 itself gives ("EC2 instance hostnames"): such a host name is the
/// private DNS name by which a cluster knows the instance.
const OWN_DOMAINS: [&str; 2] = [".compute.internal", ".ec2.internal"];

/// EC2's API knows an instance's name some seconds after its start, and nodeadm waits
/// up to ten minutes for it; the unit tries again.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(30),
    budget: Duration::from_secs(240),
};

/// Asks the instance; where it does not answer on a later boot, what it said before
/// holds: none of it changes while an instance lives.
pub(super) fn establish(
    work: &mut Work<'_>,
    config: &NodeConfig,
    variables: &Variables,
) -> Result<Instance, Error> {
    let before = remembered(work.system)?;
    match ask(work, config, variables, before.as_ref()) {
        Ok(instance) => {
            let text = serde_json::to_vec_pretty(&instance)
                .expect("an instance of text and numbers can always be written to memory");
            write_if_changed(work.system, REMEMBERED, &text, 0o600)?;
            Ok(instance)
        }
        Err(error) => match before {
            Some(instance) if error.may_pass() && work.journal.is_complete() => {
                work.warn(&format!(
                    "{}: what the instance said before is used",
                    error.chain()
                ));
                Ok(instance)
            }
            _ => Err(error),
        },
    }
}

fn remembered(files: &dyn Files) -> Result<Option<Instance>, Error> {
    let bytes = files.read(REMEMBERED, LIMIT)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn ask(
    work: &mut Work<'_>,
    config: &NodeConfig,
    variables: &Variables,
    before: Option<&Instance>,
) -> Result<Instance, Error> {
    let system = work.system;
    system.status_line(&format!("{}: asking the instance", Phase::Credentials));
    let imds = Imds::new(system, system, variables);
    let identity = imds.identity()?;
    let local_ipv6 = if config.spec.cluster.cidr.contains(':') {
        imds.ipv6()?.map(|address| address.to_string())
    } else {
        None
    };
    let mut instance = Instance {
        id: identity.instance_id,
        region: identity.region,
        availability_zone: identity.availability_zone,
        instance_type: identity.instance_type,
        mac: imds.mac()?,
        private_dns_name: None,
        local_ipv4: imds.local_ipv4()?.map(|address| address.to_string()),
        local_ipv6,
        interface_limits: None,
    };
    let is_same =
        |it: &&Instance| it.id == instance.id && it.instance_type == instance.instance_type;
    let before = before.filter(is_same);
    let named_by_id = config.spec.feature_gates.get("InstanceIdNodeName") == Some(&true);
    if !named_by_id {
        let name = private_dns_name(work, &imds, variables, &instance, before)?;
        instance.private_dns_name = Some(name);
    }
    instance.interface_limits = interface_limits(work, &imds, variables, &instance, before);
    Ok(instance)
}

/// The private DNS name: the host name, where it is one that EC2 gave. With a domain of
/// the network's own it is another, and EC2's API is asked, once in an instance's life.
fn private_dns_name(
    work: &mut Work<'_>,
    imds: &Imds<'_>,
    variables: &Variables,
    instance: &Instance,
    before: Option<&Instance>,
) -> Result<String, Error> {
    let name = imds.line("/latest/meta-data/local-hostname")?;
    let is_own = |name: &String| OWN_DOMAINS.iter().any(|domain| name.ends_with(domain));
    let known = before.and_then(|it| it.private_dns_name.clone());
    if let Some(name) = name.filter(is_own).or(known) {
        return Ok(name);
    }
    work.patiently(Phase::Credentials, PATIENCE, |work| {
        let told = api(work, imds, variables, instance, |client| {
            client.private_dns_name(&instance.id)
        });
        match told {
            Ok(Some(name)) => Ok(name),
            Ok(None) => Err(Error::Cloud(AwsError::Unusable {
                reason: format!("EC2 gives {} no private DNS name yet", instance.id),
                hint: "it gives it some seconds after the start",
                is_transient: true,
            })),
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => Err(Error::Machine {
                problem: format!(
                    "the instance's host name is not its private DNS name, and EC2 does not tell \
                     that: {}",
                    Error::from(error).chain()
                ),
                hint: "allow the instance's role ec2:DescribeInstances, turn on \
                       spec.featureGates.InstanceIdNodeName, or take the domain name out of the \
                       network's DHCP options"
                    .into(),
            }),
        }
    })
}

/// What EC2's API says of a type that is newer than our table. Where it says nothing
/// the node takes as many pods as the kubelet does by itself, as with nodeadm; and a
/// node that joined keeps to what it was told.
fn interface_limits(
    work: &Work<'_>,
    imds: &Imds<'_>,
    variables: &Variables,
    instance: &Instance,
    before: Option<&Instance>,
) -> Option<InterfaceLimits> {
    let known = before.and_then(|it| it.interface_limits);
    let is_settled = before.is_some() && work.journal.is_complete();
    let name = &instance.instance_type;
    if known.is_some() || is_settled || instance_types::limits(name).is_some() {
        return known;
    }
    let told = api(work, imds, variables, instance, |client| {
        client.interface_limits(name)
    });
    match told {
        Ok(limits) => Some(InterfaceLimits {
            interfaces: limits.interfaces,
            ipv4_per_interface: limits.ipv4_addresses,
        }),
        Err(error) => {
            let error = Error::from(error);
            let hint = error.hint().unwrap_or_default();
            work.warn(&format!("{}; hint: {hint}", error.chain()));
            None
        }
    }
}

/// Asks EC2's API with the instance's own role.
fn api<T>(
    work: &Work<'_>,
    imds: &Imds<'_>,
    variables: &Variables,
    instance: &Instance,
    question: impl FnOnce(&Client<'_>) -> Result<T, AwsError>,
) -> Result<T, AwsError> {
    let system = work.system;
    let credentials = credentials::find(&[&InstanceRole { imds }], system.now())?;
    question(&Client {
        network: system,
        clock: system,
        variables,
        region: &instance.region,
        credentials: &credentials,
        budget: BUDGET,
    })
}

impl From<ImdsError> for Error {
    fn from(error: ImdsError) -> Self {
        let hint = error.hint().unwrap_or("this has to be an EC2 instance");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Self::Credentials {
            problem: match cause {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            },
            hint: hint.into(),
            may_pass: error.is_transient(),
        }
    }
}
