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
pub mod control;
pub mod ec2;
pub mod ecr;
pub mod eks;
pub mod fault;
pub mod identity;
pub mod imds;
pub mod message;
pub mod refusal;
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
    /// The API server of the cluster, as far as it answers to strangers.
    Cluster,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Imds,
        Self::Eks,
        Self::Sts,
        Self::Ec2,
        Self::Ssm,
        Self::RolesAnywhere,
        Self::Ecr,
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
            Self::Cluster => "cluster",
        }
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
            Self::Cluster => None,
        }
    }

    /// How it writes errors.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Sts => Dialect::Query,
            Self::Ec2 => Dialect::Ec2,
            Self::Ssm | Self::Ecr => Dialect::Json,
            Self::Imds | Self::Eks | Self::RolesAnywhere | Self::Cluster => Dialect::RestJson,
        }
    }

    /// Answers a request.
    pub fn answer(self, state: &State, asked: &Asked) -> Answer {
        let answered = match self {
            Self::Imds => return imds::answer(state, asked),
            Self::Cluster => return cluster(asked),
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

/// What an API server tells who has no credentials.
fn cluster(asked: &Asked) -> Answer {
    if asked.path == "/livez" || asked.path == "/readyz" || asked.path == "/healthz" {
        return Answer::text(200, "ok");
    }
    let token = asked.header("authorization");
    if token == Some("Bearer k8s-aws-v1.c3RhbmQtaW4") {
        // A node's token, as the stand-in of the authenticator makes it.
        let body = serde_json::json!({"kind": "Endpoints", "apiVersion": "v1"});
        return Answer::json(200, &body);
    }
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
    });
    Answer::json(401, &body)
}
