//! Whether the machine can run a guest's instructions itself.
//!
//! The presence of `/dev/kvm` says little: on a cloud machine it may be there
//! and refuse to start a guest, or run one a hundred times slower than software
//! emulation does. So a tiny guest is started, which has to get through a loop
//! and power off in a few seconds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::machine::Architecture;
use crate::process;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceleratorKind {
    /// The machine, through KVM.
    Kvm,
    /// QEMU's translator, in software.
    Tcg,
}

/// What runs the guest's instructions, and why that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Accelerator {
    /// Which.
    pub kind: AcceleratorKind,
    /// Why, for people: `/dev/kvm does not exist`.
    pub reason: String,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.kind {
            AcceleratorKind::Kvm => "KVM",
            AcceleratorKind::Tcg => "software emulation",
        };
        write!(formatter, "{name} ({})", self.reason)
    }
}

/// What the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM if it works, else software emulation.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Software emulation, without a probe.
    Tcg,
}

/// How long the tiny guest may take. On a machine whose KVM works it takes a
/// fraction of a second.
pub const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// What QEMU ends with when the tiny guest tells that it came through.
const PROBE_PASSED: i32 = 33;

/// A boot sector for BIOS (16-bit code, loaded at 0x7c00). It counts down from
/// 50 million, which takes hardware some 20 ms and an instruction emulator a
/// minute, and writes 16 to the port of QEMU's debug exit device, which makes
/// QEMU end with 16 * 2 + 1.
const BOOT_SECTOR: [u8; 18] = [
    0xfa, // cli
    0x66, 0xb9, 0x80, 0xf0, 0xfa, 0x02, // mov ecx, 50000000
    0x66, 0x49, // dec ecx
    0x75, 0xfc, // jnz -4
    0xb0, 0x10, // mov al, 16
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp -3
];

/// The same for Arm: a flat image that QEMU starts in place of a kernel, and
/// that powers off through PSCI (SYSTEM_OFF, 0x84000008), which makes QEMU end
/// with 0.
const ARM_IMAGE: [u32; 8] = [
    0xd29e_1001, // mov x1, #0xf080
    0xf2a0_5f41, // movk x1, #0x2fa, lsl #16
    0xf100_0421, // subs x1, x1, #1
    0x54ff_ffe1, // b.ne -4
    0x5280_0100, // mov w0, #8
    0x72b0_8000, // movk w0, #0x8400, lsl #16
    0xd400_0002, // hvc #0
    0x1400_0000, // b .
];

/// Chooses the accelerator for guests of `architecture`. The probe runs once per
/// process.
///
/// # Errors
/// Only when KVM was demanded and does not work.
pub(crate) async fn choose(
    choice: AcceleratorChoice,
    architecture: Architecture,
    emulator: &Path,
) -> Result<Accelerator> {
    if choice == AcceleratorChoice::Tcg {
        return Ok(Accelerator {
            kind: AcceleratorKind::Tcg,
            reason: "as asked for".to_owned(),
        });
    }
    let found = probed(architecture, emulator).await;
    if choice == AcceleratorChoice::Kvm && found.kind != AcceleratorKind::Kvm {
        return Err(Error::Program {
            program: emulator.display().to_string(),
            reason: format!("KVM was asked for, but {}", found.reason),
            stderr: String::new(),
        });
    }
    Ok(found)
}

/// Answers of earlier probes.
static PROBED: Mutex<Vec<(Architecture, PathBuf, Accelerator)>> = Mutex::new(Vec::new());

async fn probed(architecture: Architecture, emulator: &Path) -> Accelerator {
    let known = |list: &[(Architecture, PathBuf, Accelerator)]| {
        list.iter()
            .find(|(of, with, _)| *of == architecture && with == emulator)
            .map(|(.., accelerator)| accelerator.clone())
    };
    let lock = || {
        PROBED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    if let Some(accelerator) = known(&lock()) {
        return accelerator;
    }
    let accelerator = match probe(architecture, emulator).await {
        Ok(()) => Accelerator {
            kind: AcceleratorKind::Kvm,
            reason: "a probe ran on it".to_owned(),
        },
        Err(reason) => Accelerator {
            kind: AcceleratorKind::Tcg,
            reason,
        },
    };
    lock().push((architecture, emulator.to_owned(), accelerator.clone()));
    accelerator
}

/// Why KVM cannot be used, in a few words, if it cannot.
async fn probe(architecture: Architecture, emulator: &Path) -> Result<(), String> {
    if Architecture::HOST != Some(architecture) {
        return Err(format!("this machine is not {}", architecture.name()));
    }
    let device = Path::new("/dev/kvm");
    if !device.exists() {
        return Err("/dev/kvm does not exist".to_owned());
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open(device) {
        return Err(format!(
            "/dev/kvm cannot be opened: {}; is the user in the group kvm?",
            error.to_string().to_lowercase()
        ));
    }
    let (guest, passed) = match architecture {
        Architecture::X86_64 => (boot_sector(), PROBE_PASSED),
        Architecture::Aarch64 => (
            ARM_IMAGE
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
            0,
        ),
    };
    let file = tempfile::Builder::new()
        .prefix("nodekiln-probe-")
        .tempfile()
        .and_then(|file| std::fs::write(file.path(), &guest).map(|()| file))
        .map_err(|error| format!("the probe could not be written: {error}"))?;
    let arguments = probe_arguments(architecture, file.path());
    match process::run(emulator, &arguments, PROBE_LIMIT).await {
        Ok(Some(finished)) if finished.code == Some(passed) => Ok(()),
        Ok(Some(finished)) => Err(format!(
            "/dev/kvm exists, but a probe failed on it: {}",
            crate::console::clean_lines(&finished.stderr)
                .into_iter()
                .find(|line| !line.is_empty())
                .unwrap_or_else(|| process::ended(finished.code))
        )),
        Ok(None) => Err(format!(
            "/dev/kvm exists, but a probe did not come through in {} s",
            PROBE_LIMIT.as_secs()
        )),
        Err(error) => Err(format!("the probe could not be started: {error}")),
    }
}

fn boot_sector() -> Vec<u8> {
    let mut sector = BOOT_SECTOR.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

fn probe_arguments(architecture: Architecture, guest: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-m",
        "64",
        "-accel",
        "kvm",
        "-cpu",
        "host",
    ]
    .map(OsString::from)
    .into();
    match architecture {
        Architecture::X86_64 => {
            let file = guest.to_string_lossy().replace(',', ",,");
            arguments.extend(
                [
                    "-machine",
                    "pc",
                    "-device",
                    "isa-debug-exit,iobase=0xf4,iosize=0x04",
                    "-drive",
                    &format!("if=floppy,format=raw,readonly=on,file={file}"),
                ]
                .map(OsString::from),
            );
        }
        Architecture::Aarch64 => {
            arguments.extend(["-machine", "virt,gic-version=host", "-kernel"].map(OsString::from));
            arguments.push(guest.into());
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_a_boot_sector() {
        let sector = boot_sector();
        assert_eq!(sector.len(), 512);
        assert_eq!(&sector[510..], [0x55, 0xaa]);
    }

    /// The probe itself must be right, or a working KVM would be called broken:
    /// software emulation runs it to its end.
    #[tokio::test]
    async fn the_probe_comes_through_where_a_guest_can_run() {
        let Some(architecture) = Architecture::HOST else {
            return;
        };
        let emulator = architecture.find_emulator().expect("QEMU is installed");
        let guest = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(guest.path(), boot_sector()).expect("written");
        let arguments: Vec<OsString> = probe_arguments(architecture, guest.path())
            .into_iter()
            .map(|argument| match argument.to_str() {
                Some("kvm") => "tcg".into(),
                Some("host") => "max".into(),
                _ => argument,
            })
            .collect();
        let finished = process::run(&emulator, &arguments, Duration::from_secs(60))
            .await
            .expect("started")
            .expect("in time");
        assert_eq!(finished.code, Some(PROBE_PASSED));
    }

    #[tokio::test]
    async fn another_architecture_is_emulated() {
        let other = match Architecture::HOST {
            Some(Architecture::X86_64) => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        let found = probed(other, Path::new("/nowhere")).await;
        assert_eq!(found.kind, AcceleratorKind::Tcg);
        assert!(found.reason.contains("this machine is not"));
    }
}
