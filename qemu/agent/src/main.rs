//! The first and only program of a guest kernel: applies a list of operations to a
//! file system of one disk, writes what came of it to another, and powers off.
//!
//! See the library of this crate for what the disks hold. Whatever goes wrong is in
//! the answer; without an answer the kernel died.

mod apply;
mod disk;
mod disks;
mod grow;

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nodekiln_agent::{Header, Outcome, Stage};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use apply::Tree;
use disk::Payload;
use disks::{ANSWER, Disks, PAYLOAD};

/// Where the file system is mounted.
const ROOT: &str = "/image";
/// How the kernel is to work; a kernel that does not know one does without.
const SETTINGS: [(&str, &str); 2] = [
    // What is written when follows from the changes, not from the time that they take:
    // where it lands follows from that.
    ("/proc/sys/vm/dirty_writeback_centisecs", "720000"),
    ("/proc/sys/fs/xfs/xfssyncd_centisecs", "720000"),
];
/// Where the kernel is told to forget contents of files.
const DROP: &str = "/proc/sys/vm/drop_caches";
/// Earliest present, in seconds since 1970: Linux takes none before its own start.
const EARLIEST: i64 = 86_400;
/// Where modules of the kernel lie.
const MODULES: &str = "/modules";
/// `MODULE_INIT_COMPRESSED_FILE` (Linux, `include/uapi/linux/module.h`).
const COMPRESSED: i32 = 4;
/// How the file system is mounted.
const FLAGS: MountFlags = MountFlags::NOATIME
    .union(MountFlags::NODEV)
    .union(MountFlags::NOSUID)
    .union(MountFlags::NOEXEC);
/// FAT as Linux mounts it with long names.
const FAT: &str = "vfat";
/// btrfs, by Linux's name.
const BTRFS: &str = "btrfs";
/// Names are UTF-8, and short ones lower case where they are marked so; times are UTC.
/// What a kernel takes by itself differs from one to the next.
const FAT_OPTIONS: &CStr = c"utf8=1,shortname=mixed,tz=UTC,codepage=437,iocharset=iso8859-1";
/// Changes after which they are written: fewer than fill the log's buffers in memory.
const WRITTEN_AFTER: u64 = 64;
/// Changes after which the log is emptied: fewer than fill the smallest log.
const SETTLED_AFTER: u64 = 512;

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
    let ready = surroundings();
    let disks = Disks::find();
    let ended = ready.and_then(|()| work(&disks, &mut identity));
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
    answer(&disks, &outcome).ok();
    rustix::system::reboot(RebootCommand::PowerOff).ok();
}

/// The file systems that a program expects of a kernel.
fn surroundings() -> Result<(), Failure> {
    for (kind, path) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, path, kind, MountFlags::empty(), None)
            .map_err(|error| Failure::new(Stage::Mount, format!("mount {path}"), &error))?;
    }
    for (path, value) in SETTINGS {
        std::fs::write(path, value).ok();
    }
    modules().map_err(|error| Failure::new(Stage::Mount, "load the kernel's modules", &error))
}

/// Loads what the kernel of a distribution keeps in files of their own, in the order of
/// their names.
fn modules() -> io::Result<()> {
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(MODULES) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?,
        Err(_) => return Ok(()),
    };
    paths.sort();
    for path in paths {
        let is_plain = path.extension().is_some_and(|extension| extension == "ko");
        let flags = if is_plain { 0 } else { COMPRESSED };
        // One that this machine has no use for is refused; what is missed in the end shows
        // when a disk is looked for, or the file system mounted.
        rustix::system::finit_module(File::open(path)?, c"", flags).ok();
    }
    Ok(())
}

fn mount(
    source: &str,
    path: &str,
    kind: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    rustix::mount::mount(source, path, kind, flags, options).map_err(io::Error::from)
}

/// Gives the number of operations.
fn work(disks: &Disks, identity: &mut [u8; 32]) -> Result<u64, Failure> {
    let payload = Payload::open(&disks.device(PAYLOAD))
        .map_err(|error| Failure::new(Stage::Mount, "open the payload", &error))?;
    let header = payload
        .header()
        .map_err(|error| Failure::new(Stage::Mount, "read the payload", &error))?;
    *identity = header.identity;
    // From here on every time that no operation names is this one, or little more.
    let clock = Timespec {
        tv_sec: header.clock.max(EARLIEST),
        tv_nsec: 0,
    };
    rustix::time::clock_settime(ClockId::Realtime, clock)
        .map_err(|errno| Failure::new(Stage::Mount, "set the clock", &errno.into()))?;
    let device = disks
        .partition(header.start, header.size)
        .map_err(|error| Failure::new(Stage::Mount, "find the partition", &error))?;
    let kind = &header.file_system[..];
    let options = (kind == FAT).then_some(FAT_OPTIONS);
    mount(&device.to_string_lossy(), ROOT, kind, FLAGS, options).map_err(|error| {
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
        let grown = if header.file_system == BTRFS {
            grow::btrfs(&root)
        } else {
            grow::xfs(&root, blocks, percent)
        };
        grown.map_err(|errno| Failure::new(Stage::Grow, "grow the file system", &errno.into()))?;
    }
    operations(header, payload, root)
}

fn operations(header: &Header, payload: Payload, root: OwnedFd) -> Result<u64, Failure> {
    let mut list = payload
        .list(header)
        .map_err(|error| Failure::new(Stage::Operation, "read the list", &error))?;
    let mut tree = Tree::new(root, payload, header.file_system == FAT)
        .map_err(|error| Failure::new(Stage::Mount, "read the payload", &error))?;
    for number in 0..header.operations {
        let operation = nodekiln_agent::Operation::read(&mut list).map_err(|error| Failure {
            done: number,
            ..Failure::new(Stage::Operation, "read the list", &error)
        })?;
        tree.apply(&operation)
            .and_then(|()| settle(number + 1, &mut tree))
            .map_err(|error| Failure {
                done: number,
                ..Failure::new(Stage::Operation, operation.doing(), &error)
            })?;
    }
    tree.leave()
        .map_err(|error| Failure::new(Stage::Finish, "put the time of a folder back", &error))?;
    Ok(header.operations)
}

/// Writes what waits, after so many changes and not when the kernel comes to it: the same
/// changes then end in the same places.
fn settle(done: u64, tree: &mut Tree) -> io::Result<()> {
    if done.is_multiple_of(WRITTEN_AFTER) {
        tree.write_back()?;
    }
    if done.is_multiple_of(SETTLED_AFTER) {
        tree.leave()?;
        for access in [MountFlags::RDONLY, MountFlags::empty()] {
            rustix::mount::mount_remount(ROOT, FLAGS | access, c"")?;
        }
        // What is written need not stay in memory; the host gives each page of it. A kernel
        // that does not know this takes more of them, and the result is the same.
        std::fs::write(DROP, "1").ok();
    }
    Ok(())
}

fn finish() -> io::Result<()> {
    // What cannot be written shows here, and not when it is unmounted.
    let root = rustix::fs::open(ROOT, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::syncfs(&root)?;
    drop(root);
    rustix::mount::unmount(ROOT, UnmountFlags::empty())?;
    Ok(())
}

fn answer(disks: &Disks, outcome: &Outcome) -> io::Result<()> {
    let mut disk = File::options().write(true).open(disks.device(ANSWER))?;
    disk.write_all(&outcome.encode())?;
    disk.sync_all()
}
