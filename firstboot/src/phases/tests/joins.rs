//! The checks while a machine joins.

use super::*;
use crate::system::Response;
use crate::validation::SKIP_FILE;

const HOST: &str = "example.gr7.us-west-2.eks.amazonaws.com";
const KUBECONFIG: &str = "/var/lib/kubelet/kubeconfig";

/// Has all that a hybrid node needs take connections, and the cluster know it.
pub(super) fn open_the_network(machine: &Pretended) {
    for service in ["rolesanywhere", "ssm"] {
        let listener = format!("{service}.us-west-2.amazonaws.com:443");
        machine.listeners.borrow_mut().push(listener);
    }
    machine.listeners.borrow_mut().push(format!("{HOST}:443"));
    machine.prints(
        "/usr/local/bin/aws-iam-authenticator token --cluster-id my-cluster --region us-west-2",
        r#"{"kind":"ExecCredential","status":{"token":"t0ken"}}"#,
    );
    the_cluster_answers(machine, 200);
}

fn the_cluster_answers(machine: &Pretended, status: u16) {
    let answer = Response {
        status,
        ..Response::default()
    };
    let asked = format!("GET https://{HOST}/api/v1/namespaces/default/endpoints/kubernetes");
    machine.answers.borrow_mut().insert(asked, Ok(answer));
}

fn close_the_network(machine: &Pretended) {
    machine.listeners.borrow_mut().clear();
    machine.answers.borrow_mut().clear();
}

fn logged(machine: &Pretended, parts: &[&str]) -> bool {
    let said = machine.said.borrow();
    said.iter()
        .any(|line| line.starts_with('<') && parts.iter().all(|part| line.contains(part)))
}

fn skipping(machine: &Pretended, names: &[&str]) -> Result<(), Error> {
    let text = serde_json::to_vec(&sample()).unwrap();
    let skips = Skips::new(names.iter().copied()).unwrap();
    let find = || Ok(found(text.clone()));
    run(machine, &find, &Variables::default(), &skips)
}

#[test]
fn checks_that_pass_are_told_as_a_table_and_noted() {
    let machine = machine();
    work_with(&machine, &sample()).unwrap();
    for name in ["install-validation", "k8s-authentication-validation"] {
        assert!(logged(&machine, &["ok", name]), "{name}");
    }
    let Status::Done { journal } = status(&machine).unwrap() else {
        panic!("not done")
    };
    for phase in [Phase::Validation, Phase::Authentication] {
        assert!(journal.phases[&phase].finished.is_some(), "{phase}");
    }
}

#[test]
fn a_machine_that_is_not_right_stays_as_it_was() {
    let machine = machine();
    let controllers = "/sys/fs/cgroup/cgroup.controllers";
    machine.put(controllers, b"cpu io\n", 0o444);
    let before: Vec<String> = machine.files.borrow().keys().cloned().collect();
    let error = work_with(&machine, &sample()).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(error.exit_code(), 4);
    assert!(error.hint().unwrap().contains("--skip cgroup-validation"));
    let console = milestones(&machine);
    let told = "check cgroup-validation failed: cgroups v2 without the controllers memory, pids; \
                hint: boot a kernel that has them, and without cgroup_disable=";
    assert!(console.iter().any(|line| line == told), "{console:?}");
    // The whole table is in the log, and that it was not tried again in vain.
    assert!(logged(&machine, &["failed", "cgroup-validation"]));
    assert!(logged(&machine, &["skipped", "cluster-access-validation"]));
    assert!(!console.iter().any(|line| line.contains("trying again")));
    let mut after: Vec<String> = machine.files.borrow().keys().cloned().collect();
    after.retain(|path| path != JOURNAL);
    assert_eq!(after, before);
    assert!(machine.active.borrow().is_empty());
    assert!(matches!(
        status(&machine).unwrap(),
        Status::Failed {
            phase: Phase::Validation,
            ..
        }
    ));
    machine.put(controllers, b"cpu memory pids\n", 0o444);
    work_with(&machine, &sample()).unwrap();
}

#[test]
fn a_network_that_is_down_is_tried_again_and_then_told() {
    let machine = machine();
    close_the_network(&machine);
    let error = work_with(&machine, &sample()).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error:?}");
    for name in [
        "iam-ra-api-network",
        "api-server-endpoint-resolution-validation",
    ] {
        assert!(error.chain().contains(name), "{}", error.chain());
    }
    let Status::Failed { journal, .. } = status(&machine).unwrap() else {
        panic!("not failed")
    };
    assert!(journal.phases[&Phase::Validation].retries >= 2);
    assert!(machine.text(KUBECONFIG).is_none());
    open_the_network(&machine);
    work_with(&machine, &sample()).unwrap();
}

#[test]
fn a_cluster_that_does_not_know_the_node_keeps_the_kubelet_from_starting() {
    for (answer, code) in [(401, 4), (403, 4), (503, 6)] {
        let machine = machine();
        the_cluster_answers(&machine, answer);
        let error = work_with(&machine, &sample()).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error:?}");
        assert!(machine.text(KUBECONFIG).is_some());
        assert!(!machine.active.borrow().contains_key("kubelet.service"));
        // Not let go either, in an image that enables it.
        assert!(!machine.said.borrow().iter().any(|line| line == "READY=1"));
        the_cluster_answers(&machine, 200);
        work_with(&machine, &sample()).unwrap();
        assert!(machine.active.borrow().contains_key("kubelet.service"));
    }
}

#[test]
fn what_is_skipped_stops_nothing() {
    let names = [
        "iam-ra-api-network",
        "api-server-endpoint-resolution-validation",
        "k8s-authentication-validation",
    ];
    let machine = machine();
    close_the_network(&machine);
    skipping(&machine, &names).unwrap();
    assert!(logged(&machine, &["skipped as asked", names[2]]));

    let machine = super::machine();
    close_the_network(&machine);
    let file = format!("# of this site\n{}\nno-such-check\n", names.join("\n"));
    machine.put(SKIP_FILE, file.as_bytes(), 0o644);
    work_with(&machine, &sample()).unwrap();
    assert!(logged(&machine, &["no-such-check"]));
}

#[test]
fn a_node_starts_again_without_a_network() {
    let machine = machine();
    work_with(&machine, &sample()).unwrap();
    machine.reboot();
    close_the_network(&machine);
    let before = machine.files.borrow().clone();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(*machine.files.borrow(), before);
    assert!(machine.active.borrow().contains_key("kubelet.service"));
}

#[test]
fn cut_off_where_a_check_fails_it_converges() {
    let whole = machine();
    work_with(&whole, &sample()).unwrap();
    for lives in 0..whole.changes.get() {
        for fails_before in [true, false] {
            let machine = machine();
            if fails_before {
                close_the_network(&machine);
            } else {
                the_cluster_answers(&machine, 401);
            }
            machine.lives.set(Some(lives));
            work_with(&machine, &sample()).unwrap_err();
            assert!(!machine.active.borrow().contains_key("kubelet.service"));
            machine.lives.set(None);
            open_the_network(&machine);
            work_with(&machine, &sample()).unwrap();
            assert_eq!(machine.tree(), whole.tree(), "cut off after {lives}");
            machine.changes.set(0);
            work_with(&machine, &sample()).unwrap();
            assert_eq!(machine.changes.get(), 0, "cut off after {lives}");
        }
    }
}
