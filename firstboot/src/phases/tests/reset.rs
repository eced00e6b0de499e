//! Taking a node out again.

use super::super::reset::{self, Act, Wish};
use super::*;
use crate::credentials::ssm::{self, AGENTS};

const MOUNTS: &str = "/proc/self/mountinfo";

fn node() -> (Pretended, NodeConfig) {
    let machine = machine();
    machine.install_ssm_agent(AGENTS[0]);
    let mut config = sample();
    config.spec.hybrid = samples::ssm().spec.hybrid;
    work_with(&machine, &config).unwrap();
    for path in [
        "/var/lib/kubelet/pki/kubelet-client.pem",
        "/var/lib/kubelet/pods/1/volumes/file",
        "/var/lib/cni/results/1",
        "/etc/cni/net.d/10-cilium.conflist",
    ] {
        machine.put(path, b"x", 0o600);
    }
    machine.prints("ctr --namespace k8s.io tasks list --quiet", "");
    machine.prints("ctr --namespace k8s.io containers list --quiet", "");
    machine.changes.set(0);
    (machine, config)
}

fn reset(machine: &Pretended, wish: Wish) -> Result<(), Error> {
    for act in reset::plan(machine, wish)? {
        reset::carry_out(machine, &act)?;
    }
    Ok(())
}

#[test]
fn what_was_written_goes_and_the_machine_can_join_again() {
    let (machine, config) = node();
    let remarks = reset::remarks(&machine, Wish::default()).unwrap();
    assert!(
        remarks[0].contains("deregister-managed-instance --region us-west-2 --instance-id mi-"),
        "{remarks:?}"
    );
    reset(&machine, Wish::default()).unwrap();
    for unit in ["kubelet.service", "containerd.service", AGENTS[0].unit] {
        assert!(!machine.active.borrow().contains_key(unit), "{unit}");
        assert!(
            !machine.enabled.borrow().iter().any(|it| it == unit),
            "{unit}"
        );
    }
    for folder in [
        "/var/lib/kubelet",
        "/var/lib/cni",
        "/etc/cni/net.d",
        ssm::FOLDER,
    ] {
        assert!(machine.names(folder).unwrap().is_empty(), "{folder}");
    }
    assert!(machine.text("/etc/eks/kubelet/environment").is_none());
    assert!(machine.text(ssm::CREDENTIALS).is_none());
    // What the image brought stays.
    assert!(machine.text("/etc/nodekiln/sandbox-image").is_some());
    assert_eq!(status(&machine).unwrap(), Status::Untouched);
    work_with(&machine, &config).unwrap();
}

#[test]
fn the_identity_can_be_kept() {
    let (machine, config) = node();
    reset(
        &machine,
        Wish {
            keep_identity: true,
        },
    )
    .unwrap();
    assert!(
        machine
            .text("/var/lib/kubelet/pki/kubelet-client.pem")
            .is_some()
    );
    assert!(machine.text(ssm::REGISTRATION).is_some());
    assert!(machine.text("/var/lib/kubelet/kubeconfig").is_none());
    machine.commands.borrow_mut().clear();
    work_with(&machine, &config).unwrap();
    assert!(
        !machine
            .commands
            .borrow()
            .iter()
            .any(|line| line.contains(" -register "))
    );
}

#[test]
fn cut_off_anywhere_a_reset_goes_on() {
    for wish in [
        Wish::default(),
        Wish {
            keep_identity: true,
        },
    ] {
        let (whole, _) = node();
        reset(&whole, wish).unwrap();
        let changes = whole.changes.get();
        assert!(changes > 10, "{changes}");
        for lives in 0..changes {
            let (machine, _) = node();
            machine.lives.set(Some(lives));
            reset(&machine, wish).unwrap_err();
            machine.lives.set(None);
            reset(&machine, wish).unwrap();
            assert_eq!(machine.tree(), whole.tree(), "{lives}");
        }
    }
}

#[test]
fn mounts_of_pods_are_unmounted_and_those_of_others_refused() {
    let (machine, _) = node();
    let mount = |path: &str| format!("30 1 8:1 / {path} rw - ext4 /dev/sda1 rw\n");
    let pods = [
        "/var/lib/kubelet/pods/1/volumes/a",
        "/var/lib/kubelet/pods/1/volumes/a/b",
    ];
    let own: String = pods.iter().map(|path| mount(path)).collect();
    machine.put(MOUNTS, own.as_bytes(), 0o444);
    let acts = reset::plan(&machine, Wish::default()).unwrap();
    let unmounts: Vec<_> = acts
        .iter()
        .filter_map(|act| match act {
            Act::Unmount(path) => Some(path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(unmounts, [pods[1], pods[0]]);
    // One that is busy stops it before anything is removed.
    machine.fails(&format!("umount -- {}", pods[1]), "target is busy");
    let error = reset(&machine, Wish::default()).unwrap_err();
    assert!(
        error.chain().contains("target is busy"),
        "{}",
        error.chain()
    );
    assert!(
        machine
            .text("/var/lib/kubelet/pods/1/volumes/file")
            .is_some()
    );

    for path in [
        "/var/lib/kubelet/data",
        "/var/lib/kubelet/pods",
        "/var/lib/cni/x",
        // Its content was removed through the mount.
        "/etc/cni/net.d",
        ssm::FOLDER,
    ] {
        let (machine, _) = node();
        machine.put(MOUNTS, mount(path).as_bytes(), 0o444);
        let error = reset(&machine, Wish::default()).unwrap_err();
        assert!(error.to_string().starts_with(path), "{error}");
        assert_eq!(error.exit_code(), 4);
        assert_eq!(machine.changes.get(), 0);
    }
    // A disk of its own for the kubelet is emptied and stays mounted.
    let (machine, _) = node();
    machine.put(MOUNTS, mount("/var/lib/kubelet").as_bytes(), 0o444);
    reset(&machine, Wish::default()).unwrap();
    assert!(
        !machine
            .commands
            .borrow()
            .iter()
            .any(|line| line.starts_with("umount"))
    );
}
