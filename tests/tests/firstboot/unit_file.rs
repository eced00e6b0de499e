//! The unit of the program, as systemd reads it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use tempfile::TempDir;

use crate::{UNIT, text};

/// What `systemd-analyze verify` has to say about a unit among those of a system.
pub fn verify(name: &str, unit: &str) -> String {
    let root = TempDir::new().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for path in ["usr/libexec/nodekiln", "usr/local/bin", "usr/bin"] {
        fs::create_dir_all(root.path().join(path)).unwrap();
    }
    for path in [
        "usr/libexec/nodekiln/firstboot",
        "usr/local/bin/aws_signing_helper",
        "usr/bin/containerd",
        "usr/bin/kubelet",
        "usr/bin/cloud-init",
    ] {
        let path = root.path().join(path);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copied = Command::new("cp")
        .args(["-r", "/usr/lib/systemd/system"])
        .arg(root.path().join("usr/lib-systemd-system"))
        .status()
        .unwrap();
    assert!(copied.success());
    fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
    fs::rename(
        root.path().join("usr/lib-systemd-system"),
        root.path().join("usr/lib/systemd/system"),
    )
    .unwrap();
    // The neighbours, with the order that distributions give them.
    for (name, content) in [
        (
            "cloud-init.service",
            "[Unit]\nAfter=network.target\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n",
        ),
        (
            "cloud-final.service",
            "[Unit]\nAfter=network-online.target multi-user.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n",
        ),
        (
            "containerd.service",
            "[Unit]\nAfter=network.target local-fs.target\n[Service]\nType=notify\nExecStart=/usr/bin/containerd\n[Install]\nWantedBy=multi-user.target\n",
        ),
        (
            "kubelet.service",
            "[Unit]\nAfter=containerd.service\nRequires=containerd.service\n[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nWantedBy=multi-user.target\n",
        ),
    ] {
        fs::write(units.join(name), content).unwrap();
    }
    fs::write(units.join(name), unit).unwrap();
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for name in ["containerd.service", "kubelet.service", name] {
        symlink(format!("../{name}"), wants.join(name)).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .arg(format!("--root={}", root.path().display()))
        .args(["verify", "--man=no", name, "multi-user.target"])
        .output()
        .expect("systemd-analyze must be installed");
    let said = text(&output.stderr);
    let about: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(name) || line.contains("cycle"))
        .collect();
    assert!(output.status.success() || !about.is_empty(), "{said}");
    about.join("\n")
}

#[test]
fn systemd_accepts_the_unit_and_its_order() {
    let name = "nodekiln-firstboot.service";
    assert_eq!(verify(name, UNIT), "");
    // That the check can fail is checked, too.
    let unknown = UNIT.replace("WatchdogSec", "WatchdogSeconds");
    assert!(verify(name, &unknown).contains("WatchdogSeconds"));
    let cycle = UNIT.replace("After=network-online.target", "After=kubelet.service");
    assert!(verify(name, &cycle).contains("cycle"));
}
