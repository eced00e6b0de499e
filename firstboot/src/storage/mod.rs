//! Local disks of an EC2 instance (`spec.instance.localStorage`): one array, or a
//! file system on each, and the folders of the node's state on them.
//!
//! The strategies are those of `awslabs/amazon-eks-ami` (`setup-local-disks`).
//! Where it departs from that on purpose: a disk that holds anything that is not
//! ours is refused and never formatted, state is copied once and not again over
//! newer state, and nobody waits until a new array has synchronised, since it can
//! be used meanwhile.

mod disk;
mod execute;
mod layout;
mod unit;

use crate::node_config::model::LocalStorage;
use crate::system::{self, System};

pub use disk::{Content, Disk};
pub use layout::{Array, FileSystem, Folder, Layout, Strategy, Wish, layout};
pub use unit::{MountUnit, escape_path};

/// Where disks are mounted when the NodeConfig does not say.
pub const DEFAULT_MOUNT_PATH: &str = "/mnt/k8s-disks";

/// Why the disks could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The NodeConfig asks for something that cannot be.
    #[error("{field} {problem}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There are too few disks.
    #[error("{strategy} needs at least {needed} local disks, and there are {found}")]
    TooFew {
        /// The strategy.
        strategy: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A disk holds what is not ours.
    #[error("the local disk {disk} holds {what}")]
    Foreign {
        /// Its path.
        disk: String,
        /// What was found on it.
        what: String,
    },
    /// A program refuses.
    #[error("{command} failed: {said}")]
    Refused {
        /// The command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] system::Error),
}

impl Error {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Field { .. } => 2,
            Self::System(system::Error::Deadline { .. }) => 6,
            _ => 4,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Field { .. } => Some("strategy is RAID0, RAID10 or Mount".into()),
            Self::TooFew { .. } => {
                Some("choose an instance type with more local disks, or RAID0 or Mount".into())
            }
            Self::Foreign { disk, .. } => Some(format!(
                "if nothing of it is needed: wipefs --all {disk}; this program never does that"
            )),
            Self::Refused { .. } => Some("run the command by hand to see why".into()),
            Self::System(error) => error.hint().map(ToOwned::to_owned),
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The NodeConfig asks for nothing.
    NotAskedFor,
    /// The instance has no local disks.
    NoDisks,
    /// The disks are in use.
    Done {
        /// Where something is mounted, in order.
        mounted: Vec<String>,
        /// Whether anything was changed.
        changed: bool,
    },
}

/// Sets the local disks up, or finds that they are. To be called before containerd
/// and the kubelet start; where they run, they are stopped and started again.
pub fn set_up(system: &dyn System, wanted: &LocalStorage) -> Result<Outcome, Error> {
    let Some(wish) = Wish::new(wanted)? else {
        return Ok(Outcome::NotAskedFor);
    };
    let paths = disk::discover(system)?;
    if paths.is_empty() {
        return Ok(Outcome::NoDisks);
    }
    execute::execute(system, &wish, &paths)
}

#[cfg(test)]
mod tests;
