//! A Debian base image from packages: without root, mounts or loop devices.
//!
//! mmdebstrap resolves and unpacks the packages into a tar, as root of a user
//! namespace where it is not root. Everything after that is done here: the disk
//! in Ubuntu's layout, the root file system filled in process, the boot loader as
//! plain files.
//!
//! The same packages give the same image: times are clamped to one epoch, and
//! identifiers derived from the tree.

mod apt;
mod esp;
mod files;
mod identity;
mod image;
mod packages;
mod root;

pub(crate) use image::is_size;

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::disk::Slice;
use crate::disk::raw::RawFile;
use crate::environment;
use crate::error::{Class, Context as _, Error, Result};
use crate::lock::{Bootstrapped, Stored};
use crate::output::qcow2;
use crate::profile::model::{Architecture, Bootstrap};
use crate::progress::{Progress, Step};
use crate::store::{Digest, Store};
use crate::task::Task;
use crate::volume::{self, Access, Timestamp, Volume};

/// Time for mmdebstrap: on a slow line, 250 MB take this long.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Bytes that the work needs beside the store: the tree and its tar.
const WORK_SPACE: u64 = 3 << 30;
/// How the folders for the work begin.
const WORK_PREFIX: &str = "nodekiln-bootstrap-";
const WORK_LOCK: &str = "lock";

/// The epoch of a base when the user names none: the release day of Debian 12,
/// 2023-06-10. Whatever is younger takes this time. A clock would make every
/// image another one.
pub const DEFAULT_EPOCH: i64 = 1_686_355_200;

/// What cannot be read off the profile.
#[derive(Debug, Clone)]
pub struct Options {
    /// Latest time stamp of everything, in seconds since 1970.
    pub epoch: i64,
    /// Size of the disk in bytes.
    pub size: u64,
}

/// Makes the base image that `wish` describes and puts it into the store, as
/// qcow2.
///
/// # Errors
/// [`crate::Class::Environment`] when a tool, the space or the package archive is
/// missing; [`crate::Class::Input`] for a package that does not exist, a size
/// that is too small; [`crate::Class::Unsupported`] for an architecture whose programs do
/// not run here.
pub fn bootstrap(
    store: &Store,
    wish: &Bootstrap,
    architecture: Architecture,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Bootstrapped> {
    let platform = packages::platform(architecture);
    if platform.debian != machine() {
        runs(platform.debian)?;
    }
    let names = packages::wanted(platform, &wish.packages)?;
    let work = WorkFolder::create()?;
    progress.begin(Step::Bootstrap, &format!("Debian {}", wish.suite), None);
    let made =
        make_tree(wish, platform, &names, options.epoch, work.path(), progress).and_then(|tar| {
            progress.check()?;
            make_image(store, &tar, platform, options, work.path(), progress)
        });
    progress.end(Step::Bootstrap);
    made.map_err(|error| error.context(format!("bootstrap Debian {}", wish.suite)))
}

/// Wants programs of another architecture to run here, as packages do that set themselves
/// up: by QEMU's emulator of single programs, which the kernel knows. mmdebstrap asks the
/// same.
fn runs(architecture: &str) -> Result<()> {
    let asked = Task::new("arch-test").arg(architecture).run()?;
    if asked.code == Some(0) {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "bootstrap for {architecture}: this machine is {}, and runs no programs for {architecture}",
        machine()
    ))
    .hint(
        "name an image of that architecture with base.url, or install qemu-user-static, whose \
         handler the kernel must know (binfmt_misc)",
    ))
}

/// Debian's name of the machine's architecture.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A folder for the tree, where temporary files go on this machine. Its lock
/// tells later runs whether it still has an owner.
#[derive(Debug)]
struct WorkFolder {
    folder: tempfile::TempDir,
    _lock: File,
}

impl WorkFolder {
    fn create() -> Result<Self> {
        let parent = std::env::temp_dir();
        let doing = || format!("make a folder in {}", parent.display());
        sweep(&parent);
        let free = rustix::fs::statvfs(&parent)
            .map(|found| found.f_bavail.saturating_mul(found.f_frsize))
            .map_err(std::io::Error::from)
            .doing(doing)?;
        if free < WORK_SPACE {
            return Err(Error::environment(format!(
                "{}: {} MiB are free, {} MiB are needed",
                doing(),
                free >> 20,
                WORK_SPACE >> 20
            ))
            .hint("free some space, or choose another folder with TMPDIR"));
        }
        let folder = tempfile::Builder::new()
            .prefix(WORK_PREFIX)
            .tempdir_in(&parent)
            .doing(doing)?;
        let lock = File::create_new(folder.path().join(WORK_LOCK)).doing(doing)?;
        lock.lock().doing(doing)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of runs that were killed. What cannot be removed belongs
/// to somebody else, or does no harm.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // A folder without the lock may just have been made by another run.
        let dead = name.to_string_lossy().starts_with(WORK_PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && File::open(entry.path().join(WORK_LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Lets mmdebstrap make the tree; gives the path of its tar.
fn make_tree(
    wish: &Bootstrap,
    platform: packages::Platform,
    names: &[String],
    epoch: i64,
    work: &Path,
    progress: &dyn Progress,
) -> Result<std::path::PathBuf> {
    let suite = &wish.suite;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !suite.starts_with(|c: char| c.is_ascii_lowercase()) || !suite.chars().all(plain) {
        return Err(
            Error::input(format!("'{suite}' is no name of a Debian release"))
                .hint("name it by its code name, such as bookworm"),
        );
    }
    let sources = work.join("machine.sources");
    std::fs::write(&sources, apt::sources_for(suite)?)
        .doing(|| format!("write {}", sources.display()))?;
    let tar = work.join("root.tar");
    let mut task = Task::new("mmdebstrap")
        .args([
            "--quiet",
            "--variant=minbase",
            "--mode=auto",
            "--format=tar",
        ])
        .arg(format!("--architectures={}", platform.debian))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::Retries \"3\"")
        // A tree that is thrown away need not reach the device.
        .arg("--dpkgopt=force-unsafe-io")
        .arg("--skip=output/dev")
        .arg(format!("--include={}", names.join(",")));
    for (name, value) in environment::proxies() {
        task = task.env(name, value);
    }
    let proxies = apt::proxies()?;
    for option in proxies.options {
        task = task.arg(format!("--aptopt={option}"));
    }
    // The last word: to apt, its own configuration goes over the environment.
    for (name, value) in proxies.variables {
        task = task.env(name, value);
    }
    if let Some(home) = std::env::var_os("HOME") {
        task = task.env("HOME", home);
    }
    task.arg(suite)
        .arg(&tar)
        .arg(&sources)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        // The tree must be reachable by the users of the namespace, which the
        // private work folder is not.
        .env("TMPDIR", std::env::temp_dir())
        .limit(LIMIT)
        .output_stoppable(progress)
        .map_err(|error| {
            if error.class() == Class::Interrupted {
                return error;
            }
            error.hint(
                "without root, mmdebstrap needs user namespaces, newuidmap (package uidmap) and a range \
                 for the user in /etc/subuid and /etc/subgid; or the packages fakechroot and fakeroot. \
                 Unknown packages and an unreachable archive fail here, too",
            )
        })?;
    Ok(tar)
}

fn make_image(
    store: &Store,
    tar: &Path,
    platform: packages::Platform,
    options: &Options,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Bootstrapped> {
    let open_tar = || -> Result<BufReader<File>> {
        let file = File::open(tar).doing(|| format!("open {}", tar.display()))?;
        Ok(BufReader::with_capacity(1 << 20, file))
    };
    let (kept, tree) = root::scan(open_tar()?, platform, options.epoch)?;
    let seed = seed(platform.format, &tree, options);
    // The newest kernel boots; versions of one package series sort as text.
    let kernel = kept
        .kernels
        .last()
        .ok_or_else(|| Error::environment("find a kernel in the package tree"))?;
    let layout = image::Layout::new(options.size, seed)?;
    let path = work.join("base.raw");
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(options.size).map(|()| file))
        .doing(|| format!("create {}", path.display()))?;
    let disk = Arc::new(RawFile::writable(file).doing(|| format!("open {}", path.display()))?);
    layout.partition(&*disk)?;
    layout.make_file_systems(&path, options.epoch)?;
    let epoch = Timestamp {
        seconds: options.epoch,
        nanoseconds: 0,
    };
    let open = |range, what: &str| -> Result<Box<dyn Volume>> {
        let slice = Slice::new(disk.clone(), range).doing(|| format!("find the {what}"))?;
        volume::open(Arc::new(slice), Access::Write, epoch)
            .map_err(|error| error.context(format!("open the new {what}")))
    };
    let mut root = open(layout.root_range(), "root file system")?;
    let generated = files::root_files(
        &layout.root_uuid.to_string(),
        kernel,
        &distribution(&kept.release),
        platform.serial,
    )?;
    root::fill(&mut *root, open_tar()?, &generated, options.epoch, progress)?;
    root.finish()?;
    let mut esp = open(image::Layout::esp_range(), "EFI system partition")?;
    esp::fill(&mut *esp, layout.root_uuid, platform, &kept, epoch)?;
    esp.finish()?;
    progress.check()?;
    let packages = packages::installed(&kept.status, platform);
    let image = store_image(store, &disk, work, progress)?;
    Ok(Bootstrapped { image, packages })
}

/// What all identifiers are derived from.
fn seed(format: u32, tree: &Digest, options: &Options) -> Digest {
    let parameters = format!("{format} {tree} {} {}", options.size, options.epoch);
    Digest::from_bytes(Sha256::digest(parameters).into())
}

/// Writes the disk as qcow2 and takes that into the store.
fn store_image(
    store: &Store,
    disk: &RawFile,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Stored> {
    let path = work.join("base.qcow2");
    let file = File::create_new(&path).doing(|| format!("create {}", path.display()))?;
    qcow2::write(disk, &file, &qcow2::Options::default(), progress)?;
    let (sha256, size) = store.add_file(&path, None)?;
    Ok(Stored { sha256, size })
}

/// `PRETTY_NAME` of os-release(5), without what GRUB would take as syntax.
fn distribution(release: &str) -> String {
    release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Debian")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || " ./()-".contains(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_only_folders_without_an_owner() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let make = |name: &str| {
            let folder = parent.path().join(name);
            std::fs::create_dir(&folder).expect("own");
            File::create(folder.join(WORK_LOCK)).expect("own")
        };
        let alive = make("nodekiln-bootstrap-alive");
        alive.lock().expect("free");
        drop(make("nodekiln-bootstrap-dead"));
        drop(make("other"));
        sweep(parent.path());
        let exists = |name: &str| parent.path().join(name).exists();
        assert!(exists("nodekiln-bootstrap-alive") && exists("other"));
        assert!(!exists("nodekiln-bootstrap-dead"));
    }

    #[test]
    fn an_architecture_whose_programs_do_not_run_here_is_not_supported() {
        let error = runs("pdp11").expect_err("nothing emulates it");
        assert_eq!(error.class(), Class::Unsupported);
        let (said, hint) = (error.to_string(), error.hint_text().unwrap_or_default());
        assert!(said.contains("runs no programs for pdp11"), "{said}");
        assert!(hint.contains("binfmt_misc"), "{hint}");
    }

    #[test]
    fn names_the_distribution_without_quotes() {
        assert_eq!(
            distribution("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(distribution("PRETTY_NAME='a' { $x"), "a  x");
        assert_eq!(distribution(""), "Debian");
    }
}
