//! What the journal keeps of attempts, and what an older or newer one says.

use super::*;
use crate::credentials::ssm::AGENTS;

#[test]
fn status_tells_retries_and_what_is_waited_for() {
    let mut config = sample();
    config.spec.hybrid = samples::ssm().spec.hybrid;
    // Cut off while it waits for credentials: the journal on disk says so.
    for lives in 0..60 {
        let machine = machine();
        machine.install_ssm_agent(AGENTS[0]);
        machine.mute.set(true);
        machine
            .refusals
            .borrow_mut()
            .push("RequestError: no route".into());
        machine.lives.set(Some(lives));
        if work_with(&machine, &config).is_err()
            && let Status::Working { journal, .. } = status(&machine).unwrap()
            && let Some(what) = &journal.phases[&Phase::Registration].waits_for
        {
            assert_eq!(what, "/root/.aws/credentials");
            assert_eq!(journal.phases[&Phase::Registration].retries, 1);
            let text = status(&machine).unwrap().to_string();
            assert!(
                text.contains("\nregistration was tried again after: "),
                "{text}"
            );
            assert!(
                text.starts_with("working on registration: waiting for /root/.aws/credentials\n"),
                "{text}"
            );
            return;
        }
    }
    panic!("nothing ever waited");
}

#[test]
fn status_tells_what_to_do() {
    let behind = |lives| {
        let machine = machine();
        machine.behind.set(1_800_000_000);
        machine.lives.set(lives);
        let outcome = work_with(&machine, &sample());
        (outcome, status(&machine).unwrap().to_string())
    };
    let (outcome, text) = behind(None);
    let hint = format!("; hint: {}", outcome.unwrap_err().hint().unwrap());
    assert!(text.lines().next().unwrap().ends_with(&hint), "{text}");
    assert_eq!(text.matches(&hint).count(), 1, "{text}");
    // Cut off while it tries again, nothing has failed for good yet.
    let text = (0..60)
        .map(|lives| behind(Some(lives)).1)
        .find(|text| text.contains("\ncredentials was tried again after: "))
        .expect("it is tried again");
    assert!(text.starts_with("working on credentials\n"), "{text}");
    assert!(text.trim_end().ends_with(&hint), "{text}");
}

#[test]
fn a_node_of_an_earlier_version_stays_one() {
    let machine = machine();
    work_with(&machine, &sample()).unwrap();
    let mut journal: serde_json::Value =
        serde_json::from_slice(&machine.files.borrow()[JOURNAL].content).unwrap();
    let phases = journal["phases"].as_object_mut().unwrap();
    for added_since in [
        "registration",
        "validation",
        "authentication",
        "service-manager",
        "pause-image",
    ] {
        assert!(phases.remove(added_since).is_some(), "{added_since}");
    }
    // And one that was noted by a later version.
    let record = phases["kubelet"].clone();
    phases.insert("a-later-phase".into(), record);
    machine.put(JOURNAL, journal.to_string().as_bytes(), 0o600);
    assert!(matches!(status(&machine).unwrap(), Status::Done { .. }));
    machine.put("/var/lib/kubelet/pki/kubelet-client.pem", b"its own", 0o600);
    start(&machine, &nothing_found).unwrap();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.active.borrow()["kubelet.service"], 1);
    assert!(
        machine
            .text("/var/lib/kubelet/pki/kubelet-client.pem")
            .is_some()
    );
}

#[test]
fn a_server_of_seeds_that_does_not_answer_is_waited_for_only_before_joining() {
    let machine = machine();
    let unreachable = |may_pass: bool| {
        let find = move || {
            Err(FindError::Refused {
                source_kind: Source::NoCloud,
                problem: "http://seeds.example/user-data answers 503".into(),
                hint: "it is tried again".into(),
                may_pass,
            })
        };
        start(&machine, &find)
    };
    assert_eq!(unreachable(true).unwrap_err().exit_code(), 6);
    assert_eq!(unreachable(false).unwrap_err().exit_code(), 2);
    work_with(&machine, &sample()).unwrap();
    machine.reboot();
    unreachable(true).unwrap();
    assert_eq!(machine.changes.get(), 0);
    let told = milestones(&machine)
        .into_iter()
        .any(|line| line.contains("answers 503") && line.ends_with("this node stays as it is"));
    assert!(told);
    // What a person has to mend is an error now as then.
    assert_eq!(unreachable(false).unwrap_err().exit_code(), 2);
}
