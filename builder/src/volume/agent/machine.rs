//! A guest kernel in a machine that QEMU emulates: where user-mode Linux cannot run, and on
//! processors that it is not made for.
//!
//! It takes a distribution's kernel with its modules, as they lie in `/boot` and
//! `/lib/modules`, and emulates in software: a machine that cannot run user-mode Linux
//! seldom lets anybody use KVM.

use std::path::{Path, PathBuf};

use super::cpio::Module;
use super::kernel_file::{self, KernelFile};
use super::{installed, modules};
use crate::environment;
use crate::error::{Error, Result};
use crate::profile::model::Architecture;

/// Memory for translated code, in MiB.
const TRANSLATED: u64 = 32;
/// What the kernel does for safety from other programs, and to count what they take: there
/// are none, and where every change of address spaces is emulated it takes a third of the
/// time.
const UNGUARDED: &str =
    "mitigations=off init_on_alloc=0 nokaslr lsm= audit=0 cgroup_disable=memory";
/// The name of a kernel that had to be unpacked, in the folder of a run.
const UNPACKED: &str = "kernel";

/// What differs from one processor to the other.
#[derive(Debug)]
struct Kind {
    emulator: &'static str,
    /// Debian's package of the emulator.
    package: &'static str,
    /// QEMU's type of machine.
    machine: &'static str,
    processor: &'static str,
    /// Memory of the guest, in MiB.
    memory: u64,
    /// The first serial port, as Linux names it.
    console: &'static str,
    /// What finds the disks: modules, where they are not built in.
    disks: &'static [&'static str],
}

const X86_64: Kind = Kind {
    emulator: "qemu-system-x86_64",
    package: "qemu-system-x86",
    machine: "q35,smm=off",
    // What QEMU can do best, without a fifth level of page tables and without guards of a
    // program's memory, which cost an emulator dearly.
    processor: "max,la57=off,smap=off",
    memory: 192,
    console: "ttyS0",
    disks: &["virtio_pci", "virtio_blk", "crc32c_intel", "crc32c_generic"],
};

const ARM64: Kind = Kind {
    emulator: "qemu-system-aarch64",
    package: "qemu-system-arm",
    machine: "virt",
    // One that every QEMU has and no kernel of a distribution is too old for.
    processor: "cortex-a72",
    // Kernels with pages of 64 KiB take more, and this one lies there unpacked.
    memory: 384,
    console: "ttyAMA0",
    disks: &["virtio_pci", "virtio_blk", "crc32c_generic"],
};

/// The processor for kernels for arm64 with pages of 16 KiB, which a cortex-a72 does not
/// know. It signs pointers, by its own cheap way.
const WITH_PAGES_OF_16_KIB: &str = "max,pauth-impdef=on";

fn kind(architecture: Architecture) -> &'static Kind {
    match architecture {
        Architecture::X86_64 => &X86_64,
        Architecture::Arm64 => &ARM64,
    }
}

/// A machine that can be started.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    emulator: PathBuf,
    kernel: PathBuf,
    file: KernelFile,
    /// Where its modules lie.
    modules: PathBuf,
}

impl Machine {
    /// The machine of `architecture` with the kernel that `NODEKILN_VM_KERNEL` names, else
    /// the newest of `/boot` that is for it.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when the emulator or a kernel with its modules is
    /// missing, or the one that is named is for another architecture.
    pub(super) fn find(architecture: Architecture) -> Result<Self> {
        let named = std::env::var_os(environment::NODEKILN_VM_KERNEL);
        let kernel = match named {
            Some(named) => PathBuf::from(named),
            None => newest(Path::new("/boot"), architecture).ok_or_else(|| {
                let which = architecture.name();
                Error::environment(format!(
                    "edit file systems in a machine: no kernel for {which} in /boot can be read"
                ))
                .hint(format!(
                    "name one with {}: a vmlinuz of a distribution beside the folder lib/modules of its modules",
                    environment::NODEKILN_VM_KERNEL
                ))
            })?,
        };
        Self::of(kernel, architecture)
    }

    /// The machine of `architecture` with this kernel.
    ///
    /// # Errors
    /// As [`Machine::find`].
    pub(super) fn of(kernel: PathBuf, architecture: Architecture) -> Result<Self> {
        let kind = kind(architecture);
        // The emulator works in another folder.
        let kernel = std::path::absolute(kernel).map_err(|error| {
            Error::environment("edit file systems in a machine: find the kernel").caused_by(error)
        })?;
        let emulator = installed(kind.emulator).ok_or_else(|| {
            Error::environment(format!(
                "edit file systems in a machine: {} is not installed",
                kind.emulator
            ))
            .hint(format!("install the package {}", kind.package))
        })?;
        let file = kernel_file::judge(&kernel, architecture)?;
        let modules = modules_of(&kernel).ok_or_else(|| {
            Error::environment(format!(
                "edit file systems in a machine: the modules of the kernel {} are not to be found",
                kernel.display()
            ))
            .hint("keep its name, vmlinuz-VERSION, and lay its modules into ../lib/modules/VERSION from it, or /lib/modules/VERSION")
        })?;
        Ok(Self {
            emulator,
            kernel,
            file,
            modules,
        })
    }

    /// The emulator and the kernel, for people.
    pub(super) fn name(&self) -> String {
        format!("{} with {}", self.emulator.display(), self.kernel.display())
    }

    /// The program that is started.
    pub(super) fn program(&self) -> &Path {
        &self.emulator
    }

    /// The modules that a guest needs for `file_system`, in the order of loading.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn modules(&self, file_system: &str) -> Result<Vec<Module>> {
        let mut wanted = kind(self.file.architecture).disks.to_vec();
        wanted.extend(modules::of_file_system(file_system));
        modules::load(&self.modules, &wanted)
    }

    /// Lays what it is started from into `folder`, that of the run.
    ///
    /// # Errors
    /// When the kernel cannot be unpacked.
    pub(super) fn prepare(&self, folder: &Path) -> Result<()> {
        self.file.unpack(&self.kernel, &folder.join(UNPACKED))
    }

    /// Its arguments. The disks are names in the folder of the run, but for the image.
    pub(super) fn arguments(&self, image: &str, payload: &str, clock: i64) -> Vec<String> {
        let kind = kind(self.file.architecture);
        let processor = if self.file.has_pages_of_16_kib {
            WITH_PAGES_OF_16_KIB
        } else {
            kind.processor
        };
        let mut arguments: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-machine",
            kind.machine,
            "-cpu",
            processor,
            "-smp",
            "1",
            "-rtc",
            "base=utc",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(["-accel".to_owned(), format!("tcg,tb-size={TRANSLATED}")]);
        arguments.extend(["-m".to_owned(), kind.memory.to_string()]);
        let kernel = match self.file.packed {
            Some(_) => UNPACKED.to_owned(),
            None => self.kernel.display().to_string(),
        };
        arguments.extend(["-kernel".to_owned(), kernel]);
        arguments.extend(["-initrd".to_owned(), "initramfs".to_owned()]);
        let console = kind.console;
        let line = format!("console={console} quiet panic=-1 {UNGUARDED} still_clock={clock}");
        arguments.extend(["-append".to_owned(), line]);
        // Flushes are nothing: who called syncs the image, and throws it away on failure.
        for (name, file, more) in [
            ("image", image, "file.locking=off"),
            ("payload", payload, "readonly=on"),
            ("answer", "answer", "file.locking=off"),
        ] {
            let drive = format!("if=none,id={name},format=raw,cache=unsafe,file={file},{more}");
            arguments.extend(["-drive".to_owned(), drive]);
            let device = format!("virtio-blk-pci,drive={name},serial={name}");
            arguments.extend(["-device".to_owned(), device]);
        }
        arguments
    }
}

/// Where the modules of a kernel lie, by its place and name.
fn modules_of(kernel: &Path) -> Option<PathBuf> {
    let folder = kernel.parent()?;
    let name = kernel.file_name()?.to_str()?;
    let Some(version) = name.strip_prefix("vmlinuz-") else {
        // Fedora keeps a kernel among its modules.
        return Some(folder.to_owned()).filter(|folder| modules::has_list(folder));
    };
    [
        folder.join("../lib/modules"),
        folder.join("../usr/lib/modules"),
        "/lib/modules".into(),
    ]
    .map(|modules| modules.join(version))
    .into_iter()
    .find(|folder| modules::has_list(folder))
}

/// The newest kernel for `architecture` in `folder` that can be read and has its modules.
fn newest(folder: &Path, architecture: Architecture) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz-") && modules_of(path).is_some() && is_for(path, architecture)
        })
        .max_by_key(|path| numbers(&path.to_string_lossy()))
}

/// Whether `path` can be read and is a kernel for `architecture`.
fn is_for(path: &Path, architecture: Architecture) -> bool {
    let found = KernelFile::look(path).ok().flatten();
    found.is_some_and(|file| file.architecture == architecture)
}

/// The numbers in a name, by which versions are compared.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Architecture; 2] = [Architecture::X86_64, Architecture::Arm64];

    #[test]
    fn the_newest_kernel_with_modules_is_found() {
        let folder = tempfile::tempdir().expect("folder");
        let boot = folder.path().join("boot");
        std::fs::create_dir(&boot).expect("created");
        let (x86_64, arm64) = (Architecture::X86_64, Architecture::Arm64);
        let kernels = [
            ("6.1.0-9-amd64", x86_64),
            ("6.1.0-13-amd64", x86_64),
            ("6.12.0-1-amd64", x86_64),
            ("6.1.0-8-arm64", arm64),
            ("6.1.0-20-arm64", arm64),
        ];
        for (version, of) in kernels {
            let path = boot.join(format!("vmlinuz-{version}"));
            std::fs::write(path, kernel_file::head(of)).expect("written");
        }
        for architecture in BOTH {
            assert_eq!(newest(&boot, architecture), None, "none has modules");
        }
        for version in ["6.1.0-9-amd64", "6.1.0-13-amd64", "6.1.0-20-arm64", "7.0"] {
            let modules = folder.path().join("lib/modules").join(version);
            std::fs::create_dir_all(&modules).expect("created");
            std::fs::write(modules.join("modules.dep"), "").expect("written");
        }
        std::fs::write(boot.join("vmlinuz-7.0"), "no kernel").expect("written");
        for (of, found) in [(x86_64, "6.1.0-13-amd64"), (arm64, "6.1.0-20-arm64")] {
            let found = boot.join(format!("vmlinuz-{found}"));
            assert_eq!(newest(&boot, of), Some(found));
        }
        assert_eq!(modules_of(Path::new("/")), None);
        assert_eq!(modules_of(&boot.join("image")), None);
    }

    fn machine(architecture: Architecture, packed: bool, has_pages_of_16_kib: bool) -> Machine {
        Machine {
            emulator: kind(architecture).emulator.into(),
            kernel: "/boot/vmlinuz-6.1".into(),
            file: KernelFile {
                architecture,
                has_pages_of_16_kib,
                packed: packed.then_some(0..9),
            },
            modules: "/lib/modules/6.1".into(),
        }
    }

    #[test]
    fn machines_differ_in_what_the_processor_asks_for() {
        let disks = "-drive if=none,id=image,format=raw,cache=unsafe,file=/proc/1/fd/3,file.locking=off \
                     -device virtio-blk-pci,drive=image,serial=image \
                     -drive if=none,id=payload,format=raw,cache=unsafe,file=payload,readonly=on \
                     -device virtio-blk-pci,drive=payload,serial=payload \
                     -drive if=none,id=answer,format=raw,cache=unsafe,file=answer,file.locking=off \
                     -device virtio-blk-pci,drive=answer,serial=answer";
        let expected = |machine: &str, memory: &str, kernel: &str, console: &str| {
            format!(
                "-nodefaults -no-user-config -display none -no-reboot -serial stdio \
                 -machine {machine} -smp 1 -rtc base=utc -accel tcg,tb-size=32 -m {memory} \
                 -kernel {kernel} -initrd initramfs -append console={console} quiet panic=-1 \
                 mitigations=off init_on_alloc=0 nokaslr lsm= audit=0 cgroup_disable=memory \
                 still_clock=5 {disks}"
            )
        };
        let arguments = |architecture, packed, pages_of_16_kib| {
            let machine = machine(architecture, packed, pages_of_16_kib);
            machine.arguments("/proc/1/fd/3", "payload", 5).join(" ")
        };
        let kernel = "/boot/vmlinuz-6.1";
        let q35 = "q35,smm=off -cpu max,la57=off,smap=off";
        assert_eq!(
            arguments(Architecture::X86_64, false, false),
            expected(q35, "192", kernel, "ttyS0")
        );
        for (packed, kernel) in [(false, kernel), (true, "kernel")] {
            assert_eq!(
                arguments(Architecture::Arm64, packed, false),
                expected("virt -cpu cortex-a72", "384", kernel, "ttyAMA0")
            );
        }
        assert_eq!(
            arguments(Architecture::Arm64, false, true),
            expected("virt -cpu max,pauth-impdef=on", "384", kernel, "ttyAMA0")
        );
    }
}
