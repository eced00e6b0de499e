//! The guest kernel: user-mode Linux, an ordinary process that needs no rights, or, where
//! that cannot run, a kernel in a machine that QEMU emulates, of the same processor as this
//! one.
//!
//! It is given three files as disks and ends by itself. What it prints only explains
//! an end without an answer.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nodekiln_agent::{BLOCK, Outcome};

use super::machine::Machine;
use super::{cpio, modules, program};
use crate::environment;
use crate::error::{Class, Context as _, Error, Result};
use crate::os::elf_architecture;
use crate::profile::model::Architecture;
use crate::progress::{Progress, Silent};
use crate::task::{Finished, Task};

/// The program of Debian's and Ubuntu's package `user-mode-linux`.
const PROGRAM: &str = "linux.uml";
/// Where `scripts/build-guest-kernel` lays its own, below the folder of caches.
const BUILT: &str = "guest-kernel/linux";
/// Memory of the guest, in MiB. It takes from the host what it touches: about 90.
const MEMORY: u64 = 512;
/// What a folder for the guest's memory has to have free, in bytes.
const MEMORY_ROOM: u64 = MEMORY << 20;
/// Longest time that it may take whatever it has to do: a hundred times a boot.
const LEAST_TIME: Duration = Duration::from_secs(120);
/// How long a try may take.
const TRY_TIME: Duration = Duration::from_secs(30);
/// Bytes of content that the slowest disk takes in a second.
const SLOWEST: u64 = 4 << 20;
/// Operations that the slowest processor does in a second.
const FEWEST: u64 = 100;
/// How much slower an emulated machine is.
const EMULATED: u32 = 5;
/// What to do where it does not run.
const LACKS: &str = "nodekiln doctor tells what it lacks; as root, --engine mount does without it";
/// Why it is a machine on other processors.
const OF_X86_64: &str = "user-mode Linux is for x86-64 alone";
/// Last bytes of the console that an error shows.
const SHOWN: usize = 600;

/// A kernel that can be started, and the agent for it.
#[derive(Debug, Clone)]
pub struct Kernel {
    guest: Guest,
    agent: Vec<u8>,
    limit: Option<Duration>,
    instead: Option<String>,
}

/// What runs.
#[derive(Debug, Clone)]
enum Guest {
    /// User-mode Linux.
    Process(PathBuf),
    /// A machine that QEMU emulates.
    Machine(Machine),
}

/// What a kernel is started with.
#[derive(Debug)]
pub(super) struct Disks<'a> {
    /// The image.
    pub image: &'a Path,
    /// What the agent reads: a name in the folder of the run.
    pub payload: &'a str,
    /// What the guest has to mount, by Linux's name.
    pub file_system: &'a str,
    /// Bytes of contents, and number of operations: what the time limit follows.
    pub work: (u64, u64),
    /// The present in the guest: seconds since 1970.
    pub clock: i64,
}

impl Kernel {
    /// The kernel with the agent that came along. A machine, when `NODEKILN_VM_KERNEL`
    /// names its kernel. User-mode Linux: that of `NODEKILN_UML_KERNEL` alone when that is
    /// set, else the one that `scripts/build-guest-kernel` made, else the one that is
    /// installed. A machine again, when that is missing or does not run and `/boot` has a
    /// kernel. On arm64 a machine: user-mode Linux is for x86-64 alone.
    ///
    /// # Errors
    /// [`Class::Unsupported`] on another processor than x86-64 and 64-bit Arm;
    /// [`Class::Environment`] when one of them is missing.
    pub fn find() -> Result<Self> {
        let Some(architecture) = program::ARCHITECTURE else {
            return Err(Error::unsupported(
                "edit file systems by a guest kernel: the agent is built for x86-64 and 64-bit Arm alone",
            )
            .hint("build on one of them, or as root with --engine mount"));
        };
        Self::find_on(architecture, program::find(architecture)?)
    }

    /// What [`Kernel::find`] gives on a host of `architecture`.
    fn find_on(architecture: Architecture, agent: Vec<u8>) -> Result<Self> {
        match architecture {
            Architecture::X86_64 => Self::find_on_x86_64(agent),
            Architecture::Arm64 => {
                let machine = Machine::find(architecture)?;
                Ok(Self::emulated(machine, agent, OF_X86_64.to_owned()))
            }
        }
    }

    fn find_on_x86_64(agent: Vec<u8>) -> Result<Self> {
        // Who names one means that one.
        if std::env::var_os(environment::NODEKILN_UML_KERNEL).is_some()
            && std::env::var_os(environment::NODEKILN_VM_KERNEL).is_none()
        {
            return Ok(Self::new(find_program()?, agent));
        }
        let machine = Machine::find(Architecture::X86_64);
        if std::env::var_os(environment::NODEKILN_VM_KERNEL).is_some() {
            let why = format!("{} names its kernel", environment::NODEKILN_VM_KERNEL);
            return Ok(Self::emulated(machine?, agent, why));
        }
        let (process, machine) = match (find_program(), machine) {
            (Ok(program), Ok(machine)) => (Self::new(program, agent.clone()), machine),
            (Ok(program), Err(_)) => return Ok(Self::new(program, agent)),
            (Err(missing), Ok(machine)) => {
                return Ok(Self::emulated(machine, agent, missing.to_string()));
            }
            (Err(missing), Err(other)) => {
                let hint = missing.hint_text().unwrap_or_default().to_owned();
                return Err(missing.hint(format!("{hint}; a machine would do too ({other})")));
            }
        };
        // A second or less: only where there is something else to take.
        Ok(match process.try_out() {
            Ok(()) => process,
            Err(error) => {
                let why = format!("user-mode Linux does not run here: {error}");
                Self::emulated(machine, agent, why)
            }
        })
    }

    /// `program` as the kernel, `agent` as its first program.
    pub fn new(program: PathBuf, agent: Vec<u8>) -> Self {
        Self {
            guest: Guest::Process(program),
            agent,
            limit: None,
            instead: None,
        }
    }

    fn emulated(machine: Machine, agent: Vec<u8>, why: String) -> Self {
        Self {
            guest: Guest::Machine(machine),
            agent,
            limit: None,
            instead: Some(why),
        }
    }

    /// A machine with the kernel `kernel` of a distribution, `agent` as its first program:
    /// one of the processors that the agent is for.
    ///
    /// # Errors
    /// [`Class::Environment`] when the emulator or the kernel's modules are missing, or the
    /// kernel is for another architecture; [`Class::Input`] when the agent is no program.
    pub fn of_machine(kernel: PathBuf, agent: Vec<u8>) -> Result<Self> {
        let architecture = elf_architecture(&agent).ok_or_else(|| {
            Error::input(
                "edit file systems in a machine: the agent is no ELF program for x86_64 or arm64",
            )
            .hint("name one that scripts/build-agent makes")
        })?;
        let machine = Machine::of(kernel, architecture)?;
        Ok(Self::emulated(machine, agent, "asked for".to_owned()))
    }

    /// Ends it after `limit`, whatever it has to do.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What runs, for people.
    pub fn name(&self) -> String {
        match &self.guest {
            Guest::Process(program) => program.display().to_string(),
            Guest::Machine(machine) => machine.name(),
        }
    }

    /// Why it is a machine, if it is one.
    pub fn instead(&self) -> Option<&str> {
        self.instead.as_deref()
    }

    /// Starts it with nothing to do: whether it runs here, and the agent in it.
    ///
    /// # Errors
    /// [`Class::Environment`] with what the kernel said when it does not.
    pub fn try_out(&self) -> Result<()> {
        let folder = tempfile::Builder::new()
            .prefix("nodekiln-agent-")
            .tempdir()
            .doing(|| "create a temporary folder".to_owned())?;
        let empty = folder.path().join("empty");
        std::fs::write(&empty, [0; BLOCK]).doing(|| "write an empty disk".to_owned())?;
        let disks = Disks {
            image: &empty,
            payload: "empty",
            file_system: "xfs",
            work: (0, 0),
            clock: 0,
        };
        // It answers that this is no payload: it ran.
        self.clone()
            .limit(TRY_TIME)
            .run(&disks, folder.path(), &Silent)
            .map(drop)
    }

    /// Runs the agent to its end. `folder` takes files of this call.
    ///
    /// # Errors
    /// [`Class::Environment`] when the kernel cannot be started, does not end, or dies
    /// before it has answered; [`Class::Interrupted`] when the user asked to stop.
    pub(super) fn run(
        &self,
        disks: &Disks<'_>,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        let doing = || "prepare the guest kernel".to_owned();
        let modules = match &self.guest {
            // Distributions build XFS and ext4 in.
            Guest::Process(program) if disks.file_system == "vfat" => {
                match modules::of_program(program) {
                    Some(folder) => modules::load(&folder, &modules::of_file_system("vfat"))?,
                    None => Vec::new(),
                }
            }
            Guest::Process(_) => Vec::new(),
            Guest::Machine(machine) => {
                machine.prepare(folder)?;
                machine.modules(disks.file_system)?
            }
        };
        let files = cpio::initramfs(&self.agent, &modules);
        std::fs::write(folder.join("initramfs"), files).doing(doing)?;
        let answer = folder.join("answer");
        let disk = File::create(&answer).doing(doing)?;
        disk.set_len(BLOCK as u64).doing(doing)?;
        drop(disk);
        // In the name of a disk the kernel takes `,` and `:` for the beginning of another:
        // names of users stay out of it.
        let file = File::options()
            .read(true)
            .write(true)
            .open(disks.image)
            .doing(|| format!("open {}", disks.image.display()))?;
        let image = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let (bytes, operations) = disks.work;
        let mut limit = LEAST_TIME + Duration::from_secs(bytes / SLOWEST + operations / FEWEST);
        if matches!(self.guest, Guest::Machine(_)) {
            limit *= EMULATED;
        }
        let limit = self.limit.unwrap_or(limit);
        let task = self
            .task(&image, disks, folder)?
            .env("HOME", folder)
            .in_folder(folder)
            .bound()
            .limit(limit);
        let finished = task.run_stoppable(progress).map_err(|error| {
            if error.class() == Class::Interrupted {
                return error;
            }
            let doing = "run the guest kernel that edits the file system";
            error.context(doing).hint(LACKS)
        })?;
        drop(file);
        let block = std::fs::read(&answer).doing(|| "read the agent's answer".to_owned())?;
        Outcome::decode(&block).map_err(|malformed| self.died(&finished, malformed))
    }

    /// The program with its arguments. `image` is a name without commas and colons.
    fn task(&self, image: &str, disks: &Disks<'_>, folder: &Path) -> Result<Task> {
        let program = match &self.guest {
            Guest::Process(program) => program,
            Guest::Machine(machine) => {
                let arguments = machine.arguments(image, disks.payload, disks.clock);
                return Ok(Task::new(machine.program()).args(arguments));
            }
        };
        Ok(Task::new(program)
            .arg(format!("mem={MEMORY}M"))
            // `d`: an image that looks like a copy-on-write file of this kernel is none,
            // and names no other file. `r`: for reading.
            .arg(format!("ubd0d={image}"))
            .arg(format!("ubd1dr={}", disks.payload))
            .args(["ubd2d=answer", "initrd=initramfs", "uml_dir=."])
            .args(["con=null", "con0=null,fd:1", "quiet", "noreboot"])
            // Our own build (`qemu/kernel`) takes it for the time of all that is written;
            // others leave it alone.
            .arg(format!("still_clock={}", disks.clock))
            // They measure how fast this machine computes checksums of RAID.
            .arg("initcall_blacklist=raid6_select_algo,calibrate_xor_blocks")
            .env("TMPDIR", memory_folder(folder)?))
    }

    /// The error of a kernel that ended without an answer.
    fn died(&self, finished: &Finished, malformed: nodekiln_agent::Malformed) -> Error {
        let ended = finished.code.map_or("by a signal".to_owned(), |code| {
            format!("with exit code {code}")
        });
        let mut said = String::from_utf8_lossy(&finished.stdout).into_owned();
        said.push_str(&finished.stderr);
        let said: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let said = said.join("; ");
        let from = said.ceil_char_boundary(said.len().saturating_sub(SHOWN));
        Error::new(
            Class::Environment,
            format!("edit the file system: the guest kernel ended {ended} before it was done ({malformed})"),
        )
        .caused_by(if said.is_empty() {
            "it said nothing".to_owned()
        } else {
            format!("it said: {}", &said[from..])
        })
        .hint(match self.guest {
            Guest::Process(_) => "nodekiln doctor tells whether it can run here: it needs ptrace, and a folder for temporary files from which programs can be started",
            Guest::Machine(_) => "nodekiln doctor tells whether it can run here; NODEKILN_VM_KERNEL names another kernel",
        })
    }
}

fn find_program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(environment::NODEKILN_UML_KERNEL) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Error::environment(format!(
                "edit file systems without root: {}, the guest kernel that {} names, is no file",
                named.display(),
                environment::NODEKILN_UML_KERNEL
            ))
            .hint("unset it, or make one with: scripts/build-guest-kernel"))
        };
    }
    let built = environment::cache_folder().map(|folder| folder.join(BUILT));
    built
        .filter(|path| path.is_file())
        .or_else(|| installed(PROGRAM))
        .ok_or_else(|| {
            Error::environment(format!(
                "edit file systems by a guest kernel: {PROGRAM} is not installed"
            ))
            .hint("install the package user-mode-linux (Debian, Ubuntu), or build as root with --engine mount")
        })
}

/// Where a program lies that [`Task`] would find.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The folder for the guest's memory: it maps a file there as program code. In a container
/// `/dev/shm` often is too small, and too little shows as a fault in the middle.
fn memory_folder(work: &Path) -> Result<PathBuf> {
    let named = std::env::var_os(environment::TMPDIR)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let candidates = [
        Some(PathBuf::from("/dev/shm")),
        named,
        Some(PathBuf::from("/tmp")),
        Some(work.to_owned()),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|folder| is_fit(folder))
        .ok_or_else(|| {
            Error::environment(format!(
                "find a folder for the memory of the guest kernel: none of /dev/shm, TMPDIR, /tmp and {} has {MEMORY} MiB free and lets programs run",
                work.display()
            ))
            .hint("name one with TMPDIR")
        })
}

/// Whether the guest's memory can lie in `folder`.
pub fn is_fit(folder: &Path) -> bool {
    let Ok(found) = rustix::fs::statvfs(folder) else {
        return false;
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let refused = rustix::fs::StatVfsMountFlags::NOEXEC | rustix::fs::StatVfsMountFlags::RDONLY;
    let is_writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    free >= MEMORY_ROOM && !found.f_flag.intersects(refused) && is_writable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_arm64_a_machine_is_the_one_way() {
        // What it finds follows from what is there; user-mode Linux may be.
        match Kernel::find_on(Architecture::Arm64, Vec::new()) {
            Ok(kernel) => {
                assert!(matches!(kernel.guest, Guest::Machine(_)));
                assert_eq!(kernel.instead(), Some(OF_X86_64));
            }
            Err(error) => {
                assert_eq!(error.class(), Class::Environment);
                let said = error.to_string();
                assert!(said.contains("in a machine: "), "{said}");
            }
        }
    }

    #[test]
    fn a_machine_is_that_of_the_agent() {
        let refused = Kernel::of_machine("/no/such/kernel".into(), b"#!/bin/sh".to_vec());
        let error = refused.expect_err("no program");
        assert_eq!(error.class(), Class::Input);
        assert!(error.to_string().contains("no ELF program"), "{error}");
    }
}
