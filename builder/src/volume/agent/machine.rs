//! A guest kernel in a machine that QEMU emulates: where user-mode Linux cannot run.
//!
//! It takes a distribution's kernel with its modules, as they lie in `/boot` and
//! `/lib/modules`, and emulates in software: a machine that cannot run user-mode Linux
//! seldom lets anybody use KVM.

use std::path::{Path, PathBuf};

use super::cpio::Module;
use super::{installed, modules};
use crate::environment;
use crate::error::{Error, Result};

/// The emulator.
const EMULATOR: &str = "qemu-system-x86_64";
/// Memory of the guest, in MiB.
const MEMORY: u64 = 192;
/// Memory for translated code, in MiB.
const TRANSLATED: u64 = 32;
/// What the kernel does for safety from other programs, and to count what they take: there
/// are none, and where every change of address spaces is emulated it takes a third of the
/// time.
const UNGUARDED: &str =
    "mitigations=off init_on_alloc=0 nokaslr lsm= audit=0 cgroup_disable=memory";
/// The processor: what QEMU can do best, without a fifth level of page tables and without
/// guards of a program's memory, which cost an emulator dearly.
const PROCESSOR: &str = "max,la57=off,smap=off";
/// What finds the disks: modules, where they are not built in.
const DISKS: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_intel", "crc32c_generic"];

/// A machine that can be started.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    emulator: PathBuf,
    kernel: PathBuf,
    /// Where its modules lie.
    modules: PathBuf,
}

impl Machine {
    /// The machine with the kernel that `NODEKILN_VM_KERNEL` names, else the newest of
    /// `/boot`.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when the emulator or a kernel with its modules is
    /// missing.
    pub(super) fn find() -> Result<Self> {
        let named = std::env::var_os(environment::NODEKILN_VM_KERNEL);
        let kernel = match named {
            Some(named) => PathBuf::from(named),
            None => newest(Path::new("/boot")).ok_or_else(|| {
                Error::environment("edit file systems in a machine: no kernel in /boot can be read")
                    .hint(format!(
                        "name one with {}: a vmlinuz of a distribution beside the folder lib/modules of its modules",
                        environment::NODEKILN_VM_KERNEL
                    ))
            })?,
        };
        Self::of(kernel)
    }

    /// The machine with this kernel.
    ///
    /// # Errors
    /// As [`Machine::find`].
    pub(super) fn of(kernel: PathBuf) -> Result<Self> {
        let emulator = installed(EMULATOR).ok_or_else(|| {
            Error::environment(format!(
                "edit file systems in a machine: {EMULATOR} is not installed"
            ))
            .hint("install the package qemu-system-x86")
        })?;
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
        let mut wanted = DISKS.to_vec();
        wanted.extend(modules::of_file_system(file_system));
        modules::load(&self.modules, &wanted)
    }

    /// Its arguments. The disks are names in the folder of the run, but for the image.
    pub(super) fn arguments(&self, image: &str, payload: &str, clock: i64) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-machine",
            "q35,smm=off",
            "-cpu",
            PROCESSOR,
            "-smp",
            "1",
            "-rtc",
            "base=utc",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(["-accel".to_owned(), format!("tcg,tb-size={TRANSLATED}")]);
        arguments.extend(["-m".to_owned(), MEMORY.to_string()]);
        arguments.extend(["-kernel".to_owned(), self.kernel.display().to_string()]);
        arguments.extend(["-initrd".to_owned(), "initramfs".to_owned()]);
        let line = format!("console=ttyS0 quiet panic=-1 {UNGUARDED} still_clock={clock}");
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

/// The newest kernel in `folder` that can be read and has its modules.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz-")
                && rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
                && modules_of(path).is_some()
        })
        .max_by_key(|path| numbers(&path.to_string_lossy()))
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

    #[test]
    fn the_newest_kernel_with_modules_is_found() {
        let folder = tempfile::tempdir().expect("folder");
        let boot = folder.path().join("boot");
        std::fs::create_dir(&boot).expect("created");
        for version in ["6.1.0-9-amd64", "6.1.0-13-amd64", "6.12.0-1-amd64"] {
            std::fs::write(boot.join(format!("vmlinuz-{version}")), "").expect("written");
        }
        assert_eq!(newest(&boot), None, "none has modules");
        for version in ["6.1.0-9-amd64", "6.1.0-13-amd64"] {
            let modules = folder.path().join("lib/modules").join(version);
            std::fs::create_dir_all(&modules).expect("created");
            std::fs::write(modules.join("modules.dep"), "").expect("written");
        }
        assert_eq!(newest(&boot), Some(boot.join("vmlinuz-6.1.0-13-amd64")));
        assert_eq!(modules_of(Path::new("/")), None);
        assert_eq!(modules_of(&boot.join("image")), None);
    }
}
