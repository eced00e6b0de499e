//! Where a NodeConfig comes from.
//!
//! The sources are asked in this order, and the first that holds a NodeConfig
//! wins:
//!
//! 1. the file named by `--config`, else by `nodekiln.config=PATH` on the kernel
//!    command line;
//! 2. `/etc/nodekiln/nodeconfig.yaml`;
//! 3. the files `*.yaml`, `*.yml` and `*.json` of `/etc/nodekiln/nodeconfig.d`,
//!    merged in the order of their names;
//! 4. cloud-init's instance data, `/var/lib/cloud/instance/user-data.txt`;
//! 5. a NoCloud seed: a volume labelled `cidata`, its file `user-data`;
//! 6. an OpenStack config drive: a volume labelled `config-2`, its file
//!    `openstack/latest/user_data`.
//!
//! User data without a NodeConfig (a `#cloud-config`, say) is passed over. A
//! source that is there but cannot be used (a named file that is missing, two
//! seeds, a damaged message) ends the search: to go on would join the machine
//! with a configuration that nobody meant.
//!
//! Volumes are read by the small readers [`iso9660`] and [`vfat`], so that a
//! kernel without those drivers will do and nothing needs to be mounted. Time
//! limits are the caller's.

mod find;
pub mod iso9660;
mod machine;
mod read_at;
pub mod vfat;
mod volume;

use std::fmt;
use std::path::PathBuf;

pub use find::find;
pub use machine::{BlockDevice, FileContent, LinuxMachine, Machine};
pub use read_at::ReadAt;

use crate::node_config::{MAXIMUM_USER_DATA, Parsed, Problem, decode, parse_parts};

/// A kind of place where a NodeConfig can lie, in the order of asking.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file named on the command line or the kernel's.
    NamedFile,
    /// `/etc/nodekiln/nodeconfig.yaml`.
    File,
    /// `/etc/nodekiln/nodeconfig.d`.
    Folder,
    /// cloud-init's instance data.
    CloudInit,
    /// A NoCloud seed volume.
    NoCloud,
    /// An OpenStack config drive.
    ConfigDrive,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NamedFile => "named file",
            Self::File => "file",
            Self::Folder => "folder of files",
            Self::CloudInit => "cloud-init",
            Self::NoCloud => "NoCloud seed",
            Self::ConfigDrive => "config drive",
        })
    }
}

/// How to search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The file to read and no other; goes before the kernel command line.
    pub config: Option<PathBuf>,
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
    },
}

impl FindError {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::NotFound { .. } => {
                "attach a NoCloud seed (label cidata) with the NodeConfig as user-data, or put it \
                 at /etc/nodekiln/nodeconfig.yaml"
            }
            Self::Refused { hint, .. } => hint,
        }
    }
}

/// Largest file that a source is read from, in bytes.
pub const MAXIMUM_FILE: u64 = MAXIMUM_USER_DATA as u64;
