//! The steps from rendered files to a running kubelet.

use super::journal::digest;
use super::work::Work;
use super::{Error, Phase, checks, files, ground, kernel, name_resolution, pause_image, services};
use crate::credentials::Provider;
use crate::node_config::NodeConfig;
use crate::render::{Facts, File, Part};
use crate::system::Variables;
use crate::validation::{Cloud, Cluster, Skips};

/// What every step works from.
pub(super) struct Node<'a> {
    pub config: &'a NodeConfig,
    pub provider: Provider<'a>,
    pub facts: &'a Facts,
    pub files: &'a [File],
    pub variables: &'a Variables,
    /// The checks that are not to be run.
    pub skips: &'a Skips,
    /// What EKS says of the cluster, where it was asked.
    pub cluster: Option<&'a Cluster>,
    /// Asks AWS for the checks.
    pub cloud: Option<&'a dyn Cloud>,
}

impl Node<'_> {
    /// Digest of the files that something reads.
    pub fn digest_of(&self, part: Part) -> String {
        digest_of_files(self.files.iter().filter(|file| file.part == part))
    }

    /// Whether pods may use the node's credentials.
    pub fn shares_credentials(&self) -> bool {
        let hybrid = self.config.spec.hybrid.as_ref();
        hybrid.is_some_and(|hybrid| hybrid.enable_credentials_file)
    }

    /// Symbolic links of the node, and what they say.
    pub fn links(&self) -> Vec<(&'static str, &'static str)> {
        match self.provider {
            Provider::Ssm(_) if self.shares_credentials() => {
                vec![(services::SHARED_FOLDER, services::AGENTS_FOLDER)]
            }
            _ => Vec::new(),
        }
    }
}

/// Digest of paths and contents.
pub(super) fn digest_of_files<'a>(files: impl Iterator<Item = &'a File>) -> String {
    digest(files.flat_map(|file| [file.path.as_bytes(), file.content.as_slice()]))
}

/// One step.
pub(super) struct Step {
    pub phase: Phase,
    /// Digest of what it works from; empty when there is nothing to do.
    pub inputs: fn(&Node<'_>) -> String,
    /// Does it. Done already with the same inputs, it changes nothing but what went
    /// astray since.
    pub act: fn(&mut Work<'_>, &Node<'_>, &str) -> Result<(), Error>,
}

/// All steps in their order.
pub(super) const STEPS: &[Step] = &[
    Step {
        phase: Phase::Validation,
        inputs: checks::inputs,
        act: checks::before,
    },
    Step {
        phase: Phase::Files,
        inputs: files::inputs,
        act: files::write,
    },
    Step {
        phase: Phase::ServiceManager,
        inputs: files::of_service_manager,
        act: services::reload_manager,
    },
    Step {
        phase: Phase::NameResolution,
        inputs: name_resolution::inputs,
        act: name_resolution::establish,
    },
    Step {
        phase: Phase::Kernel,
        inputs: |node| node.digest_of(Part::Kernel),
        act: kernel::prepare,
    },
    Step {
        phase: Phase::Firewall,
        inputs: ground::firewall_inputs,
        act: ground::open_firewall,
    },
    Step {
        phase: Phase::LocalStorage,
        inputs: ground::storage_inputs,
        act: ground::set_up_storage,
    },
    Step {
        phase: Phase::CredentialsFile,
        inputs: services::credentials_file_inputs,
        act: services::credentials_file,
    },
    // Before the runtime: with it the kubelet is let go, where the image enables it.
    Step {
        phase: Phase::Authentication,
        inputs: checks::authentication_inputs,
        act: checks::written,
    },
    Step {
        phase: Phase::Containerd,
        inputs: |node| node.digest_of(Part::Containerd),
        act: services::containerd,
    },
    Step {
        phase: Phase::PauseImage,
        inputs: pause_image::inputs,
        act: pause_image::provide,
    },
    Step {
        phase: Phase::Kubelet,
        inputs: |node| node.digest_of(Part::Kubelet),
        act: services::kubelet,
    },
];
