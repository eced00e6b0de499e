//! What is in an image: operating system, layout, what it needs.
//!
//! Everything is found by content: no file name of the image, no partition
//! number and no word of the user decides what an image is.

#[doc(hidden)]
pub mod fuzz;
mod image;
mod os_release;
pub mod packages;
pub mod partitions;
pub mod tree;

use serde::{Deserialize, Serialize};

pub(crate) use image::place;
pub use image::{Image, mount_point};
pub use os_release::OsRelease;
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
    /// Its real path.
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

/// An operating system that is known by name.
#[derive(Debug)]
struct Known {
    id: &'static str,
    name: &'static str,
    supported: bool,
}

/// One line an operating system.
const KNOWN: &[Known] = &[
    Known {
        id: "debian",
        name: "Debian",
        supported: true,
    },
    Known {
        id: "ubuntu",
        name: "Ubuntu",
        supported: true,
    },
    Known {
        id: "amzn",
        name: "Amazon Linux",
        supported: false,
    },
    Known {
        id: "rhel",
        name: "Red Hat Enterprise Linux",
        supported: false,
    },
    Known {
        id: "rocky",
        name: "Rocky Linux",
        supported: false,
    },
    Known {
        id: "almalinux",
        name: "AlmaLinux",
        supported: false,
    },
    Known {
        id: "centos",
        name: "CentOS",
        supported: false,
    },
    Known {
        id: "fedora",
        name: "Fedora",
        supported: false,
    },
];

/// Says what is in `image`.
///
/// # Errors
/// [`crate::Class::Unsupported`] with what was found when nodekiln cannot bake
/// it; [`crate::Class::Input`] when it is no installed system.
pub fn detect(image: &mut dyn Tree) -> Result<Os> {
    let release = OsRelease::read(image)?.ok_or_else(|| {
        Error::input("look for the operating system: the root volume has no os-release")
            .hint("the base must be the disk of an installed system; is this a data disk, or an installer?")
    })?;
    check_known(&release)?;
    let packages = package_database(image)?;
    let versions = packages::installed(image)?;
    let program = |image: &mut dyn Tree, paths: &[&str], packages: &[&str]| {
        find_program(image, paths, packages, &versions)
    };
    let containerd = program(
        image,
        &["/usr/bin/containerd", "/usr/local/bin/containerd"],
        &["containerd", "containerd.io"],
    )?;
    let iptables = program(
        image,
        &["/sbin/iptables", "/usr/sbin/iptables"],
        &["iptables", "iptables-nft"],
    )?;
    Ok(Os {
        init: init(image, &release)?,
        architecture: architecture(image)?,
        kernels: kernels(image)?,
        cloud_init: cloud_init_units(image)?,
        selinux: selinux(image)?,
        id: release.id,
        version_id: release.version_id,
        pretty_name: release.pretty_name,
        id_like: release.id_like,
        containerd,
        iptables,
        packages,
    })
}

fn check_known(release: &OsRelease) -> Result<()> {
    let supported: Vec<&str> = KNOWN
        .iter()
        .filter(|known| known.supported)
        .map(|known| known.name)
        .collect();
    let hint = format!("take a base with one of: {}", supported.join(", "));
    match KNOWN.iter().find(|known| known.id == release.id) {
        Some(known) if known.supported => Ok(()),
        Some(known) => Err(Error::unsupported(format!(
            "bake {} ({}): it is recognised, but not supported yet",
            release.pretty_name, known.name
        ))
        .hint(hint)),
        None => Err(Error::unsupported(format!(
            "bake {} (ID '{}', like '{}'): this operating system is not supported",
            release.pretty_name,
            release.id,
            release.id_like.join(" ")
        ))
        .hint(hint)),
    }
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

fn kernels(image: &mut dyn Tree) -> Result<Vec<String>> {
    let folder = image.resolve(&fixed("/lib/modules"))?;
    let folder = match image.metadata(&folder)? {
        Some(_) => folder,
        None => image.resolve(&fixed("/usr/lib/modules"))?,
    };
    let mut found = Vec::new();
    for entry in image.list(&folder)? {
        if entry.kind == Kind::Directory
            && let Ok(name) = String::from_utf8(entry.name)
            && image.is_file(&folder.join(&name)?.join("modules.dep")?)?
        {
            found.push(name);
        }
    }
    Ok(found)
}

fn find_program(
    image: &mut dyn Tree,
    paths: &[&str],
    packages: &[&str],
    versions: &packages::Versions,
) -> Result<Option<Program>> {
    for path in paths {
        if let Some((real, metadata)) = image.stat(&fixed(path))?
            && metadata.kind == Kind::File
        {
            let version = packages
                .iter()
                .find_map(|name| versions.get(*name))
                .cloned();
            return Ok(Some(Program {
                path: real,
                version,
            }));
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

fn package_database(image: &mut dyn Tree) -> Result<PackageDatabase> {
    if image.is_file(&fixed("/var/lib/dpkg/status"))? {
        return Ok(PackageDatabase::Dpkg);
    }
    for folder in ["/usr/lib/sysimage/rpm", "/var/lib/rpm"] {
        if !image.list_following(&fixed(folder))?.is_empty() {
            return Ok(PackageDatabase::Rpm);
        }
    }
    Ok(PackageDatabase::None)
}

fn selinux(image: &mut dyn Tree) -> Result<Selinux> {
    let Some(text) = image.read_text(&fixed("/etc/selinux/config"))? else {
        return Ok(Selinux::Absent);
    };
    let value = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SELINUX="))
        .next_back();
    Ok(match value.map(str::trim) {
        Some("enforcing") => Selinux::Enforcing,
        Some("permissive") => Selinux::Permissive,
        _ => Selinux::Disabled,
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
        assert!(os.iptables.is_none());
    }

    #[test]
    fn names_what_it_cannot_bake() {
        let volume = MemoryVolume::new()
            .with_file(
                "/etc/os-release",
                "ID=amzn\nPRETTY_NAME='Amazon Linux 2023.9'\n",
            )
            .expect("builds");
        let error = detect(&mut image(volume)).expect_err("not yet");
        assert_eq!(error.class(), crate::Class::Unsupported);
        assert!(error.to_string().contains("Amazon Linux 2023.9"), "{error}");

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
