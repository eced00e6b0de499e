//! What can go wrong, and what the user can do about it.

use std::path::{Path, PathBuf};

use crate::report::Report;

/// A `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is: the property that callers act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What the caller asked for is wrong: an image, a path, a NodeConfig.
    Input,
    /// What the caller asked for is sound but cannot be done here.
    Unsupported,
    /// The machine lacks something: QEMU, firmware, space, permission.
    Environment,
    /// Something that was downloaded is not what it should be.
    Dependency,
    /// Trying again may help.
    Transient,
    /// The guest ran but did not do what it should.
    Milestone,
    /// The caller asked to stop.
    Interrupted,
    /// A defect of this crate.
    Internal,
}

/// See the module documentation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of this machine could not be read or written.
    #[error("{doing}")]
    Io {
        /// What was done to what.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The image is not one that can be booted.
    #[error("boot {}: {reason}", image.display())]
    Image {
        /// The image.
        image: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image of a format that QEMU should not be given.
    #[error("boot {}: {what}", image.display())]
    UnsupportedImage {
        /// The image.
        image: PathBuf,
        /// What it is.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// An option is wrong.
    #[error("{what} {reason}")]
    Option {
        /// Which option, and its value.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Part of a seed is wrong.
    #[error("make a seed: {reason}")]
    Seed {
        /// What is wrong.
        reason: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// The seed asks for something that its format cannot hold.
    #[error("make a seed: {reason}")]
    UnsupportedSeed {
        /// What cannot be done.
        reason: String,
        /// What to do instead.
        hint: String,
    },
    /// A program is not installed.
    #[error("run {program}: it is not installed")]
    NotInstalled {
        /// The program.
        program: String,
        /// The packages that have it.
        hint: String,
    },
    /// A program ended with an error, or before it should.
    #[error("run {program}: {reason}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        reason: String,
        /// The end of what it wrote to standard error, cleaned.
        stderr: String,
    },
    /// No firmware was found.
    #[error("find firmware: {reason}")]
    Firmware {
        /// What was looked for.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Firmware that was given does not exist or is not usable.
    #[error("use {} as firmware: {reason}", path.display())]
    FirmwareFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Firmware could not be downloaded.
    #[error("download firmware: {reason}")]
    FirmwareDownload {
        /// Why not.
        reason: String,
        /// Whether the answer itself was wrong, so that a second try gives the
        /// same.
        wrong: bool,
    },
    /// QEMU does not answer as it should.
    #[error("control QEMU: {0}")]
    Control(String),
    /// The guest did not do what it should; the report says how far it came.
    #[error("boot {what}: {reason}")]
    Milestone {
        /// What was booted.
        what: String,
        /// Which milestone was missed, or what failure the console shows.
        reason: String,
        /// What to do, if that is known.
        hint: Option<String>,
        /// How far it came, with the last lines of the console.
        report: Box<Report>,
    },
    /// The caller asked to stop; QEMU is gone.
    #[error("boot {what}: stopped on request")]
    Interrupted {
        /// What was booted.
        what: String,
    },
    /// A defect of this crate.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind of the failure.
    pub fn kind(&self) -> Kind {
        use std::io::ErrorKind;
        match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::NotFound => Kind::Input,
                ErrorKind::Interrupted => Kind::Interrupted,
                ErrorKind::TimedOut => Kind::Transient,
                _ => Kind::Environment,
            },
            Self::Image { .. }
            | Self::Option { .. }
            | Self::Seed { .. }
            | Self::FirmwareFile { .. } => Kind::Input,
            Self::UnsupportedImage { .. } | Self::UnsupportedSeed { .. } => Kind::Unsupported,
            Self::NotInstalled { .. }
            | Self::Program { .. }
            | Self::Firmware { .. }
            | Self::Control(_) => Kind::Environment,
            Self::FirmwareDownload { wrong: true, .. } => Kind::Dependency,
            Self::FirmwareDownload { wrong: false, .. } => Kind::Transient,
            Self::Milestone { .. } => Kind::Milestone,
            Self::Interrupted { .. } => Kind::Interrupted,
            Self::Internal(_) => Kind::Internal,
        }
    }

    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        use std::io::ErrorKind;
        match self {
            Self::UnsupportedImage { hint, .. }
            | Self::UnsupportedSeed { hint, .. }
            | Self::NotInstalled { hint, .. }
            | Self::Firmware { hint, .. } => Some(hint),
            Self::Seed { hint, .. } | Self::Milestone { hint, .. } => hint.as_deref(),
            Self::FirmwareDownload { .. } => Some(
                "install the package ovmf (arm64: qemu-efi-aarch64), or name the files of a firmware",
            ),
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    Some("free some space, or set TMPDIR to a folder with more of it")
                }
                ErrorKind::PermissionDenied => {
                    Some("check the owner and mode of the file and of its folders")
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// How far the guest came, when it is the guest that failed.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Milestone { report, .. } => Some(report),
            _ => None,
        }
    }

    pub(crate) fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    pub(crate) fn image(image: &Path, reason: impl Into<String>) -> Self {
        Self::Image {
            image: image.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn option(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Option {
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn seed(reason: impl Into<String>) -> Self {
        Self::Seed {
            reason: reason.into(),
            hint: None,
        }
    }
}
