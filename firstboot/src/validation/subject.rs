//! What checks look at.

use std::time::Duration;

use super::{Cloud, Finding};
use crate::credentials::{self, Provider};
use crate::node_config::NodeConfig;
use crate::render::Facts;
use crate::system::{self, System, Variables};

/// Longest file that a check reads, in bytes.
const FILE_LIMIT: usize = 1 << 20;

/// What EKS says of the cluster, as far as checks need it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Version of Kubernetes, such as `1.34`.
    pub version: Option<String>,
    /// CIDRs of the remote node networks.
    pub remote_node_networks: Vec<String>,
}

/// What checks look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The machine.
    pub system: &'a dyn System,
    /// The NodeConfig, with its defaults and what EKS added to it.
    pub config: &'a NodeConfig,
    /// What is known about the machine.
    pub facts: &'a Facts,
    /// Environment variables.
    pub variables: &'a Variables,
    /// What EKS says of the cluster; none when it was not asked.
    pub cluster: Option<&'a Cluster>,
    /// Why it says nothing although it was asked.
    pub undescribed: Option<&'a Finding>,
    /// Asks AWS with the node's credentials; none where it cannot be asked.
    pub cloud: Option<&'a dyn Cloud>,
    /// When everything must be done, as [`crate::system::Clock::elapsed`] counts.
    pub deadline: Duration,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Subject")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl<'a> Subject<'a> {
    /// The time that is left, and no more than `most`.
    pub fn at_most(&self, most: Duration) -> Duration {
        self.deadline
            .saturating_sub(self.system.elapsed())
            .min(most)
    }

    /// Whether the node is a hybrid one.
    pub fn is_hybrid(&self) -> bool {
        self.config.spec.hybrid.is_some()
    }

    /// How the node proves who it is; none when the NodeConfig does not say.
    pub fn provider(&self) -> Option<Provider<'a>> {
        credentials::provider(self.config).ok()
    }

    /// A file as text; none when there is no such file.
    pub fn text(&self, path: &str) -> Result<Option<String>, system::Error> {
        Ok(self
            .system
            .read(path, FILE_LIMIT)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
