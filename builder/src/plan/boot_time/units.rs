//! Units of vendors that a Kubernetes node does without, and that cost a first boot time.

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::plan::services::UNIT_FOLDERS;
use crate::profile::model::Services;
use crate::volume::Kind;

/// A unit, and what it does while a machine boots for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needless {
    /// Its name.
    pub unit: &'static str,
    /// What it does, in words that follow its name.
    pub does: &'static str,
    /// It is needless only if this one is enabled, too.
    beside: Option<&'static str>,
}

const fn unit(unit: &'static str, does: &'static str) -> Needless {
    Needless {
        unit,
        does,
        beside: None,
    }
}

/// Those that are known. Timers with `Persistent=yes` fire on every first boot, since
/// an image has never run them.
const KNOWN: &[Needless] = &[
    unit("apt-daily.timer", "fetches lists of packages"),
    unit("apt-daily-upgrade.timer", "installs packages"),
    unit("dnf-makecache.timer", "fetches lists of packages"),
    unit("fwupd-refresh.timer", "fetches lists of firmware"),
    unit(
        "insights-client-boot.service",
        "examines the system for Red Hat Insights",
    ),
    unit(
        "kdump.service",
        "may build an initial RAM disk for a crash kernel",
    ),
    unit("man-db.timer", "indexes manual pages"),
    unit("ModemManager.service", "probes serial ports for modems"),
    unit("motd-news.timer", "fetches news of the vendor"),
    unit("multipathd.service", "looks for paths to every disk"),
    unit("rhsmcertd.service", "asks for a subscription"),
    unit(
        "snapd.seeded.service",
        "holds cloud-init back until snaps are set up",
    ),
    unit("ua-timer.timer", "asks for a subscription"),
    unit("udisks2.service", "looks at every disk"),
    Needless {
        unit: "systemd-networkd-wait-online.service",
        does: "waits two minutes for systemd-networkd, while NetworkManager has the network",
        beside: Some("NetworkManager.service"),
    },
];

/// Those that are enabled in the image and that the profile says nothing about.
///
/// # Errors
/// What the volume gives.
pub fn needless(tree: &mut dyn Tree, wish: &Services) -> Result<Vec<Needless>> {
    let named: Vec<&str> = [&wish.enable, &wish.disable, &wish.mask]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let is_named = |unit: &str| {
        let stem = unit.strip_suffix(".service").unwrap_or(unit);
        named.iter().any(|name| *name == unit || *name == stem)
    };
    let pulled = pulled_in(tree)?;
    let is_enabled = |unit: &str| pulled.iter().any(|name| name == unit.as_bytes());
    let known = KNOWN.iter().filter(|known| {
        is_enabled(known.unit) && known.beside.is_none_or(is_enabled) && !is_named(known.unit)
    });
    Ok(known.copied().collect())
}

/// Names of the units that another one pulls in by a folder of links, without those that
/// are masked.
fn pulled_in(tree: &mut dyn Tree) -> Result<Vec<Vec<u8>>> {
    let mut pulled = Vec::new();
    let mut masked = Vec::new();
    for folder in UNIT_FOLDERS {
        let folder = tree.resolve(&fixed(folder))?;
        for entry in tree.list(&folder)? {
            let path = folder.join(&entry.name)?;
            let is_list = entry.name.ends_with(b".wants") || entry.name.ends_with(b".requires");
            if entry.kind == Kind::Directory && is_list {
                pulled.extend(tree.list(&path)?.into_iter().map(|link| link.name));
            } else if entry.kind == Kind::Symlink && is_null(tree, &path)? {
                masked.push(entry.name);
            }
        }
    }
    pulled.retain(|name| !masked.contains(name));
    Ok(pulled)
}

fn is_null(tree: &mut dyn Tree, path: &ImagePath) -> Result<bool> {
    Ok(tree.read_link(path)? == b"/dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::machine;
    use crate::volume::model::MemoryVolume;

    const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

    fn found(links: &[(&str, &str)], wish: &Services) -> Vec<&'static str> {
        let volume = links
            .iter()
            .fold(MemoryVolume::new(), |volume, (path, target)| {
                volume.with_link(path, target).expect("a small image")
            });
        let mut image = machine::image(volume);
        let found = needless(&mut image, wish).expect("looks");
        found.iter().map(|needless| needless.unit).collect()
    }

    fn wanted(unit: &str) -> (String, String) {
        (
            format!("{WANTS}/{unit}"),
            format!("/usr/lib/systemd/system/{unit}"),
        )
    }

    #[test]
    fn an_enabled_unit_is_told_unless_the_profile_names_it() {
        let (path, target) = wanted("kdump.service");
        let links = [(path.as_str(), target.as_str())];
        assert_eq!(found(&links, &Services::default()), ["kdump.service"]);
        for name in ["kdump", "kdump.service"] {
            let wish = Services {
                disable: vec![name.to_owned()],
                ..Services::default()
            };
            assert_eq!(found(&links, &wish), [""; 0], "{name}");
        }
    }

    #[test]
    fn the_documentation_names_every_unit_and_no_other() {
        let text = include_str!("../../../../docs/time-of-boot.md");
        let (_, table) = text.split_once("| Unit |").expect("a table of units");
        let rows: Vec<&str> = table.lines().skip(2).collect();
        let known: Vec<String> = KNOWN
            .iter()
            .map(|known| format!("| `{}` | {} |", known.unit, known.does))
            .collect();
        assert_eq!(rows, known);
    }

    #[test]
    fn a_masked_unit_costs_nothing() {
        let (path, target) = wanted("kdump.service");
        let links = [
            (path.as_str(), target.as_str()),
            ("/etc/systemd/system/kdump.service", "/dev/null"),
        ];
        assert_eq!(found(&links, &Services::default()), [""; 0]);
    }

    #[test]
    fn waiting_for_networkd_is_needless_only_beside_network_manager() {
        let wait = wanted("systemd-networkd-wait-online.service");
        let manager = wanted("NetworkManager.service");
        let alone = [(wait.0.as_str(), wait.1.as_str())];
        assert_eq!(found(&alone, &Services::default()), [""; 0]);
        let both = [alone[0], (manager.0.as_str(), manager.1.as_str())];
        assert_eq!(
            found(&both, &Services::default()),
            ["systemd-networkd-wait-online.service"]
        );
    }
}
