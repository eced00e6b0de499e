//! What is asked of AWS besides EKS, with a session of a certificate: by who looks at a
//! machine with `check --live`, and for the pause image. First boot as a process, AWS's
//! own signing helper and the cloud of the tests, in a network of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{Machine, ROLES_ANYWHERE, hybrid};
use nodekiln_tests::judges::judge;
use serde_json::Value;

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);

/// A machine of a site whose NodeConfig leaves the cluster to EKS. The helper reaches
/// the cloud by AWS's own name.
fn machine() -> Machine {
    let machine = Machine::new(PROGRAMS, &World::sample(), &["--names", "127.0.0.1:443"]);
    machine.name(&[Service::RolesAnywhere]);
    machine.certify();
    machine.install(&judge("signing-helper"), "usr/local/bin/aws_signing_helper");
    let config = hybrid("", ROLES_ANYWHERE);
    machine.write("etc/nodekiln/nodeconfig.yaml", &config, 0o600);
    machine
}

/// What AWS was asked, and how it answered.
fn asked(machine: &Machine) -> Vec<(Service, u16)> {
    let record = machine.cloud.record().into_iter();
    let record = record.filter(|one| one.service != Service::Cluster);
    record.map(|one| (one.service, one.status)).collect()
}

/// All files of the machine that a boot keeps.
fn tree(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in ["etc", "var", "root", "usr/local"] {
        for entry in walkdir::WalkDir::new(machine.path(folder)) {
            let path = entry.map(walkdir::DirEntry::into_path);
            let Ok(path) = path else { continue };
            if path.is_file() {
                files.insert(path.clone(), std::fs::read(path).expect("it can be read"));
            }
        }
    }
    files
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| unreachable!("{name}: {report}"))
}

#[test]
fn who_looks_asks_aws_as_the_node_would_and_changes_nothing() {
    let machine = machine();
    let before = tree(&machine);
    let (code, report) = machine.look();
    assert_eq!(code, Some(0), "{report:#}");
    for (name, detail) in [
        (
            "cluster-description-validation",
            "EKS describes cluster farm of 1.34",
        ),
        (
            "aws-auth-validation",
            "the node is arn:aws:sts::111122223333:assumed-role/hybrid-node/node-1",
        ),
        (
            "cluster-access-validation",
            "the role hybrid-node has an access entry",
        ),
    ] {
        let found = check(&report, name);
        assert_eq!(
            (&found["verdict"], &found["detail"]),
            (&"ok".into(), &detail.into()),
            "{name}"
        );
    }
    machine.cloud.change(|world| {
        world.forbidden = vec!["eks:DescribeCluster".into()];
    });
    let (code, report) = machine.look();
    assert_eq!(code, Some(4), "{report:#}");
    let found = check(&report, "cluster-description-validation");
    assert_eq!(found["verdict"], "failed");
    assert_eq!(
        found["hint"],
        "the node's role must be allowed eks:DescribeCluster"
    );
    let other = Authority::new("another site").certificate;
    machine.cloud.change(|world| {
        world.trust_anchors[0].certificate = other;
    });
    let (code, report) = machine.look();
    assert_eq!(code, Some(4), "{report:#}");
    for name in ["cluster-description-validation", "aws-auth-validation"] {
        let found = check(&report, name);
        let detail = found["detail"].as_str().expect("a detail");
        assert!(detail.contains("Untrusted certificate"), "{name}: {detail}");
    }
    assert_eq!(tree(&machine), before);
}

/// Notes what it is asked, and keeps a copy of the file that goes with a pull.
const CTR: &str = r#"#!/bin/sh
echo "$*" >> /run/ctr
case "$*" in
*"images pull"*) cat /run/nodekiln/pause-image/*/hosts.toml > /run/hosts.toml ;;
esac
"#;

#[test]
fn a_pause_image_that_is_not_baked_is_pulled_with_a_token_that_is_in_no_argument() {
    let machine = machine();
    std::fs::remove_file(machine.path("etc/nodekiln/sandbox-image")).expect("it is there");
    machine.write("usr/bin/ctr", CTR, 0o755);
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert!(asked(&machine).contains(&(Service::Ecr, 200)));
    let hosts: toml::Table = machine.read("run/hosts.toml").parse().expect("TOML");
    let registry = "https://602401143452.dkr.ecr.us-west-2.amazonaws.com";
    let header = hosts["host"][registry]["header"]["authorization"].as_str();
    let token = header
        .and_then(|it| it.strip_prefix("Basic "))
        .expect("a token");
    let calls = machine.read("run/ctr");
    assert!(
        calls.contains("images pull --hosts-dir /run/nodekiln/pause-image 602401143452"),
        "{calls}"
    );
    for text in [&calls, &ran.journal, &ran.console] {
        assert!(!text.contains(token), "{text}");
    }
    let left = machine.path("run/nodekiln/pause-image");
    assert_eq!(std::fs::read_dir(left).expect("a folder").count(), 0);
}
