//! Who the EC2 instance is that this machine is.

use super::work::Work;
use super::{Error, Phase};
use crate::aws::{Imds, ImdsError};
use crate::node_config::NodeConfig;
use crate::render::Instance;
use crate::system::{Files, System, Variables, write_if_changed};

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

/// Asks the instance; where it does not answer on a later boot, what it said before
/// holds: none of it changes while an instance lives.
pub(super) fn establish(
    work: &mut Work<'_>,
    config: &NodeConfig,
    variables: &Variables,
) -> Result<Instance, Error> {
    match ask(work.system, config, variables) {
        Ok(instance) => {
            let text = serde_json::to_vec_pretty(&instance)
                .expect("an instance of text and numbers can always be written to memory");
            write_if_changed(work.system, REMEMBERED, &text, 0o600)?;
            Ok(instance)
        }
        Err(error) => match remembered(work.system)? {
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

fn ask(system: &dyn System, config: &NodeConfig, variables: &Variables) -> Result<Instance, Error> {
    system.status_line(&format!("{}: asking the instance", Phase::Credentials));
    let imds = Imds::new(system, system, variables);
    let identity = imds.identity()?;
    let local_ipv6 = if config.spec.cluster.cidr.contains(':') {
        imds.ipv6()?.map(|address| address.to_string())
    } else {
        None
    };
    let named_by_id = config.spec.feature_gates.get("InstanceIdNodeName") == Some(&true);
    let private_dns_name = if named_by_id {
        None
    } else {
        Some(private_dns_name(&imds)?)
    };
    Ok(Instance {
        id: identity.instance_id,
        region: identity.region,
        availability_zone: identity.availability_zone,
        instance_type: identity.instance_type,
        mac: imds.mac()?,
        private_dns_name,
        local_ipv4: imds.local_ipv4()?.map(|address| address.to_string()),
        local_ipv6,
        interface_limits: None,
    })
}

/// The private DNS name, where the host name is one that EC2 gave. With a domain of
/// the network's own it is another, which only EC2's API tells.
fn private_dns_name(imds: &Imds<'_>) -> Result<String, Error> {
    let name = imds.line("/latest/meta-data/local-hostname")?;
    name.filter(|name| OWN_DOMAINS.iter().any(|domain| name.ends_with(domain)))
        .ok_or_else(|| Error::Machine {
            problem: "the instance's host name is not its private DNS name".into(),
            hint: "turn on spec.featureGates.InstanceIdNodeName, or take the domain name out of \
                   the network's DHCP options"
                .into(),
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
