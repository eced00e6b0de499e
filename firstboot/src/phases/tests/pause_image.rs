//! The pause image out of the machine's own image.

use super::clusters::{HELPER, keys};
use super::*;
use crate::system::Response;
use crate::system::pretended::programs::REGISTRY_TOKEN;

const IMAGE: &str = "localhost/pause:3.10";
const ARCHIVE: &str = "/etc/nodekiln/sandbox-image.tar";

fn warnings(machine: &Pretended) -> Vec<String> {
    let said = machine.said.borrow();
    let about = |line: &&String| line.starts_with("<4>") && line.contains(IMAGE);
    said.iter().filter(about).cloned().collect()
}

#[test]
fn an_archive_is_imported_once_and_pinned() {
    let machine = machine();
    machine.put(ARCHIVE, IMAGE.as_bytes(), 0o644);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&true));
    assert_eq!(warnings(&machine), [""; 0]);
    let import = format!("ctr --namespace k8s.io images import {ARCHIVE}");
    assert_eq!(machine.ran(&import), 1);
    machine.changes.set(0);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.ran(&import), 1);
    assert_eq!(machine.changes.get(), 0);
    // A store that was lost, as with an instance's own disks, is filled again.
    machine.images.borrow_mut().clear();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&true));
}

#[test]
fn an_image_in_the_store_is_only_pinned() {
    let machine = machine();
    machine.put(ARCHIVE, IMAGE.as_bytes(), 0o644);
    machine.images.borrow_mut().insert(IMAGE.into(), false);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&true));
    assert_eq!(warnings(&machine), [""; 0]);
    let import = format!("ctr --namespace k8s.io images import {ARCHIVE}");
    assert_eq!(machine.ran(&import), 0);
}

/// It was in the store, and nobody pinned it any more.
#[test]
fn cut_off_between_import_and_label_it_is_pinned_after_all() {
    let prepared = || {
        let machine = machine();
        machine.put(ARCHIVE, IMAGE.as_bytes(), 0o644);
        machine.changes.set(0);
        machine
    };
    let whole = prepared();
    work_with(&whole, &sample()).unwrap();
    for lives in 0..whole.changes.get() {
        let machine = prepared();
        machine.lives.set(Some(lives));
        // That the image is not had stops nothing by itself; what comes after does.
        let _ = work_with(&machine, &sample());
        machine.lives.set(None);
        machine.reboot();
        work_with(&machine, &sample()).unwrap();
        assert_eq!(machine.images.borrow().get(IMAGE), Some(&true), "{lives}");
    }
}

#[test]
fn without_the_image_the_node_is_told_of_and_not_stopped() {
    type Damage = fn(&Pretended);
    let damages: [(Damage, &str); 4] = [
        (|_| {}, "neither in containerd's store nor at"),
        (
            |machine| machine.put(ARCHIVE, b"another:1", 0o644),
            "does not hold the image",
        ),
        (
            |machine| {
                machine.fails(
                    "ctr --namespace k8s.io images check \
                     name==localhost/pause:3.10,labels.\"io.cri-containerd.pinned\"==pinned",
                    "no such socket",
                );
            },
            "asking for it failed: no such socket",
        ),
        (
            |machine| machine.remove("/usr/bin/ctr").unwrap(),
            "running ctr",
        ),
    ];
    for (damage, text) in damages {
        let machine = machine();
        damage(&machine);
        work_with(&machine, &sample()).unwrap();
        let said = warnings(&machine);
        assert!(
            said.len() == 1 && said[0].contains(text),
            "{text}: {said:?}"
        );
        assert!(machine.active.borrow().contains_key("kubelet.service"));
    }
}

const IN_ECR: &str = "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5";
const REGISTRY: &str = "POST https://api.ecr.us-west-2.amazonaws.com/";

/// A machine whose image brings no pause image.
fn bare_machine() -> Pretended {
    let machine = machine();
    machine.remove("/etc/nodekiln/sandbox-image").unwrap();
    machine.changes.set(0);
    machine
        .hook
        .set(Some(|_, line| line.starts_with(HELPER).then(|| Ok(keys()))));
    ecr_answers(&machine, REGISTRY_TOKEN);
    machine
}

fn ecr_answers(machine: &Pretended, token: &str) {
    let answer = Response {
        status: 200,
        headers: Vec::new(),
        body: format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"}}]}}"#).into(),
    };
    machine
        .answers
        .borrow_mut()
        .insert(REGISTRY.into(), Ok(answer));
}

fn all_that_was_said(machine: &Pretended) -> String {
    let (said, commands) = (machine.said.borrow(), machine.commands.borrow());
    said.iter()
        .chain(commands.iter())
        .cloned()
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn out_of_ecr_it_is_pulled_once_with_a_token_that_nobody_sees() {
    let machine = bare_machine();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IN_ECR), Some(&true));
    let said = all_that_was_said(&machine);
    assert!(said.contains("was pulled"), "{said}");
    assert!(
        !said.contains(REGISTRY_TOKEN) && !said.contains("s3cr3t"),
        "{said}"
    );
    assert!(
        machine
            .names("/run/nodekiln/pause-image")
            .unwrap()
            .is_empty()
    );
    let asked = machine.requests.borrow().len();
    machine.reboot();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.requests.borrow().len(), asked);
    // A node that joined starts without a network, with or without the image.
    machine.images.borrow_mut().clear();
    machine.reboot();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.requests.borrow().len(), asked);
}

#[test]
fn a_pull_that_fails_is_told_and_stops_nothing() {
    let machine = bare_machine();
    ecr_answers(&machine, "d3Jvbmc=");
    work_with(&machine, &sample()).unwrap();
    let said = all_that_was_said(&machine);
    assert!(
        said.contains("pulling it failed: 401 Unauthorized"),
        "{said}"
    );
    assert!(!said.contains("d3Jvbmc="), "{said}");
    let pull = format!(
        "ctr --namespace k8s.io images pull --hosts-dir /run/nodekiln/pause-image {IN_ECR}"
    );
    assert_eq!(machine.ran(&pull), 3);
    assert!(
        machine
            .names("/run/nodekiln/pause-image")
            .unwrap()
            .is_empty()
    );

    let machine = bare_machine();
    ecr_answers(&machine, "a\\\"b");
    work_with(&machine, &sample()).unwrap();
    assert!(
        all_that_was_said(&machine)
            .contains("the answer to ecr:GetAuthorizationToken has no token")
    );
    let machine = bare_machine();
    machine.answers.borrow_mut().remove(REGISTRY);
    work_with(&machine, &sample()).unwrap();
    assert!(all_that_was_said(&machine).contains("calling ecr:GetAuthorizationToken"));
    assert!(machine.active.borrow().contains_key("kubelet.service"));
}

#[test]
fn a_site_with_a_mirror_or_an_image_of_its_own_asks_no_registry() {
    let machine = bare_machine();
    machine.put("/etc/containerd/certs.d/_default/hosts.toml", b"", 0o644);
    work_with(&machine, &sample()).unwrap();
    let other = bare_machine();
    let mut config = sample();
    config.spec.containerd.config =
        "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'a/b:1'\n".into();
    work_with(&other, &config).unwrap();
    for machine in [machine, other] {
        let asked = machine
            .requests
            .borrow()
            .iter()
            .any(|it| it.url.contains("ecr"));
        assert!(!asked && machine.images.borrow().is_empty());
    }
}

#[test]
fn cut_off_while_it_pulls_it_converges_and_leaves_no_token() {
    let whole = bare_machine();
    work_with(&whole, &sample()).unwrap();
    for lives in 0..whole.changes.get() {
        let machine = bare_machine();
        machine.lives.set(Some(lives));
        // That the pull is cut off stops nothing by itself; what comes after does.
        let cut = work_with(&machine, &sample());
        machine.lives.set(None);
        if cut.is_err() {
            work_with(&machine, &sample()).unwrap();
        }
        assert!(machine.tree() == whole.tree(), "cut off after {lives}");
    }
}

#[test]
fn an_instance_with_the_soci_snapshotter_gets_it_there_too() {
    let machine = super::instance::instance_machine();
    machine.remove("/etc/nodekiln/sandbox-image").unwrap();
    let image = "localhost/kubernetes/pause:latest";
    let archive = "/etc/eks/pause.tar";
    machine.put(archive, image.as_bytes(), 0o644);
    machine.put("/usr/bin/soci-snapshotter-grpc", b"program", 0o755);
    for cpu in 0..4 {
        machine.put(
            &format!("/sys/devices/system/cpu/cpu{cpu}/online"),
            b"1\n",
            0o444,
        );
    }
    let mut config = super::instance::ec2_sample();
    // Without the gate the image has it by itself.
    work_with(&machine, &config).unwrap();
    assert!(machine.images.borrow().is_empty());
    config
        .spec
        .feature_gates
        .insert("FastImagePull".into(), true);
    work_with(&machine, &config).unwrap();
    assert_eq!(machine.images.borrow().get(image), Some(&true));
    let import = format!(
        "ctr --namespace k8s.io images import --snapshotter soci --discard-unpacked-layers=false \
         --local {archive}"
    );
    assert_eq!(machine.ran(&import), 1);
    work_with(&machine, &config).unwrap();
    assert_eq!(machine.ran(&import), 1);
}
