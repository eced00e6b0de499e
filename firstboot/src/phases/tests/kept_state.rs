//! Machines whose system is replaced by another image while their state is kept.

use super::*;

const RELEASE: &str = "/etc/nodekiln-release";
const MACHINE_ID: &str = "/etc/machine-id";
const UUID: &str = "/sys/class/dmi/id/product_uuid";
const MOUNTS: &str = "/proc/self/mountinfo";
const SERVING: &str = "/var/lib/kubelet/pki/kubelet-server-current.pem";
const ANEW: &str = "this machine has another image than before: its work is done anew, and it \
    stays the node that it is";
/// What lies on the disk of its own.
const KEPT: [&str; 3] = [
    "/var/lib/nodekiln/",
    "/var/lib/kubelet/",
    "/var/lib/amazon/",
];

/// A machine of an image whose state has a disk of its own, empty yet.
fn of_image(key: &str, machine_id: &str) -> Pretended {
    let machine = machine();
    let release = format!("BUILD_KEY=\"{key}\"\n");
    machine.put(RELEASE, release.as_bytes(), 0o644);
    machine.put(MACHINE_ID, machine_id.as_bytes(), 0o444);
    let mounts = "22 1 8:1 / / rw - ext4 /dev/vda1 rw\n\
                  31 22 8:16 /nodekiln /var/lib/nodekiln rw - ext4 /dev/vdb rw\n\
                  32 22 8:16 /kubelet /var/lib/kubelet rw - ext4 /dev/vdb rw\n";
    machine.put(MOUNTS, mounts.as_bytes(), 0o444);
    machine
}

/// The same machine with the system of another image, and what it kept.
fn replaced(before: &Pretended, key: &str, machine_id: &str) -> Pretended {
    let machine = of_image(key, machine_id);
    for (path, kept) in before.files.borrow().iter() {
        if KEPT.iter().any(|folder| path.starts_with(folder)) {
            machine.put(path, &kept.content, kept.mode);
        }
    }
    machine
}

fn first_node() -> Pretended {
    let machine = of_image("1", "11111111111111111111111111111111\n");
    work_with(&machine, &sample()).unwrap();
    machine.put(SERVING, b"its own", 0o600);
    machine
}

#[test]
fn a_new_image_over_kept_state_does_all_its_work_and_stays_the_node() {
    let before = first_node();
    // Whether the machine-id is another one depends on who gave it.
    for machine_id in ["1", "2"] {
        let machine = replaced(&before, "2", &machine_id.repeat(32));
        work_with(&machine, &sample()).unwrap();
        assert_eq!(machine.text(SERVING).unwrap(), "its own");
        assert!(milestones(&machine).contains(&ANEW.to_owned()));
        assert!(matches!(status(&machine).unwrap(), Status::Done { .. }));
        let fresh = of_image("2", &machine_id.repeat(32));
        work_with(&fresh, &sample()).unwrap();
        fresh.put(SERVING, b"its own", 0o600);
        assert_eq!(machine.tree(), fresh.tree());
        assert_eq!(*machine.enabled.borrow(), *fresh.enabled.borrow());
        let ran = "systemctl restart systemd-sysctl.service";
        assert_eq!(machine.ran(ran), 1);

        // That is done once.
        machine.reboot();
        let done = machine.files.borrow().clone();
        work_with(&machine, &sample()).unwrap();
        assert_eq!(*machine.files.borrow(), done);
        assert!(!milestones(&machine).contains(&ANEW.to_owned()));
    }
}

#[test]
fn cut_off_in_a_new_image_it_still_is_the_node() {
    let before = first_node();
    for lives in 0..12 {
        let machine = replaced(&before, "2", "2");
        machine.lives.set(Some(lives));
        work_with(&machine, &sample()).unwrap_err();
        machine.lives.set(None);
        work_with(&machine, &sample()).unwrap();
        assert_eq!(machine.text(SERVING).unwrap(), "its own", "{lives}");
        let kubeconfig = machine.text("/var/lib/kubelet/kubeconfig");
        assert!(kubeconfig.is_some(), "{lives}");
        assert!(machine.text("/etc/eks/kubelet/environment").is_some());
    }
}

#[test]
fn a_registration_with_ssm_is_kept_with_the_state() {
    use crate::credentials::ssm::AGENTS;
    let mut config = sample();
    config.spec.hybrid = samples::ssm().spec.hybrid;
    let before = of_image("1", "1");
    before.install_ssm_agent(AGENTS[0]);
    work_with(&before, &config).unwrap();
    let machine = replaced(&before, "2", "2");
    machine.install_ssm_agent(AGENTS[0]);
    work_with(&machine, &config).unwrap();
    let registered = |machine: &Pretended| {
        let said = milestones(machine);
        said.iter().filter(|it| it.contains("registered")).count()
    };
    assert_eq!((registered(&before), registered(&machine)), (1, 0));
    let flags = |machine: &Pretended| machine.text("/etc/eks/kubelet/environment");
    assert_eq!(flags(&machine), flags(&before));
}

#[test]
fn the_state_of_another_machine_is_not_used() {
    let before = first_node();
    for (machine_id, uuid) in [
        // Its disk was put into another machine.
        ("1", "6b8a8b6e-0000-4000-8000-000000000002"),
        // Firmware that says of many machines what it says of this one.
        ("2", "03000200-0400-0500-0006-000700080009"),
        ("2", "00000000-0000-0000-0000-000000000000"),
    ] {
        let machine = replaced(&before, "2", &machine_id.repeat(32));
        machine.put(UUID, uuid.as_bytes(), 0o400);
        work_with(&machine, &sample()).unwrap();
        assert!(machine.text(SERVING).is_none(), "{uuid}");
        assert!(!milestones(&machine).contains(&ANEW.to_owned()));
    }
    // Boards without a UUID of their own: the machine-id decides.
    let shared = "03000200-0400-0500-0006-000700080009";
    let first = of_image("1", "1");
    first.put(UUID, shared.as_bytes(), 0o400);
    work_with(&first, &sample()).unwrap();
    first.put(SERVING, b"its own", 0o600);
    for (machine_id, is_kept) in [("1", true), ("2", false)] {
        let machine = replaced(&first, "2", machine_id);
        machine.put(UUID, shared.as_bytes(), 0o400);
        work_with(&machine, &sample()).unwrap();
        assert_eq!(machine.text(SERVING).is_some(), is_kept, "{machine_id}");
    }
}

#[test]
fn an_image_that_is_updated_in_place_does_its_work_anew() {
    let machine = of_image("1", "1");
    machine.remove(MOUNTS).unwrap();
    work_with(&machine, &sample()).unwrap();
    machine.put(SERVING, b"its own", 0o600);
    machine.put(RELEASE, b"BUILD_KEY=\"2\"\n", 0o644);
    machine.reboot();
    work_with(&machine, &sample()).unwrap();
    assert!(milestones(&machine).contains(&ANEW.to_owned()));
    assert_eq!(machine.text(SERVING).unwrap(), "its own");
}

#[test]
fn a_journal_of_a_version_that_knew_no_images_goes_on() {
    let machine = of_image("1", "1");
    work_with(&machine, &sample()).unwrap();
    let journal = machine.text(JOURNAL).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&journal).unwrap();
    old.as_object_mut().unwrap().remove("image").unwrap();
    machine.put(JOURNAL, old.to_string().as_bytes(), 0o600);
    machine.reboot();
    work_with(&machine, &sample()).unwrap();
    assert!(!milestones(&machine).contains(&ANEW.to_owned()));
    assert_eq!(machine.ran("systemctl restart systemd-sysctl.service"), 0);
    let journal = machine.text(JOURNAL).unwrap();
    assert!(journal.contains("\"image\""), "{journal}");
}
