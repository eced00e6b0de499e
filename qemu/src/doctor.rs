//! What this machine has for booting images, as data.

use std::path::PathBuf;
use std::time::Duration;

use crate::accelerator::{self, Accelerator, AcceleratorChoice};
use crate::error::Result;
use crate::firmware::{self, Firmware, FirmwareChoice, FirmwarePlaces};
use crate::machine::{self, Architecture};
use crate::process;

/// How long a program may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// One thing that booting needs.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What: `qemu-img`.
    pub name: String,
    /// Whether it is there and works.
    pub usable: bool,
    /// Whether anything works without it.
    pub required: bool,
    /// What was found, or why it is not usable.
    pub found: String,
    /// What to do, if it is not usable.
    pub hint: Option<String>,
}

/// Everything that booting guests of one architecture needs.
///
/// Takes as long as the probe of the accelerator: a fraction of a second where
/// KVM works or is absent, up to [`crate::PROBE_LIMIT`] where it is broken.
///
/// # Errors
/// Only when no thread can be started.
pub fn examine(architecture: Architecture) -> Result<Vec<Check>> {
    process::on_own_thread(|| async move {
        let emulator = architecture.find_emulator();
        let mut checks = vec![
            program(
                architecture.emulators()[0],
                emulator.as_ref().ok(),
                &emulator,
            )
            .await,
        ];
        let qemu_img = machine::find_qemu_img();
        checks.push(program("qemu-img", qemu_img.as_ref().ok(), &qemu_img).await);

        let uefi = firmware::find(
            &FirmwareChoice::Uefi,
            architecture,
            &FirmwarePlaces::default(),
        );
        checks.push(Check {
            name: "UEFI firmware".to_owned(),
            usable: uefi.is_ok(),
            // It can be downloaded.
            required: false,
            hint: uefi
                .as_ref()
                .err()
                .and_then(|error| error.hint())
                .map(str::to_owned),
            found: uefi
                .as_ref()
                .map_or_else(ToString::to_string, Firmware::to_string),
        });
        if let Ok(emulator) = &emulator {
            let accelerator =
                accelerator::choose(AcceleratorChoice::Auto, architecture, emulator).await?;
            checks.push(kvm(&accelerator));
        }
        let setpriv = process::find("setpriv".as_ref());
        checks.push(Check {
            name: "setpriv".to_owned(),
            usable: setpriv.is_some(),
            required: false,
            hint: setpriv
                .is_none()
                .then(|| "install the package util-linux".to_owned()),
            found: setpriv.map_or_else(
                || "not installed: QEMU could outlive a killed nodekiln".to_owned(),
                |path| path.display().to_string(),
            ),
        });
        Ok(checks)
    })
}

fn kvm(accelerator: &Accelerator) -> Check {
    let usable = accelerator.kind == accelerator::AcceleratorKind::Kvm;
    Check {
        name: "KVM".to_owned(),
        usable,
        required: false,
        found: accelerator.reason.clone(),
        hint: (!usable).then(|| "guests are emulated in software: slower, but right".to_owned()),
    }
}

async fn program(name: &str, path: Option<&PathBuf>, found: &Result<PathBuf>) -> Check {
    let version = match path {
        Some(path) => process::run(path, &["--version".into()], VERSION_LIMIT)
            .await
            .ok()
            .flatten(),
        None => None,
    };
    let first_line = version
        .filter(|version| version.code == Some(0))
        .and_then(|version| {
            crate::console::clean_lines(&version.stdout)
                .into_iter()
                .next()
        });
    Check {
        name: name.to_owned(),
        usable: first_line.is_some(),
        required: true,
        hint: found
            .as_ref()
            .err()
            .and_then(|error| error.hint())
            .map(str::to_owned),
        found: match (found, first_line) {
            (Ok(path), Some(line)) => format!("{line} ({})", path.display()),
            (Ok(path), None) => format!("{} does not tell its version", path.display()),
            (Err(error), _) => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_here() {
        let checks = examine(Architecture::X86_64).expect("examined");
        let check = |name: &str| checks.iter().find(|check| check.name == name).expect(name);
        assert!(check("qemu-system-x86_64").usable);
        assert!(check("qemu-img").found.contains("version"));
        assert!(check("UEFI firmware").usable);
        assert!(!check("KVM").found.is_empty());
    }

    #[test]
    fn tells_what_is_missing() {
        let found = Err(crate::Error::NotInstalled {
            program: "x".to_owned(),
            hint: "install x".to_owned(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let check = runtime.block_on(program("x", None, &found));
        assert!(!check.usable && check.required);
        assert_eq!(check.hint.as_deref(), Some("install x"));
    }
}
