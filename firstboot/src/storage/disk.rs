//! Which disks there are, and what is on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Error;
use crate::system::{System, Task};

const BY_ID: &str = "/dev/disk/by-id";

/// Part of the name of every instance store disk.
const INSTANCE_STORE: &str = "NVMe_Instance_Storage_";

const LIMIT: Duration = Duration::from_secs(60);

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing that is known.
    Nothing,
    /// An XFS file system.
    Xfs {
        /// Its label; may be empty.
        label: String,
        /// Its UUID.
        uuid: String,
    },
    /// It is a part of an array.
    Member {
        /// Name of the array, without the machine's.
        name: String,
        /// UUID of the array.
        array: String,
    },
    /// Something else, in words.
    Other(String),
}

impl Content {
    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Xfs { label, .. } if label.is_empty() => "an xfs file system".into(),
            Self::Xfs { label, .. } => format!("an xfs file system with the label {label:?}"),
            Self::Member { name, .. } => format!("a part of the array {name:?}"),
            Self::Other(what) => what.clone(),
        }
    }
}

/// A disk and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Such as `/dev/nvme1n1`.
    pub path: String,
    /// What is on it.
    pub content: Content,
}

/// Paths of all instance store disks, each once, in order. A disk has several names.
pub(super) fn discover(system: &dyn System) -> Result<Vec<String>, Error> {
    let mut paths = BTreeSet::new();
    for name in system.names(BY_ID)? {
        if name.contains(INSTANCE_STORE)
            && !is_partition(&name)
            && let Some(path) = system.resolve(&format!("{BY_ID}/{name}"))
        {
            paths.insert(path);
        }
    }
    Ok(paths.into_iter().collect())
}

fn is_partition(name: &str) -> bool {
    name.rsplit_once("-part").is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
    })
}

/// Looks at the disk itself, and not into a cache.
pub(super) fn probe(system: &dyn System, path: &str) -> Result<Content, Error> {
    let task = Task::new("blkid", &["--probe", "--output", "export", path], LIMIT);
    let ended = system.run(&task)?;
    if ended.success {
        return Ok(content(&ended.output));
    }
    // It ends with 2 and says nothing where nothing is known; an ambiguous disk it
    // names on its error output.
    if ended.output.trim().is_empty() && ended.errors.trim().is_empty() {
        return Ok(Content::Nothing);
    }
    Ok(Content::Other(
        "more than one kind of data, or none that can be read".into(),
    ))
}

/// Reads `NAME=value` lines of `blkid --output export`.
fn content(output: &str) -> Content {
    let values: BTreeMap<&str, &str> = output
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |name: &str| values.get(name).map(|text| (*text).to_owned());
    match values.get("TYPE") {
        Some(&"xfs") => Content::Xfs {
            label: value("LABEL").unwrap_or_default(),
            uuid: value("UUID").unwrap_or_default(),
        },
        Some(&"linux_raid_member") => {
            let label = value("LABEL").unwrap_or_default();
            let name = label
                .rsplit_once(':')
                .map_or(label.as_str(), |(_, name)| name);
            Content::Member {
                name: name.to_owned(),
                array: value("UUID").unwrap_or_default(),
            }
        }
        Some(kind) => Content::Other(format!("data of type {kind:?}")),
        None => match values.get("PTTYPE") {
            Some(kind) => Content::Other(format!("a partition table ({kind:?})")),
            None => Content::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::pretended::Pretended;

    #[test]
    fn each_disk_counts_once_and_partitions_and_volumes_do_not() {
        let system = Pretended::node();
        for (name, target) in [
            ("nvme-Amazon_EC2_NVMe_Instance_Storage_AWS2", "/dev/nvme2n1"),
            (
                "nvme-Amazon_EC2_NVMe_Instance_Storage_AWS2_1",
                "/dev/nvme2n1",
            ),
            (
                "nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1-ns-1",
                "/dev/nvme1n1",
            ),
            (
                "nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1-part1",
                "/dev/nvme1n1p1",
            ),
            ("nvme-Amazon_Elastic_Block_Store_vol1", "/dev/nvme0n1"),
        ] {
            system.put(target, b"", 0o660);
            let name = format!("{BY_ID}/{name}");
            system.links.borrow_mut().insert(name, target.into());
        }
        assert_eq!(discover(&system).unwrap(), ["/dev/nvme1n1", "/dev/nvme2n1"]);
        assert!(discover(&Pretended::node()).unwrap().is_empty());
    }

    #[test]
    fn what_is_on_a_disk() {
        for (output, expected) in [
            ("DEVNAME=/dev/x\n", Content::Nothing),
            (
                "DEVNAME=/dev/x\nLABEL=kubernetes\nUUID=1-2\nTYPE=xfs\nUSAGE=filesystem\n",
                Content::Xfs {
                    label: "kubernetes".into(),
                    uuid: "1-2".into(),
                },
            ),
            (
                "UUID=3-4\nLABEL=any:kubernetes\nTYPE=linux_raid_member\n",
                Content::Member {
                    name: "kubernetes".into(),
                    array: "3-4".into(),
                },
            ),
            (
                "TYPE=ext4\n",
                Content::Other("data of type \"ext4\"".into()),
            ),
            (
                "PTTYPE=gpt\n",
                Content::Other("a partition table (\"gpt\")".into()),
            ),
        ] {
            assert_eq!(content(output), expected, "{output}");
        }
    }

    #[test]
    fn a_disk_that_cannot_be_told_is_not_taken_for_an_empty_one() {
        let system = Pretended::node();
        let line = "blkid --probe --output export /dev/x";
        system.fails(line, "");
        assert_eq!(probe(&system, "/dev/x").unwrap(), Content::Nothing);
        system.fails(line, "blkid: /dev/x: ambivalent result\n");
        assert!(matches!(
            probe(&system, "/dev/x").unwrap(),
            Content::Other(_)
        ));
        system.programs.borrow_mut().clear();
        assert!(probe(&system, "/dev/x").is_err());
    }
}
