//! The first and only program of a guest kernel: applies a list of operations to a
//! file system of one disk, writes what came of it to another, and powers off.
//!
//! See the library of this crate for what the disks hold. Whatever goes wrong is in
//! the answer; without an answer the kernel died.

mod apply;
mod disk;
mod grow;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nodekiln_agent::{Header, Outcome, Stage};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use apply::Tree;
use disk::Payload;

/// The disks, in the order in which the machine has them.
const IMAGE: &str = "ubda";
const PAYLOAD: &str = "/dev/ubdb";
const ANSWER: &str = "/dev/ubdc";
/// Where the file system is mounted.
const ROOT: &str = "/image";

/// Why it ended early.
struct Failure {
    stage: Stage,
    errno: i32,
    done: u64,
    text: String,
}

impl Failure {
    fn new(stage: Stage, text: impl Into<String>, error: &io::Error) -> Self {
        Self {
            stage,
            errno: error.raw_os_error().unwrap_or(0),
            done: 0,
            text: match error.raw_os_error() {
                Some(_) => text.into(),
                None => format!("{}: {error}", text.into()),
            },
        }
    }
}

fn main() {
    let mut identity = [0; 32];
    let ended = surroundings().and_then(|()| work(&mut identity));
    let outcome = match ended {
        Ok(done) => Outcome {
            identity,
            stage: Stage::Done,
            errno: 0,
            done,
            text: String::new(),
        },
        Err(failure) => Outcome {
            identity,
            stage: failure.stage,
            errno: failure.errno,
            done: failure.done,
            text: failure.text,
        },
    };
    // Who reads it finds it missing, and looks at what the kernel said.
    answer(&outcome).ok();
    rustix::system::reboot(RebootCommand::PowerOff).ok();
}

/// The file systems that a program expects of a kernel.
fn surroundings() -> Result<(), Failure> {
    for (kind, path) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, path, kind, MountFlags::empty())
            .map_err(|error| Failure::new(Stage::Mount, format!("mount {path}"), &error))?;
    }
    Ok(())
}

fn mount(source: &str, path: &str, kind: &str, flags: MountFlags) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    rustix::mount::mount(source, path, kind, flags, None).map_err(io::Error::from)
}

/// Gives the number of operations.
fn work(identity: &mut [u8; 32]) -> Result<u64, Failure> {
    let payload = Payload::open(Path::new(PAYLOAD))
        .map_err(|error| Failure::new(Stage::Mount, "open the payload", &error))?;
    let header = payload
        .header()
        .map_err(|error| Failure::new(Stage::Mount, "read the payload", &error))?;
    *identity = header.identity;
    // From here on every time that no operation names is this one, or little more.
    let clock = Timespec {
        tv_sec: header.clock,
        tv_nsec: 0,
    };
    rustix::time::clock_settime(ClockId::Realtime, clock)
        .map_err(|errno| Failure::new(Stage::Mount, "set the clock", &errno.into()))?;
    let device = partition(&header)
        .map_err(|error| Failure::new(Stage::Mount, "find the partition", &error))?;
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(&device.to_string_lossy(), ROOT, &header.file_system, flags).map_err(|error| {
        Failure::new(
            Stage::Mount,
            format!("mount {}", header.file_system),
            &error,
        )
    })?;
    let changed = change(&header, payload);
    let finished = finish();
    let done = changed?;
    finished
        .map(|()| done)
        .map_err(|error| Failure::new(Stage::Finish, "unmount the file system", &error))
}

fn change(header: &Header, payload: Payload) -> Result<u64, Failure> {
    let root = rustix::fs::open(ROOT, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::new(Stage::Mount, "open the file system", &errno.into()))?;
    if let Some((blocks, percent)) = header.grow {
        grow::xfs(&root, blocks, percent)
            .map_err(|errno| Failure::new(Stage::Grow, "grow the file system", &errno.into()))?;
    }
    operations(header, payload, root)
}

fn operations(header: &Header, payload: Payload, root: OwnedFd) -> Result<u64, Failure> {
    let mut list = payload
        .list(header)
        .map_err(|error| Failure::new(Stage::Operation, "read the list", &error))?;
    let mut tree = Tree::new(root, payload);
    for number in 0..header.operations {
        let operation = nodekiln_agent::Operation::read(&mut list).map_err(|error| Failure {
            done: number,
            ..Failure::new(Stage::Operation, "read the list", &error)
        })?;
        tree.apply(&operation).map_err(|error| Failure {
            done: number,
            ..Failure::new(Stage::Operation, operation.doing(), &error)
        })?;
    }
    Ok(header.operations)
}

fn finish() -> io::Result<()> {
    // What cannot be written shows here, and not when it is unmounted.
    let root = rustix::fs::open(ROOT, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::syncfs(&root)?;
    drop(root);
    rustix::mount::unmount(ROOT, UnmountFlags::empty())?;
    Ok(())
}

/// The device whose bytes are those that the header names.
fn partition(header: &Header) -> io::Result<PathBuf> {
    let disk = Path::new("/sys/block").join(IMAGE);
    let read = |path: &Path, name: &str| -> io::Result<u64> {
        let text = std::fs::read_to_string(path.join(name))?;
        text.trim()
            .parse()
            .map_err(|_| io::ErrorKind::InvalidData.into())
    };
    // The kernel counts in sectors of 512 bytes, whatever those of the disk are.
    let wanted = (header.start / 512, header.size / 512);
    if (0, read(&disk, "size")?) == wanted {
        return Ok(Path::new("/dev").join(IMAGE));
    }
    for entry in std::fs::read_dir(&disk)? {
        let path = entry?.path();
        if path.join("partition").exists()
            && (read(&path, "start")?, read(&path, "size")?) == wanted
        {
            return Ok(Path::new("/dev").join(path.file_name().unwrap_or_default()));
        }
    }
    Err(Errno::NXIO.into())
}

fn answer(outcome: &Outcome) -> io::Result<()> {
    let mut disk = File::options().write(true).open(ANSWER)?;
    disk.write_all(&outcome.encode())?;
    disk.sync_all()
}
