//! The modules of a guest kernel that has not everything built in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cpio::Module;
use crate::error::{Context as _, Error, Result};
use crate::task::Task;

/// The list of modules with what each needs (depmod(8)).
const LIST: &str = "modules.dep";
/// Largest list of modules, and largest module, in bytes.
const LONGEST_LIST: u64 = 8 << 20;
const LARGEST_MODULE: u64 = 32 << 20;
/// Where the package `user-mode-linux` has the modules of its kernel.
const PACKAGED: &str = "/usr/lib/uml/modules";
/// How long a kernel may take to tell its version.
const VERSION_TIME: Duration = Duration::from_secs(10);

/// The modules that a file system takes, by Linux's names. FAT wants a code page for short
/// names and one for what its options name.
pub(super) fn of_file_system(file_system: &str) -> Vec<&str> {
    let mut wanted = vec![file_system];
    if file_system == "vfat" {
        wanted.extend(["nls_cp437", "nls_iso8859_1"]);
    }
    wanted
}

/// Whether modules lie in `folder`.
pub(super) fn has_list(folder: &Path) -> bool {
    folder.join(LIST).is_file()
}

/// The folder with the modules of user-mode Linux `program`: beside it or where the package
/// has them. `None` when there are none: then all that it knows is built in.
pub(super) fn of_program(program: &Path) -> Option<PathBuf> {
    let told = Task::new(program)
        .arg("--version")
        .limit(VERSION_TIME)
        .output()
        .ok()?;
    let version = std::str::from_utf8(&told).ok()?.trim();
    if version.is_empty() || version.starts_with('.') || version.contains('/') {
        return None;
    }
    let beside = program.parent()?.join("../lib/uml/modules");
    [beside, PACKAGED.into()]
        .map(|modules| modules.join(version))
        .into_iter()
        .find(|folder| has_list(folder))
}

/// The modules `wanted` of `folder` with what they need, in the order of loading. What is
/// not there is built in, or not needed.
///
/// # Errors
/// When they cannot be read.
pub(super) fn load(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let text = read(&folder.join(LIST), LONGEST_LIST)?;
    let text = String::from_utf8_lossy(&text);
    in_order(&text, wanted)
        .into_iter()
        .map(|path| {
            let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
            let content = read(&folder.join(&path), LARGEST_MODULE)?;
            Ok(Module { name, content })
        })
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

    /// A program that tells `version` and nothing else.
    fn program(folder: &Path, version: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("bin/linux");
        std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("executable");
        path
    }

    #[test]
    fn modules_of_a_program_follow_its_version() {
        let folder = tempfile::tempdir().expect("folder");
        let modules = folder.path().join("lib/uml/modules/6.1.99-ours");
        for new in [&modules.join("kernel"), &folder.path().join("bin")] {
            std::fs::create_dir_all(new).expect("created");
        }
        let list = "kernel/vfat.ko: kernel/fat.ko\nkernel/fat.ko:\nkernel/nls_iso8859-1.ko:\n";
        std::fs::write(modules.join(LIST), list).expect("written");
        for name in ["vfat", "fat", "nls_iso8859-1"] {
            let path = modules.join(format!("kernel/{name}.ko"));
            std::fs::write(path, name).expect("written");
        }
        let found = of_program(&program(folder.path(), "6.1.99-ours")).expect("beside it");
        let loaded = load(&found, &of_file_system("vfat")).expect("read");
        let names: Vec<&str> = loaded.iter().map(|module| &module.name[..]).collect();
        assert_eq!(names, ["fat.ko", "vfat.ko", "nls_iso8859-1.ko"]);
        assert_eq!(loaded[1].content, b"vfat");
        let none = load(&found, &of_file_system("xfs")).expect("read");
        assert!(none.is_empty(), "it is built in");
        for other in ["6.1.98", "", "..", "../modules/6.1.99-ours", "a\nb"] {
            assert_eq!(of_program(&program(folder.path(), other)), None, "{other}");
        }
        assert_eq!(of_program(Path::new("/no/such/program")), None);
        std::fs::remove_file(modules.join("kernel/fat.ko")).expect("removed");
        let error = load(&found, &["vfat"]).expect_err("it is missing");
        assert!(error.to_string().contains("fat.ko"), "{error}");
    }
}
