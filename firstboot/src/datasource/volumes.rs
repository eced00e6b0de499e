//! Volumes with the label of a seed or a config drive.
//!
//! All block devices are looked at once, for both kinds. Of a NoCloud seed only
//! `user-data` is read: `vendor-data` is the hypervisor's own and never holds the
//! NodeConfig, and the rest is for cloud-init. Of a config drive it is
//! `openstack/latest/user_data`; `meta_data.json` lists files to lay down, and never
//! the user data.

use std::io;
use std::time::Duration;

use super::answer::Answer;
use super::source::{DEVICE, VOLUMES};
use super::volume::Volume;
use super::{BlockDevice, MAXIMUM_FILE, Machine, Source};
use crate::system::Clock;

/// A volume with a label that is looked for.
struct Seed {
    source: Source,
    device: BlockDevice,
    /// For people: device, file system, label.
    place: String,
    data: io::Result<Option<Vec<u8>>>,
}

/// The volumes found, and what hindered the search.
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    hindered: Vec<String>,
}

/// The label of the volumes of a source, and the path of the user data in them.
fn label_and_path(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::ConfigDrive => ("config-2", "openstack/latest/user_data"),
        _ => ("cidata", "user-data"),
    }
}

/// Looks at all block devices, until the time is over.
pub(super) fn look(machine: &dyn Machine, clock: &(impl Clock + ?Sized)) -> Seeds {
    let mut found = Seeds {
        seeds: Vec::new(),
        hindered: Vec::new(),
    };
    let devices = match machine.block_devices() {
        Ok(devices) => devices,
        Err(error) => {
            found
                .hindered
                .push(format!("block devices cannot be listed: {error}"));
            return found;
        }
    };
    let deadline = clock.elapsed() + VOLUMES;
    for device in devices {
        let left = deadline.saturating_sub(clock.elapsed());
        found.look_at(device, machine, left);
    }
    found.forget_partitions();
    found
}

impl Seeds {
    fn look_at(&mut self, device: BlockDevice, machine: &dyn Machine, left: Duration) {
        let name = format!("/dev/{}", device.name);
        if left.is_zero() {
            self.hindered
                .push(format!("{name} was not looked at: others took too long"));
            return;
        }
        let content = match machine.open_device(&device.name, left.min(DEVICE)) {
            Ok(content) => content,
            Err(error) => {
                self.hindered
                    .push(format!("{name} cannot be opened: {error}"));
                return;
            }
        };
        let content = &*content;
        let volume = match Volume::open(&content) {
            Ok(Some(volume)) => volume,
            Ok(None) => return,
            Err(error) => {
                self.hindered
                    .push(format!("{name} cannot be read: {error}"));
                return;
            }
        };
        let label = volume.label();
        let Some(source) = [Source::NoCloud, Source::ConfigDrive]
            .into_iter()
            .find(|source| label_and_path(*source).0.eq_ignore_ascii_case(label))
        else {
            return;
        };
        let place = format!("{name} ({}, {label})", volume.file_system());
        let data = volume.read(label_and_path(source).1, MAXIMUM_FILE);
        self.seeds.push(Seed {
            source,
            device,
            place,
            data,
        });
    }

    /// A bootable ISO shows once as the whole device and again as its partition.
    fn forget_partitions(&mut self) {
        let whole: Vec<String> = self
            .seeds
            .iter()
            .filter(|seed| !seed.device.is_partition)
            .map(|seed| seed.device.name.clone())
            .collect();
        self.seeds.retain(|seed| {
            !seed.device.is_partition
                || !whole.iter().any(|name| is_part_of(&seed.device.name, name))
        });
    }

    /// What the volumes of a source give.
    pub fn answer(&self, source: Source) -> Answer {
        let (label, path) = label_and_path(source);
        let candidates: Vec<&Seed> = self
            .seeds
            .iter()
            .filter(|seed| seed.source == source)
            .collect();
        let only = match candidates.as_slice() {
            [] => {
                let mut outcome = format!("no volume is labelled {label}");
                for hindrance in &self.hindered {
                    outcome.push_str("; ");
                    outcome.push_str(hindrance);
                }
                return Answer::Nothing(outcome);
            }
            [only] => only,
            several => {
                let places: Vec<&str> = several.iter().map(|seed| seed.place.as_str()).collect();
                return Answer::unusable(
                    format!(
                        "several volumes are labelled {label}: {}",
                        places.join(", ")
                    ),
                    "detach all but one",
                );
            }
        };
        let origin = format!("{path} on {}", only.place);
        match &only.data {
            Ok(Some(bytes)) => Answer::user_data(origin, bytes.clone()),
            Ok(None) => Answer::Nothing(format!("{} has no file {path}", only.place)),
            Err(error) => Answer::unreadable(&origin, error),
        }
    }
}

/// Whether a partition's name is that of a device and a number: `sda1`, `nvme0n1p1`.
fn is_part_of(partition: &str, device: &str) -> bool {
    partition.strip_prefix(device).is_some_and(|rest| {
        let number = rest.strip_prefix('p').unwrap_or(rest);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
