//! The edge to the machine: files, block devices, the kernel command line.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ReadAt;
use super::device::Device;

/// A block device with something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Name without `/dev/`, such as `sr0` or `vdb1`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether it is a partition of another one.
    pub is_partition: bool,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether nobody but root, or the user we run as, may have written it.
    pub is_trusted: bool,
}

/// What the search asks of a machine.
pub trait Machine {
    /// All block devices with a size, sorted by name.
    ///
    /// # Errors
    /// When the kernel does not list them.
    fn block_devices(&self) -> io::Result<Vec<BlockDevice>>;

    /// Opens a block device for reading, which has `limit` for that and for all that
    /// is read of it.
    ///
    /// # Errors
    /// When it cannot be opened; no medium counts as that.
    fn open_device(&self, name: &str, limit: Duration) -> io::Result<Box<dyn ReadAt>>;

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read; [`io::ErrorKind::FileTooLarge`] when it is larger.
    fn read_file(&self, path: &Path, limit: u64) -> io::Result<FileContent>;

    /// The names in a folder, sorted by their bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>>;

    /// The kernel command line.
    ///
    /// # Errors
    /// When it cannot be read.
    fn kernel_command_line(&self) -> io::Result<String>;
}

/// Most names that are read of a folder.
const MAXIMUM_NAMES: usize = 4096;

/// This machine, or a folder that looks like one.
#[derive(Debug, Clone)]
pub struct LinuxMachine {
    root: PathBuf,
}

impl Default for LinuxMachine {
    fn default() -> Self {
        Self::new("/")
    }
}

impl LinuxMachine {
    /// A machine whose `/sys`, `/dev`, `/proc` and files lie below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Machine for LinuxMachine {
    fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        const SECTOR: u64 = 512;
        let mut devices = Vec::new();
        for name in names(&self.path("/sys/class/block"))? {
            let folder = self.path("/sys/class/block").join(&name);
            // A device may go while the list is read.
            let Ok(size) = std::fs::read_to_string(folder.join("size")) else {
                continue;
            };
            let size = size
                .trim()
                .parse::<u64>()
                .unwrap_or(0)
                .saturating_mul(SECTOR);
            // A floppy drive claims a size even when empty, and takes seconds to say so.
            if size > 0 && !name.starts_with("fd") {
                let is_partition = folder.join("partition").exists();
                devices.push(BlockDevice {
                    name,
                    size,
                    is_partition,
                });
            }
        }
        Ok(devices)
    }

    fn open_device(&self, name: &str, limit: Duration) -> io::Result<Box<dyn ReadAt>> {
        // In sysfs a slash of a device's name is written as an exclamation mark.
        let path = self.path("/dev").join(name.replace('!', "/"));
        Ok(Box::new(Device::open(path, limit)?))
    }

    fn read_file(&self, path: &Path, limit: u64) -> io::Result<FileContent> {
        let path = self.path(&path.to_string_lossy());
        let file = open_file(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ));
        }
        if metadata.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        (&file).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(FileContent {
            bytes,
            is_trusted: is_trusted(&metadata),
        })
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        names(&self.path(&path.to_string_lossy()))
    }

    fn kernel_command_line(&self) -> io::Result<String> {
        const LONGEST: u64 = 64 << 10;
        let mut text = Vec::new();
        File::open(self.path("/proc/cmdline"))?
            .take(LONGEST)
            .read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Opens without waiting for a writer, should the path be a pipe.
#[cfg(unix)]
fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    File::options()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
}

#[cfg(not(unix))]
fn open_file(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn is_trusted(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let owner = metadata.uid();
    let ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    ours && metadata.mode() & WRITABLE_BY_OTHERS == 0
}

#[cfg(not(unix))]
fn is_trusted(_: &std::fs::Metadata) -> bool {
    true
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAXIMUM_NAMES) {
        // A name that is no UTF-8 is none that we look for.
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
