//! A NodeConfig that is another one on the next boot: only what differs is written,
//! only who reads it is started anew, and what is not wanted any more is gone.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use nodekiln_tests::cloud::World;
use nodekiln_tests::joining::{self, ROLES_ANYWHERE, hybrid};
use nodekiln_tests::machine_root::version;

use crate::machine::{JOURNAL, Machine, assert_same};
use crate::{node_config, tree};

const CONFIG: &str = "etc/nodekiln/nodeconfig.yaml";
const KUBELET_FLAGS: &str = "etc/eks/kubelet/environment";
const KUBELET_CONFIG: &str = "etc/kubernetes/kubelet/config.json";
const KUBECONFIG: &str = "var/lib/kubelet/kubeconfig";
const AWS_CONFIG: &str = "etc/aws/hybrid/config";
const HELPER: &str = "etc/systemd/system/aws_signing_helper_update.service";

/// A difference between two boots.
struct Change {
    what: &'static str,
    /// What of the NodeConfig is replaced, and by what.
    config: (&'static str, &'static str),
    /// Files that are written, made or removed.
    written: &'static [&'static str],
    /// Services that are started anew.
    started: &'static [&'static str],
}

/// One after the other, on one machine.
const CHANGES: &[Change] = &[
    Change {
        what: "labels",
        config: ("flags: [--v=4]", "flags: [--v=4, '--node-labels=rack=7']"),
        written: &[KUBELET_FLAGS],
        started: &["kubelet"],
    },
    Change {
        what: "another cluster",
        config: ("name: farm", "name: barn"),
        written: &[KUBELET_CONFIG, KUBECONFIG],
        started: &["kubelet"],
    },
    Change {
        what: "another API server",
        config: ("https://example.", "https://another."),
        written: &[KUBECONFIG],
        started: &["kubelet"],
    },
    Change {
        what: "another node name",
        config: ("nodeName: node-1", "nodeName: node-2"),
        written: &[AWS_CONFIG, HELPER, KUBELET_FLAGS, KUBELET_CONFIG],
        started: &["aws_signing_helper_update", "kubelet"],
    },
    Change {
        what: "another network of services",
        config: ("cidr: 10.100.0.0/16", "cidr: 10.200.0.0/16"),
        written: &[KUBELET_CONFIG],
        started: &["kubelet"],
    },
    Change {
        what: "more pods",
        config: ("maxPods: 42", "maxPods: 43"),
        written: &["etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf"],
        started: &["kubelet"],
    },
    Change {
        what: "a quieter containerd",
        config: ("level = \"debug\"", "level = \"info\""),
        written: &["etc/containerd/config.toml"],
        started: &["containerd"],
    },
    Change {
        what: "no credentials for pods",
        config: (
            "enableCredentialsFile: true",
            "enableCredentialsFile: false",
        ),
        written: &[HELPER],
        started: &[],
    },
    Change {
        what: "no kubelet settings",
        config: ("config: {maxPods: 43}", "config: {}"),
        written: &[
            KUBELET_FLAGS,
            "etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf",
        ],
        started: &["kubelet"],
    },
    Change {
        what: "nothing",
        config: ("", ""),
        written: &[],
        started: &[],
    },
];

/// Which file each path is, and since when.
fn files(machine: &Machine) -> BTreeSet<(String, u64, SystemTime)> {
    let entries = ["etc", "var", "eks-hybrid"].map(|folder| machine.path(folder));
    let entries = entries.iter().flat_map(walkdir::WalkDir::new);
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let path = entry.path().strip_prefix(machine.root()).unwrap();
            let path = path.display().to_string();
            (path, metadata.ino(), metadata.modified().unwrap())
        })
        .filter(|(path, ..)| path != JOURNAL && path != CONFIG)
        .collect()
}

#[test]
fn only_what_a_change_is_about_is_written_and_started_anew() {
    let fresh = Machine::new();
    let machine = fresh.twin();
    machine.boot("first");
    let mut config = node_config("--v=4");
    for change in CHANGES {
        let what = change.what;
        let (from, to) = change.config;
        assert!(config.contains(from), "{what}: {config}");
        config = config.replacen(from, to, 1);
        let before = files(&machine);
        machine.write(CONFIG, &config, 0o600);
        machine.boot(what);

        let after = files(&machine);
        let written: BTreeSet<_> = before
            .symmetric_difference(&after)
            .map(|(path, ..)| path.as_str())
            .collect();
        let expected: BTreeSet<_> = change.written.iter().copied().collect();
        assert_eq!(written, expected, "{what}");
        let services = change.started.iter().map(|name| format!("{name}.service"));
        assert_eq!(machine.started(), services.collect(), "{what}");

        let whole = fresh.twin();
        whole.write(CONFIG, &config, 0o600);
        whole.boot(what);
        machine.assert_is_as(&whole, what);
    }
}

#[test]
fn killed_at_every_step_to_another_configuration_it_becomes_the_same_node() {
    let before = Machine::new();
    before.boot("first");
    let mut config = node_config("--v=4");
    for change in CHANGES {
        config = config.replacen(change.config.0, change.config.1, 1);
    }
    before.write(CONFIG, &config, 0o600);
    crate::kills::killed_at_every_step(&before, &["run"], 30);
}

#[test]
fn another_image_over_kept_state_is_taken_up_in_place() {
    const KEY: &str = "var/lib/kubelet/pki/kubelet-client-current.pem";
    let newer = |machine: &Machine| {
        machine.write("usr/bin/kubelet", &version("Kubernetes v1.34.1"), 0o755);
        let containerd = version("containerd containerd.io 2.1.4 abc");
        machine.write("usr/bin/containerd", &containerd, 0o755);
    };
    let fresh = Machine::new();
    // Before drop-ins of the kubelet's configuration.
    fresh.write("usr/bin/kubelet", &version("Kubernetes v1.28.3"), 0o755);
    let machine = fresh.twin();
    machine.boot("old");
    machine.write(KEY, "its own", 0o600);
    // As an earlier version left it, and with something that only a later one knows.
    let mut journal: serde_json::Value = serde_json::from_str(&machine.read(JOURNAL)).unwrap();
    let owner = journal["machine"].clone();
    let phases = journal["phases"].as_object_mut().unwrap();
    for since in ["authentication", "pause-image", "registration"] {
        assert!(phases.remove(since).is_some(), "{since}");
    }
    let record = phases["kubelet"].clone();
    phases.insert("of-a-later-version".into(), record);
    journal["another"] = 1.into();
    machine.write(JOURNAL, &journal.to_string(), 0o600);

    newer(&machine);
    machine.boot("new");
    let journal: serde_json::Value = serde_json::from_str(&machine.read(JOURNAL)).unwrap();
    assert_eq!(journal["machine"], owner);
    assert_eq!(machine.read(KEY), "its own");
    for unit in ["containerd.service", "kubelet.service"] {
        assert!(machine.started().contains(unit), "{unit}");
    }
    let whole = fresh.twin();
    newer(&whole);
    whole.boot("whole");
    whole.write(KEY, "its own", 0o600);
    machine.assert_is_as(&whole, "a newer image");
}

#[test]
fn a_hybrid_node_that_becomes_an_instance_keeps_nothing_of_before() {
    let programs = (
        env!("CARGO_BIN_EXE_nodekiln-cloud"),
        env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
    );
    let machine = || {
        let machine = joining::Machine::new(programs, &World::sample(), &[]);
        machine.certify();
        machine
    };
    let join = |machine: &joining::Machine, config: &str| {
        machine.write(CONFIG, config, 0o600);
        let ran = machine.boot(&[]);
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    };
    let instance = |machine: &joining::Machine| {
        format!(
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
             name: farm\n{}",
            machine.described()
        )
    };
    let changed = machine();
    let credentials = format!("    enableCredentialsFile: true\n{ROLES_ANYWHERE}");
    changed.write("eks-hybrid/.aws/credentials", "x", 0o600);
    join(&changed, &hybrid(&changed.described(), &credentials));
    for path in [AWS_CONFIG, HELPER] {
        assert!(changed.path(path).exists(), "{path}");
    }
    join(&changed, &instance(&changed));
    for path in [AWS_CONFIG, HELPER] {
        assert!(!changed.path(path).exists(), "{path}");
    }
    let calls = changed.read("run/calls");
    for call in [
        "disable --now aws_signing_helper_update.service",
        "daemon-reload",
        "restart containerd.service",
        "restart kubelet.service",
    ] {
        assert!(calls.lines().any(|line| line == call), "{call}: {calls}");
    }
    // One that never was anything else; both know their own clouds.
    let whole = machine();
    whole.write("etc/systemd/system/.keep", "", 0o644);
    join(&whole, &instance(&whole));
    let of_the_cloud = [
        "kubeconfig",
        "ca.crt",
        "nodeconfig.yaml",
        ".pem",
        ".key",
        ".keep",
    ];
    let wanted = |machine: &joining::Machine| {
        let mut files = tree(&machine.path("etc"), &["ssl", "amazon"]);
        files.retain(|path, _| !of_the_cloud.iter().any(|name| path.ends_with(name)));
        files.retain(|path, _| !path.starts_with("enabled.aws_signing_helper"));
        files
    };
    assert_same(&wanted(&changed), &wanted(&whole), "an instance");
}
