//! Carries a layout out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::disk::{Content, Disk, probe};
use super::layout::{
    ARRAY, ARRAY_DEVICE, Array, FileSystem, Folder, Wish, array_file_system, layout,
};
use super::unit::MountUnit;
use super::{Error, Outcome};
use crate::system::{Level, System, Task, write_if_changed};

/// For programs that look or mount.
const SHORT: Duration = Duration::from_secs(90);

/// For programs that write much.
const LONG: Duration = Duration::from_secs(900);

/// Says, one a line, with which empty disks this program began; gone when it is
/// done. Without it nobody could tell a disk that is half made from a foreign one.
const UNDERTAKING: &str = "/var/lib/nodekiln/firstboot/local-disks";

/// Longest [`UNDERTAKING`] that is read, in bytes.
const UNDERTAKING_LIMIT: usize = 64 << 10;

pub(super) fn execute(
    system: &dyn System,
    wish: &Wish,
    paths: &[String],
) -> Result<Outcome, Error> {
    let mut work = Work {
        system,
        changed: false,
    };
    let mut disks = Vec::new();
    for path in paths {
        let content = probe(system, path)?;
        let path = path.clone();
        disks.push(Disk { path, content });
    }
    let note = paths.join("\n");
    let undertaken = system
        .read(UNDERTAKING, UNDERTAKING_LIMIT)?
        .is_some_and(|text| text == note.as_bytes());
    let layout = layout(wish, &disks, undertaken)?;
    let begins = layout.array.as_ref().is_some_and(|array| array.is_new)
        || layout.file_systems.iter().any(|it| it.uuid.is_none());
    if begins && !undertaken {
        system.write(UNDERTAKING, note.as_bytes(), 0o600)?;
    }
    let mut file_systems = layout.file_systems;
    if let Some(array) = &layout.array {
        let device = work.array(array, &disks)?;
        let content = probe(system, &device)?;
        let anew = undertaken || array.is_new;
        file_systems.push(array_file_system(wish, &device, &content, anew)?);
    }
    let mut units = Vec::new();
    for file_system in &file_systems {
        let uuid = work.file_system(file_system)?;
        units.push(MountUnit::of_file_system(file_system, &uuid));
    }
    work.mount(&units)?;
    if begins || undertaken {
        system.remove(UNDERTAKING)?;
    }
    let mut mounted: Vec<String> = units.into_iter().map(|unit| unit.mount_point).collect();
    mounted.extend(work.folders(wish)?);
    Ok(Outcome::Done {
        mounted,
        changed: work.changed,
    })
}

struct Work<'a> {
    system: &'a dyn System,
    changed: bool,
}

impl Work<'_> {
    /// Makes the array or puts it together; gives its device.
    fn array(&mut self, array: &Array, disks: &[Disk]) -> Result<String, Error> {
        if !array.is_new {
            if let Some(device) = self.running_array()? {
                return Ok(device);
            }
            let paths = array.disks.iter().map(String::as_str);
            let arguments: Vec<&str> = ["--assemble", ARRAY_DEVICE]
                .into_iter()
                .chain(paths)
                .collect();
            self.change("mdadm", &arguments, SHORT)?;
            return Ok(self.running_array()?.unwrap_or_else(|| ARRAY_DEVICE.into()));
        }
        // What is half made: only ever of disks that were empty when it was begun.
        if let Some(device) = self.running_array()? {
            self.change("mdadm", &["--stop", &device], SHORT)?;
        }
        for disk in disks.iter().filter(|disk| disk.content != Content::Nothing) {
            self.change("wipefs", &["--all", "--quiet", &disk.path], SHORT)?;
        }
        let level = format!("--level={}", array.level);
        let number = format!("--raid-devices={}", array.disks.len());
        let name = format!("--name={ARRAY}");
        // For any host: the array is found under the same name on every boot. With
        // `--run` nothing is asked, with `--force` one disk is enough for a RAID0.
        let mut arguments = vec![
            "--create",
            ARRAY_DEVICE,
            "--run",
            "--force",
            &level,
            &name,
            "--homehost=any",
            &number,
        ];
        arguments.extend(array.disks.iter().map(String::as_str));
        self.change("mdadm", &arguments, LONG)?;
        self.info(&format!(
            "made a RAID{} of {} disks",
            array.level,
            array.disks.len()
        ));
        Ok(self.running_array()?.unwrap_or_else(|| ARRAY_DEVICE.into()))
    }

    /// The device of our array, if it runs: `kubernetes`, and with a host's name
    /// before it or a number behind it where udev found another of that name.
    fn running_array(&self) -> Result<Option<String>, Error> {
        let is_ours = |name: &String| {
            let name = name
                .rsplit_once(':')
                .map_or(name.as_str(), |(_, name)| name);
            name.strip_prefix(ARRAY).is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('_')
                        .is_some_and(|rest| rest.parse::<u32>().is_ok())
            })
        };
        let names = self.system.names("/dev/md")?;
        let devices = names.into_iter().filter(is_ours);
        let mut devices = devices.map(|name| format!("/dev/md/{name}"));
        // One that could not be made may leave a link to nothing.
        Ok(devices.find(|device| self.system.resolve(device).is_some()))
    }

    /// Makes the file system unless it is there; gives its UUID.
    fn file_system(&mut self, wanted: &FileSystem) -> Result<String, Error> {
        if let Some(uuid) = &wanted.uuid {
            return Ok(uuid.clone());
        }
        // Blocks are not discarded, which takes long on some disks; and the stripe unit
        // of the log is one that fits every array.
        let arguments = [
            "-f",
            "-K",
            "-l",
            "su=8b",
            "-L",
            &wanted.label,
            &wanted.device,
        ];
        // Over what this program left half made, and nothing else: the disk was looked
        // at just now. An empty one needs no force.
        let is_empty = probe(self.system, &wanted.device)? == Content::Nothing;
        let arguments = if is_empty {
            &arguments[1..]
        } else {
            &arguments[..]
        };
        self.change("mkfs.xfs", arguments, LONG)?;
        match probe(self.system, &wanted.device)? {
            Content::Xfs { label, uuid } if label == wanted.label && !uuid.is_empty() => Ok(uuid),
            other => Err(Error::Refused {
                command: format!("mkfs.xfs on {}", wanted.device),
                said: format!("afterwards it holds {}", other.describe()),
            }),
        }
    }

    /// Writes units, and mounts what is not mounted.
    fn mount(&mut self, units: &[MountUnit]) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut written = false;
        for unit in units {
            let content = unit.content.as_bytes();
            let is_new = write_if_changed(self.system, &unit.path(), content, 0o644)?;
            written |= is_new;
            if is_new || !self.is_active(&unit.name)? {
                missing.push(unit.name.as_str());
            }
        }
        if written {
            self.change("systemctl", &["daemon-reload"], SHORT)?;
        }
        for name in missing {
            self.change("systemctl", &["enable", "--now", name], SHORT)?;
        }
        Ok(())
    }

    /// Moves the state of the node to the disk; gives where it is mounted then.
    fn folders(&mut self, wish: &Wish) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        for folder in &wish.folders {
            let source = format!("{}/0/{}", wish.mount_path, folder.on_disk);
            let unit = MountUnit::of_folder(folder, &source);
            if !self.is_active(&unit.name)? {
                missing.push((folder, source, unit));
            }
        }
        if !missing.is_empty() {
            let mut stopped = Vec::new();
            for (folder, _, _) in &missing {
                if !stopped.contains(&folder.unit) && self.is_active(folder.unit)? {
                    self.change("systemctl", &["stop", folder.unit], SHORT)?;
                    stopped.push(folder.unit);
                }
            }
            for (folder, source, _) in &missing {
                self.copy_once(folder, source)?;
            }
            let units: Vec<MountUnit> = missing.into_iter().map(|(_, _, unit)| unit).collect();
            self.mount(&units)?;
            // In the other order: the kubelet needs containerd.
            for unit in stopped.iter().rev() {
                self.change("systemctl", &["start", unit], SHORT)?;
            }
        }
        Ok(wish.folders.iter().map(|it| it.path.to_owned()).collect())
    }

    /// Copies a folder under another name and renames it when it is whole: one that
    /// is there under its own name is newer than what lies below the mount.
    fn copy_once(&mut self, folder: &Folder, target: &str) -> Result<(), Error> {
        if self.system.resolve(target).is_some() {
            return Ok(());
        }
        let unfinished = format!("{target}.nodekiln-new");
        let arguments = [
            "--recursive",
            "--force",
            "--one-file-system",
            "--",
            &unfinished,
        ];
        self.change("rm", &arguments, LONG)?;
        self.change(
            "mkdir",
            &["--parents", "--", folder.path, &unfinished],
            SHORT,
        )?;
        // Neither into what is mounted below nor through links.
        let from = format!("{}/.", folder.path);
        let arguments = ["--archive", "--one-file-system", "--", &from, &unfinished];
        self.change("cp", &arguments, LONG)?;
        self.change("sync", &["--file-system", &unfinished], LONG)?;
        self.system.rename(&unfinished, target)?;
        Ok(())
    }

    fn is_active(&self, unit: &str) -> Result<bool, Error> {
        let ended = self
            .system
            .run(&Task::new("systemctl", &["is-active", unit], SHORT))?;
        Ok(ended.output.trim() == "active")
    }

    /// Runs a program that changes something and has to end well.
    fn change(&mut self, program: &str, arguments: &[&str], limit: Duration) -> Result<(), Error> {
        let task = Task::new(program, arguments, limit);
        self.changed = true;
        let ended = self.system.run(&task)?;
        if ended.success {
            return Ok(());
        }
        let said = ended.errors.lines().map(str::trim);
        let said: Vec<&str> = said.filter(|line| !line.is_empty()).take(3).collect();
        Err(Error::Refused {
            command: task.line(),
            said: said.join(" "),
        })
    }

    fn info(&self, message: &str) {
        self.system.log(Level::Info, message, &BTreeMap::new());
    }
}
