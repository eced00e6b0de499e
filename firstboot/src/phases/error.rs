//! Why a machine did not become a node.

use crate::datasource::FindError;
use crate::node_config::Problem;
use crate::{render, system};

/// Why a machine did not become a node. No text in it ever holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no NodeConfig.
    #[error(transparent)]
    NotFound(#[from] FindError),
    /// The NodeConfig cannot be used.
    #[error("the node configuration has {}", count(.problems.len()))]
    Invalid {
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
    /// The files of the node cannot be made from it.
    #[error(transparent)]
    Render(#[from] render::Error),
    /// The machine carries another machine's identity.
    #[error("{what} lies in this image already")]
    BakedIdentity {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The node cannot prove who it is.
    #[error("{problem}")]
    Credentials {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
        /// Whether it may mend itself.
        may_pass: bool,
    },
    /// The machine is not as a node has to be.
    #[error("{problem}")]
    Machine {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not appear within {} s", limit.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// The time it had.
        limit: std::time::Duration,
        /// What to do about it.
        hint: String,
    },
    /// EKS does not say what the cluster is.
    #[error(transparent)]
    Cloud(#[from] crate::aws::AwsError),
    /// Checks before joining failed.
    #[error(transparent)]
    Refused(#[from] crate::validation::Refusal),
    /// The firewall could not be asked or told.
    #[error(transparent)]
    Firewall(#[from] crate::firewall::Error),
    /// The instance's own disks could not be set up.
    #[error(transparent)]
    Storage(#[from] crate::storage::Error),
    /// A unit did not start.
    #[error("{unit} did not start: {detail}")]
    Unit {
        /// Its name.
        unit: String,
        /// What the service manager says.
        detail: String,
    },
    /// Another run of this program works on the machine.
    #[error("firstboot is running already")]
    Busy,
    /// A program of the node is missing.
    #[error(transparent)]
    Missing(#[from] system::Missing),
    /// The system failed.
    #[error(transparent)]
    System(#[from] system::Error),
}

fn count(problems: usize) -> String {
    if problems == 1 {
        "a problem".into()
    } else {
        format!("{problems} problems")
    }
}

impl Error {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Firewall(error) => error.exit_code(),
            Self::Storage(error) => error.exit_code(),
            Self::NotFound(error) if error.may_pass() => 6,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::Cloud(error) if error.is_transient() => 6,
            Self::Cloud(error) if error.is_not_found() => 2,
            Self::NotFound(_)
            | Self::Invalid { .. }
            | Self::Render(render::Error::Field { .. } | render::Error::Cluster { .. })
            | Self::Credentials {
                may_pass: false, ..
            } => 2,
            Self::Render(render::Error::Unsupported { .. }) => 3,
            Self::BakedIdentity { .. } => 7,
            Self::Credentials { may_pass: true, .. }
            | Self::Late { .. }
            | Self::Unit { .. }
            | Self::Busy
            | Self::System(system::Error::Deadline { .. }) => 6,
            // What EKS refuses a person mends outside of the machine, which tries again.
            Self::Machine { .. }
            | Self::Cloud(_)
            | Self::Missing(_)
            | Self::System(_)
            | Self::Render(render::Error::Fact { .. }) => 4,
        }
    }

    /// Whether the same may work when it is tried again.
    pub fn may_pass(&self) -> bool {
        self.exit_code() == 6
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(error) => Some(error.hint()),
            Self::Invalid { problems } => problems.iter().find_map(|problem| problem.hint.clone()),
            Self::Firewall(error) => Some(error.hint()),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Cloud(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Render(error) => error.hint().map(ToOwned::to_owned),
            Self::BakedIdentity { hint, .. }
            | Self::Credentials { hint, .. }
            | Self::Machine { hint, .. }
            | Self::Late { hint, .. } => Some(hint.clone()),
            Self::Unit { unit, .. } => Some(format!("journalctl -b -u {unit} says more")),
            Self::Missing(system::Missing::Version { program, .. }) => {
                Some(format!("put {program} into the image"))
            }
            Self::System(error) => error.hint().map(ToOwned::to_owned),
            Self::Missing(_) | Self::Busy => None,
        }
    }

    /// The error and all that caused it, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        if let Self::Invalid { problems } = self {
            for problem in problems {
                text.push_str("; ");
                text.push_str(&problem.to_string());
            }
        }
        if let Self::NotFound(FindError::NotFound { tried }) = self {
            for tried in tried {
                text.push_str("; ");
                text.push_str(&tried.to_string());
            }
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text.replace(['\n', '\r'], " ")
    }
}
