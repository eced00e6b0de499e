//! What is to be made of an instance's own disks, as data: making it is an action.

use crate::node_config::model::NodeConfig;

/// Where nodeadm puts them.
const DEFAULT_MOUNT_PATH: &str = "/mnt/k8s-disks";

/// How the disks are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One striped array, and the node's state on it.
    Raid0,
    /// One mirrored and striped array of at least four disks, and the node's state
    /// on it.
    Raid10,
    /// A file system on each disk; the node's state stays where it is.
    Mount,
}

/// What is to be made of an instance's own disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDisks {
    /// How they are put together.
    pub strategy: Strategy,
    /// Folder for the mounts, without a final slash: an array is mounted at `0` in
    /// it, single disks at `1` and on.
    pub mount_path: String,
    /// Folders that are moved onto the array and bound back to their place; none
    /// with [`Strategy::Mount`].
    pub bound: Vec<&'static str>,
}

/// What the NodeConfig of an EC2 node wants to be made of the instance's own disks.
pub fn local_disks(config: &NodeConfig) -> Option<LocalDisks> {
    if config.spec.hybrid.is_some() {
        return None;
    }
    let storage = &config.spec.instance.local_storage;
    let strategy = match storage.strategy.to_ascii_lowercase().as_str() {
        "raid0" => Strategy::Raid0,
        "raid10" => Strategy::Raid10,
        "mount" => Strategy::Mount,
        _ => return None,
    };
    let is_kept = |name: &str| {
        storage
            .disabled_mounts
            .iter()
            .any(|disabled| disabled.eq_ignore_ascii_case(name))
    };
    let bound = if strategy == Strategy::Mount {
        Vec::new()
    } else {
        [
            // Without a name: it cannot be kept back.
            ("", "/var/lib/kubelet"),
            ("Containerd", "/var/lib/containerd"),
            ("SOCI", "/var/lib/soci-snapshotter-grpc"),
            ("PodLogs", "/var/log/pods"),
        ]
        .into_iter()
        .filter(|(name, _)| !is_kept(name))
        .map(|(_, path)| path)
        .collect()
    };
    let path = storage.mount_path.trim_end_matches('/');
    Some(LocalDisks {
        strategy,
        mount_path: if path.is_empty() {
            DEFAULT_MOUNT_PATH.into()
        } else {
            path.into()
        },
        bound,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn disks(strategy: &str, path: &str, disabled: &[&str]) -> Option<LocalDisks> {
        let mut config = samples::ec2();
        let storage = &mut config.spec.instance.local_storage;
        storage.strategy = strategy.into();
        storage.mount_path = path.into();
        storage.disabled_mounts = disabled.iter().map(ToString::to_string).collect();
        local_disks(&config)
    }

    #[test]
    fn arrays_take_the_state_of_the_node_but_for_what_is_disabled() {
        assert_eq!(
            disks("RAID0", "", &[]).unwrap(),
            LocalDisks {
                strategy: Strategy::Raid0,
                mount_path: "/mnt/k8s-disks".into(),
                bound: vec![
                    "/var/lib/kubelet",
                    "/var/lib/containerd",
                    "/var/lib/soci-snapshotter-grpc",
                    "/var/log/pods"
                ],
            }
        );
        assert_eq!(
            disks("raid10", "/data/", &["Containerd", "podlogs", "SOCI"]).unwrap(),
            LocalDisks {
                strategy: Strategy::Raid10,
                mount_path: "/data".into(),
                bound: vec!["/var/lib/kubelet"],
            }
        );
    }

    #[test]
    fn single_disks_take_no_state() {
        let disks = disks("Mount", "/mnt", &[]).unwrap();
        assert_eq!((disks.strategy, disks.bound.len()), (Strategy::Mount, 0));
    }

    #[test]
    fn nothing_is_made_of_disks_without_a_wish_or_outside_of_ec2() {
        assert_eq!(disks("", "/mnt", &[]), None);
        assert_eq!(disks("RAID5", "", &[]), None);
        let mut config = samples::ssm();
        config.spec.instance.local_storage.strategy = "RAID0".into();
        assert_eq!(local_disks(&config), None);
    }
}
