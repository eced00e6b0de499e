//! Machines that register with SSM.

use super::*;
use crate::credentials::ssm::{self, AGENTS};
use crate::system::pretended::programs::MANAGED_INSTANCE_ID;

const CLONE_OF: &str = "/var/lib/amazon/ssm.of-another-machine";

fn ssm_machine() -> Pretended {
    let machine = machine();
    machine.install_ssm_agent(AGENTS[0]);
    machine
}

fn ssm_sample() -> NodeConfig {
    let mut config = sample();
    config.spec.hybrid = samples::ssm().spec.hybrid;
    config
}

fn sharing() -> NodeConfig {
    let mut config = ssm_sample();
    config.spec.hybrid.as_mut().unwrap().enable_credentials_file = true;
    config
}

/// All that was said, run or written.
fn everything(machine: &Pretended) -> String {
    let mut text = machine.said.borrow().join("\n");
    text.push_str(&machine.commands.borrow().join("\n"));
    for kept in machine.files.borrow().values() {
        text.push_str(&String::from_utf8_lossy(&kept.content));
    }
    text
}

fn attempts(machine: &Pretended) -> usize {
    let commands = machine.commands.borrow();
    let registering = commands.iter().filter(|line| line.contains(" -register "));
    registering.count()
}

#[test]
fn a_machine_registers_once_and_is_named_by_its_registration() {
    let machine = ssm_machine();
    work_with(&machine, &sharing()).unwrap();
    assert_eq!(attempts(&machine), 1);
    let environment = machine.text("/etc/eks/kubelet/environment").unwrap();
    assert!(
        environment.contains(&format!("--hostname-override={MANAGED_INSTANCE_ID}")),
        "{environment}"
    );
    assert!(
        milestones(&machine).contains(&format!("registered with SSM as {MANAGED_INSTANCE_ID}"))
    );
    assert!(
        machine
            .enabled
            .borrow()
            .iter()
            .any(|unit| unit == AGENTS[0].unit)
    );
    assert_eq!(
        machine
            .links
            .borrow()
            .get("/eks-hybrid/.aws")
            .map(String::as_str),
        Some("/root/.aws")
    );
    assert!(!everything(&machine).contains(samples::ACTIVATION_CODE));

    machine.changes.set(0);
    machine.lives.set(Some(0));
    work_with(&machine, &sharing()).unwrap();
    assert_eq!(machine.changes.get(), 0);
    assert_eq!(machine.active.borrow()[AGENTS[0].unit], 1);

    // Not shared any more: the link goes, and what it led to stays.
    machine.lives.set(None);
    work_with(&machine, &ssm_sample()).unwrap();
    assert!(machine.links.borrow().is_empty());
    assert!(machine.text(ssm::CREDENTIALS).is_some());
    assert_eq!(machine.active.borrow()["kubelet.service"], 1);
}

#[test]
fn a_snap_that_is_unpacked_at_first_boot_is_waited_for() {
    let machine = machine();
    let error = work_with(&machine, &ssm_sample()).unwrap_err();
    assert_eq!(error.to_string(), "the SSM agent is not installed");
    assert_eq!(error.exit_code(), 4);
    machine.put("/usr/bin/snap", b"program", 0o755);
    work_with(&machine, &ssm_sample()).unwrap();
    assert!(machine.active.borrow().contains_key(AGENTS[1].unit));
}

#[test]
fn a_refused_activation_is_told_clearly_and_not_tried_again() {
    for (said, problem) in [
        (
            "ActivationExpired: status code: 400",
            "the SSM activation has expired, or is used up",
        ),
        (
            "InvalidActivation: status code: 400",
            "SSM does not know this activation",
        ),
    ] {
        let machine = ssm_machine();
        machine.refusals.borrow_mut().push(format!(
            "ERROR Registration failed due to error registering the instance with AWS SSM. {said}"
        ));
        let error = work_with(&machine, &ssm_sample()).unwrap_err();
        assert_eq!(error.to_string(), problem);
        assert_eq!(error.exit_code(), 2);
        assert!(error.hint().is_some());
        assert_eq!(attempts(&machine), 1);
        assert!(machine.text("/etc/eks/kubelet/environment").is_none());
        let Status::Failed { phase, .. } = status(&machine).unwrap() else {
            panic!("not failed")
        };
        assert_eq!(phase, Phase::Registration);
        // With a good one the same machine joins.
        work_with(&machine, &ssm_sample()).unwrap();
    }
}

#[test]
fn what_may_pass_is_tried_again_within_a_budget() {
    let machine = ssm_machine();
    let said = "first line\nERROR Registration failed due to RequestError: send request failed";
    machine
        .refusals
        .borrow_mut()
        .extend([said.to_owned(), said.to_owned()]);
    work_with(&machine, &ssm_sample()).unwrap();
    assert_eq!(attempts(&machine), 3);
    let Status::Done { journal } = status(&machine).unwrap() else {
        panic!("not done")
    };
    let record = &journal.phases[&Phase::Registration];
    assert_eq!(record.retries, 2);
    assert_eq!(
        record.last_transient.as_deref(),
        Some(
            "the SSM agent did not register the machine: ERROR Registration failed due to RequestError: send request failed"
        )
    );
    let told = milestones(&machine);
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("trying again"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");

    let machine = ssm_machine();
    machine
        .refusals
        .borrow_mut()
        .extend(vec![said.to_owned(); 100]);
    let error = work_with(&machine, &ssm_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    assert_eq!(attempts(&machine), 24, "every ten seconds for four minutes");
}

#[test]
fn an_agent_that_gives_no_credentials_is_told() {
    let machine = ssm_machine();
    machine.mute.set(true);
    let error = work_with(&machine, &ssm_sample()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/root/.aws/credentials, which the SSM agent writes, did not appear within 120 s"
    );
    assert_eq!(error.exit_code(), 6);
    assert!(
        machine
            .said
            .borrow()
            .iter()
            .any(|line| line == "STATUS=registration: waiting for /root/.aws/credentials")
    );
    machine.mute.set(false);
    machine.reboot();
    work_with(&machine, &ssm_sample()).unwrap();
    assert_eq!(attempts(&machine), 0, "it is registered already");
}

#[test]
fn a_registration_that_is_half_written_is_made_anew() {
    let machine = ssm_machine();
    work_with(&machine, &ssm_sample()).unwrap();
    machine.put(ssm::REGISTRATION, b"{\"ManagedInst", 0o600);
    machine.reboot();
    work_with(&machine, &ssm_sample()).unwrap();
    assert_eq!(attempts(&machine), 1);
    // The agent was started on it.
    assert!(machine.ran(&format!("systemctl start {}", AGENTS[0].unit)) == 1);
}

#[test]
fn cut_off_at_any_change_a_registering_machine_converges() {
    let whole = ssm_machine();
    work_with(&whole, &sharing()).unwrap();
    let changes = whole.changes.get();
    assert!(changes > 20, "{changes}");
    for lives in 0..changes {
        for reboots in [false, true] {
            let machine = ssm_machine();
            machine.lives.set(Some(lives));
            work_with(&machine, &sharing()).unwrap_err();
            machine.lives.set(None);
            if reboots {
                machine.reboot();
            }
            work_with(&machine, &sharing()).unwrap();
            assert_eq!(machine.tree(), whole.tree(), "cut off after {lives}");
            assert_eq!(*machine.links.borrow(), *whole.links.borrow(), "{lives}");
            for unit in ["containerd.service", "kubelet.service", AGENTS[0].unit] {
                assert!(
                    machine.active.borrow().contains_key(unit),
                    "{unit}, {lives}"
                );
                assert!(
                    machine.enabled.borrow().iter().any(|it| it == unit),
                    "{unit}, {lives}"
                );
            }
            machine.changes.set(0);
            work_with(&machine, &sharing()).unwrap();
            assert_eq!(machine.changes.get(), 0, "cut off after {lives}");
        }
    }
}

#[test]
fn a_clone_registers_anew_and_keeps_the_others_registration_aside() {
    let original = ssm_machine();
    work_with(&original, &ssm_sample()).unwrap();
    original.put(
        ssm::REGISTRATION,
        br#"{"ManagedInstanceID":"mi-00000000","Region":"us-west-2"}"#,
        0o600,
    );
    let copy = || {
        let machine = machine();
        *machine.files.borrow_mut() = original.files.borrow().clone();
        machine.active.borrow_mut().insert(AGENTS[0].unit.into(), 1);
        machine.put(
            "/etc/machine-id",
            b"ffffffffffffffffffffffffffffffff\n",
            0o444,
        );
        machine
    };
    let clone = copy();
    work_with(&clone, &ssm_sample()).unwrap();
    assert_eq!(attempts(&clone), 1);
    assert!(
        clone
            .text(&format!("{CLONE_OF}/registration"))
            .unwrap()
            .contains("mi-00000000")
    );
    assert!(
        clone
            .text("/root/.aws/credentials.of-another-machine")
            .is_some()
    );
    assert_eq!(clone.ran(&format!("systemctl stop {}", AGENTS[0].unit)), 1);
    let environment = clone.text("/etc/eks/kubelet/environment").unwrap();
    assert!(environment.contains(MANAGED_INSTANCE_ID), "{environment}");
    let whole = clone.tree();
    for lives in 0..10 {
        let clone = copy();
        clone.lives.set(Some(lives));
        work_with(&clone, &ssm_sample()).unwrap_err();
        clone.lives.set(None);
        work_with(&clone, &ssm_sample()).unwrap();
        assert_eq!(clone.tree(), whole, "{lives}");
    }
    // A clone of the clone finds another name for what it is not.
    let again = copy();
    *again.files.borrow_mut() = clone.files.borrow().clone();
    again.put(
        "/etc/machine-id",
        b"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\n",
        0o444,
    );
    work_with(&again, &ssm_sample()).unwrap();
    assert!(
        again
            .text(&format!("{CLONE_OF}/registration"))
            .unwrap()
            .contains("mi-00000000")
    );
    assert!(again.text(&format!("{CLONE_OF}-2/registration")).is_some());
}
