//! How a node proves to AWS who it is.

mod iam_roles_anywhere;
pub mod ssm;

pub use iam_roles_anywhere::{Finding, Settings, inspect_files};

use crate::node_config::model::{NodeConfig, Ssm};
use crate::render::Error;

/// Where a node's credentials come from.
#[derive(Debug)]
pub enum Provider<'a> {
    /// A certificate, exchanged for a session by the signing helper.
    IamRolesAnywhere(Settings<'a>),
    /// The SSM agent of a registered machine.
    Ssm(&'a Ssm),
    /// The role of the EC2 instance that the machine is.
    Ec2,
}

impl Provider<'_> {
    /// Its name in the label `eks.amazonaws.com/hybrid-credential-provider`; EC2
    /// nodes have no such label.
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::IamRolesAnywhere(_) => Some("iam-ra"),
            Self::Ssm(_) => Some("ssm"),
            Self::Ec2 => None,
        }
    }
}

/// The provider that a NodeConfig asks for.
pub fn provider(config: &NodeConfig) -> Result<Provider<'_>, Error> {
    let Some(hybrid) = &config.spec.hybrid else {
        return Ok(Provider::Ec2);
    };
    match (&hybrid.iam_roles_anywhere, &hybrid.ssm) {
        (Some(settings), None) => Ok(Provider::IamRolesAnywhere(Settings::new(settings))),
        (None, Some(settings)) => Ok(Provider::Ssm(settings)),
        (Some(_), Some(_)) => Err(Error::Field {
            field: "spec.hybrid".into(),
            problem: "must hold only one of iamRolesAnywhere and ssm".into(),
        }),
        (None, None) => Err(Error::Field {
            field: "spec.hybrid".into(),
            problem: "must hold one of iamRolesAnywhere and ssm".into(),
        }),
    }
}
