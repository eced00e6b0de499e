//! Local files, and what is left out.

use super::*;

#[test]
fn a_changed_local_file_is_pinned_anew() {
    let (profile, fake) = (profile(BASE, &[]), fake());
    let before = run(&profile, None, &fake).expect("resolves");
    let fake = fake
        .with("/p/parts/runc", "newer runc")
        .with("/p/base.qcow2", "newer base");
    fake.called();
    let after = run(&profile, Some(&before), &fake).expect("resolves");
    let notes: Vec<String> = fake.called();
    for note in [
        "note the file of runc changed: it is pinned anew",
        "note the base image changed: it is pinned anew",
    ] {
        assert!(notes.iter().any(|call| call == note), "{notes:?}");
    }
    assert_eq!(after.base.sha256, digest(b"newer base"));
    let runc = &after.components[&ComponentName::Runc];
    assert_eq!(runc.file.sha256, digest(b"newer runc"));
    assert_eq!(runc.members["runc"].sha256, digest(b"newer runc"));
    let kubelet = ComponentName::Kubelet;
    assert_eq!(after.components[&kubelet], before.components[&kubelet]);
}

#[test]
fn a_base_that_is_written_anew_says_so() {
    let fake = fake().with("/p/base.raw", "raw");
    let locked = run(&profile("{path: base.raw}", &[]), None, &fake).expect("resolves");
    assert_eq!(locked.base.trust, "local file, written anew as one qcow2");
}

#[test]
fn says_what_a_node_without_a_component_cannot_do() {
    let (profile, fake) = (profile(BASE, &[("kubelet", "{omit: true}")]), fake());
    let locked = run(&profile, None, &fake).expect("resolves");
    assert!(!locked.components.contains_key(&ComponentName::Kubelet));
    let note = "note left out kubelet: the machine cannot be a node".to_owned();
    assert!(fake.called().contains(&note));
}
