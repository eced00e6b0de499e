//! The components, their places in an image, and who needs them.
//!
//! Paths and modes are nodeadm's (`nodeadm install` of
//! <https://github.com/aws/eks-hybrid>), so that its other verbs still work on
//! the node; containerd's and runc's are those of the distributions' packages.

use crate::profile::model::{ComponentName, ComponentSource, CredentialProvider, Profile};

/// One component.
#[derive(Debug)]
pub struct Component {
    /// Its name as a value.
    pub name: ComponentName,
    /// Its name as profiles and locks write it.
    pub label: &'static str,
    /// What it consists of and where that goes.
    pub shape: Shape,
    /// The credential provider that needs it; `None` when both do.
    pub provider: Option<CredentialProvider>,
    /// What a node without it cannot do.
    pub without: &'static str,
}

/// What a component consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One program.
    Program {
        /// Path in the image.
        destination: &'static str,
    },
    /// An archive with several programs.
    Programs {
        /// Folder in the image that they go to.
        folder: &'static str,
        /// Folder of the archive that they lie in; `""` is its top.
        member_folder: &'static str,
    },
}

/// Mode of every program in an image.
pub const PROGRAM_MODE: &str = "0755";

/// All components, in the order in which they are shown.
pub static ALL: [Component; 9] = [
    Component {
        name: ComponentName::Kubelet,
        label: "kubelet",
        shape: Shape::Program {
            destination: "/usr/bin/kubelet",
        },
        provider: None,
        without: "the machine cannot be a node",
    },
    Component {
        name: ComponentName::Kubectl,
        label: "kubectl",
        shape: Shape::Program {
            destination: "/usr/local/bin/kubectl",
        },
        provider: None,
        without: "nobody can ask the cluster from the node",
    },
    Component {
        name: ComponentName::Containerd,
        label: "containerd",
        shape: Shape::Programs {
            folder: "/usr/bin",
            member_folder: "bin",
        },
        provider: None,
        without: "kubelet has no container runtime",
    },
    Component {
        name: ComponentName::Runc,
        label: "runc",
        shape: Shape::Program {
            destination: "/usr/sbin/runc",
        },
        provider: None,
        without: "containerd cannot start containers",
    },
    Component {
        name: ComponentName::CniPlugins,
        label: "cni-plugins",
        shape: Shape::Programs {
            folder: "/opt/cni/bin",
            member_folder: "",
        },
        provider: None,
        without: "network add-ons that rely on the reference plugins do not start",
    },
    Component {
        name: ComponentName::EcrCredentialProvider,
        label: "ecr-credential-provider",
        shape: Shape::Program {
            destination: "/etc/eks/image-credential-provider/ecr-credential-provider",
        },
        provider: None,
        without: "the node cannot pull from private repositories of Amazon ECR",
    },
    Component {
        name: ComponentName::AwsIamAuthenticator,
        label: "aws-iam-authenticator",
        shape: Shape::Program {
            destination: "/usr/local/bin/aws-iam-authenticator",
        },
        provider: None,
        without: "the node cannot authenticate to the cluster",
    },
    Component {
        name: ComponentName::AwsSigningHelper,
        label: "aws-signing-helper",
        shape: Shape::Program {
            destination: "/usr/local/bin/aws_signing_helper",
        },
        provider: Some(CredentialProvider::IamRa),
        without: "the node cannot get AWS credentials with its certificate",
    },
    Component {
        name: ComponentName::SsmSetupCli,
        label: "ssm-setup-cli",
        shape: Shape::Program {
            destination: "/opt/ssm/ssm-setup-cli",
        },
        provider: Some(CredentialProvider::Ssm),
        without: "the node cannot register with AWS Systems Manager",
    },
];

/// The component with this name.
pub fn component(name: ComponentName) -> &'static Component {
    let at = ALL.iter().position(|part| part.name == name).unwrap_or(0);
    &ALL[at]
}

/// The component that profiles and locks call `label`.
pub fn component_of_label(label: &str) -> Option<&'static Component> {
    ALL.iter().find(|part| part.label == label)
}

/// The components that an image of `profile` is to have, with what the profile
/// says about the source of each (`None`: the catalogue's). Omitted ones are left
/// out, those of the base are in.
pub fn wanted(profile: &Profile) -> Vec<(&'static Component, Option<&ComponentSource>)> {
    ALL.iter()
        .filter(|part| {
            part.provider
                .is_none_or(|provider| provider == profile.spec.credential_provider)
        })
        .map(|part| (part, profile.spec.kubernetes.components.get(&part.name)))
        .filter(|(_, source)| source.is_none_or(|source| !source.omit))
        .collect()
}

/// The components that `profile` leaves out, although the node would need them.
pub fn omitted(profile: &Profile) -> Vec<&'static Component> {
    let is_omitted = |part: &&Component| {
        let source = profile.spec.kubernetes.components.get(&part.name);
        part.provider
            .is_none_or(|provider| provider == profile.spec.credential_provider)
            && source.is_some_and(|source| source.omit)
    };
    ALL.iter().filter(is_omitted).collect()
}

/// The endings of the archives that can be unpacked.
pub const ARCHIVE_ENDINGS: [&str; 7] = [
    ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".txz", ".deb",
];

/// Whether a file of this name is an archive.
pub fn is_archive(file_name: &str) -> bool {
    let name = file_name.to_ascii_lowercase();
    ARCHIVE_ENDINGS
        .iter()
        .any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_path::ImagePath;

    #[test]
    fn labels_are_those_of_the_profile() {
        for part in &ALL {
            let label = serde_json::to_value(part.name).expect("plain");
            assert_eq!(label, part.label);
            assert_eq!(component(part.name).label, part.label);
            assert_eq!(
                component_of_label(part.label).expect("known").name,
                part.name
            );
        }
    }

    #[test]
    fn destinations_are_paths() {
        for part in &ALL {
            let (Shape::Program { destination: path } | Shape::Programs { folder: path, .. }) =
                part.shape;
            assert_eq!(ImagePath::new(path).expect(path).as_str(), Some(path));
        }
    }

    #[test]
    fn knows_archives_by_name() {
        for name in ["a.tar.gz", "a.TGZ", "a-v1.2.tar.zst", "a.deb", "a.tar"] {
            assert!(is_archive(name), "{name}");
        }
        for name in ["kubelet", "a.gz", ".tgz", "a.zip", "tar"] {
            assert!(!is_archive(name), "{name}");
        }
    }
}
