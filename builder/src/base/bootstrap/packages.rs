//! Which packages a bootable node needs, and which were installed.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::profile::model::Architecture;
use crate::profile::names::is_package;

/// Packages of every base, whatever the architecture.
const COMMON: [&str; 26] = [
    // Boots, and finds its disk.
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "kmod",
    "dbus",
    "libpam-systemd",
    "e2fsprogs",
    "dosfstools",
    // Network by DHCP, name service, time.
    "iproute2",
    "systemd-resolved",
    "systemd-timesyncd",
    "ca-certificates",
    "curl",
    // Takes its identity from the platform, and fills its disk.
    "cloud-init",
    "cloud-guest-utils",
    "fdisk",
    "gdisk",
    "openssh-server",
    "sudo",
    // What kubelet and kube-proxy call.
    "iptables",
    "conntrack",
    "ebtables",
    "ethtool",
    "ipset",
    "socat",
    "procps",
];

/// What differs between architectures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Platform {
    /// Debian's name of the architecture.
    pub(super) debian: &'static str,
    /// GRUB's and shim's suffix in file names.
    pub(super) efi: &'static str,
    /// GRUB's name of the platform.
    pub(super) grub: &'static str,
    /// The serial console, where the kernel and GRUB have to be told. On arm64 the
    /// firmware tells the kernel (ACPI's SPCR, or `stdout-path` of a device tree), each
    /// board another one, and GRUB speaks through the firmware.
    pub(super) serial: Option<&'static str>,
    /// Raised whenever the same packages would give another image.
    pub(super) format: u32,
}

/// The platform of `architecture`.
pub(super) fn platform(architecture: Architecture) -> Platform {
    match architecture {
        Architecture::X86_64 => Platform {
            debian: "amd64",
            efi: "x64",
            grub: "x86_64-efi",
            serial: Some("ttyS0"),
            format: 1,
        },
        Architecture::Arm64 => Platform {
            debian: "arm64",
            efi: "aa64",
            grub: "arm64-efi",
            serial: None,
            format: 2,
        },
    }
}

/// All packages to ask for, sorted, each once.
///
/// # Errors
/// [`crate::Class::Input`] for a name that is none (deb-control(5)): it would
/// reach the command line of apt.
pub(super) fn wanted(platform: Platform, asked: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = COMMON.iter().map(|name| (*name).to_owned()).collect();
    names.push(format!("linux-image-cloud-{}", platform.debian));
    // The signed boot loader, and the shim that firmware trusts.
    names.push(format!("grub-efi-{}-signed", platform.debian));
    names.push("shim-signed".to_owned());
    for name in asked {
        if !is_package(name) {
            return Err(
                Error::input(format!("'{name}' is no name of a Debian package"))
                    .hint("write NAME or NAME=VERSION; names have lower-case letters, digits, '+', '-' and '.'"),
            );
        }
        names.push(name.clone());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Installed packages with their versions, from dpkg's `status` file. Packages
/// of a second architecture are named `NAME:ARCHITECTURE`.
pub(super) fn installed(status: &str, platform: Platform) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        if field("Status") != Some("install ok installed") {
            continue;
        }
        let key = match field("Architecture") {
            Some(other) if other != platform.debian && other != "all" => format!("{name}:{other}"),
            _ => name.to_owned(),
        };
        packages.insert(key, version.to_owned());
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_apt_would_take_as_something_else() {
        let platform = platform(Architecture::X86_64);
        for bad in [
            "",
            "-o",
            "runc-",
            "a b",
            "Runc",
            "x,y",
            "../x",
            "?essential",
        ] {
            assert!(wanted(platform, &[bad.to_owned()]).is_err(), "{bad}");
        }
        let asked = ["runc", "udev", "g++", "socat=1.7.4.4-2"].map(str::to_owned);
        let names = wanted(platform, &asked).expect("good");
        for name in &asked {
            assert!(names.contains(name), "{name}");
        }
        assert!(names.contains(&"linux-image-cloud-amd64".to_owned()));
        assert!(names.contains(&"grub-efi-amd64-signed".to_owned()));
        assert!(names.contains(&"runc".to_owned()));
        assert_eq!(names.iter().filter(|name| *name == "udev").count(), 1);
    }

    #[test]
    fn lists_what_is_installed() {
        let status = "\
Package: runc
Status: install ok installed
Architecture: amd64
Version: 1.1.5+ds1-1
Description: x
 Version: no

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9
";
        let packages = installed(status, platform(Architecture::X86_64));
        assert_eq!(
            packages.into_iter().collect::<Vec<_>>(),
            [
                ("libc6:i386".to_owned(), "2.36-9".to_owned()),
                ("runc".to_owned(), "1.1.5+ds1-1".to_owned())
            ]
        );
    }
}
