use super::samples::{ENDPOINT, Sample};
use super::*;
use crate::node_config::model::Ssm;
use crate::render::Version;
use crate::system::{NetworkError, Space, Variables};
use Verdict::{CouldNotRun, Failed, Ok as Fine, Skipped, Warning};

mod cluster;
mod machine;

/// The one outcome of a check.
fn outcome(sample: &Sample, name: &str) -> Outcome {
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    carry_out(check, &sample.subject())
}

fn assert_outcome(sample: &Sample, name: &str, verdict: Verdict, detail: &str) {
    let found = outcome(sample, name);
    assert_eq!(
        (found.verdict, found.detail.as_str()),
        (verdict, detail),
        "{name}"
    );
    if matches!(verdict, Verdict::Warning | Verdict::Failed) {
        assert!(found.hint.is_some(), "{name} gives no hint");
    }
}

/// A right hybrid node on which one thing is changed.
fn but(change: impl FnOnce(&mut Sample)) -> Sample {
    let mut sample = Sample::hybrid();
    change(&mut sample);
    sample
}

fn with_ssm(sample: &mut Sample) {
    let hybrid = sample.config.spec.hybrid.as_mut().unwrap();
    hybrid.iam_roles_anywhere = None;
    hybrid.ssm = Some(Ssm::default());
}

#[test]
fn a_right_machine_passes_every_check() {
    let sample = Sample::hybrid();
    let subject = sample.subject();
    let report = run(&subject, Moment::Before, &Skips::default());
    let report = report.and(run(&subject, Moment::Written, &Skips::default()));
    assert_eq!(report.outcomes.len(), CHECKS.len());
    for it in &report.outcomes {
        assert!(matches!(it.verdict, Fine | Skipped), "{it:?}");
    }
    report.verdict().unwrap();
    assert!(report.remarks().is_empty());
    assert_eq!(report.json()["valid"], true);
}

#[test]
fn an_ec2_node_asks_nobody() {
    let sample = but(|it| it.config.spec.hybrid = None);
    let subject = sample.subject();
    let report = run(&subject, Moment::Before, &Skips::default());
    let report = report.and(run(&subject, Moment::Written, &Skips::default()));
    report.verdict().unwrap();
    assert!(sample.system.requests.borrow().is_empty());
}

#[test]
fn the_table_for_people_and_the_document_for_programs() {
    let sample = but(|it| {
        it.facts.kubelet = Version::new(1, 35, 0);
        it.system.put("/sys/class/net/eth0/mtu", b"1600\n", 0o444);
        it.system.listeners.borrow_mut().clear();
        it.config.spec.hybrid = None;
    });
    let skips = Skips::new(["limits-validation"]).unwrap();
    let mut report = run(&sample.subject(), Moment::Before, &skips);
    for it in &mut report.outcomes {
        it.milliseconds = 0;
    }
    insta::assert_snapshot!("table", report.table());
    let refusal = report.verdict().unwrap_err();
    assert_eq!(refusal.exit_code(), 4);
    assert_eq!(
        refusal.to_string(),
        "a check before joining failed: kubelet-version-skew-validation: the kubelet is newer \
         than the cluster: kubelet 1.35.0, cluster 1.34"
    );
    assert!(
        refusal
            .hint()
            .ends_with("--skip kubelet-version-skew-validation goes on without the check")
    );
    let json = report.json();
    assert_eq!(json["valid"], false);
    let skew = &json["checks"].as_array().unwrap()[8];
    assert_eq!(skew["verdict"], "failed");
    assert_eq!(skew["mayPass"], false);
}

#[test]
fn names_of_nodeadm_are_taken_and_unknown_ones_are_not() {
    let skips = Skips::new(["ssm-api-network-validation", "proxy-validation"]).unwrap();
    assert!(skips.contains("ssm-api-network") && skips.contains("proxy-validation"));
    assert_eq!(
        skips.remarks,
        ["the check ssm-api-network-validation is called ssm-api-network"]
    );
    let unknown = Skips::new(["proxy"]).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no check \"proxy\"");
    assert!(unknown.hint().contains("cluster-access-validation, "));
    let phase = Skips::new(["preprocess"]).unwrap_err();
    assert!(phase.hint().starts_with("phases cannot be skipped"));
}

#[test]
fn an_image_can_do_without_checks() {
    let sample = Sample::hybrid();
    let text = b"# not here\nmtu-validation # known\n\nfrom-a-later-version\n";
    sample.system.put(SKIP_FILE, text, 0o644);
    let skips = Skips::default().with_file(&sample.system).unwrap();
    assert!(skips.contains("mtu-validation"));
    assert_eq!(
        skips.remarks,
        ["/etc/nodekiln/skip-validations: there is no check \"from-a-later-version\""]
    );
    let report = run(&sample.subject(), Moment::Before, &skips);
    let mtu = report.outcomes.last().unwrap();
    assert_eq!((mtu.name, mtu.verdict), ("mtu-validation", Skipped));
}

#[test]
fn failures_that_may_mend_themselves_are_told_from_others() {
    let report = |findings: Vec<Finding>| Report {
        outcomes: findings
            .into_iter()
            .map(|it| Outcome::new("x", it, Duration::ZERO))
            .collect(),
    };
    let code = |findings| report(findings).verdict().unwrap_err().exit_code();
    assert_eq!(
        code(vec![Finding::failed_for_now("a", "b"), Finding::ok("c")]),
        6
    );
    assert_eq!(
        code(vec![
            Finding::failed_for_now("a", "b"),
            Finding::failed("c", "d")
        ]),
        4
    );
    let lines = report(vec![Finding::warning("one\ntwo", "do")]);
    assert_eq!(lines.remarks(), ["x: warning: one two; hint: do"]);
    report(vec![
        Finding::could_not_run("a"),
        Finding::warning("b", "c"),
    ])
    .verdict()
    .unwrap();
}

#[test]
fn what_cannot_be_found_out_stops_nothing_and_says_why() {
    // No systemctl that answers.
    let sample = but(|it| it.system.fails("systemctl is-active kubelet.service", ""));
    sample
        .system
        .programs
        .borrow_mut()
        .remove("ip -json -4 route show default");
    assert_eq!(outcome(&sample, "mtu-validation").verdict, CouldNotRun);
}

#[test]
fn when_time_is_over_nobody_waits() {
    let sample = but(|it| it.system.listeners.borrow_mut().clear());
    sample.without_time();
    let before = crate::system::Clock::elapsed(&sample.system);
    assert_eq!(outcome(&sample, "iam-ra-api-network").verdict, Failed);
    let after = crate::system::Clock::elapsed(&sample.system);
    assert!(
        after.saturating_sub(before) < Duration::from_secs(1),
        "{before:?} {after:?}"
    );
}

#[test]
fn every_check_has_a_name_of_its_own() {
    let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    names.extend(CHECKS.iter().flat_map(|check| check.aliases));
    let number = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), number);
}
