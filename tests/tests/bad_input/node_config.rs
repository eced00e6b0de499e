//! What a node's first boot must refuse, by the program that lies in the image
//! and by the command that makes seeds for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use nodekiln_tests::command::{Ran, Workshop};
use nodekiln_tests::first_boot;
use nodekiln_tests::small_base::text;

const CERTIFICATE: &str = include_str!("../../../firstboot/src/node_config/testdata/ca.pem");
/// Largest user data, in bytes.
const LIMIT: usize = 16 << 20;

fn base64(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("plain");
    fs::write(&file, bytes).expect("writes");
    nodekiln_tests::program::run("base64", &["-w0", text(&file)])
}

/// A NodeConfig that is good, to be spoilt.
fn good() -> String {
    format!(
        "apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: farm
    region: eu-central-1
    apiServerEndpoint: https://example.eu-central-1.eks.amazonaws.com
    certificateAuthority: {}
    cidr: 10.100.0.0/16
  kubelet:
    flags: [--v=4]
  hybrid:
    iamRolesAnywhere:
      nodeName: node-1
      trustAnchorArn: arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/a
      profileArn: arn:aws:rolesanywhere:eu-central-1:123456789012:profile/b
      roleArn: arn:aws:iam::123456789012:role/c
",
        base64(CERTIFICATE.as_bytes())
    )
}

/// The program of the image, under the same limits as the command.
fn firstboot(workshop: &Workshop, arguments: &[&str]) -> Ran {
    let mut command = Command::new("timeout");
    command.args(["60", "prlimit", "--as=268435456", "--core=0", "--"]);
    command.arg(first_boot::program()).args(arguments);
    workshop.furnish(&mut command);
    command
        .output()
        .expect("timeout and prlimit are needed")
        .into()
}

/// Fails unless the program refuses `config` with every text of `words`, and
/// renders nothing.
#[track_caller]
fn refused_by_program(config: &[u8], words: &[&str]) -> Workshop {
    let workshop = Workshop::empty();
    fs::write(workshop.path("node.yaml"), config).expect("writes");
    let root = workshop.path("root");
    fs::create_dir(&root).expect("creates");
    let words = [words, &["node.yaml"]].concat();
    firstboot(&workshop, &["check", "--config", "node.yaml"]).failed(2, &words);
    let render = ["render", "--root", "root", "--config", "node.yaml"];
    firstboot(&workshop, &render).failed(2, &words);
    assert!(is_empty(&root), "something was rendered");
    workshop
}

/// As [`refused_by_program`] where the problem is in `line`; and the command
/// refuses it, too, for a check and for a seed.
#[track_caller]
fn refused(config: &[u8], line: usize, words: &[&str]) {
    let at = format!("line {line}, column ");
    let workshop = refused_by_program(config, &[words, &[&at[..]]].concat());
    let at = format!("node.yaml:{line}:");
    let words = [words, &[&at[..]]].concat();
    workshop.refused_by(&["seed", "--node-config", "node.yaml"], 2, &words);
    workshop.refused_by(&["validate", "node.yaml"], 2, &words);
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("reads").next().is_none()
}

#[test]
fn the_config_that_is_spoilt_below_is_good_before() {
    let workshop = Workshop::empty();
    fs::write(workshop.path("node.yaml"), good()).expect("writes");
    firstboot(&workshop, &["check", "--config", "node.yaml"]).succeeded();
    workshop.nodekiln(&["validate", "node.yaml"]).succeeded();
}

#[test]
fn user_data_without_a_node_config_is_refused() {
    for data in [
        "",
        "#cloud-config\npackages: [htop]\n",
        "#!/bin/sh\necho hello\n",
    ] {
        let workshop = refused_by_program(data.as_bytes(), &["NodeConfig"]);
        workshop.refused_by(&["seed", "--node-config", "node.yaml"], 2, &["node.yaml"]);
    }
}

#[test]
fn a_second_document_is_merged_or_refused_but_never_ignored() {
    let workshop = Workshop::empty();
    let second = "---\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  \
                  kubelet:\n    flags: [--node-labels=second=true]\n";
    fs::write(workshop.path("node.yaml"), good() + second).expect("writes");
    fs::create_dir(workshop.path("root")).expect("creates");
    let render = ["render", "--root", "root", "--config", "node.yaml"];
    let ran = firstboot(&workshop, &render);
    if ran.code == Some(0) {
        let found = Command::new("grep")
            .args(["-rl", "second=true", "root"])
            .current_dir(workshop.folder())
            .output()
            .expect("grep");
        assert!(found.status.success(), "the second one was ignored");
    } else {
        ran.failed(2, &["node.yaml"]);
    }
    refused(
        (good() + "---\napiVersion: node.eks.aws/v1alpha1\nkind: ConfigMap\n").as_bytes(),
        20,
        &["ConfigMap"],
    );
}

#[test]
fn another_kind_or_version_is_refused_by_its_name() {
    refused(
        good()
            .replace("kind: NodeConfig", "kind: NodeConfiguration")
            .as_bytes(),
        2,
        &["NodeConfiguration"],
    );
    refused(good().replace("v1alpha1", "v2").as_bytes(), 1, &["v2"]);
}

#[test]
fn bad_base64_and_bad_certificates_are_refused_at_their_place() {
    let encoded = base64(CERTIFICATE.as_bytes());
    for (wrong, words) in [
        ("'not base64!'".to_owned(), "base64"),
        (encoded[..encoded.len() - 3].to_owned(), "base64"),
        (base64(b"no certificate at all"), "certificate"),
        (
            base64(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "certificate",
        ),
        (base64(&CERTIFICATE.as_bytes()[..200]), "certificate"),
    ] {
        refused(
            good().replace(&encoded, &wrong).as_bytes(),
            8,
            &["certificateAuthority", words],
        );
    }
}

#[test]
fn unknown_keys_are_answered_with_the_nearest_known_one() {
    refused(
        good().replace("kubelet:", "kubelett:").as_bytes(),
        10,
        &["kubelett", "did you mean", "kubelet"],
    );
    refused(
        good().replace("    region:", "    Region:").as_bytes(),
        6,
        &["Region", "region"],
    );
}

#[test]
fn user_data_of_16_mib_is_read_and_one_byte_more_is_refused() {
    // cloud-init's way to give several things: a NodeConfig and a long script.
    let fill = |size: usize| {
        let head = format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\n\
             Content-Type: application/node.eks.aws\n\n{}\n--//\n\
             Content-Type: text/x-shellscript\n\n#!/bin/sh\n",
            good()
        );
        let tail = "\n--//--\n";
        let mut data = head.into_bytes();
        while data.len() + tail.len() < size {
            data.push(if data.len() % 80 == 0 { b'\n' } else { b'#' });
        }
        data.extend(tail.as_bytes());
        assert_eq!(data.len(), size);
        data
    };
    let workshop = Workshop::empty();
    let file = workshop.path("node.yaml");
    fs::write(&file, fill(LIMIT)).expect("writes");
    firstboot(&workshop, &["check", "--config", "node.yaml"]).succeeded();
    let large = refused_by_program(&fill(LIMIT + 1), &["larger than 16777216 bytes"]);
    large.refused_by(
        &["seed", "--node-config", "node.yaml"],
        2,
        &["node.yaml", "16777216 bytes", "hint:"],
    );
}

#[test]
fn two_cloud_configs_with_one_key_are_refused_since_cloud_init_keeps_one() {
    let workshop = Workshop::empty();
    fs::write(workshop.path("node.yaml"), good()).expect("writes");
    fs::write(workshop.path("a.yaml"), "#cloud-config\npackages: [htop]\n").expect("writes");
    fs::write(workshop.path("b.yaml"), "#cloud-config\npackages: [jq]\n").expect("writes");
    let seed = [
        "seed",
        "--node-config",
        "node.yaml",
        "--cloud-config",
        "a.yaml",
    ];
    let both = [&seed[..], &["--cloud-config", "b.yaml"]].concat();
    workshop.refused_by(&both, 2, &["a.yaml and b.yaml", "'packages'", "merge_how"]);
    workshop.nodekiln(&seed).succeeded();
}
