//! The guest's kind of machine, and what differs with it.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::process;

/// Instruction set of a guest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// AMD64; the machine q35.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm; the machine virt.
    Aarch64,
}

impl Architecture {
    /// That of this program, if it is one of those that can be booted.
    pub const HOST: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// Its name as QEMU writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The names of the program that emulates it, the usual one first.
    pub fn emulators(self) -> &'static [&'static str] {
        match self {
            // RHEL and its relatives call theirs qemu-kvm.
            Self::X86_64 => &["qemu-system-x86_64", "qemu-kvm"],
            Self::Aarch64 => &["qemu-system-aarch64", "qemu-kvm"],
        }
    }

    /// The machine type.
    pub(crate) fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "q35",
            Self::Aarch64 => "virt",
        }
    }

    /// The first serial port, as Linux names it.
    pub fn serial_device(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// Finds its emulator.
    pub(crate) fn find_emulator(self) -> Result<PathBuf> {
        let native = Self::HOST == Some(self);
        self.emulators()
            .iter()
            // qemu-kvm emulates the machine's own instruction set only.
            .filter(|name| native || **name != "qemu-kvm")
            .find_map(|name| process::find(name.as_ref()))
            .ok_or_else(|| Error::NotInstalled {
                program: self.emulators()[0].to_owned(),
                hint: format!(
                    "install the package {} (Fedora, RHEL: {})",
                    match self {
                        Self::X86_64 => "qemu-system-x86",
                        Self::Aarch64 => "qemu-system-arm",
                    },
                    match self {
                        Self::X86_64 => "qemu-kvm",
                        Self::Aarch64 => "qemu-system-aarch64",
                    }
                ),
            })
    }
}

/// Finds `qemu-img`.
pub(crate) fn find_qemu_img() -> Result<PathBuf> {
    process::find("qemu-img".as_ref()).ok_or_else(|| Error::NotInstalled {
        program: "qemu-img".to_owned(),
        hint: "install the package qemu-utils (Fedora, RHEL: qemu-img)".to_owned(),
    })
}
