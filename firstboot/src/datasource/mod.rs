//! Where a NodeConfig comes from.
//!
//! The sources are asked in this order, and the first that holds a NodeConfig
//! wins:
//!
//! 1. the file named by `--config`, else by `nodekiln.config=PATH` on the kernel
//!    command line; no other source is asked then;
//! 2. `/etc/nodekiln/nodeconfig.yaml`;
//! 3. the files `*.yaml`, `*.yml` and `*.json` of `/etc/nodekiln/nodeconfig.d`,
//!    merged in the order of their names;
//! 4. cloud-init's instance data, `/var/lib/cloud/instance/user-data.txt`, else
//!    `/run/cloud-init/instance-data-sensitive.json`;
//! 5. a NoCloud seed: the folder or URL that `ds=nocloud;s=` names on the kernel
//!    command line or as the machine's serial number, else a volume labelled
//!    `cidata`; its file `user-data`;
//! 6. an OpenStack config drive: a volume labelled `config-2`, its file
//!    `openstack/latest/user_data`;
//! 7. VMware's `guestinfo.userdata`, on a virtual machine of VMware's;
//! 8. EC2's user data, on an instance of EC2.
//!
//! `--datasource NAME`, else `nodekiln.datasource=NAME` on the kernel command line,
//! else `/etc/nodekiln/datasource` name one of 2 to 8 as the only one to ask,
//! whatever the machine looks like.
//!
//! User data without a NodeConfig (a `#cloud-config`, say) is passed over. A
//! source that is there but cannot be used (a named file that is missing, two
//! seeds, a damaged message) ends the search: to go on would join the machine
//! with a configuration that nobody meant. Sources after the winner are compared
//! with it for a warning, except those that take the network or a program.
//!
//! Volumes are read by the small readers [`iso9660`] and [`vfat`], so that a
//! kernel without those drivers will do and nothing needs to be mounted. Every
//! source that waits for something has a time limit ([`Source::limit`]), and all
//! together [`SEARCH`].

mod answer;
pub mod cloud_init;
mod device;
mod ec2;
mod fetch;
mod files;
mod find;
mod guestinfo;
pub mod iso9660;
mod kernel_command_line;
mod machine;
mod no_cloud;
#[cfg(test)]
mod pretended;
mod read_at;
#[cfg(test)]
mod replay;
pub mod seed_line;
mod smbios;
mod source;
pub mod vfat;
mod volume;
mod volumes;

use std::fmt;
use std::path::PathBuf;

pub use find::{find, survey};
pub use machine::{BlockDevice, FileContent, LinuxMachine, Machine};
pub use read_at::ReadAt;
pub use source::{DEVICE, GUESTINFO, INSTANCE_METADATA, SEARCH, SEED_URL, Source, VOLUMES};

use crate::node_config::{MAXIMUM_USER_DATA, Parsed, Problem, decode, parse_parts};
use crate::system::{Clock, Network, Programs, Variables};

/// What the search asks besides the machine's files and devices.
pub trait Outside: Programs + Network + Clock {}

impl<T: Programs + Network + Clock> Outside for T {}

/// How to search.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file to read and no other; goes before the kernel command line.
    pub config: Option<PathBuf>,
    /// The only source to ask; goes before the kernel command line.
    pub datasource: Option<Source>,
    /// Variables that name another instance metadata service.
    pub variables: Variables,
}

/// One text of user data as it was delivered.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it lay, such as `/etc/nodekiln/nodeconfig.yaml` or
    /// `user-data on /dev/sr0 (iso9660, cidata)`.
    pub origin: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

// By hand, for the bytes may hold an activation code.
impl fmt::Debug for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Document")
            .field("origin", &self.origin)
            .field("bytes", &format_args!("({})", self.bytes.len()))
            .finish()
    }
}

/// A NodeConfig that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The kind of place.
    pub source: Source,
    /// Where it lies, for people.
    pub origin: String,
    /// What lies there; several only for [`Source::Folder`].
    pub documents: Vec<Document>,
    /// Sources further down that hold another NodeConfig or a problem, and are not
    /// used: for a warning.
    pub ignored: Vec<Tried>,
    /// Sources that were asked before, and why they gave nothing.
    pub tried: Vec<Tried>,
}

impl Found {
    /// Reads what was found.
    ///
    /// # Errors
    /// All problems in it.
    pub fn load(&self) -> Result<Parsed, Vec<Problem>> {
        let several = self.documents.len() > 1;
        let mut parts = Vec::new();
        let mut problems = Vec::new();
        for document in &self.documents {
            match decode(&document.bytes) {
                Ok(decoded) => {
                    for mut part in decoded.parts {
                        if several {
                            part.origin = match part.origin.as_str() {
                                "" => document.origin.clone(),
                                within => format!("{}, {within}", document.origin),
                            };
                        }
                        parts.push(part);
                    }
                }
                Err(error) => {
                    let origin = if several {
                        document.origin.clone()
                    } else {
                        String::new()
                    };
                    problems.push(Problem {
                        origin,
                        ..error.into()
                    });
                }
            }
        }
        match parse_parts(&parts) {
            Ok(parsed) if problems.is_empty() => Ok(parsed),
            Ok(_) => Err(problems),
            // Without parts the only problem would be that there are none.
            Err(_) if parts.is_empty() => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }
}

/// A source and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Tried {
    /// The source.
    pub source: Source,
    /// What was found there, or why nothing was: lower case, no full stop.
    pub outcome: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source, self.outcome)
    }
}

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its NodeConfig is the one.
    Used,
    /// It has nothing for us.
    Nothing,
    /// It holds the NodeConfig that is used as well.
    Same,
    /// It holds something else, which is not used.
    Ignored,
    /// It is there but cannot be used; the search ends.
    Unusable,
    /// It was not asked.
    NotAsked,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Used => "used",
            Self::Nothing => "nothing",
            Self::Same => "same",
            Self::Ignored => "ignored",
            Self::Unusable => "unusable",
            Self::NotAsked => "not asked",
        })
    }
}

/// What one source said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The source.
    pub source: Source,
    /// What became of it.
    pub state: State,
    /// What was found there, or why nothing was: lower case, no full stop.
    pub outcome: String,
}

/// A search, with what every source said.
#[derive(Debug)]
pub struct Survey {
    /// Every source that it came to, in the order of asking.
    pub reports: Vec<Report>,
    /// What the search gives.
    pub outcome: Result<Found, FindError>,
}

/// Why no NodeConfig was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No source holds one.
    #[error("no NodeConfig was found")]
    NotFound {
        /// Every source and why it gave nothing, in the order of asking.
        tried: Vec<Tried>,
    },
    /// A source is there but cannot be used.
    #[error("{source_kind}: {problem}")]
    Refused {
        /// Which source.
        source_kind: Source,
        /// What is wrong: lower case, no full stop.
        problem: String,
        /// What to do about it.
        hint: String,
        /// Whether it may mend itself.
        may_pass: bool,
    },
    /// A source is named that does not exist.
    #[error("{by} names the data source {name:?}, which does not exist")]
    UnknownSource {
        /// The name.
        name: String,
        /// Who names it.
        by: String,
    },
    /// The image names a source in a file that cannot be used.
    #[error("{problem}")]
    Pin {
        /// What is wrong with the file.
        problem: String,
    },
}

impl FindError {
    /// Whether it may mend itself: a server that does not answer yet, say.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Refused { may_pass: true, .. })
    }

    /// Whether nobody offers a NodeConfig, at least not now: nothing that a node
    /// which has joined already has to mind.
    pub fn is_absence(&self) -> bool {
        self.may_pass() || matches!(self, Self::NotFound { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { tried } if tried.len() == 1 => {
                "put a NodeConfig there, or name another source or none".into()
            }
            Self::NotFound { .. } => {
                "attach a NoCloud seed (label cidata) with the NodeConfig as user-data, or put it \
                 at /etc/nodekiln/nodeconfig.yaml"
                    .into()
            }
            Self::Refused { hint, .. } => hint.clone(),
            Self::UnknownSource { .. } => format!("data sources are: {}", Source::names()),
            Self::Pin { .. } => format!("write one of {} there, or remove it", Source::names()),
        }
    }
}

/// Largest file that a source is read from, in bytes.
pub const MAXIMUM_FILE: u64 = MAXIMUM_USER_DATA as u64;
