//! What is in an image: operating system, layout, what it needs.
//!
//! Everything is found by content: no file name of the image, no partition
//! number and no word of the user decides what an image is.

pub mod boot_loader;
mod facts;
#[doc(hidden)]
pub mod fuzz;
mod image;
pub mod modules;
mod os_release;
pub mod packages;
pub mod partitions;
pub mod rpm;
pub mod selinux;
pub mod support;
pub mod systems;
pub mod tree;

use serde::{Deserialize, Serialize};

pub use facts::{Firewall, Resolver, SsmAgent};
pub(crate) use image::place;
pub use image::{Image, mount_point};
pub use os_release::OsRelease;
use systems::PackageManager;
pub use systems::{Cgroups, System};
pub use tree::Tree;

use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::profile::model::Architecture;
use crate::volume::Kind;
use tree::fixed;

/// Bytes of an ELF file that tell its class and machine.
const ELF_HEADER: u64 = 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Os {
    /// `ID` of os-release, such as `debian`.
    pub id: String,
    /// `VERSION_ID`; empty for a release that has none (Debian's testing).
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `ID_LIKE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_like: Vec<String>,
    /// What runs as process 1.
    pub init: Init,
    /// From the ELF header of a program of the image.
    pub architecture: Architecture,
    /// Kernel releases that have modules, sorted.
    pub kernels: Vec<String>,
    /// The container runtime, if the image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<Program>,
    /// `iptables`, as the kubelet's unit starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<Program>,
    /// `conntrack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Program>,
    /// The SSM agent, if the image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssm_agent: Option<SsmAgent>,
    /// Who answers questions for names.
    #[serde(default)]
    pub resolver: Resolver,
    /// The firewall that is switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// The hierarchy of control groups that the base boots into.
    #[serde(default)]
    pub cgroups: Cgroups,
    /// Whether the base boots in FIPS mode.
    #[serde(default)]
    pub fips: bool,
    /// cloud-init's units, sorted; none without cloud-init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloud_init: Vec<String>,
    /// Which package database the image keeps.
    pub packages: PackageDatabase,
    /// SELinux.
    pub selinux: Selinux,
}

/// A program of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// Where it is called; its folder is a real path.
    #[schemars(with = "String")]
    pub path: ImagePath,
    /// Version of the package that brought it, if the database tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What runs as process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// systemd.
    Systemd,
}

/// Package databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PackageDatabase {
    /// `/var/lib/dpkg`.
    Dpkg,
    /// `/var/lib/rpm` or `/usr/lib/sysimage/rpm`.
    Rpm,
    /// None that is known.
    None,
}

/// State of SELinux at boot, by `/etc/selinux/config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Selinux {
    /// No configuration: off.
    Absent,
    /// `SELINUX=disabled`.
    Disabled,
    /// Logs, and lets pass.
    Permissive,
    /// Refuses.
    Enforcing,
}

impl Os {
    /// What is known of the system by its name, or of the first one that it says it is
    /// like.
    pub fn system(&self) -> Option<&'static System> {
        let like = || self.id_like.iter().find_map(|id| System::of(id));
        System::of(&self.id).or_else(like)
    }
}

/// Says what is in `image`. Whether that is supported, [`support::check`] tells.
///
/// # Errors
/// [`crate::Class::Unsupported`] for an image without systemd or for another processor;
/// [`crate::Class::Input`] when it is no installed system.
pub fn detect(image: &mut dyn Tree) -> Result<Os> {
    let release = OsRelease::read(image)?.ok_or_else(|| {
        Error::input("look for the operating system: the root volume has no os-release")
            .hint("the base must be the disk of an installed system; is this a data disk, or an installer?")
    })?;
    let system = System::alike(&release);
    let packages = package_database(image, system)?;
    let versions = packages::installed(image, packages)?;
    let mut program =
        |paths: &[&str], packages: &[&str]| find_program(image, paths, packages, &versions);
    let containerd = program(
        &["/usr/bin/containerd", "/usr/local/bin/containerd"],
        system.map_or(&["containerd", "containerd.io"], |system| system.containerd),
    )?;
    let iptables = program(
        &["/sbin/iptables", "/usr/sbin/iptables"],
        system.map_or(&["iptables", "iptables-nft"], |system| system.iptables),
    )?;
    let conntrack = program(
        &["/usr/sbin/conntrack", "/sbin/conntrack"],
        &[system.map_or("conntrack", |system| system.conntrack)],
    )?;
    Ok(Os {
        init: init(image, &release)?,
        architecture: architecture(image)?,
        kernels: modules::kernels(image)?,
        ssm_agent: facts::ssm_agent(image)?,
        resolver: facts::resolver(image)?,
        firewall: facts::firewall(image)?,
        cgroups: facts::cgroups(image, &release)?,
        fips: facts::fips(image)?,
        cloud_init: cloud_init_units(image)?,
        selinux: selinux::Configuration::read(image)?.mode,
        id: release.id,
        version_id: release.version_id,
        pretty_name: release.pretty_name,
        id_like: release.id_like,
        containerd,
        iptables,
        conntrack,
        packages,
    })
}

fn init(image: &mut dyn Tree, release: &OsRelease) -> Result<Init> {
    for path in ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"] {
        if image.is_file(&fixed(path))? {
            return Ok(Init::Systemd);
        }
    }
    Err(Error::unsupported(format!(
        "bake {}: it has no systemd, which starts the node's services",
        release.pretty_name
    )))
}

/// The architecture that an ELF header tells; `None` when it is no ELF file or
/// one for another machine. See the System V ABI, "ELF Header".
pub fn elf_architecture(head: &[u8]) -> Option<Architecture> {
    const MACHINE_X86_64: u16 = 62;
    const MACHINE_AARCH64: u16 = 183;
    let is_64_bit_little_endian = head.get(..6) == Some(b"\x7fELF\x02\x01");
    let machine = head.get(18..20)?;
    match u16::from_le_bytes([machine[0], machine[1]]) {
        MACHINE_X86_64 if is_64_bit_little_endian => Some(Architecture::X86_64),
        MACHINE_AARCH64 if is_64_bit_little_endian => Some(Architecture::Arm64),
        _ => None,
    }
}

fn architecture(image: &mut dyn Tree) -> Result<Architecture> {
    let candidates = [
        "/usr/bin/dpkg",
        "/bin/sh",
        "/usr/bin/env",
        "/usr/lib/systemd/systemd",
    ];
    for path in candidates {
        let Some((real, metadata)) = image.stat(&fixed(path))? else {
            continue;
        };
        if metadata.kind != Kind::File {
            continue;
        }
        let head = image.read_head(&real, ELF_HEADER)?;
        if let Some(found) = elf_architecture(&head) {
            return Ok(found);
        }
        if head.starts_with(b"\x7fELF") {
            return Err(Error::unsupported(format!(
                "bake an image whose {path} is for another processor than x86-64 and 64-bit Arm"
            )));
        }
    }
    Err(Error::input(format!(
        "find the image's processor architecture: none of {} is a program",
        candidates.join(", ")
    )))
}

fn find_program(
    image: &mut dyn Tree,
    paths: &[&str],
    packages: &[&str],
    versions: &packages::Versions,
) -> Result<Option<Program>> {
    for path in paths {
        if image.is_file(&fixed(path))? {
            let version = packages
                .iter()
                .find_map(|name| versions.get(*name))
                .cloned();
            // The last component stays: Debian's alternatives name programs
            // that go by many names.
            let path = image.resolve_parent(&fixed(path))?;
            return Ok(Some(Program { path, version }));
        }
    }
    Ok(None)
}

fn cloud_init_units(image: &mut dyn Tree) -> Result<Vec<String>> {
    let mut units = std::collections::BTreeSet::new();
    for folder in [
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/etc/systemd/system",
    ] {
        for entry in image.list_following(&fixed(folder))? {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let is_unit = [".service", ".target", ".socket"]
                .iter()
                .any(|suffix| name.ends_with(suffix));
            if is_unit
                && (name.starts_with("cloud-init")
                    || name.starts_with("cloud-config")
                    || name.starts_with("cloud-final"))
            {
                units.insert(name);
            }
        }
    }
    Ok(units.into_iter().collect())
}

/// The system's own database; dpkg is a package of others, too.
fn package_database(image: &mut dyn Tree, system: Option<&System>) -> Result<PackageDatabase> {
    let has_dpkg = image.is_file(&fixed("/var/lib/dpkg/status"))?;
    let is_of_rpm = system.is_some_and(|it| it.package_manager == PackageManager::Dnf);
    if has_dpkg && !is_of_rpm {
        return Ok(PackageDatabase::Dpkg);
    }
    for folder in rpm::FOLDERS {
        if !image.list_following(&fixed(folder))?.is_empty() {
            return Ok(PackageDatabase::Rpm);
        }
    }
    Ok(if has_dpkg {
        PackageDatabase::Dpkg
    } else {
        PackageDatabase::None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;
    use crate::volume::model::MemoryVolume;
    use std::collections::BTreeMap;

    fn image(volume: MemoryVolume) -> Image {
        let root: Box<dyn crate::volume::Volume> = Box::new(volume);
        Image::new(BTreeMap::from([(Target::Root, root)])).expect("has a root")
    }

    fn elf(machine: u8) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(64, 0);
        head[18] = machine;
        head
    }

    fn debian() -> Result<MemoryVolume> {
        MemoryVolume::new()
            .with_file(
                "/usr/lib/os-release",
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n",
            )?
            .with_link("/etc/os-release", "../usr/lib/os-release")?
            .with_link("/bin", "usr/bin")?
            .with_link("/lib", "usr/lib")?
            .with_link("/usr/bin/sh", "dash")?
            .with_file("/usr/bin/dash", elf(62))?
            .with_file("/usr/bin/containerd", elf(62))?
            .with_file("/usr/lib/systemd/systemd", elf(62))?
            .with_file("/usr/lib/systemd/system/cloud-init.service", "")?
            .with_file("/usr/lib/modules/6.1.0-40-cloud-amd64/modules.dep", "")?
            .with_file(
                "/var/lib/dpkg/status",
                "Package: containerd\nStatus: install ok installed\nVersion: 1.6.20~ds1-1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            )
    }

    #[test]
    fn understands_debian() {
        let os = detect(&mut image(debian().expect("builds"))).expect("supported");
        assert_eq!((os.id.as_str(), os.version_id.as_str()), ("debian", "12"));
        assert_eq!(os.architecture, Architecture::X86_64);
        assert_eq!(os.kernels, ["6.1.0-40-cloud-amd64"]);
        assert_eq!(os.cloud_init, ["cloud-init.service"]);
        assert_eq!(os.packages, PackageDatabase::Dpkg);
        assert_eq!(os.selinux, Selinux::Absent);
        let containerd = os.containerd.expect("is there");
        assert_eq!(containerd.version.as_deref(), Some("1.6.20~ds1-1"));
        assert!(os.iptables.is_none() && os.conntrack.is_none());
        assert_eq!(os.cgroups, Cgroups::V2);
        assert!(!os.fips && os.firewall.is_none() && os.ssm_agent.is_none());
    }

    #[test]
    fn understands_systems_of_red_hats_kind() {
        let volume = debian()
            .and_then(|volume| {
                volume.with_file(
                    "/usr/lib/os-release",
                    "ID=rhel\nVERSION_ID=8.10\nPRETTY_NAME='Red Hat Enterprise Linux 8.10 (Ootpa)'\n",
                )
            })
            .and_then(|volume| volume.with_file("/usr/sbin/conntrack", elf(62)))
            .and_then(|volume| {
                volume.with_file("/usr/lib/systemd/system/amazon-ssm-agent.service", "")
            })
            .and_then(|volume| {
                volume.with_link(
                    "/etc/systemd/system/multi-user.target.wants/firewalld.service",
                    "/usr/lib/systemd/system/firewalld.service",
                )
            })
            .and_then(|volume| {
                volume.with_file("/boot/grub2/grubenv", "# GRUB\nkernelopts=ro fips=1\n####")
            })
            .and_then(|volume| {
                volume.with_file(
                    "/boot/loader/entries/0-4.18.0.conf",
                    "title x\noptions $kernelopts $tuned_params\n",
                )
            })
            .and_then(|volume| volume.with_file("/etc/selinux/config", "SELINUX=enforcing\n"))
            .expect("builds");
        let os = detect(&mut image(volume)).expect("an installed system");
        assert_eq!((os.id.as_str(), os.version_id.as_str()), ("rhel", "8.10"));
        assert_eq!(os.cgroups, Cgroups::V1);
        assert!(os.fips);
        assert_eq!(os.firewall, Some(Firewall::Firewalld));
        assert_eq!(os.ssm_agent, Some(SsmAgent::Package));
        assert_eq!(os.selinux, Selinux::Enforcing);
        assert!(os.conntrack.is_some());

        let error = detect(&mut image(MemoryVolume::new())).expect_err("empty");
        assert_eq!(error.class(), crate::Class::Input);
    }

    #[test]
    fn refuses_other_machines() {
        let volume = debian()
            .and_then(|volume| volume.with_file("/usr/bin/dash", elf(243)))
            .and_then(|volume| volume.with_file("/usr/bin/dpkg", elf(243)))
            .expect("builds");
        let error = detect(&mut image(volume)).expect_err("RISC-V");
        assert_eq!(error.class(), crate::Class::Unsupported);
    }

    #[test]
    fn never_follows_a_link_out_of_the_image() {
        let volume = MemoryVolume::new()
            .with_link("/etc", "../../../../../../opt/./etc")
            .and_then(|volume| volume.with_link("/loop", "/loop"))
            .and_then(|volume| volume.with_file("/opt/etc/os-release", "ID=debian\n"))
            .expect("builds");
        let mut image = image(volume);
        let real = image.resolve(&fixed("/etc/os-release")).expect("resolves");
        assert_eq!(real, fixed("/opt/etc/os-release"));
        let error = image.resolve(&fixed("/loop/x")).expect_err("endless");
        assert!(error.to_string().contains("40 links"), "{error}");
    }
}
