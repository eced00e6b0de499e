//! The kinds of places, their order, names and time limits.

use std::fmt;
use std::time::Duration;

/// A kind of place where a NodeConfig can lie, in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file named on the command line or the kernel's.
    NamedFile,
    /// `/etc/nodekiln/nodeconfig.yaml`.
    File,
    /// `/etc/nodekiln/nodeconfig.d`.
    Folder,
    /// cloud-init's instance data.
    CloudInit,
    /// A NoCloud seed: a volume, or the place that `ds=nocloud;s=` names.
    #[serde(rename = "nocloud")]
    NoCloud,
    /// An OpenStack config drive.
    ConfigDrive,
    /// What a VMware hypervisor tells its guest.
    #[serde(rename = "vmware")]
    VMware,
    /// EC2's user data.
    Ec2,
}

impl Source {
    /// All, in the order of asking.
    pub const ALL: [Self; 8] = [
        Self::NamedFile,
        Self::File,
        Self::Folder,
        Self::CloudInit,
        Self::NoCloud,
        Self::ConfigDrive,
        Self::VMware,
        Self::Ec2,
    ];

    /// Those that can be named as the only one to ask. A named file is named by its
    /// path.
    pub const NAMEABLE: [Self; 7] = [
        Self::File,
        Self::Folder,
        Self::CloudInit,
        Self::NoCloud,
        Self::ConfigDrive,
        Self::VMware,
        Self::Ec2,
    ];

    /// Its name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NamedFile => "named-file",
            Self::File => "file",
            Self::Folder => "folder",
            Self::CloudInit => "cloud-init",
            Self::NoCloud => "nocloud",
            Self::ConfigDrive => "config-drive",
            Self::VMware => "vmware",
            Self::Ec2 => "ec2",
        }
    }

    /// The source of this name; case does not count.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMEABLE
            .into_iter()
            .find(|source| source.name().eq_ignore_ascii_case(name))
    }

    /// The names of all that can be named, for people.
    pub fn names() -> String {
        Self::NAMEABLE.map(Self::name).join(", ")
    }

    /// The most time that asking it takes; `None` for files of the machine's own,
    /// which are read at once.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::NamedFile | Self::File | Self::Folder | Self::CloudInit => None,
            // The larger of its two ways: a URL. Volumes have `VOLUMES`.
            Self::NoCloud => Some(SEED_URL),
            Self::ConfigDrive => Some(VOLUMES),
            Self::VMware => Some(GUESTINFO),
            Self::Ec2 => Some(INSTANCE_METADATA),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NamedFile => "named file",
            Self::File => "file",
            Self::Folder => "folder of files",
            Self::CloudInit => "cloud-init",
            Self::NoCloud => "NoCloud seed",
            Self::ConfigDrive => "config drive",
            Self::VMware => "VMware guestinfo",
            Self::Ec2 => "EC2 user data",
        })
    }
}

/// One block device has this long to be opened and read. A disk that spins up, or
/// an optical drive that loads a medium, takes up to ten seconds; one that has not
/// answered then is broken, and must not hold up the others.
pub const DEVICE: Duration = Duration::from_secs(10);

/// All block devices together, for both kinds of volumes: they are looked at once.
pub const VOLUMES: Duration = Duration::from_secs(25);

/// A seed's URL, with all redirects and further tries. The unit starts after the
/// network is said to be up; switches and resolvers may take some seconds more.
pub const SEED_URL: Duration = Duration::from_secs(40);

/// The hypervisor, with both programs that can ask it. It answers in milliseconds.
pub const GUESTINFO: Duration = Duration::from_secs(20);

/// The instance metadata service, with all further tries. It answers in
/// milliseconds and asks callers that are too many to come back.
pub const INSTANCE_METADATA: Duration = Duration::from_secs(30);

/// The most that the whole search waits. Shorter than the watchdog of the unit;
/// what takes longer is tried again by the unit.
pub const SEARCH: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_sources_fit_into_that_of_the_search() {
        let all = VOLUMES + SEED_URL + GUESTINFO + INSTANCE_METADATA;
        assert!(all <= SEARCH, "{all:?}");
        let unit =
            include_str!("../../../overlays/linux/etc/systemd/system/nodekiln-firstboot.service");
        assert!(unit.contains("WatchdogSec=3min"));
        assert!(SEARCH < Duration::from_secs(180));
    }

    #[test]
    fn every_name_is_that_of_its_source() {
        for source in Source::ALL {
            let serialised = serde_json::to_value(source).unwrap();
            assert_eq!(serialised, source.name());
            let nameable = (source != Source::NamedFile).then_some(source);
            assert_eq!(Source::named(&source.name().to_uppercase()), nameable);
        }
        assert_eq!(Source::named(""), None);
        assert!(Source::ALL.is_sorted());
    }
}
