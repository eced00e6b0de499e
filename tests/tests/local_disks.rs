//! Local disks for real: loop devices in place of an instance's, file systems made and
//! mounted. Needs root. The test runs itself again in a mount namespace of its own, in
//! which the folders that are written are its own; only the service manager is played.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use nodekiln_firstboot::node_config::model::LocalStorage;
use nodekiln_firstboot::storage::{self, Outcome};
use nodekiln_firstboot::system::Linux;

const INSIDE: &str = "NODEKILN_TEST_INSIDE";

/// Mounts what a unit says, as systemd would.
const SYSTEMCTL: &str = r#"#!/bin/sh
value() { sed -n "s/^$1=//p" "/etc/systemd/system/$unit"; }
case "$1" in
daemon-reload) ;;
is-active)
  unit=$2
  if [ -e "/etc/systemd/system/$unit" ] && mountpoint -q "$(value Where)"; then
    echo active
  else
    echo inactive
    exit 3
  fi
  ;;
enable)
  unit=$3
  what=$(value What)
  case "$what" in /dev/disk/by-uuid/*) what=$(blkid --uuid "${what##*/}") ;; esac
  mkdir -p "$(value Where)"
  mount -t "$(value Type)" -o "$(value Options)" "$what" "$(value Where)"
  ;;
*) exit 1 ;;
esac
"#;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Loop devices that look like instance store disks.
struct Disks(Vec<String>);

impl Disks {
    fn new(folder: &Path, number: usize) -> Self {
        let mut disks = Self(Vec::new());
        for index in 1..=number {
            let file = folder.join(format!("disk{index}"));
            fs::File::create(&file).unwrap().set_len(400 << 20).unwrap();
            let device = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
            disks.0.push(device);
        }
        // Disks are numbered by their paths, and loop devices come in any order where
        // other programs take and give them.
        disks.0.sort();
        for (index, device) in (1..).zip(&disks.0) {
            let name = format!("nvme-Amazon_EC2_NVMe_Instance_Storage_AWS{index}");
            symlink(device, Path::new("/dev/disk/by-id").join(name)).unwrap();
        }
        disks
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        // Mounts go with the namespace; a device that is in use is let go with them.
        for device in &self.0 {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

/// Runs a test of this file in a mount namespace; says whether this is the inside.
fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation=private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed inside its namespace");
    false
}

/// Folders of its own in place of the machine's.
fn prepare() {
    for folder in ["/dev/disk", "/dev/md"] {
        fs::create_dir_all(folder).unwrap();
    }
    for folder in [
        "/dev/disk",
        "/dev/md",
        "/etc/systemd/system",
        "/mnt",
        "/var/lib",
        "/usr/local/sbin",
    ] {
        run("mount", &["-t", "tmpfs", "tmpfs", folder]);
    }
    fs::create_dir("/dev/disk/by-id").unwrap();
    let systemctl = "/usr/local/sbin/systemctl";
    fs::write(systemctl, SYSTEMCTL).unwrap();
    fs::set_permissions(systemctl, fs::Permissions::from_mode(0o755)).unwrap();
}

fn wanted(strategy: &str) -> LocalStorage {
    LocalStorage {
        strategy: strategy.into(),
        ..LocalStorage::default()
    }
}

#[test]
fn each_disk_gets_a_file_system_once_and_a_foreign_disk_is_left_alone() {
    if !is_inside("each_disk_gets_a_file_system_once_and_a_foreign_disk_is_left_alone") {
        return;
    }
    prepare();
    let folder = tempfile::tempdir().unwrap();
    let disks = Disks::new(folder.path(), 2);
    let system = Linux::new();

    run("mkfs.ext4", &["-q", &disks.0[1]]);
    let before = run("blkid", &["--probe", "--output", "export", &disks.0[1]]);
    let error = storage::set_up(&system, &wanted("Mount")).unwrap_err();
    assert!(
        error.to_string().ends_with("holds data of type \"ext4\""),
        "{error}"
    );
    assert_eq!(
        run("blkid", &["--probe", "--output", "export", &disks.0[1]]),
        before
    );
    run("wipefs", &["--all", "--quiet", &disks.0[1]]);

    let done = storage::set_up(&system, &wanted("Mount")).unwrap();
    let mounted = vec!["/mnt/k8s-disks/1".to_owned(), "/mnt/k8s-disks/2".to_owned()];
    let changed = true;
    assert_eq!(
        done,
        Outcome::Done {
            mounted: mounted.clone(),
            changed
        }
    );
    for place in &mounted {
        let seen = run(
            "findmnt",
            &["--noheadings", "--output", "FSTYPE,OPTIONS", place],
        );
        assert!(
            seen.starts_with("xfs") && seen.contains("noatime"),
            "{seen}"
        );
    }
    fs::write("/mnt/k8s-disks/2/kept", "kept").unwrap();

    let changed = false;
    let again = storage::set_up(&system, &wanted("Mount")).unwrap();
    assert_eq!(
        again,
        Outcome::Done {
            mounted: mounted.clone(),
            changed
        }
    );
    // As after a reboot: nothing is mounted, and the disks have other names.
    for place in &mounted {
        run("umount", &[place]);
    }
    fs::remove_file("/dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1").unwrap();
    storage::set_up(&system, &wanted("Mount")).unwrap();
    assert_eq!(fs::read_to_string("/mnt/k8s-disks/2/kept").unwrap(), "kept");
    run("umount", &["/mnt/k8s-disks/2"]);
}

#[test]
fn mdadm_takes_the_arguments_for_an_array() {
    if !is_inside("mdadm_takes_the_arguments_for_an_array") {
        return;
    }
    prepare();
    let folder = tempfile::tempdir().unwrap();
    let disks = Disks::new(folder.path(), 2);
    let outcome = storage::set_up(&Linux::new(), &wanted("RAID0"));
    if Path::new("/proc/mdstat").exists() {
        outcome.unwrap();
        let seen = run(
            "findmnt",
            &["--noheadings", "--output", "FSTYPE", "/var/lib/kubelet"],
        );
        assert_eq!(seen, "xfs");
        for place in [
            "/var/lib/kubelet",
            "/var/lib/containerd",
            "/mnt/k8s-disks/0",
        ] {
            run("umount", &["--lazy", place]);
        }
        let _ = run("mdadm", &["--stop", "/dev/md/kubernetes"]);
    } else {
        // Without the driver it comes as far as the device of the array, and no further:
        // it would say so before if it did not understand what it is told.
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.starts_with("mdadm --create") && text.contains("opening /dev/md"),
            "{text}"
        );
        for disk in &disks.0 {
            let probed = Command::new("blkid")
                .args(["--probe", disk])
                .output()
                .unwrap();
            assert_eq!(probed.status.code(), Some(2), "{disk} was written to");
        }
    }
}
