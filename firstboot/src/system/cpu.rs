//! Logical processors, counted as nodeadm counts them: what lies below the NUMA
//! nodes, is online and has a place in the topology.

use super::Files;

const LIMIT: usize = 4096;

/// Number of logical processors; 0 when they cannot be counted.
pub(super) fn count(files: &dyn Files, cpus: &str, nodes: &str) -> u32 {
    let numbered = |folder: &str, prefix: &str| -> Vec<String> {
        let mut names = files.names(folder).unwrap_or_default();
        names.retain(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
            })
        });
        names
    };
    let node_names = numbered(nodes, "node");
    if node_names.is_empty() {
        return numbered(cpus, "cpu").len() as u32;
    }
    let text = |path: String| {
        files
            .read(&path, LIMIT)
            .ok()
            .flatten()
            .and_then(|bytes| String::from_utf8(bytes).ok())
    };
    let Some(online) = text(format!("{cpus}/online")).as_deref().and_then(ranges) else {
        return 0;
    };
    let mut count = 0;
    for node in node_names {
        for cpu in numbered(&format!("{nodes}/{node}"), "cpu") {
            let number: u32 = cpu[3..].parse().unwrap_or(u32::MAX);
            let topology =
                |name: &str| text(format!("{nodes}/{node}/{cpu}/topology/{name}")).is_some();
            let placed = || topology("core_id") && topology("physical_package_id");
            if online
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&number))
                && placed()
            {
                count += 1;
            }
        }
    }
    count
}

/// Reads a list such as `0-3,8`.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    text.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Folder;
    use super::*;

    fn machine(online: Option<&str>, cpus_by_node: &[&[u32]]) -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        if let Some(online) = online {
            folder
                .write("/cpu/online", online.as_bytes(), 0o644)
                .unwrap();
        }
        for (node, cpus) in cpus_by_node.iter().enumerate() {
            folder
                .write(&format!("/node/node{node}/cpulist"), b"", 0o644)
                .unwrap();
            for cpu in *cpus {
                for name in ["core_id", "physical_package_id"] {
                    let path = format!("/node/node{node}/cpu{cpu}/topology/{name}");
                    folder.write(&path, b"0\n", 0o644).unwrap();
                }
            }
        }
        (root, folder)
    }

    #[test]
    fn only_what_is_online_and_placed_counts() {
        let (root, folder) = machine(Some("0-2,6\n"), &[&[0, 1, 2, 3], &[6, 7]]);
        assert_eq!(count(&folder, "/cpu", "/node"), 4);
        std::fs::remove_file(root.path().join("node/node0/cpu1/topology/core_id")).unwrap();
        assert_eq!(count(&folder, "/cpu", "/node"), 3);
    }

    #[test]
    fn without_numa_the_folders_are_counted() {
        let (_root, folder) = machine(None, &[]);
        for name in ["cpu0", "cpu1", "cpu10", "cpufreq", "cpuidle"] {
            folder.write(&format!("/cpu/{name}/x"), b"", 0o644).unwrap();
        }
        assert_eq!(count(&folder, "/cpu", "/node"), 3);
    }

    #[test]
    fn what_cannot_be_counted_is_none() {
        let (_root, folder) = machine(None, &[&[0]]);
        assert_eq!(count(&folder, "/cpu", "/node"), 0);
        assert_eq!(ranges("0-x"), None);
        assert_eq!(ranges(""), None);
    }

    // The count of this machine, against what the C library says.
    #[test]
    fn this_machine() {
        let counted = count(
            &Folder::new("/"),
            "/sys/devices/system/cpu",
            "/sys/devices/system/node",
        );
        let online = std::process::Command::new("getconf")
            .arg("_NPROCESSORS_ONLN")
            .output()
            .unwrap();
        assert_eq!(
            counted.to_string(),
            String::from_utf8(online.stdout).unwrap().trim()
        );
    }
}
