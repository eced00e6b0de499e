//! What the disks are to become, as data.

use super::disk::{Content, Disk};
use super::{DEFAULT_MOUNT_PATH, Error};
use crate::node_config::model::LocalStorage;

/// Name of the array and label of its file system.
pub(super) const ARRAY: &str = "kubernetes";

/// Where the array appears.
pub(super) const ARRAY_DEVICE: &str = "/dev/md/kubernetes";

/// Labels of file systems on single disks begin like this; the disk's number
/// follows. XFS has room for twelve characters.
const DISK_LABEL: &str = "k8s-disk-";

/// How disks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All striped into one.
    Raid0,
    /// All striped and mirrored into one.
    Raid10,
    /// Each on its own.
    Mount,
}

impl Strategy {
    /// Its name in a NodeConfig.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raid0 => "RAID0",
            Self::Raid10 => "RAID10",
            Self::Mount => "Mount",
        }
    }
}

/// A folder of the node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder {
    /// Name in `disabledMounts`; the kubelet's cannot be disabled.
    name: &'static str,
    /// Where programs expect it.
    pub path: &'static str,
    /// Its name on the disk.
    pub on_disk: &'static str,
    /// The unit that uses it and has to be stopped to move it.
    pub unit: &'static str,
}

/// All folders that are moved to an array.
pub(super) const FOLDERS: [Folder; 4] = [
    Folder {
        name: "Kubelet",
        path: "/var/lib/kubelet",
        on_disk: "kubelet",
        unit: "kubelet.service",
    },
    Folder {
        name: "Containerd",
        path: "/var/lib/containerd",
        on_disk: "containerd",
        unit: "containerd.service",
    },
    Folder {
        name: "SOCI",
        path: "/var/lib/soci-snapshotter-grpc",
        on_disk: "soci-snapshotter-grpc",
        unit: "soci-snapshotter.service",
    },
    Folder {
        name: "PodLogs",
        path: "/var/log/pods",
        on_disk: "pods",
        unit: "kubelet.service",
    },
];

/// What a NodeConfig asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// How disks are used.
    pub strategy: Strategy,
    /// The folder in which they are mounted.
    pub mount_path: String,
    /// What is moved to them; nothing with [`Strategy::Mount`].
    pub folders: Vec<Folder>,
}

impl Wish {
    /// From a NodeConfig; none when it asks for nothing.
    pub fn new(given: &LocalStorage) -> Result<Option<Self>, Error> {
        let field = |field, problem: String| Err(Error::Field { field, problem });
        let strategy = match given.strategy.as_str() {
            "" => return Ok(None),
            name if name.eq_ignore_ascii_case("RAID0") => Strategy::Raid0,
            name if name.eq_ignore_ascii_case("RAID10") => Strategy::Raid10,
            name if name.eq_ignore_ascii_case("Mount") => Strategy::Mount,
            _ => return field("spec.instance.localStorage.strategy", "is not known".into()),
        };
        let mount_path = match given.mount_path.trim_end_matches('/') {
            "" if given.mount_path.is_empty() => DEFAULT_MOUNT_PATH,
            path => path,
        };
        let is_plain = mount_path.starts_with('/')
            && !mount_path.chars().any(char::is_control)
            && mount_path
                .split('/')
                .all(|part| part != ".." && part != ".");
        if !is_plain {
            let problem = "is not an absolute path of a folder";
            return field("spec.instance.localStorage.mountPath", problem.into());
        }
        let is_wanted = |folder: &Folder| {
            let mut disabled = given.disabled_mounts.iter();
            folder.name == "Kubelet" || !disabled.any(|it| it == folder.name)
        };
        let folders = match strategy {
            Strategy::Mount => Vec::new(),
            _ => FOLDERS.into_iter().filter(is_wanted).collect(),
        };
        Ok(Some(Self {
            strategy,
            mount_path: mount_path.to_owned(),
            folders,
        }))
    }
}

/// An array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// `0` or `10`.
    pub level: &'static str,
    /// Its disks.
    pub disks: Vec<String>,
    /// Whether it has to be made; else it is there and has only to be put together.
    pub is_new: bool,
}

/// A file system and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Disk or array.
    pub device: String,
    /// Its label.
    pub label: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Its UUID where it is there already; else it has to be made.
    pub uuid: Option<String>,
}

/// What the disks are to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The array, with RAID.
    pub array: Option<Array>,
    /// One on each disk. With RAID there is none here: what is on an array is known
    /// when it runs, see [`array_file_system`].
    pub file_systems: Vec<FileSystem>,
}

/// Decides what becomes of the disks. `undertaken` says that this program began
/// with these very disks, found nothing of anybody's on them, and was cut off: then
/// what is half made is made anew.
pub fn layout(wish: &Wish, disks: &[Disk], undertaken: bool) -> Result<Layout, Error> {
    match wish.strategy {
        Strategy::Mount => Ok(Layout {
            array: None,
            file_systems: single_disks(wish, disks, undertaken)?,
        }),
        Strategy::Raid0 => array(wish, "0", 1, disks, undertaken),
        Strategy::Raid10 => array(wish, "10", 4, disks, undertaken),
    }
}

fn array(
    wish: &Wish,
    level: &'static str,
    needed: usize,
    disks: &[Disk],
    undertaken: bool,
) -> Result<Layout, Error> {
    if disks.len() < needed {
        return Err(Error::TooFew {
            strategy: wish.strategy.name(),
            needed,
            found: disks.len(),
        });
    }
    let mut arrays = Vec::new();
    let mut empty = 0;
    for disk in disks {
        match &disk.content {
            Content::Member { name, array } if name == ARRAY => arrays.push(array),
            Content::Nothing => empty += 1,
            content if undertaken && is_half_made(content) => empty += 1,
            _ => return Err(foreign(disk)),
        }
    }
    arrays.dedup();
    let is_whole = empty == 0 && arrays.len() == 1;
    if !is_whole && !arrays.is_empty() && !undertaken {
        let member = disks
            .iter()
            .find(|disk| matches!(disk.content, Content::Member { .. }));
        return Err(Error::Foreign {
            disk: member.map(|disk| disk.path.clone()).unwrap_or_default(),
            what: "a part of an array of which other parts are missing".into(),
        });
    }
    Ok(Layout {
        array: Some(Array {
            level,
            disks: disks.iter().map(|disk| disk.path.clone()).collect(),
            is_new: !is_whole,
        }),
        file_systems: Vec::new(),
    })
}

/// The file system of a running array, of which the content is known.
pub fn array_file_system(
    wish: &Wish,
    device: &str,
    content: &Content,
    undertaken: bool,
) -> Result<FileSystem, Error> {
    let uuid = match content {
        Content::Nothing => None,
        Content::Xfs { label, uuid } if label == ARRAY => Some(uuid.clone()),
        content if undertaken && is_half_made(content) => None,
        other => {
            return Err(Error::Foreign {
                disk: device.to_owned(),
                what: other.describe(),
            });
        }
    };
    Ok(FileSystem {
        device: device.to_owned(),
        label: ARRAY.to_owned(),
        mount_point: format!("{}/0", wish.mount_path),
        uuid,
    })
}

fn single_disks(wish: &Wish, disks: &[Disk], undertaken: bool) -> Result<Vec<FileSystem>, Error> {
    // A disk keeps the number that its label says, whatever its name on this boot.
    let number_of = |disk: &Disk| match &disk.content {
        Content::Xfs { label, .. } => label.strip_prefix(DISK_LABEL)?.parse::<usize>().ok(),
        _ => None,
    };
    let mut taken: Vec<usize> = Vec::new();
    for disk in disks {
        match number_of(disk) {
            Some(number) if !taken.contains(&number) => taken.push(number),
            None if disk.content == Content::Nothing => {}
            None if undertaken && is_half_made(&disk.content) => {}
            // Two with one number, or something else.
            Some(_) | None => return Err(foreign(disk)),
        }
    }
    let mut free = (1..).filter(|number| !taken.contains(number));
    let file_systems = disks.iter().map(|disk| {
        let number = number_of(disk).or_else(|| free.next()).unwrap_or_default();
        let uuid = match (&disk.content, number_of(disk)) {
            (Content::Xfs { uuid, .. }, Some(_)) => Some(uuid.clone()),
            _ => None,
        };
        FileSystem {
            device: disk.path.clone(),
            label: format!("{DISK_LABEL}{number}"),
            mount_point: format!("{}/{number}", wish.mount_path),
            uuid,
        }
    });
    Ok(file_systems.collect())
}

/// Whether this may be what our own programs leave when they are killed. Anything
/// else was put there by somebody since.
fn is_half_made(content: &Content) -> bool {
    match content {
        Content::Nothing => true,
        Content::Xfs { label, .. } => {
            label.is_empty() || label == ARRAY || label.starts_with(DISK_LABEL)
        }
        Content::Member { name, .. } => name == ARRAY,
        Content::Other(_) => false,
    }
}

fn foreign(disk: &Disk) -> Error {
    Error::Foreign {
        disk: disk.path.clone(),
        what: disk.content.describe(),
    }
}
