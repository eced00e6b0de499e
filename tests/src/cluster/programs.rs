//! The programs of a control plane, built by `scripts/cluster` when they are missing.

use std::path::PathBuf;

use crate::program::script;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    /// Of Kubernetes, such as `1.34.4`.
    pub version: String,
}

impl Programs {
    /// Those of a minor version of Kubernetes.
    ///
    /// # Panics
    /// When they cannot be built: a test that cannot judge must fail.
    pub fn of(minor: &str) -> Self {
        let folder = script("cluster", minor);
        // VERSION-DIGEST OF THE PINS
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let version = name.split('-').next().unwrap_or_default().to_owned();
        Self { folder, version }
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
