//! Where the components are published.
//!
//! Amazon's builds: `https://s3.us-west-2.amazonaws.com/amazon-eks/VERSION/DATE/`
//! with one GNU checksum file each; dates by the releases of
//! <https://github.com/awslabs/amazon-eks-ami>. Kubernetes' own:
//! <https://dl.k8s.io>, checksum files of bare digits. containerd, runc, CNI
//! plugins and aws-iam-authenticator: their releases on GitHub. The signing
//! helper: <https://docs.aws.amazon.com/rolesanywhere/latest/userguide/credential-helper.html>,
//! which publishes its sha256 on that page only.

use crate::error::{Error, Result};
use crate::profile::model::{Architecture, ComponentName};
use crate::store::Digest;

use super::placement::component;

/// What the source of a component depends on.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Kubernetes version, `x.y.z`.
    pub version: &'a str,
    /// Date of Amazon's build, `YYYY-MM-DD`, if the profile names one.
    pub eks_build: Option<&'a str>,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Whether the base is known to be of Debian's kind before it was looked into.
    pub is_debian: bool,
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// https URL of the program or archive.
    pub url: String,
    /// What vouches for it.
    pub checksum: Checksum,
}

/// What vouches for a published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// https URL of a checksum file; `lock::checksum_in` reads its shapes.
    File(String),
    /// The publisher's digest, known to this catalogue.
    Known(Digest),
    /// The publisher gives none: the profile must.
    Missing,
}

/// Versions of what is not part of Kubernetes, by Kubernetes minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Kubernetes minor version: 34 for 1.34.
    pub minor: u32,
    /// A good full version to begin with.
    pub kubernetes: &'static str,
    /// containerd.
    pub containerd: &'static str,
    /// runc.
    pub runc: &'static str,
    /// CNI plugins.
    pub cni_plugins: &'static str,
    /// aws-iam-authenticator, where Amazon's build is not known.
    pub aws_iam_authenticator: &'static str,
}

/// The oldest minor version of Kubernetes 1 in the catalogue.
pub const OLDEST_MINOR: u32 = 30;
/// The newest one.
pub const NEWEST_MINOR: u32 = 36;

const fn row(minor: u32, kubernetes: &'static str) -> Defaults {
    Defaults {
        minor,
        kubernetes,
        containerd: "2.2.4",
        runc: "1.3.5",
        cni_plugins: "1.9.1",
        aws_iam_authenticator: "0.7.18",
    }
}

static DEFAULTS: [Defaults; (NEWEST_MINOR - OLDEST_MINOR + 1) as usize] = [
    row(30, "1.30.14"),
    row(31, "1.31.14"),
    row(32, "1.32.13"),
    row(33, "1.33.13"),
    row(34, "1.34.9"),
    row(35, "1.35.6"),
    row(36, "1.36.2"),
];

/// Amazon's builds whose date is known.
static EKS_BUILDS: [(&str, &str); 9] = [
    ("1.30.14", "2026-07-05"),
    ("1.31.14", "2026-07-05"),
    ("1.32.13", "2026-07-05"),
    ("1.33.13", "2026-07-05"),
    ("1.34.1", "2025-09-19"),
    ("1.34.2", "2025-11-13"),
    ("1.34.9", "2026-07-05"),
    ("1.35.6", "2026-07-05"),
    ("1.36.2", "2026-07-05"),
];

const SIGNING_HELPER: &str = "1.8.5";
const SIGNING_HELPER_X86_64: &str =
    "beec9ed1c492d93db809890f16713e3556353294b823c2184ad4e891f1b2b54d";
const SIGNING_HELPER_ARM64: &str =
    "3d131aa888cd56da446f9c6bb460b1f0569f6c7edc74eae6193a2fe3928883ba";

/// The defaults for a full Kubernetes version; `None` outside the catalogue.
pub fn defaults(version: &str) -> Option<&'static Defaults> {
    let minor: u32 = version
        .strip_prefix("1.")?
        .split('.')
        .next()?
        .parse()
        .ok()?;
    DEFAULTS.iter().find(|row| row.minor == minor)
}

/// Go's name of an architecture, which all but the signing helper use.
fn go(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Arm64 => "arm64",
    }
}

/// The published file of a component.
///
/// # Errors
/// [`crate::Class::Input`] when the catalogue does not know one, with what the
/// profile must say instead.
pub fn upstream(name: ComponentName, wish: &Wish<'_>) -> Result<Upstream> {
    let label = component(name).label;
    let build = wish.eks_build.or_else(|| {
        EKS_BUILDS
            .iter()
            .find(|(version, _)| *version == wish.version)
            .map(|(_, date)| *date)
    });
    let arch = go(wish.architecture);
    let version = wish.version;
    let needs_defaults = || {
        defaults(version).ok_or_else(|| {
            Error::input(format!(
                "find {label} for Kubernetes {version}: the catalogue has 1.{OLDEST_MINOR} to \
                 1.{NEWEST_MINOR}"
            ))
            .hint(format!(
                "give spec.kubernetes.components.{label} a url or a path"
            ))
        })
    };
    let url = match (name, build) {
        (
            ComponentName::Kubelet
            | ComponentName::Kubectl
            | ComponentName::EcrCredentialProvider
            | ComponentName::AwsIamAuthenticator,
            Some(date),
        ) => format!(
            "https://s3.us-west-2.amazonaws.com/amazon-eks/{version}/{date}/bin/linux/{arch}/{label}"
        ),
        (ComponentName::Kubelet | ComponentName::Kubectl, None) => {
            format!("https://dl.k8s.io/v{version}/bin/linux/{arch}/{label}")
        }
        (ComponentName::EcrCredentialProvider, None) => {
            return Err(Error::input(format!(
                "find {label} for Kubernetes {version}: the date of Amazon's build is not known"
            ))
            .hint(format!(
                "set spec.kubernetes.eksBuild to the date (YYYY-MM-DD), choose a version whose \
                 build is known ({}), or give spec.kubernetes.components.{label} a url or a path",
                EKS_BUILDS.map(|(version, _)| version).join(", ")
            )));
        }
        (ComponentName::AwsIamAuthenticator, None) => {
            let release = needs_defaults()?.aws_iam_authenticator;
            let base = format!(
                "https://github.com/kubernetes-sigs/aws-iam-authenticator/releases/download/v{release}"
            );
            return Ok(Upstream {
                url: format!("{base}/aws-iam-authenticator_{release}_linux_{arch}"),
                checksum: Checksum::File(format!("{base}/authenticator_{release}_checksums.txt")),
            });
        }
        (ComponentName::Containerd, _) => {
            let release = needs_defaults()?.containerd;
            let url = format!(
                "https://github.com/containerd/containerd/releases/download/v{release}/containerd-{release}-linux-{arch}.tar.gz"
            );
            return Ok(Upstream {
                checksum: Checksum::File(format!("{url}.sha256sum")),
                url,
            });
        }
        (ComponentName::Runc, _) => {
            let release = needs_defaults()?.runc;
            let base =
                format!("https://github.com/opencontainers/runc/releases/download/v{release}");
            return Ok(Upstream {
                url: format!("{base}/runc.{arch}"),
                checksum: Checksum::File(format!("{base}/runc.sha256sum")),
            });
        }
        (ComponentName::CniPlugins, _) => {
            let release = needs_defaults()?.cni_plugins;
            format!(
                "https://github.com/containernetworking/plugins/releases/download/v{release}/cni-plugins-linux-{arch}-v{release}.tgz"
            )
        }
        (ComponentName::AwsSigningHelper, _) => {
            let (folder, digest) = match wish.architecture {
                Architecture::X86_64 => ("X86_64", SIGNING_HELPER_X86_64),
                Architecture::Arm64 => ("Aarch64", SIGNING_HELPER_ARM64),
            };
            return Ok(Upstream {
                url: format!(
                    "https://rolesanywhere.amazonaws.com/releases/{SIGNING_HELPER}/{folder}/Linux/Amzn2023/aws_signing_helper"
                ),
                checksum: Checksum::Known(Digest::from_hex(digest)?),
            });
        }
        (ComponentName::SsmSetupCli, _) => {
            // As nodeadm: one program for systems with apt, one for those with dnf.
            let system = if wish.is_debian { "debian" } else { "linux" };
            return Ok(Upstream {
                url: format!(
                    "https://amazon-ssm-us-west-2.s3.us-west-2.amazonaws.com/latest/{system}_{arch}/ssm-setup-cli"
                ),
                checksum: Checksum::Missing,
            });
        }
    };
    Ok(Upstream {
        checksum: Checksum::File(format!("{url}.sha256")),
        url,
    })
}

/// Whether `url` is where the catalogue would take the component from, were it
/// not for newer releases: then a lock's pin is still what the profile asks for.
pub fn is_upstream(name: ComponentName, wish: &Wish<'_>, url: &str) -> bool {
    let Ok(current) = upstream(name, wish) else {
        return false;
    };
    let release = match name {
        ComponentName::Containerd => defaults(wish.version).map(|row| row.containerd),
        ComponentName::Runc => defaults(wish.version).map(|row| row.runc),
        ComponentName::CniPlugins => defaults(wish.version).map(|row| row.cni_plugins),
        ComponentName::AwsIamAuthenticator => {
            defaults(wish.version).map(|row| row.aws_iam_authenticator)
        }
        ComponentName::AwsSigningHelper => Some(SIGNING_HELPER),
        _ => None,
    };
    match release {
        Some(release) if current.url.contains(release) => same_but_for(&current.url, release, url),
        _ => current.url == url,
    }
}

/// Whether `url` is `pattern` with every `release` in it replaced by one and the
/// same other release.
fn same_but_for(pattern: &str, release: &str, url: &str) -> bool {
    let start = pattern.find(release).unwrap_or(0);
    let Some(rest) = url
        .get(start..)
        .filter(|_| url.get(..start) == pattern.get(..start))
    else {
        return false;
    };
    let length = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(rest.len());
    let other = &rest[..length];
    !other.is_empty() && pattern.replace(release, other) == url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ALL;

    fn wish(version: &str) -> Wish<'_> {
        Wish {
            version,
            eks_build: None,
            architecture: Architecture::X86_64,
            is_debian: false,
        }
    }

    #[test]
    fn the_installer_of_the_ssm_agent_is_that_of_the_system() {
        for (is_debian, folder) in [(false, "/linux_amd64/"), (true, "/debian_amd64/")] {
            let wish = Wish {
                is_debian,
                ..wish("1.34.9")
            };
            let found = upstream(ComponentName::SsmSetupCli, &wish).expect("known");
            assert!(found.url.contains(folder), "{}", found.url);
        }
    }

    #[test]
    fn knows_every_component_of_every_default_version() {
        for row in &DEFAULTS {
            assert_eq!(defaults(row.kubernetes), Some(row));
            for architecture in [Architecture::X86_64, Architecture::Arm64] {
                let wish = Wish {
                    architecture,
                    ..wish(row.kubernetes)
                };
                for part in &ALL {
                    let found = upstream(part.name, &wish).expect(part.label);
                    assert!(found.url.starts_with("https://"), "{}", found.url);
                    assert!(is_upstream(part.name, &wish, &found.url), "{}", found.url);
                    let other = match architecture {
                        Architecture::X86_64 => "arm64",
                        Architecture::Arm64 => "amd64",
                    };
                    assert!(!found.url.contains(other), "{}", found.url);
                }
            }
        }
        assert_eq!(DEFAULTS.len() as u32, NEWEST_MINOR - OLDEST_MINOR + 1);
    }

    #[test]
    fn takes_amazons_build_where_it_is_known() {
        let url = |version, build| {
            let wish = Wish {
                eks_build: build,
                ..wish(version)
            };
            upstream(ComponentName::Kubelet, &wish).expect("known").url
        };
        assert_eq!(
            url("1.34.9", None),
            "https://s3.us-west-2.amazonaws.com/amazon-eks/1.34.9/2026-07-05/bin/linux/amd64/kubelet"
        );
        assert_eq!(
            url("1.34.4", None),
            "https://dl.k8s.io/v1.34.4/bin/linux/amd64/kubelet"
        );
        assert!(url("1.34.4", Some("2026-02-03")).contains("/1.34.4/2026-02-03/"));
    }

    #[test]
    fn says_what_is_missing() {
        let error =
            upstream(ComponentName::EcrCredentialProvider, &wish("1.34.4")).expect_err("no date");
        assert!(error.hint_text().expect("hint").contains("eksBuild"));
        let error = upstream(ComponentName::Containerd, &wish("1.29.0")).expect_err("too old");
        assert!(error.message().contains("1.30 to 1.36"), "{error}");
    }

    #[test]
    fn recognises_its_own_older_releases() {
        let wish = wish("1.34.9");
        let older = "https://github.com/containerd/containerd/releases/download/v2.1.0/containerd-2.1.0-linux-amd64.tar.gz";
        assert!(is_upstream(ComponentName::Containerd, &wish, older));
        for other in [
            "https://github.com/containerd/containerd/releases/download/v2.1.0/containerd-2.1.1-linux-amd64.tar.gz",
            "https://github.com/containerd/containerd/releases/download/v2.1.0/containerd-2.1.0-linux-arm64.tar.gz",
            "https://example.org/containerd.tar.gz",
            "https://github.com/containerd/containerd/releases/download/v",
            "é",
        ] {
            assert!(
                !is_upstream(ComponentName::Containerd, &wish, other),
                "{other}"
            );
        }
        let kubelet = "https://s3.us-west-2.amazonaws.com/amazon-eks/1.34.8/2026-07-05/bin/linux/amd64/kubelet";
        assert!(!is_upstream(ComponentName::Kubelet, &wish, kubelet));
    }
}
