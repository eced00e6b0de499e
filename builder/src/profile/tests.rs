//! The loader as a whole: what users get wrong, and what they are told.

mod shipped;

use super::*;
use model::{Architecture, ComponentName, Format};

const GOOD: &str = "\
apiVersion: nodekiln.dev/v1alpha1
kind: ImageProfile
metadata:
  name: demo
  variables:
    folder: /srv/parts
    skip: true
spec:
  architecture: amd64
  base:
    path: base.qcow2
  kubernetes:
    version: 1.34.9
    components:
      kubelet: {path: '{{ folder }}/kubelet'}
      containerd: {fromBase: true}
      aws-signing-helper: {omit: '{{ skip }}'}
  credentialProvider: iam-ra
  kernel:
    sysctl:
      net.ipv4.ip_forward: 1
  outputs:
    - format: raw
    - format: qcow2
      compression: none
";

fn wrong(text: &str) -> Error {
    parse(text, "p.yaml", &Overrides::default()).expect_err(text)
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn reads_a_good_profile() {
    let profile = parse(GOOD, "p.yaml", &Overrides::default()).expect("good");
    assert_eq!(profile.metadata.variables["skip"], "true");
    assert_eq!(profile.spec.architecture, Architecture::X86_64);
    let components = &profile.spec.kubernetes.components;
    assert_eq!(
        components[&ComponentName::Kubelet].path.as_deref(),
        Some(Path::new("/srv/parts/kubelet"))
    );
    assert!(components[&ComponentName::AwsSigningHelper].omit);
    assert_eq!(profile.spec.kernel.sysctl["net.ipv4.ip_forward"], "1");
    assert_eq!(profile.spec.outputs[0].format, Format::Raw);
}

#[test]
fn overrides_variables() {
    let overrides = Overrides::from_words(["folder=/else", "skip=false"]).expect("words");
    let error = parse(GOOD, "p.yaml", &overrides).expect_err("no source left");
    assert!(
        error.message().contains("aws-signing-helper says neither"),
        "{error}"
    );
    let overrides = Overrides::from_words(["folder=/e=f"]).expect("words");
    let profile = parse(GOOD, "p.yaml", &overrides).expect("good");
    let kubelet = &profile.spec.kubernetes.components[&ComponentName::Kubelet];
    assert_eq!(kubelet.path.as_deref(), Some(Path::new("/e=f/kubelet")));

    let overrides = Overrides::from_words(["fodler=/x"]).expect("words");
    let error = parse(GOOD, "p.yaml", &overrides).expect_err("unknown");
    assert_eq!(error.hint_text(), Some("did you mean 'folder'?"));
    assert!(Overrides::from_words(["x"]).is_err());
    assert!(Overrides::from_words(["x=1", "x=2"]).is_err());

    let error = wrong(&edited("folder: /srv/parts", "folder:"));
    assert!(
        error.hint_text().expect("hint").contains("--set folder="),
        "{error}"
    );
}

/// Text to replace, its replacement, line, column, words of the message, words
/// of the hint.
type Case = (
    &'static str,
    &'static str,
    usize,
    usize,
    &'static str,
    &'static str,
);

const CASES: [Case; 33] = [
    (
        "credentialProvider: iam-ra",
        "credentialProvidr: iam-ra",
        8,
        1,
        "'credentialProvider' is missing",
        "add `credentialProvider:`",
    ),
    (
        "v1alpha1",
        "v1",
        1,
        13,
        "not known",
        "nodekiln.dev/v1alpha1",
    ),
    ("ImageProfile", "Pod", 2, 7, "kind 'Pod'", "ImageProfile"),
    (
        "name: demo",
        "name: De mo",
        4,
        9,
        "no profile name",
        "lower-case",
    ),
    ("amd64", "amd46", 9, 17, "'amd46'", "did you mean 'amd64'"),
    (
        "    path: base.qcow2",
        "    path: [a]",
        11,
        5,
        "spec.base.path is a list",
        "write a text",
    ),
    (
        "    path: base.qcow2",
        "    path: ''",
        11,
        11,
        "path is empty",
        "value",
    ),
    (
        "    path: base.qcow2",
        "    url: http://example.org/a.img",
        11,
        10,
        "no https URL",
        "http is refused",
    ),
    (
        "    path: base.qcow2",
        "    path: a\n    url: https://example.org/a.img",
        10,
        3,
        "path and url",
        "exactly one",
    ),
    (
        "    path: base.qcow2",
        "    sha256: abc",
        10,
        3,
        "neither",
        "exactly one",
    ),
    (
        "    path: base.qcow2",
        "    path: a\n    sha256: abc",
        12,
        13,
        "no sha256",
        "64",
    ),
    (
        "    path: base.qcow2",
        "    path:",
        10,
        3,
        "neither path",
        "exactly one",
    ),
    (
        "    path: base.qcow2",
        "    bootstrap: {suite: Book worm}",
        11,
        24,
        "Debian release",
        "bookworm",
    ),
    (
        "    path: base.qcow2",
        "    bootstrap: {suite: bookworm, packages: [-f]}",
        11,
        45,
        "no package",
        "Debian package",
    ),
    (
        "    path: base.qcow2",
        "    bootstrap: {suite: bookworm, size: 4G}",
        11,
        40,
        "no size",
        "8GiB",
    ),
    (
        "    path: base.qcow2",
        "    bootstrap: {suite: bookworm, layout: gpt}",
        11,
        42,
        "'gpt'",
        "ubuntu",
    ),
    (
        "  base:\n    path: base.qcow2",
        "  base:",
        10,
        3,
        "has no value",
        "mapping",
    ),
    (
        "version: 1.34.9",
        "version: 1.34",
        13,
        14,
        "'1.34'",
        "1.34.9",
    ),
    (
        "version: 1.34.9",
        "version: v1.34.9",
        13,
        14,
        "'v1.34.9'",
        "without the v: 1.34.9",
    ),
    (
        "      kubelet: {",
        "      kublet: {",
        15,
        7,
        "unknown key 'kublet'",
        "did you mean 'kubelet'",
    ),
    (
        "{{ folder }}",
        "{{ foldr }}",
        15,
        27,
        "undefined",
        "did you mean 'folder'",
    ),
    (
        "containerd: {fromBase: true}",
        "containerd: {fromBase: yes}",
        16,
        30,
        "the text 'yes'",
        "true or false",
    ),
    (
        "containerd: {fromBase: true}",
        "containerd: {fromBase: true, omit: true}",
        16,
        7,
        "fromBase and omit",
        "exactly one",
    ),
    (
        "containerd: {fromBase: true}",
        "containerd: {path: containerd}",
        16,
        26,
        "several programs",
        ".tar.gz",
    ),
    (
        "containerd: {fromBase: true}",
        "runc: {path: a.tar.gz}",
        16,
        20,
        "which member",
        "add `member`",
    ),
    (
        "containerd: {fromBase: true}",
        "runc: {path: runc, member: x}",
        16,
        34,
        "no archive",
        "remove `member`",
    ),
    (
        "containerd: {fromBase: true}",
        "runc: {path: a.tgz, member: ../x}",
        16,
        35,
        "no path in an archive",
        "tar -t",
    ),
    (
        "containerd: {fromBase: true}",
        "ssm-setup-cli: {path: x}",
        16,
        7,
        "credential provider",
        "remove",
    ),
    ("iam-ra", "ssn", 18, 23, "'ssn'", "did you mean 'ssm'"),
    (
        "ip_forward: 1",
        "ip_forward: \"1\\n2\"",
        21,
        28,
        "one line",
        "sysctl",
    ),
    (
        "- format: raw",
        "- format: qcow2",
        24,
        7,
        "twice",
        "each format",
    ),
    (
        "- format: raw",
        "- format: qcow",
        23,
        15,
        "'qcow'",
        "did you mean 'qcow2'",
    ),
    (
        "- format: raw\n    - format: qcow2\n      compression: none\n",
        "[]\n",
        22,
        3,
        "no output",
        "qcow2",
    ),
];

#[test]
fn says_what_is_wrong_and_where() {
    for (from, to, line, column, message, hint) in CASES {
        let error = wrong(&edited(from, to));
        let place = error.place().unwrap_or_else(|| panic!("{to:?}: {error}"));
        let said = format!("{to:?}: {error}: {:?}", error.hint_text());
        assert_eq!((place.line, place.column), (line, column), "{said}");
        assert_eq!(place.file, "p.yaml");
        assert!(error.message().contains(message), "{said}");
        assert!(error.hint_text().expect("hint").contains(hint), "{said}");
        assert_eq!(error.class(), Class::Input);
    }
}

#[test]
fn finds_all_problems_of_a_pass() {
    let text = edited("name: demo", "nmae: demo").replace("    version: 1.34.9\n", "");
    let text = text
        .replace("fromBase: true", "fromBase: 7")
        .replace("{{ folder", "{{ x");
    let error = wrong(&text);
    let mut lines = vec![error.place().expect("place").line];
    lines.extend(
        error
            .others()
            .iter()
            .map(|other| other.place().expect("place").line),
    );
    assert_eq!(lines, [3, 4, 12, 14, 15], "{error:?}");
    let text = edited("version: 1.34.9", "version: '1'").replace("demo", "D");
    assert_eq!(wrong(&text).others().len(), 1);
}

#[test]
fn tells_how_many_problems_it_does_not_tell() {
    let packages = vec!["A"; 60].join(", ");
    let base = format!("bootstrap: {{suite: bookworm, packages: [{packages}]}}");
    let text = edited("path: base.qcow2", &base);
    assert_ne!(text, GOOD);
    let error = wrong(&text);
    assert_eq!(error.others().len(), 50);
    assert_eq!(
        error.others().last().map(Error::message),
        Some("and 10 more problems")
    );
}

#[test]
fn a_bootstrapped_disk_is_whole_mib_and_large_enough() {
    for size in ["1GiB", "2097153KiB"] {
        let base = format!("bootstrap: {{suite: bookworm, size: {size}}}");
        let error = wrong(&edited("path: base.qcow2", &base));
        assert!(error.message().contains("bootstrapped disk"), "{error}");
        assert!(error.place().is_some());
    }
}

#[test]
fn a_component_that_a_node_needs_may_be_left_out() {
    let text = edited("containerd: {fromBase: true}", "containerd: {omit: true}");
    let profile = parse(&text, "p.yaml", &Overrides::default()).expect("good");
    let omitted = crate::catalog::omitted(&profile);
    assert!(omitted.iter().any(|part| part.label == "containerd"));
}

#[test]
fn checks_users_units_and_the_kernel() {
    let with = |section: &str| format!("{GOOD}{section}");
    for (section, line, message) in [
        ("  users: [{name: root}]\n", 26, "every image"),
        ("  users: [{name: a, uid: 0}]\n", 26, "not for users"),
        ("  users: [{name: a, uid: -1}]\n", 26, "the number '-1'"),
        ("  users: [{name: a}, {name: a}]\n", 26, "twice"),
        (
            "  users: [{name: a, uid: 1000}, {name: b, uid: 1000}]\n",
            26,
            "two users have the number 1000",
        ),
        ("  users: [{name: a, groups: ['a,b']}]\n", 26, "group"),
        ("  users: [{name: a, shell: bash}]\n", 26, "shell"),
        (
            "  users:\n    - name: a\n      sshAuthorizedKeys:\n        - ssh-rsa x\n",
            29,
            "SSH public key",
        ),
        (
            "  services:\n    enable: [a.service]\n    mask: [a.service]\n",
            28,
            "both enable and mask",
        ),
        ("  services: {enable: [ssh]}\n", 26, "name of a unit"),
        ("  services: {mask: [a.timer, a.timer]}\n", 26, "twice"),
        ("  overlays: [common, common]\n", 26, "twice"),
        ("  diskSize: 100MiB\n", 26, "for a disk"),
        ("  diskSize: 8589934593B\n", 26, "sectors"),
    ] {
        let error = wrong(&with(section));
        assert!(error.message().contains(message), "{section}: {error}");
        assert_eq!(error.place().expect("place").line, line, "{section}");
    }
    let both = "  services:\n    disable: [a.service]\n    mask: [a.service]\n";
    parse(&with(both), "p.yaml", &Overrides::default()).expect("masked and disabled");
    let kernel = edited(
        "    sysctl:",
        "    modules: ['a b']\n    commandLine: ['a b', quiet]\n    sysctl:",
    );
    assert_eq!(wrong(&kernel).others().len(), 1);
}

#[test]
fn never_repeats_a_private_key() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0";
    let error = wrong(&format!(
        "{GOOD}  users:\n    - name: a\n      sshAuthorizedKeys: [\"{key}\"]\n"
    ));
    assert!(error.hint_text().expect("hint").contains("private key"));
    assert!(!error.to_string().contains("c2VjcmV0"));
    let place = error.place().expect("place");
    assert!(!place.source.contains("c2VjcmV0"), "{}", place.source);
}

#[test]
fn refuses_what_is_no_profile() {
    for (text, message) in [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("just words", "the text 'just words'"),
        ("- a\n", "a list"),
        ("\u{0}", "YAML"),
    ] {
        let error = wrong(text);
        assert!(error.message().contains(message), "{text:?}: {error}");
        assert!(error.place().is_some() && error.hint_text().is_some());
    }
}

#[test]
fn loads_files_within_bounds() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, GOOD).expect("write");
    let loaded = load(&file, &Overrides::default()).expect("good");
    assert_eq!(loaded.folder, folder.path());
    assert_eq!(loaded.text(), GOOD);
    let place = loaded.place(&["spec", "outputs", "1", "format"]);
    assert_eq!((place.line, place.column), (24, 15));

    std::fs::write(&file, "# long\n".repeat(1_500_000)).expect("write");
    let started = std::time::Instant::now();
    let error = load(&file, &Overrides::default()).expect_err("10 MB");
    assert!(error.message().contains("longer than 1 MiB"), "{error}");
    assert!(
        started.elapsed().as_secs() < 2,
        "refused before it is parsed"
    );

    std::fs::write(&file, b"apiVersion: x\nkind: \xff\n").expect("write");
    let error = load(&file, &Overrides::default()).expect_err("not UTF-8");
    let place = error.place().expect("place");
    assert_eq!((place.line, place.column), (2, 7));

    let error = load(&folder.path().join("absent"), &Overrides::default()).expect_err("absent");
    assert!(error.hint_text().expect("hint").contains("nodekiln init"));
    let error = load(folder.path(), &Overrides::default()).expect_err("a folder");
    assert_eq!(error.class(), Class::Input);
}
