//! What is known of each operating system, as data: one entry a system, one line a
//! release.
//!
//! Sources: the statement of supported systems of EKS Hybrid Nodes
//! (<https://docs.aws.amazon.com/eks/latest/userguide/hybrid-nodes-os.html>), the sources
//! of nodeadm (<https://github.com/aws/eks-hybrid>), and the vendors' release notes.
//! `docs/support.md` shows the same and is compared with it by a test.

use serde::{Deserialize, Serialize};

use super::OsRelease;
use crate::catalog::{NEWEST_MINOR, OLDEST_MINOR};
use crate::profile::model::{Architecture, CredentialProvider};

/// An operating system that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub struct System {
    /// `ID` of os-release.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Who installs and removes its packages.
    pub package_manager: PackageManager,
    /// Packages that bring containerd, its own first.
    pub containerd: &'static [&'static str],
    /// Packages that bring `iptables`, its own first.
    pub iptables: &'static [&'static str],
    /// The package that brings `conntrack`.
    pub conntrack: &'static str,
    /// The releases that are supported; none for a system that is only known.
    pub releases: &'static [Release],
}

/// A release of a system.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// `VERSION_ID`, or what of it stands before the first `.`.
    pub version: &'static str,
    /// Versions of Kubernetes 1, oldest and newest.
    pub kubernetes: (u32, u32),
    /// Processor architectures.
    pub architectures: &'static [Architecture],
    /// Credential providers.
    pub providers: &'static [CredentialProvider],
    /// cgroups, unless the kernel's command line says otherwise.
    pub cgroups: Cgroups,
    /// The vendor's oldest kernel, for people.
    pub kernel: &'static str,
    /// What else is to be known, for people.
    pub note: &'static str,
}

/// Package managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    /// apt and dpkg.
    Apt,
    /// dnf (or yum) and rpm.
    Dnf,
}

/// The hierarchy of control groups.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cgroups {
    /// One hierarchy for each controller, perhaps with the unified one beside them.
    V1,
    /// The unified hierarchy.
    #[default]
    V2,
}

const BOTH: &[Architecture] = &[Architecture::X86_64, Architecture::Arm64];
const ANY_PROVIDER: &[CredentialProvider] = &[CredentialProvider::Ssm, CredentialProvider::IamRa];

const fn release(version: &'static str, kernel: &'static str, note: &'static str) -> Release {
    Release {
        version,
        kubernetes: (OLDEST_MINOR, NEWEST_MINOR),
        architectures: BOTH,
        providers: ANY_PROVIDER,
        cgroups: Cgroups::V2,
        kernel,
        note,
    }
}

/// A release that boots into cgroups v1 by itself.
const fn release_v1(version: &'static str, kernel: &'static str, note: &'static str) -> Release {
    Release {
        cgroups: Cgroups::V1,
        ..release(version, kernel, note)
    }
}

const fn dnf(
    id: &'static str,
    name: &'static str,
    containerd: &'static [&'static str],
    releases: &'static [Release],
) -> System {
    System {
        id,
        name,
        package_manager: PackageManager::Dnf,
        containerd,
        iptables: &["iptables-nft", "iptables"],
        conntrack: "conntrack-tools",
        releases,
    }
}

const fn apt(id: &'static str, name: &'static str, releases: &'static [Release]) -> System {
    System {
        id,
        name,
        package_manager: PackageManager::Apt,
        containerd: &["containerd", "containerd.io"],
        iptables: &["iptables"],
        conntrack: "conntrack",
        releases,
    }
}

/// Red Hat's repositories have no containerd: it is Docker's package, or a release.
const OF_DOCKER: &[&str] = &["containerd.io"];

/// All of them: those that are supported, then those that are only known.
pub static SYSTEMS: &[System] = &[
    dnf(
        "amzn",
        "Amazon Linux",
        &["containerd"],
        &[release(
            "2023",
            "6.1",
            "outside EC2 only as a virtual machine, and without a support plan of AWS",
        )],
    ),
    apt(
        "debian",
        "Debian",
        &[release(
            "12",
            "6.1",
            "not in AWS's list of systems for hybrid nodes",
        )],
    ),
    dnf(
        "rhel",
        "Red Hat Enterprise Linux",
        OF_DOCKER,
        &[
            release_v1(
                "8",
                "4.18",
                "kernel older than what Kubernetes 1.32 and Cilium ask for",
            ),
            release("9", "5.14", ""),
        ],
    ),
    apt(
        "ubuntu",
        "Ubuntu",
        &[
            release_v1("20.04", "5.4", "kernel older than what Cilium asks for"),
            release("22.04", "5.15", ""),
            release(
                "24.04",
                "6.8",
                "containerd of 1.7.19 or newer: with older ones AppArmor keeps pods from ending",
            ),
        ],
    ),
    dnf("almalinux", "AlmaLinux", OF_DOCKER, &[]),
    dnf("centos", "CentOS", OF_DOCKER, &[]),
    dnf("fedora", "Fedora", &["containerd"], &[]),
    dnf("ol", "Oracle Linux", OF_DOCKER, &[]),
    dnf("rocky", "Rocky Linux", OF_DOCKER, &[]),
];

impl System {
    /// The system that os-release names.
    pub fn of(id: &str) -> Option<&'static Self> {
        SYSTEMS.iter().find(|system| system.id == id)
    }

    /// The system that os-release names, or the first known one that it says it is like:
    /// the same packages, whatever is supported.
    pub fn alike(release: &OsRelease) -> Option<&'static Self> {
        Self::of(&release.id).or_else(|| release.id_like.iter().find_map(|id| Self::of(id)))
    }

    /// The supported release of this `VERSION_ID`.
    pub fn release(&self, version_id: &str) -> Option<&'static Release> {
        let major = version_id.split('.').next();
        self.releases
            .iter()
            .find(|release| release.version == version_id || Some(release.version) == major)
    }

    /// How a person gets a package of it.
    pub fn install(&self, package: &str) -> String {
        match self.package_manager {
            PackageManager::Apt => format!("apt-get install {package}"),
            PackageManager::Dnf => format!("dnf install {package}"),
        }
    }
}

impl Cgroups {
    /// Its number.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// What a kernel's command line makes of it (systemd's kernel-command-line(7)).
    pub fn with_arguments<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        arguments.into_iter().fold(self, |found, argument| {
            let (name, value) = argument.split_once('=').unwrap_or((argument, "yes"));
            let is_on = !matches!(value, "0" | "no" | "n" | "false" | "f" | "off");
            match (name, is_on) {
                ("systemd.unified_cgroup_hierarchy", true) => Self::V2,
                ("systemd.unified_cgroup_hierarchy", false) => Self::V1,
                _ => found,
            }
        })
    }
}

/// The releases that are supported, for people: `Ubuntu 22.04`.
pub fn supported() -> String {
    let names: Vec<String> = rows()
        .map(|(system, release)| format!("{} {}", system.name, release.version))
        .collect();
    names.join(", ")
}

fn rows() -> impl Iterator<Item = (&'static System, &'static Release)> {
    SYSTEMS
        .iter()
        .flat_map(|system| system.releases.iter().map(move |release| (system, release)))
}

/// The support matrix as a table in Markdown: the one of `docs/support.md`.
pub fn table() -> String {
    let mut text = "| system | Kubernetes | processors | credential providers | cgroups | kernel | containerd's package | to be known |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (system, release) in rows() {
        let architectures: Vec<&str> = release.architectures.iter().map(|it| it.name()).collect();
        let providers: Vec<&str> = release.providers.iter().map(|it| it.name()).collect();
        let cells = [
            format!("{} {}", system.name, release.version),
            format!("1.{} to 1.{}", release.kubernetes.0, release.kubernetes.1),
            architectures.join(", "),
            providers.join(", "),
            release.cgroups.name().to_owned(),
            release.kernel.to_owned(),
            system.containerd.join(" or "),
            release.note.to_owned(),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_releases_by_their_number_or_its_first_part() {
        let release = |id: &str, version: &str| {
            System::of(id)
                .and_then(|system| system.release(version))
                .map(|release| release.version)
        };
        assert_eq!(release("amzn", "2023"), Some("2023"));
        assert_eq!(release("rhel", "8.10"), Some("8"));
        assert_eq!(release("rhel", "9.6"), Some("9"));
        assert_eq!(release("ubuntu", "22.04"), Some("22.04"));
        for (id, version) in [
            ("amzn", "2"),
            ("rhel", "10.0"),
            ("ubuntu", "22"),
            ("ubuntu", "22.10"),
            ("debian", ""),
            ("debian", "13"),
            ("rocky", "9.6"),
            ("arch", "1"),
        ] {
            assert_eq!(release(id, version), None, "{id} {version}");
        }
    }

    #[test]
    fn the_command_line_chooses_the_hierarchy() {
        let with = |line: &str, default: Cgroups| default.with_arguments(line.split(' '));
        assert_eq!(with("quiet", Cgroups::V1), Cgroups::V1);
        assert_eq!(
            with("ro systemd.unified_cgroup_hierarchy=1", Cgroups::V1),
            Cgroups::V2
        );
        assert_eq!(
            with("systemd.unified_cgroup_hierarchy", Cgroups::V1),
            Cgroups::V2
        );
        assert_eq!(
            with("systemd.unified_cgroup_hierarchy=0", Cgroups::V2),
            Cgroups::V1
        );
    }

    #[test]
    fn the_documentation_has_the_matrix() {
        let text = include_str!("../../../docs/support.md");
        assert!(
            text.contains(&table()),
            "docs/support.md needs:\n{}",
            table()
        );
    }

    #[test]
    fn every_known_system_is_there_once() {
        for (at, system) in SYSTEMS.iter().enumerate() {
            assert_eq!(System::of(system.id), Some(&SYSTEMS[at]), "{}", system.id);
            assert!(!system.containerd.is_empty() && !system.iptables.is_empty());
        }
        let like = OsRelease::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert_eq!(System::alike(&like).map(|system| system.id), Some("ubuntu"));
    }
}
