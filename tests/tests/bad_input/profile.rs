//! Profiles that are no profiles, ask for what there is not, or try to cost more
//! than they are worth.

use std::fmt::Write as _;
use std::fs;

use nodekiln_tests::command::Workshop;

/// The text of a profile that is good, to be spoilt.
fn good(workshop: &Workshop) -> String {
    fs::read_to_string(workshop.path("profile.yaml")).expect("reads")
}

/// Fails unless `profile` is refused by every verb that reads one.
#[track_caller]
fn refused(profile: impl AsRef<[u8]>, words: &[&str]) {
    let workshop = Workshop::empty();
    fs::write(workshop.path("profile.yaml"), profile).expect("writes");
    for verb in ["validate", "lock", "plan", "build"] {
        workshop.refused_by(
            &[verb, "profile.yaml"],
            2,
            &[words, &["profile.yaml", "hint:"]].concat(),
        );
    }
}

#[test]
fn a_profile_of_ten_megabytes_is_refused_by_its_size() {
    let mut profile = good(&Workshop::empty());
    profile += &"# a comment\n".repeat(900_000);
    assert!(profile.len() > 10 << 20);
    refused(profile, &["1 MiB"]);
}

#[test]
fn aliases_that_explode_are_refused() {
    let mut profile = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let before = level - 1;
        let items = vec![format!("*a{before}"); 10].join(", ");
        writeln!(profile, "a{level}: &a{level} [{items}]").expect("writes");
    }
    refused(profile, &["profile.yaml:1:", "aliases expand"]);
    refused("a: &a [*a]\n", &["profile.yaml:1:"]);
    refused("[".repeat(100_000), &["profile.yaml:1:"]);
}

#[test]
fn duplicate_keys_are_refused_where_the_second_stands() {
    let profile = good(&Workshop::empty());
    let lines = profile.lines().count();
    refused(
        format!("{profile}kind: ImageProfile\n"),
        &[&format!("profile.yaml:{}:1", lines + 1), "kind", "twice"],
    );
}

#[test]
fn unknown_keys_are_answered_with_the_nearest_known_one() {
    let profile = good(&Workshop::empty());
    for (known, wrong) in [
        ("credentialProvider:", "credentialprovider:"),
        ("kubernetes:", "kubernets:"),
        ("kubelet:", "kubelett:"),
        ("outputs:", "output:"),
    ] {
        assert!(profile.contains(known));
        let line = 1 + profile
            .lines()
            .position(|line| line.trim_start().starts_with(known))
            .expect("it is there");
        let place = format!("profile.yaml:{line}:");
        let question = format!("did you mean '{}'?", known.trim_end_matches(':'));
        let workshop = Workshop::empty();
        fs::write(workshop.path("profile.yaml"), profile.replace(known, wrong)).expect("writes");
        // A missing key may be a second problem of the same mistake.
        let ran = workshop.nodekiln(&["validate", "profile.yaml"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let error = ran
            .stderr
            .split("error: ")
            .find(|error| error.starts_with(&place))
            .unwrap_or_else(|| panic!("{place} {}", ran.stderr));
        assert!(error.contains(&question), "{error}");
    }
}

#[test]
fn wrong_types_and_values_are_refused_where_they_stand() {
    let profile = good(&Workshop::empty());
    for (right, wrong, words) in [
        ("version: 1.34.4", "version: [1.34.4]", "a list"),
        ("version: 1.34.4", "version: latest", "latest"),
        ("iam-ra", "iam", "iam-ra"),
        ("modules: [br_netfilter]", "modules: br_netfilter", "list"),
        ("format: qcow2", "format: qcow", "qcow2"),
        ("fromBase: true", "fromBase: maybe", "maybe"),
        ("name: small", "name: ../../etc", "../../etc"),
        ("v1alpha1", "v1", "v1"),
        ("kind: ImageProfile", "kind: NodeConfig", "NodeConfig"),
    ] {
        assert!(profile.contains(right), "{right}");
        let spoilt = profile.replacen(right, wrong, 1);
        let line = 1 + spoilt
            .lines()
            .position(|line| line.contains(wrong))
            .expect("it is there");
        refused(spoilt, &[&format!("profile.yaml:{line}:"), words]);
    }
}

#[test]
fn texts_that_are_no_yaml_are_refused_at_their_place() {
    let profile = good(&Workshop::empty());
    refused("", &["profile.yaml:1:1", "empty"]);
    refused("# nothing\n", &["profile.yaml:", "empty"]);
    refused(
        profile.replace("  name:", "\tname:"),
        &["profile.yaml:4:", "tab"],
    );
    let mut latin = profile.clone().into_bytes();
    latin.extend(b"# caf\xe9\n");
    let place = format!("profile.yaml:{}:6", profile.lines().count() + 1);
    refused(latin, &[&place, "not UTF-8"]);
    refused(
        format!("{profile}---\n{profile}"),
        &["profile.yaml:", "document"],
    );
    refused(b"\x7fELF\x02\x01\x01\0\0\0", &["profile.yaml:1:"]);
    refused("just words\n", &["profile.yaml:1:1"]);
}

#[test]
fn templates_that_fail_are_refused_at_their_place() {
    let profile = good(&Workshop::empty());
    for (template, words) in [
        ("\"{{ nothing }}\"", "nothing"),
        ("\"{{ 1 + }}\"", "render"),
        (
            "\"{% for a in range(100000000) %}{{ a }}{% endfor %}\"",
            "render",
        ),
        ("\"{{ 'x' * 1000000000 }}\"", "render"),
    ] {
        let spoilt = profile.replace("1.34.4", template);
        let line = 1 + spoilt
            .lines()
            .position(|line| line.contains("version:"))
            .expect("it is there");
        refused(spoilt, &[&format!("profile.yaml:{line}:"), words]);
    }
}

#[test]
fn a_profile_that_is_not_there_or_no_file_is_refused() {
    let workshop = Workshop::empty();
    workshop.refused_by(
        &["build", "absent.yaml"],
        2,
        &["absent.yaml", "No such file", "hint:"],
    );
    workshop.refused_by(&["build", "components"], 2, &["components", "hint:"]);
}
