//! Firmware descriptors: how a distribution tells which firmware it has.
//!
//! The format is QEMU's `docs/interop/firmware.json`: files are tried in the
//! order of their names, and a file in `/etc` hides one of the same name in
//! `/usr/share`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Firmware, Origin};
use crate::machine::Architecture;

/// Folders, the one that hides the others last.
const FOLDERS: [&str; 3] = [
    "usr/share/qemu/firmware",
    "usr/local/share/qemu/firmware",
    "etc/qemu/firmware",
];
/// A descriptor is a few hundred bytes.
const DESCRIPTOR_LIMIT: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<FlashFile>,
    nvram_template: Option<FlashFile>,
}

#[derive(Deserialize)]
struct FlashFile {
    filename: String,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The first described firmware that fits and is there.
pub(super) fn find(root: &Path, architecture: Architecture, secure: bool) -> Option<Firmware> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                files.insert(path.file_name().map(ToOwned::to_owned), path);
            }
        }
    }
    files
        .into_values()
        .filter_map(|path| read(&path))
        .find_map(|descriptor| descriptor.fits(root, architecture, secure))
}

fn read(path: &Path) -> Option<Descriptor> {
    // One that cannot be read or is of a newer kind is not for us; the next may
    // be.
    let small = path
        .metadata()
        .is_ok_and(|found| found.len() <= DESCRIPTOR_LIMIT);
    let bytes = std::fs::read(path).ok().filter(|_| small)?;
    serde_json::from_slice(&bytes).ok()
}

impl Descriptor {
    fn fits(&self, root: &Path, architecture: Architecture, secure: bool) -> Option<Firmware> {
        let has = |feature: &str| self.features.iter().any(|known| known == feature);
        let machine = |name: &String| match architecture {
            Architecture::X86_64 => name.contains("q35"),
            Architecture::Aarch64 => name.starts_with("virt"),
        };
        let on_target = self.targets.iter().any(|target| {
            target.architecture == architecture.name() && target.machines.iter().any(machine)
        });
        let uefi = self.interface_types.iter().any(|kind| kind == "uefi");
        let flash = self.mapping.device == "flash";
        let wanted = if secure {
            has("secure-boot") && has("enrolled-keys")
        } else {
            // Enrolled keys would refuse boot loaders that nobody signed; system
            // management mode is slow in software emulation.
            !has("enrolled-keys") && !has("requires-smm")
        };
        // Confidential computing has firmware of its own, of no use elsewhere.
        let confidential = has("amd-sev-snp") && !has("amd-sev") || has("intel-tdx");
        if !(on_target && uefi && flash && wanted) || confidential {
            return None;
        }
        let file = |file: &Option<FlashFile>| -> Option<PathBuf> {
            let file = file.as_ref().filter(|file| file.format == "raw")?;
            let path = root.join(file.filename.trim_start_matches('/'));
            path.is_file().then_some(path)
        };
        Some(Firmware::Uefi {
            code: file(&self.mapping.executable)?,
            vars: Some(file(&self.mapping.nvram_template)?),
            origin: Origin::Distribution,
            system_management: has("requires-smm"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(code: &str, features: &[&str], machine: &str) -> String {
        serde_json::json!({
            "description": "for tests",
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": { "filename": code, "format": "raw" },
                "nvram-template": { "filename": "/fw/vars.fd", "format": "raw" }
            },
            "targets": [{ "architecture": "x86_64", "machines": [machine] }],
            "features": features,
            "tags": []
        })
        .to_string()
    }

    fn machine(descriptors: &[(&str, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, content).expect("written");
        };
        for name in ["plain", "secure", "own", "vars"] {
            write(&format!("fw/{name}.fd"), name);
        }
        for (path, content) in descriptors {
            write(path, content);
        }
        root
    }

    fn found(root: &tempfile::TempDir, secure: bool) -> Option<String> {
        match find(root.path(), Architecture::X86_64, secure)? {
            Firmware::Uefi {
                code,
                system_management,
                ..
            } => {
                assert_eq!(system_management, secure);
                Some(code.file_stem()?.to_str()?.to_owned())
            }
            _ => None,
        }
    }

    #[test]
    fn takes_the_first_that_fits() {
        let secure = ["secure-boot", "enrolled-keys", "requires-smm"];
        let root = machine(&[
            ("usr/share/qemu/firmware/10-broken.json", "{".to_owned()),
            (
                "usr/share/qemu/firmware/20-absent.json",
                descriptor("/fw/absent.fd", &[], "pc-q35-*"),
            ),
            (
                "usr/share/qemu/firmware/30-microvm.json",
                descriptor("/fw/own.fd", &[], "microvm"),
            ),
            (
                "usr/share/qemu/firmware/40-secure.json",
                descriptor("/fw/secure.fd", &secure, "pc-q35-*"),
            ),
            (
                "usr/share/qemu/firmware/60-plain.json",
                descriptor("/fw/plain.fd", &["acpi-s3"], "pc-q35-*"),
            ),
        ]);
        assert_eq!(found(&root, false).as_deref(), Some("plain"));
        assert_eq!(found(&root, true).as_deref(), Some("secure"));
        assert_eq!(find(root.path(), Architecture::Aarch64, false), None);
    }

    #[test]
    fn the_machines_own_descriptor_hides_that_of_the_distribution() {
        let root = machine(&[
            (
                "usr/share/qemu/firmware/60-plain.json",
                descriptor("/fw/plain.fd", &[], "pc-q35-*"),
            ),
            (
                "etc/qemu/firmware/60-plain.json",
                descriptor("/fw/own.fd", &[], "pc-q35-*"),
            ),
        ]);
        assert_eq!(found(&root, false).as_deref(), Some("own"));
    }
}
