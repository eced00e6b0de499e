//! Which firmware starts a guest, and where it comes from.
//!
//! In this order: the files that the user names; what the distribution
//! installed, by its own descriptors (`/usr/share/qemu/firmware/*.json`) or at
//! the paths where it is known to lie; and last, a prebuilt one from the
//! network, checked against the hash that the crate `ovmf-prebuilt` carries.

mod descriptor;
mod prebuilt;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::Architecture;

/// What the caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FirmwareChoice {
    /// UEFI, the first that is found.
    #[default]
    Uefi,
    /// UEFI with Secure Boot on, and Microsoft's keys enrolled. x86-64 only.
    SecureBoot,
    /// PC BIOS (SeaBIOS, which comes with QEMU). x86-64 only.
    Bios,
    /// These files.
    Files {
        /// The code; or code and variables in one file, when `vars` is not given
        /// and no file of the pair is found beside it.
        code: PathBuf,
        /// The variables that a machine starts with.
        vars: Option<PathBuf>,
    },
}

/// Where firmware came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Named by the user.
    Given,
    /// Installed by the distribution.
    Distribution,
    /// Downloaded, and checked against a known hash.
    Prebuilt,
    /// Part of QEMU.
    Qemu,
}

/// Firmware that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS.
    Bios {
        /// Where it came from.
        origin: Origin,
    },
    /// UEFI, with its variables in a file of its own.
    #[serde(rename_all = "camelCase")]
    Uefi {
        /// The code, never written.
        code: PathBuf,
        /// The variables that a machine starts with; every boot gets a copy.
        /// `None` when they are in the file of the code, which is then copied.
        vars: Option<PathBuf>,
        /// Where it came from.
        origin: Origin,
        /// Whether it needs system management mode, as Secure Boot does.
        system_management: bool,
    },
    /// None: QEMU loads the kernel itself.
    DirectKernel,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bios { .. } => formatter.write_str("BIOS (of QEMU)"),
            Self::DirectKernel => formatter.write_str("none (the kernel is loaded by QEMU)"),
            Self::Uefi { code, origin, .. } => {
                let origin = match origin {
                    Origin::Given => "as given",
                    Origin::Distribution | Origin::Qemu => "of the distribution",
                    Origin::Prebuilt => "prebuilt",
                };
                write!(formatter, "UEFI ({origin}: {})", code.display())
            }
        }
    }
}

/// Where firmware may be looked for.
#[derive(Debug, Clone, Default)]
pub struct FirmwarePlaces {
    /// A folder for downloads, kept between runs. `None`: nothing is downloaded.
    pub cache: Option<PathBuf>,
    /// A folder in front of all paths: a machine's root, for tests.
    pub root: Option<PathBuf>,
}

/// Finds the firmware.
///
/// # Errors
/// [`crate::Kind::Input`] for given files that are not there,
/// [`crate::Kind::Environment`] when nothing is found, and
/// [`crate::Kind::Transient`] or [`crate::Kind::Dependency`] when the last
/// resort, a download, fails.
pub fn find(
    choice: &FirmwareChoice,
    architecture: Architecture,
    places: &FirmwarePlaces,
) -> Result<Firmware> {
    let x86_only = |what: &str| {
        if architecture == Architecture::X86_64 {
            return Ok(());
        }
        Err(Error::Firmware {
            reason: format!("{what} is for x86_64, not for {}", architecture.name()),
            hint: "leave the firmware out: arm64 boots with UEFI".to_owned(),
        })
    };
    let secure = match choice {
        FirmwareChoice::Files { code, vars } => return given(code, vars.as_deref()),
        FirmwareChoice::Bios => {
            x86_only("BIOS")?;
            return Ok(Firmware::Bios {
                origin: Origin::Qemu,
            });
        }
        FirmwareChoice::SecureBoot => {
            x86_only("Secure Boot")?;
            true
        }
        FirmwareChoice::Uefi => false,
    };
    let root = places.root.as_deref().unwrap_or(Path::new("/"));
    if let Some(found) = descriptor::find(root, architecture, secure).or_else(|| {
        if secure {
            None
        } else {
            known(root, architecture)
        }
    }) {
        return Ok(found);
    }
    if secure {
        return Err(Error::Firmware {
            reason: "none with Secure Boot and enrolled keys is installed".to_owned(),
            hint: "install the package ovmf (Fedora, RHEL: edk2-ovmf)".to_owned(),
        });
    }
    match &places.cache {
        Some(cache) => prebuilt::fetch(cache, architecture),
        None => Err(Error::Firmware {
            reason: format!("no UEFI for {} is installed", architecture.name()),
            hint: match architecture {
                Architecture::X86_64 => {
                    "install the package ovmf (Fedora, RHEL: edk2-ovmf), or name its files"
                }
                Architecture::Aarch64 => {
                    "install the package qemu-efi-aarch64 (Fedora, RHEL: edk2-aarch64), or name its files"
                }
            }
            .to_owned(),
        }),
    }
}

fn given(code: &Path, vars: Option<&Path>) -> Result<Firmware> {
    let code = usable(code)?;
    let vars = match vars {
        Some(vars) => Some(usable(vars)?),
        None => beside(&code),
    };
    let name = code.file_name().unwrap_or_default().to_string_lossy();
    let system_management = ["secboot", ".ms.", "snakeoil"]
        .iter()
        .any(|mark| name.contains(mark));
    Ok(Firmware::Uefi {
        code,
        vars,
        origin: Origin::Given,
        system_management,
    })
}

fn usable(path: &Path) -> Result<PathBuf> {
    let refuse = |reason: String| Error::FirmwareFile {
        path: path.to_owned(),
        reason,
    };
    let found = path
        .metadata()
        .map_err(|error| refuse(error.to_string().to_lowercase()))?;
    if !found.is_file() || found.len() == 0 {
        return Err(refuse("it is not a file, or it is empty".to_owned()));
    }
    std::path::absolute(path).map_err(|error| refuse(error.to_string()))
}

/// The variables that belong to a code file, by the names that every
/// distribution uses: `OVMF_CODE_4M.fd` and `OVMF_VARS_4M.fd`, `code.fd` and
/// `vars.fd`.
fn beside(code: &Path) -> Option<PathBuf> {
    let name = code.file_name()?.to_str()?;
    [("CODE", "VARS"), ("code", "vars")]
        .iter()
        .filter(|(code_mark, _)| name.contains(code_mark))
        .map(|(code_mark, vars_mark)| {
            // Debian's Secure Boot code comes with the variables of its
            // non-secure sister, or with those of the keys it is named after.
            let vars = name.replace(code_mark, vars_mark);
            [
                code.with_file_name(vars.replace(".secboot", "")),
                code.with_file_name(vars),
            ]
        })
        .flat_map(|[plain, exact]| [exact, plain])
        .find(|candidate| candidate.is_file())
}

/// Where distributions keep firmware that they do not describe.
fn known(root: &Path, architecture: Architecture) -> Option<Firmware> {
    let table: &[(&str, &str)] = match architecture {
        Architecture::X86_64 => &[
            (
                "usr/share/OVMF/OVMF_CODE_4M.fd",
                "usr/share/OVMF/OVMF_VARS_4M.fd",
            ),
            ("usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
            (
                "usr/share/edk2/ovmf/OVMF_CODE.fd",
                "usr/share/edk2/ovmf/OVMF_VARS.fd",
            ),
            (
                "usr/share/edk2/x64/OVMF_CODE.4m.fd",
                "usr/share/edk2/x64/OVMF_VARS.4m.fd",
            ),
        ],
        Architecture::Aarch64 => &[
            (
                "usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
                "usr/share/AAVMF/AAVMF_VARS.fd",
            ),
            (
                "usr/share/AAVMF/AAVMF_CODE.fd",
                "usr/share/AAVMF/AAVMF_VARS.fd",
            ),
            (
                "usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
                "usr/share/edk2/aarch64/vars-template-pflash.raw",
            ),
        ],
    };
    table
        .iter()
        .map(|(code, vars)| (root.join(code), root.join(vars)))
        .find(|(code, vars)| code.is_file() && vars.is_file())
        .map(|(code, vars)| Firmware::Uefi {
            code,
            vars: Some(vars),
            origin: Origin::Distribution,
            system_management: false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, FirmwarePlaces) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, content).expect("written");
        }
        let places = FirmwarePlaces {
            cache: None,
            root: Some(root.path().to_owned()),
        };
        (root, places)
    }

    #[test]
    fn given_files_come_first_and_find_their_pair() {
        let (root, places) = machine(&[
            ("a/OVMF_CODE_4M.secboot.fd", "code"),
            ("a/OVMF_VARS_4M.fd", "vars"),
            ("a/OVMF.fd", "both"),
        ]);
        let find_given = |name: &str| {
            let choice = FirmwareChoice::Files {
                code: root.path().join(name),
                vars: None,
            };
            find(&choice, Architecture::X86_64, &places)
        };
        assert_eq!(
            find_given("a/OVMF_CODE_4M.secboot.fd").expect("found"),
            Firmware::Uefi {
                code: root.path().join("a/OVMF_CODE_4M.secboot.fd"),
                vars: Some(root.path().join("a/OVMF_VARS_4M.fd")),
                origin: Origin::Given,
                system_management: true,
            }
        );
        assert!(matches!(
            find_given("a/OVMF.fd").expect("found"),
            Firmware::Uefi { vars: None, .. }
        ));
        let error = find_given("a/absent.fd").expect_err("absent");
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().contains("absent.fd"));
    }

    #[test]
    fn known_paths_are_the_second_resort() {
        let (root, places) = machine(&[
            ("usr/share/AAVMF/AAVMF_CODE.fd", "code"),
            ("usr/share/AAVMF/AAVMF_VARS.fd", "vars"),
        ]);
        let found = find(&FirmwareChoice::Uefi, Architecture::Aarch64, &places).expect("found");
        assert!(found.to_string().contains("of the distribution"));
        let Firmware::Uefi { code, .. } = found else {
            unreachable!("UEFI was asked for");
        };
        assert_eq!(code, root.path().join("usr/share/AAVMF/AAVMF_CODE.fd"));
        let error = find(&FirmwareChoice::Uefi, Architecture::X86_64, &places).expect_err("none");
        assert_eq!(error.kind(), Kind::Environment);
        assert!(error.hint().is_some_and(|hint| hint.contains("ovmf")));
    }

    #[test]
    fn bios_is_for_the_pc_only() {
        let (_root, places) = machine(&[]);
        let bios = |architecture| find(&FirmwareChoice::Bios, architecture, &places);
        assert_eq!(
            bios(Architecture::X86_64).ok(),
            Some(Firmware::Bios {
                origin: Origin::Qemu
            })
        );
        assert!(bios(Architecture::Aarch64).is_err());
    }
}
