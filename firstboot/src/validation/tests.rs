use super::samples::Sample;
use super::*;

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

#[test]
fn a_right_machine_passes_every_check() {
    let sample = Sample::hybrid();
    let report = run(&sample.subject(), Moment::Before, &Skips::default());
    for it in &report.outcomes {
        assert!(
            matches!(it.verdict, Verdict::Ok | Verdict::Skipped),
            "{it:?}"
        );
    }
    report.verdict().unwrap();
    assert!(report.remarks().is_empty());
}
