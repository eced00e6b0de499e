//! What only EC2 nodes have.

use serde_json::{Value, json};

use super::*;

fn files(change: impl Fn(&mut NodeConfig, &mut Facts)) -> BTreeMap<String, String> {
    let (mut config, mut facts) = (samples::ec2(), samples::ec2_facts(34, 2));
    change(&mut config, &mut facts);
    by_path(&config, &facts)
}

#[test]
fn kubeconfigs_are_those_of_their_templates() {
    let path = "/var/lib/kubelet/kubeconfig";
    let ec2 = files(|_, _| {});
    assert_eq!(ec2[path], include_str!("../fixtures/kubeconfig-ec2.yaml"));
    let hybrid = by_path(&samples::iam_roles_anywhere(), &facts(34, 2));
    assert_eq!(
        hybrid[path],
        include_str!("../fixtures/kubeconfig-iam-ra.yaml")
    );
    let registered = Facts {
        managed_instance_id: Some("mi-1".into()),
        ..facts(34, 2)
    };
    let ssm = by_path(&samples::ssm(), &registered);
    assert_eq!(ssm[path], include_str!("../fixtures/kubeconfig-ssm.yaml"));
}

#[test]
fn a_node_of_an_outpost_starts_from_the_other_kubeconfig() {
    let files = files(|config, _| {
        config.spec.cluster.enable_outpost = Some(true);
        config.spec.cluster.id = "6d1f0c1e-outpost".into();
    });
    assert!(!files.contains_key("/var/lib/kubelet/kubeconfig"));
    assert_eq!(
        files["/var/lib/kubelet/bootstrap-kubeconfig"],
        include_str!("../fixtures/kubeconfig-ec2-outpost.yaml")
    );
    let environment = &files["/etc/eks/kubelet/environment"];
    for flag in [
        " --bootstrap-kubeconfig=/var/lib/kubelet/bootstrap-kubeconfig ",
        " --kubeconfig=/var/lib/kubelet/kubeconfig ",
    ] {
        assert!(environment.contains(flag), "{environment}");
    }
    let mut config = samples::ec2();
    config.spec.cluster.enable_outpost = Some(true);
    let error = render(&config, &samples::ec2_facts(34, 2)).unwrap_err();
    assert_eq!(error.to_string(), "spec.cluster.id is empty");
}

#[test]
fn the_nodes_address_is_of_the_family_of_the_cluster() {
    let files = files(|config, _| config.spec.cluster.cidr = "fd30:1c53:5f8a::/108".into());
    assert!(files["/etc/eks/kubelet/environment"].contains(" --node-ip=fd00:ec2::1 "));
    let config: Value =
        serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
    assert_eq!(config["clusterDNS"], json!(["fd30:1c53:5f8a::a"]));
}

#[test]
fn a_gate_names_the_node_after_the_instance() {
    for (value, name) in [
        (true, "i-1234567890abcdef0"),
        (false, "ip-10-0-0-1.us-west-2.compute.internal"),
    ] {
        let files = files(|config, _| {
            let gates = &mut config.spec.feature_gates;
            gates.insert("InstanceIdNodeName".into(), value);
            gates.insert("NobodyKnowsThis".into(), true);
        });
        let flag = format!(" --hostname-override={name} ");
        assert!(files["/etc/eks/kubelet/environment"].contains(&flag));
    }
}

#[test]
fn the_users_type_wins_in_the_drop_in() {
    let files = files(|config, _| {
        config.spec.kubelet.config = json!({"kind": "Other", "maxPods": 5})
            .as_object()
            .unwrap()
            .clone();
    });
    let drop_in: Value =
        serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf"])
            .unwrap();
    assert_eq!(
        drop_in,
        json!({"kind": "Other", "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": 5})
    );
    // What is reserved does not follow the user's number of pods.
    let config: Value =
        serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
    assert_eq!(config["maxPods"], 58);
    assert_eq!(config["kubeReserved"]["memory"], "893Mi");
}

#[test]
fn an_expression_changes_pods_and_what_is_reserved() {
    let files = files(|config, _| config.spec.kubelet.max_pods_expression = "max_pods - 14".into());
    let config: Value =
        serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
    assert_eq!(config["maxPods"], 44);
    assert_eq!(config["kubeReserved"]["memory"], "739Mi");
}

#[test]
fn the_runtime_specification_is_merged_deeply() {
    let path = "/etc/containerd/base-runtime-spec.json";
    let read =
        |files: BTreeMap<String, String>| -> Value { serde_json::from_str(&files[path]).unwrap() };
    let plain = read(files(|_, _| {}));
    assert_eq!(
        plain["process"]["rlimits"],
        json!([{"type": "RLIMIT_NOFILE", "soft": 65_536, "hard": 1_048_576}])
    );
    assert_eq!(plain["process"]["noNewPrivileges"], true);
    assert_eq!(
        plain["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        14
    );
    let merged = read(files(|config, _| {
        config.spec.containerd.base_runtime_spec = json!({
            "foo": "bar",
            "linux": {"resources": {"devices": []}},
            "process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 12345, "hard": 12345}]},
        })
        .as_object()
        .unwrap()
        .clone();
    }));
    let mut expected = plain;
    expected["foo"] = "bar".into();
    expected["linux"]["resources"]["devices"] = json!([]);
    expected["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 12345, "hard": 12345}]);
    assert_eq!(merged, expected);
}

#[test]
fn nvidias_runtime_is_the_default_where_it_is_installed() {
    for major in [1, 2] {
        let files = files(|_, facts| {
            facts.containerd = Version::new(major, 0, 0);
            facts.nvidia_runtime = true;
        });
        let text = &files["/etc/containerd/config.toml"];
        for line in [
            "\ndefault_runtime_name = \"nvidia\"\n",
            "containerd.runtimes.nvidia]\n",
            "\nBinaryName = \"/usr/bin/nvidia-container-runtime\"\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("runc]"), "{text}");
    }
}

#[test]
fn images_are_pulled_side_by_side_where_the_machine_has_room() {
    let wanted = |config: &mut NodeConfig, facts: &mut Facts| {
        config
            .spec
            .feature_gates
            .insert("FastImagePull".into(), true);
        facts.soci_snapshotter = true;
        facts.logical_cpus = 4;
        facts.online_memory_kib = 7 << 20;
        // What the kernel keeps for itself does not count against it.
        facts.memory_kib = 6 << 20;
    };
    for major in [1, 2] {
        let files = files(|config, facts| {
            wanted(config, facts);
            facts.containerd = Version::new(major, 0, 0);
        });
        let text = &files["/etc/containerd/config.toml"];
        for line in [
            "\nsnapshotter = \"soci\"\n",
            "\ndisable_snapshot_annotations = false\n",
            "\n[proxy_plugins.soci]\ntype = \"snapshot\"\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let config: Value =
            serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
        assert_eq!(
            config["imageServiceEndpoint"],
            "unix:///run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"
        );
        assert_eq!(
            files["/etc/systemd/system/containerd.service.d/10-soci-snapshotter.conf"],
            "[Unit]\nRequires=soci-snapshotter.service\nAfter=soci-snapshotter.service\n"
        );
        assert!(
            files["/etc/soci-snapshotter-grpc/config.toml"]
                .contains("[pull_modes.parallel_pull_unpack]\nenable = true\n")
        );
    }
    type Change = fn(&mut Facts);
    let changes: [(Change, &str); 3] = [
        (|facts| facts.logical_cpus = 3, "less than 4 processors"),
        (
            |facts| facts.online_memory_kib -= 1,
            "less than 7 GiB of memory",
        ),
        (|facts| facts.soci_snapshotter = false, "is not installed"),
    ];
    for (change, why) in changes {
        let (mut config, mut facts) = (samples::ec2(), samples::ec2_facts(34, 2));
        wanted(&mut config, &mut facts);
        change(&mut facts);
        assert_eq!(
            by_path(&config, &facts),
            by_path(&samples::ec2(), &facts),
            "{why}"
        );
        let warnings = warnings(&config, &facts).unwrap();
        assert!(
            warnings.iter().any(|text| text.contains(why)),
            "{warnings:?}"
        );
    }
}

#[test]
fn environments_are_drop_ins_of_the_manager_and_of_services() {
    let files = files(|config, _| {
        let environment = &mut config.spec.instance.environment;
        for (service, name, value) in [
            ("default", "HTTPS_PROXY", "http://proxy:3128"),
            ("default", "A", "50% \"x\" \\ $HOME é"),
            ("kubelet", "B", ""),
            ("containerd", "C", "c"),
        ] {
            let variables = environment.entry(service.into()).or_default();
            variables.insert(name.into(), value.into());
        }
        environment.insert("empty".into(), BTreeMap::new());
    });
    assert_eq!(
        files["/etc/systemd/system.conf.d/environment.conf"],
        "[Manager]\nDefaultEnvironment=\"A=50%% \\\"x\\\" \\\\ $HOME é\"\n\
         DefaultEnvironment=\"HTTPS_PROXY=http://proxy:3128\"\n"
    );
    assert_eq!(
        files["/etc/systemd/system/kubelet.service.d/environment.conf"],
        "[Service]\nEnvironment=\"B=\"\n"
    );
    assert_eq!(
        files["/etc/systemd/system/containerd.service.d/environment.conf"],
        "[Service]\nEnvironment=\"C=c\"\n"
    );
    assert!(!files.keys().any(|path| path.contains("empty")));
}

#[test]
fn an_environment_cannot_lead_out_of_its_file() {
    for (service, name, value) in [
        ("../x", "A", "a"),
        ("", "A", "a"),
        ("a b", "A", "a"),
        ("kubelet", "A B", "a"),
        ("kubelet", "", "a"),
        ("kubelet", "1", "a"),
        ("kubelet", "A", "a\nExecStart=/bin/x"),
    ] {
        let mut config = samples::ec2();
        let variables = [(name.to_owned(), value.to_owned())].into();
        config
            .spec
            .instance
            .environment
            .insert(service.into(), variables);
        let error = render(&config, &samples::ec2_facts(34, 2)).unwrap_err();
        assert!(matches!(error, Error::Field { .. }), "{service} {name}");
    }
}

#[test]
fn name_servers_and_domains_are_a_drop_in_of_the_resolver() {
    let path = "/run/systemd/resolved.conf.d/40-eks.conf";
    let with = |servers: &[&str], domains: &[&str]| {
        let mut config = samples::ec2();
        let network = &mut config.spec.instance.network;
        network.nameservers = servers.iter().map(ToString::to_string).collect();
        network.domains = domains.iter().map(ToString::to_string).collect();
        config
    };
    let facts = samples::ec2_facts(34, 2);
    let written = |config: &NodeConfig| by_path(config, &facts).get(path).cloned();
    assert_eq!(
        written(&with(&["10.0.0.2", "fd00::2"], &["a.example", "~."])).unwrap(),
        "[Resolve]\nDNS=10.0.0.2 fd00::2\nDomains=a.example ~.\n"
    );
    assert_eq!(
        written(&with(&["10.0.0.2"], &[])).unwrap(),
        "[Resolve]\nDNS=10.0.0.2\n"
    );
    assert_eq!(
        written(&with(&[], &["x"])).unwrap(),
        "[Resolve]\nDomains=x\n"
    );
    assert_eq!(written(&with(&[], &[])), None);
    for servers in ["", "a b", "a\nb"] {
        assert!(render(&with(&[servers], &[]), &facts).is_err(), "{servers}");
    }
}

#[test]
fn what_only_ec2_nodes_have_is_warned_about_on_hybrid_nodes() {
    let mut config = samples::iam_roles_anywhere();
    assert_eq!(warnings(&config, &facts(34, 2)).unwrap(), [""; 0]);
    let before = by_path(&config, &facts(34, 2));
    config.spec.instance.network.domains = vec!["x".into()];
    config
        .spec
        .instance
        .environment
        .insert("default".into(), [("A".to_owned(), "a".to_owned())].into());
    config.spec.kubelet.max_pods_expression = "1".into();
    config
        .spec
        .containerd
        .base_runtime_spec
        .insert("a".into(), 1.into());
    config
        .spec
        .feature_gates
        .insert("FastImagePull".into(), true);
    assert_eq!(
        warnings(&config, &facts(34, 2)).unwrap(),
        [
            "spec.instance has no effect on a hybrid node",
            "spec.kubelet.maxPodsExpression has no effect on a hybrid node",
            "spec.containerd.baseRuntimeSpec has no effect on a hybrid node",
            "spec.featureGates.FastImagePull has no effect on a hybrid node",
        ]
    );
    assert_eq!(by_path(&config, &facts(34, 2)), before);
}

/// systemd's reading of an `EnvironmentFile=` value without quotes.
fn unquoted(value: &str) -> String {
    let mut text = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            _ => text.push(character),
        }
    }
    text
}

proptest! {
    #[test]
    fn flags_reach_the_second_stage_as_they_were_given(flag in "--[a-z]{1,5}=[ -~]{0,30}[!-~]") {
        let files = files(|config, _| config.spec.kubelet.flags = vec![flag.clone()]);
        let line = files["/etc/eks/kubelet/environment"].clone();
        let value = unquoted(line.strip_prefix("NODEADM_KUBELET_ARGS=").unwrap());
        prop_assert!(value.ends_with(&format!(" {flag}")), "{}", value);
    }
}
