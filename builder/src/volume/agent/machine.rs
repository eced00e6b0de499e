//! A guest kernel in a machine that QEMU emulates: where user-mode Linux cannot run.
//!
//! It takes a distribution's kernel with its modules, as they lie in `/boot` and
//! `/lib/modules`, and emulates in software: a machine that cannot run user-mode Linux
//! seldom lets anybody use KVM.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::cpio::Module;
use super::installed;
use crate::environment;
use crate::error::{Context as _, Error, Result};

/// The emulator.
const EMULATOR: &str = "qemu-system-x86_64";
/// Memory of the guest, in MiB.
const MEMORY: u64 = 192;
/// Memory for translated code, in MiB.
const TRANSLATED: u64 = 32;
/// What the kernel does for safety from other programs: there are none, and where every
/// change of address spaces is emulated it takes a third of the time.
const UNGUARDED: &str = "mitigations=off init_on_alloc=0 nokaslr";
/// Largest list of modules, and largest module, in bytes.
const LONGEST_LIST: u64 = 8 << 20;
const LARGEST_MODULE: u64 = 32 << 20;

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
                Error::environment("edit XFS in a machine: no kernel in /boot can be read")
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
                "edit XFS in a machine: {EMULATOR} is not installed"
            ))
            .hint("install the package qemu-system-x86")
        })?;
        let modules = modules_of(&kernel).ok_or_else(|| {
            Error::environment(format!(
                "edit XFS in a machine: the modules of the kernel {} are not to be found",
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
        let list = self.modules.join("modules.dep");
        let text = read(&list, LONGEST_LIST)?;
        let text = String::from_utf8_lossy(&text);
        let wanted = [
            "virtio_pci",
            "virtio_blk",
            "crc32c_intel",
            "crc32c_generic",
            file_system,
        ];
        let mut wanted = wanted.to_vec();
        if file_system == "vfat" {
            wanted.extend(["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"]);
        }
        in_order(&text, &wanted)
            .into_iter()
            .map(|path| {
                let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
                let content = read(&self.modules.join(&path), LARGEST_MODULE)?;
                Ok(Module { name, content })
            })
            .collect()
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
            "max",
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
    let has_list = |folder: &PathBuf| folder.join("modules.dep").is_file();
    let name = kernel.file_name()?.to_str()?;
    let Some(version) = name.strip_prefix("vmlinuz-") else {
        // Fedora keeps a kernel among its modules.
        return Some(folder.to_owned()).filter(has_list);
    };
    [
        folder.join("../lib/modules"),
        folder.join("../usr/lib/modules"),
        "/lib/modules".into(),
    ]
    .map(|modules| modules.join(version))
    .into_iter()
    .find(has_list)
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

/// The paths of the modules `wanted` and of what they need, each after what it needs.
/// What `list` (`modules.dep`) does not name is built in, or not needed.
fn in_order(list: &str, wanted: &[&str]) -> Vec<String> {
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split('.').next().unwrap_or(file).replace('-', "_")
    };
    let known: HashMap<String, (&str, &str)> = list
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (name(path), (path, needs)))
        .collect();
    let mut taken = HashSet::new();
    let mut order = Vec::new();
    for wanted in wanted {
        let Some((path, needs)) = known.get(*wanted) else {
            continue;
        };
        // depmod lists what has to be there first last, with all that is needed for it.
        let needed = needs.split_whitespace().rev();
        for path in needed.chain([*path]) {
            if taken.insert(path) {
                order.push(path.to_owned());
            }
        }
    }
    order
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let doing = || format!("read {}", path.display());
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut content))
        .doing(doing)?;
    if content.len() as u64 > most {
        return Err(Error::environment(format!(
            "{}: it has more than {most} bytes",
            doing()
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let list = "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz kernel/lib/base.ko.xz\n\
                    kernel/lib/libcrc32c.ko.xz: kernel/lib/base.ko.xz\n\
                    kernel/lib/base.ko.xz:\n\
                    kernel/drivers/block/virtio_blk.ko.xz: kernel/lib/base.ko.xz\n\
                    kernel/arch/crc32c-intel.ko.xz:\nno line\n";
        let wanted = ["virtio_pci", "virtio_blk", "crc32c_intel", "xfs"];
        assert_eq!(
            in_order(list, &wanted),
            [
                "kernel/lib/base.ko.xz",
                "kernel/drivers/block/virtio_blk.ko.xz",
                "kernel/arch/crc32c-intel.ko.xz",
                "kernel/lib/libcrc32c.ko.xz",
                "kernel/fs/xfs/xfs.ko.xz",
            ]
        );
        assert_eq!(in_order("", &wanted), Vec::<String>::new());
    }

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
