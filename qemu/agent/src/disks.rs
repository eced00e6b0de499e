//! The disks of the machine, by what they are for.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The disks, in the order in which user-mode Linux has them, and by their serial numbers
/// in other machines.
const NAMES: [&str; 3] = [IMAGE, PAYLOAD, ANSWER];
/// What is edited.
const IMAGE: &str = "image";
/// What is to be done.
pub const PAYLOAD: &str = "payload";
/// What came of it.
pub const ANSWER: &str = "answer";
/// Where the kernel tells of disks.
const BLOCK: &str = "/sys/block";

/// See the module documentation.
#[derive(Debug)]
pub struct Disks {
    /// The kernel's name of each that was found.
    found: Vec<(&'static str, String)>,
}

impl Disks {
    /// Finds them, and has the kernel send no flush to them: nothing has to be on a device
    /// of the host before all is done, and then the host sees to it.
    pub fn find() -> Self {
        let by_order = NAMES.iter().zip(["ubda", "ubdb", "ubdc"]);
        let mut found: Vec<(&str, String)> = by_order
            .map(|(name, disk)| (*name, disk.to_owned()))
            .filter(|(_, disk)| Path::new(BLOCK).join(disk).exists())
            .collect();
        let others = std::fs::read_dir(BLOCK).into_iter().flatten().flatten();
        found.extend(others.filter_map(|entry| {
            let serial = std::fs::read_to_string(entry.path().join("serial")).ok()?;
            let name = NAMES.into_iter().find(|name| *name == serial.trim())?;
            Some((name, entry.file_name().into_string().ok()?))
        }));
        for (_, disk) in &found {
            let setting = Path::new(BLOCK).join(disk).join("queue/write_cache");
            std::fs::write(setting, "write through").ok();
        }
        Self { found }
    }

    fn disk<'a>(&'a self, wanted: &'a str) -> &'a str {
        let found = self.found.iter().find(|(name, _)| *name == wanted);
        // There is no such device: opening it tells so.
        found.map_or(wanted, |(_, disk)| disk)
    }

    /// The device of a disk.
    pub fn device(&self, wanted: &str) -> PathBuf {
        Path::new("/dev").join(self.disk(wanted))
    }

    /// The device whose bytes are `size` of the image, from `start` on.
    pub fn partition(&self, start: u64, size: u64) -> io::Result<PathBuf> {
        let disk = Path::new(BLOCK).join(self.disk(IMAGE));
        let read = |path: &Path, name: &str| -> io::Result<u64> {
            let text = std::fs::read_to_string(path.join(name))?;
            text.trim()
                .parse()
                .map_err(|_| io::ErrorKind::InvalidData.into())
        };
        // The kernel counts in sectors of 512 bytes, whatever those of the disk are.
        let wanted = (start / 512, size / 512);
        if (0, read(&disk, "size")?) == wanted {
            return Ok(self.device(IMAGE));
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
}
