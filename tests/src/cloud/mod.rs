//! The outside world of a first boot, for tests and by hand: the AWS services that
//! a node talks to, each in a file, as strict as the real ones where it matters.
//! Signatures, dates, scopes and tokens are checked; whatever AWS refuses is refused
//! with AWS's status, code and dialect. Nothing of it is shared with the code that
//! is tested.
//!
//! `nodekiln-cloud` serves it; what the world holds is a [`World`], a JSON file. Any
//! service can be told to misbehave ([`fault`]) through the control socket.

pub mod canonical;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod control;
pub mod ec2;
pub mod ecr;
pub mod eks;
pub mod fault;
pub mod identity;
pub mod imds;
pub mod message;
pub mod refusal;
pub mod registry;
pub mod roles_anywhere;
pub mod serve;
pub mod signature_v4;
pub mod ssm;
pub mod state;
pub mod sts;
pub mod world;

use serde::{Deserialize, Serialize};

pub use state::State;
pub use world::World;

use message::{Answer, Asked};
use refusal::Dialect;

/// What is served, each at an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The metadata service of an EC2 instance.
    Imds,
    /// Elastic Kubernetes Service.
    Eks,
    /// Security Token Service.
    Sts,
    /// Elastic Compute Cloud.
    Ec2,
    /// Systems Manager.
    Ssm,
    /// IAM Roles Anywhere.
    RolesAnywhere,
    /// Elastic Container Registry.
    Ecr,
    /// The registries that hold its images.
    Registry,
    /// The API server of the cluster, as far as it answers to strangers.
    Cluster,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Imds,
        Self::Eks,
        Self::Sts,
        Self::Ec2,
        Self::Ssm,
        Self::RolesAnywhere,
        Self::Ecr,
        Self::Registry,
        Self::Cluster,
    ];

    /// The name in the scope of a signature.
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Imds => "imds",
            Self::Eks => "eks",
            Self::Sts => "sts",
            Self::Ec2 => "ec2",
            Self::Ssm => "ssm",
            Self::RolesAnywhere => "rolesanywhere",
            Self::Ecr => "ecr",
            Self::Registry => "registry",
            Self::Cluster => "cluster",
        }
    }

    /// The name by which it is found in a region; the metadata service has none. That of
    /// registries is for those of all accounts, as in a certificate.
    pub fn host(self, region: &str) -> Option<String> {
        match self {
            Self::Imds => None,
            Self::Ecr => Some(format!("api.ecr.{region}.amazonaws.com")),
            Self::Registry => Some(format!("*.dkr.ecr.{region}.amazonaws.com")),
            Self::Cluster => Some(format!(
                "0123456789abcdef0123456789abcdef.gr7.{region}.eks.amazonaws.com"
            )),
            other => Some(format!("{}.{region}.amazonaws.com", other.signing_name())),
        }
    }

    /// Whose name that is.
    pub fn named(host: &str, region: &str) -> Option<Self> {
        let of_account = host
            .split_once(".dkr.")
            .map(|(_, rest)| format!("*.dkr.{rest}"));
        let name = of_account.as_deref().unwrap_or(host);
        let mut all = Self::ALL.into_iter();
        all.find(|service| service.host(region).as_deref() == Some(name))
    }

    /// The variable by which SDKs are sent here, if there is one.
    pub const fn variable(self) -> Option<&'static str> {
        match self {
            Self::Imds => Some("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            Self::Eks => Some("AWS_ENDPOINT_URL_EKS"),
            Self::Sts => Some("AWS_ENDPOINT_URL_STS"),
            Self::Ec2 => Some("AWS_ENDPOINT_URL_EC2"),
            Self::Ssm => Some("AWS_ENDPOINT_URL_SSM"),
            Self::RolesAnywhere => Some("AWS_ENDPOINT_URL_ROLESANYWHERE"),
            Self::Ecr => Some("AWS_ENDPOINT_URL_ECR"),
            Self::Registry | Self::Cluster => None,
        }
    }

    /// How it writes errors.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Sts => Dialect::Query,
            Self::Ec2 => Dialect::Ec2,
            Self::Ssm | Self::Ecr => Dialect::Json,
            Self::Imds | Self::Eks | Self::RolesAnywhere | Self::Registry | Self::Cluster => {
                Dialect::RestJson
            }
        }
    }

    /// Answers a request.
    pub fn answer(self, state: &State, asked: &Asked) -> Answer {
        let answered = match self {
            Self::Imds => return imds::answer(state, asked),
            Self::Cluster => return cluster::answer(state, asked),
            Self::Registry => return registry::answer(state, asked),
            Self::Eks => eks::answer(state, asked),
            Self::Sts => sts::answer(state, asked),
            Self::Ec2 => ec2::answer(state, asked),
            Self::Ssm => ssm::answer(state, asked),
            Self::RolesAnywhere => roles_anywhere::answer(state, asked),
            Self::Ecr => ecr::answer(state, asked),
        };
        answered.unwrap_or_else(|refusal| self.dialect().answer(&refusal))
    }
}
