//! What the whole set of files says, for every gate; single numbers are tried
//! beside the code that makes them.

mod ec2;
mod gates;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::samples::{self, facts};
use super::*;

fn by_path(config: &NodeConfig, facts: &Facts) -> BTreeMap<String, String> {
    render(config, facts)
        .unwrap()
        .into_iter()
        .map(|file| (file.path, String::from_utf8(file.content).unwrap()))
        .collect()
}

/// All files as one text, for a snapshot.
fn shown(config: &NodeConfig, facts: &Facts) -> String {
    render(config, facts)
        .unwrap()
        .iter()
        .map(|file| {
            let content = String::from_utf8_lossy(&file.content);
            let end = if content.ends_with('\n') {
                ""
            } else {
                "\n(no final line break)\n"
            };
            format!("==> {} {:04o}\n{content}{end}", file.path, file.mode)
        })
        .collect()
}

#[test]
fn a_node_with_iam_roles_anywhere() {
    let mut config = samples::iam_roles_anywhere();
    let hybrid = config.spec.hybrid.as_mut().unwrap();
    hybrid.enable_credentials_file = true;
    config.spec.kubelet.flags = vec!["--v=4".into(), "--node-labels=a=b".into()];
    config.spec.kubelet.config = json!({"maxPods": 42, "kind": "Wrong"})
        .as_object()
        .unwrap()
        .clone();
    config.spec.containerd.config = "[debug]\nlevel = \"debug\"\n".into();
    insta::assert_snapshot!("iam-roles-anywhere-1.34", shown(&config, &facts(34, 2)));
}

#[test]
fn a_node_with_ssm_on_the_oldest_versions() {
    let mut config = samples::ssm();
    config.spec.kubelet.config =
        json!({"maxPods": 42, "evictionHard": {"memory.available": "1Gi"}})
            .as_object()
            .unwrap()
            .clone();
    let facts = Facts {
        managed_instance_id: Some("mi-0123456789abcdef0".into()),
        ..facts(28, 1)
    };
    insta::assert_snapshot!("ssm-1.28", shown(&config, &facts));
}

#[test]
fn drop_ins_by_kubelet_version() {
    let mut config = samples::iam_roles_anywhere();
    config.spec.kubelet.config = json!({"maxPods": 42}).as_object().unwrap().clone();
    for minor in 28..=36 {
        let files = by_path(&config, &facts(minor, 2));
        let main: Value =
            serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
        let drop_in = files.get("/etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf");
        let environment = &files["/etc/eks/kubelet/environment"];
        let is_new = minor >= 29;
        assert_eq!(main.get("maxPods").is_none(), is_new, "{minor}");
        assert_eq!(drop_in.is_some(), is_new, "{minor}");
        assert_eq!(
            environment.contains("--config-dir=/etc/kubernetes/kubelet/config.json.d"),
            is_new
        );
        assert_eq!(
            environment.contains("KUBELET_CONFIG_DROPIN_DIR_ALPHA=\"on\""),
            is_new
        );
        assert_eq!(
            environment.contains("--pod-infra-container-image="),
            !is_new,
            "{minor}"
        );
        if let Some(drop_in) = drop_in {
            assert_eq!(
                serde_json::from_str::<Value>(drop_in).unwrap(),
                json!({"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": 42})
            );
        }
    }
    // Without a wish there is no drop-in, on no version.
    let files = by_path(&samples::iam_roles_anywhere(), &facts(34, 2));
    assert!(!files["/etc/eks/kubelet/environment"].contains("config-dir"));
    assert!(!files["/etc/eks/kubelet/environment"].contains("DROPIN"));
}

#[test]
fn the_kubelets_configuration() {
    let files = by_path(&samples::iam_roles_anywhere(), &facts(34, 2));
    let config: Value =
        serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
    assert_eq!(
        config["providerID"],
        "eks-hybrid:///us-west-2/my-cluster/mock-hybrid-node"
    );
    assert_eq!(config["clusterDNS"], json!(["10.100.0.10"]));
    assert_eq!(
        config["kubeReserved"],
        json!({"cpu": "80m", "ephemeral-storage": "1Gi", "memory": "3Gi"})
    );
    assert_eq!(config["resolvConf"], "/run/systemd/resolve/resolv.conf");
    assert_eq!(config["protectKernelDefaults"], true);
    assert!(config.get("maxPods").is_none());
    let amazon = by_path(
        &samples::iam_roles_anywhere(),
        &Facts {
            os: "amzn".into(),
            ..facts(34, 2)
        },
    );
    let config: Value =
        serde_json::from_str(&amazon["/etc/kubernetes/kubelet/config.json"]).unwrap();
    assert!(config.get("resolvConf").is_none());
}

/// What systemd and then the kubelet's unit make of the environment file; a shell
/// is the independent reader of both stages.
fn arguments(environment: &str) -> Vec<String> {
    let script = format!(
        "{environment}\neval \"set -- $NODEADM_KUBELET_ARGS\"\nfor argument; do printf '%s\\n' \"$argument\"; done"
    );
    let output = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn the_kubelets_flags() {
    let mut config = samples::iam_roles_anywhere();
    config.spec.kubelet.flags = vec![
        "--v=4".into(),
        r#"--register-with-taints="a=b:NoSchedule""#.into(),
        "--node-ip 10.0.0.1".into(),
        "--v=2".into(),
        "--eviction-soft='memory.available<5%'".into(),
    ];
    let files = by_path(&config, &facts(34, 2));
    assert_eq!(
        arguments(&files["/etc/eks/kubelet/environment"]),
        [
            "--cloud-provider=",
            "--hostname-override=mock-hybrid-node",
            "--node-labels=eks.amazonaws.com/compute-type=hybrid,eks.amazonaws.com/hybrid-credential-provider=iam-ra",
            "--config=/etc/kubernetes/kubelet/config.json",
            "--kubeconfig=/var/lib/kubelet/kubeconfig",
            "--image-credential-provider-bin-dir=/etc/eks/image-credential-provider",
            "--image-credential-provider-config=/etc/eks/image-credential-provider/config.json",
            "--v=4",
            "--register-with-taints=a=b:NoSchedule",
            "--node-ip",
            "10.0.0.1",
            "--v=2",
            "--eviction-soft=memory.available<5%",
        ]
    );
}

#[test]
fn without_a_credential_provider_there_is_no_word_of_it() {
    let facts = Facts {
        credential_provider: None,
        ..facts(34, 2)
    };
    let files = by_path(&samples::iam_roles_anywhere(), &facts);
    assert!(!files.contains_key("/etc/eks/image-credential-provider/config.json"));
    assert!(!files["/etc/eks/kubelet/environment"].contains("image-credential-provider"));
}

#[test]
fn kubeconfig_of_both_providers() {
    let mut config = samples::iam_roles_anywhere();
    config.spec.cluster.name = "on".into();
    let files = by_path(&config, &facts(34, 2));
    let read: Value = serde_yaml::from_str(&files["/var/lib/kubelet/kubeconfig"]).unwrap();
    let exec = &read["users"][0]["user"]["exec"];
    assert_eq!(
        exec["args"],
        json!(["token", "--cluster-id", "on", "--region", "us-west-2"])
    );
    assert_eq!(
        exec["env"],
        json!([
            {"name": "AWS_PROFILE", "value": "default"},
            {"name": "AWS_CONFIG_FILE", "value": "/etc/aws/hybrid/config"},
        ])
    );
    assert_eq!(
        read["clusters"][0]["cluster"]["server"],
        "https://example.gr7.us-west-2.eks.amazonaws.com"
    );
    let facts = Facts {
        managed_instance_id: Some("mi-1".into()),
        ..facts(34, 2)
    };
    let files = by_path(&samples::ssm(), &facts);
    let read: Value = serde_yaml::from_str(&files["/var/lib/kubelet/kubeconfig"]).unwrap();
    assert!(read["users"][0]["user"]["exec"].get("env").is_none());
    assert!(!files.contains_key("/etc/aws/hybrid/config"));
}

#[test]
fn containerd_reads_the_schema_of_its_own_version() {
    let config = samples::iam_roles_anywhere();
    let files = by_path(&config, &facts(34, 1));
    assert!(files["/etc/containerd/config.toml"].starts_with("version = 2\n"));
    assert!(files["/etc/containerd/config.toml"].contains(
        "sandbox_image = \"602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5\""
    ));
    let baked = Facts {
        sandbox_image: Some("localhost/pause:3.10".into()),
        ..facts(34, 2)
    };
    let files = by_path(&config, &baked);
    assert!(files["/etc/containerd/config.toml"].starts_with("version = 3\n"));
    assert!(files["/etc/containerd/config.toml"].contains("sandbox = \"localhost/pause:3.10\""));
}

#[test]
fn the_aws_configuration_knows_of_a_proxy() {
    let config = samples::iam_roles_anywhere();
    let plain = by_path(&config, &facts(34, 2));
    let proxied = by_path(
        &config,
        &Facts {
            proxied: true,
            ..facts(34, 2)
        },
    );
    let profiles = |files: &BTreeMap<String, String>| {
        files["/etc/aws/hybrid/config"]
            .matches("--role-session-name mock-hybrid-node\n")
            .count()
    };
    assert_eq!(profiles(&plain), 2);
    assert_eq!(profiles(&proxied), 0);
    assert_eq!(
        proxied["/etc/aws/hybrid/config"]
            .matches("mock-hybrid-node --with-proxy\n")
            .count(),
        2
    );
}

#[test]
fn what_is_not_known_of_the_cluster_is_said_with_what_to_give() {
    let mut config = samples::iam_roles_anywhere();
    config.spec.cluster.api_server_endpoint.clear();
    config.spec.cluster.cidr.clear();
    let error = render(&config, &facts(34, 2)).unwrap_err();
    assert!(matches!(error, Error::Cluster { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "of the cluster apiServerEndpoint, cidr is not known"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("spec.cluster.apiServerEndpoint, spec.cluster.cidr"),
        "{hint}"
    );
}

#[test]
fn what_is_not_known_of_the_machine_is_said() {
    let unknown = |config: &NodeConfig, facts: &Facts| {
        let error = render(config, facts).unwrap_err();
        assert!(matches!(error, Error::Fact { .. }), "{error:?}");
        assert!(error.hint().is_some());
        error.to_string()
    };
    assert_eq!(
        unknown(&samples::ssm(), &facts(34, 2)),
        "the machine's registration with SSM is not known"
    );
    assert_eq!(
        unknown(&samples::ec2(), &facts(34, 2)),
        "the EC2 instance (a NodeConfig without spec.hybrid) is not known"
    );
    type Change = fn(&mut Instance);
    let changes: [(Change, &str); 5] = [
        (|it| it.id.clear(), "the instance's id"),
        (|it| it.region.clear(), "the instance's region"),
        (
            |it| it.availability_zone.clear(),
            "the instance's availability zone",
        ),
        (
            |it| it.private_dns_name = None,
            "the instance's private DNS name",
        ),
        (|it| it.local_ipv4 = None, "the instance's IPv4 address"),
    ];
    for (change, what) in changes {
        let mut facts = samples::ec2_facts(34, 2);
        change(facts.instance.as_mut().unwrap());
        assert_eq!(
            unknown(&samples::ec2(), &facts),
            format!("{what} is not known")
        );
    }
}

#[test]
fn a_value_that_would_start_a_new_line_is_refused() {
    type Change = fn(&mut NodeConfig);
    let changes: [Change; 6] = [
        |config| config.spec.cluster.name = "a\nb".into(),
        |config| config.spec.cluster.region.push('\r'),
        |config| config.spec.cluster.api_server_endpoint.push('\0'),
        |config| config.spec.kubelet.flags.push("--v=1\nX=1".into()),
        |config| {
            let hybrid = config.spec.hybrid.as_mut().unwrap();
            hybrid.iam_roles_anywhere.as_mut().unwrap().node_name = "a\nb".into();
        },
        |config| {
            let hybrid = config.spec.hybrid.as_mut().unwrap();
            hybrid.iam_roles_anywhere.as_mut().unwrap().role_arn = String::new();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut config = samples::iam_roles_anywhere();
        change(&mut config);
        let error = render(&config, &facts(34, 2)).unwrap_err();
        assert!(matches!(error, Error::Field { .. }), "{index}: {error:?}");
    }
}

#[test]
fn every_file_is_written_once_below_a_known_folder() {
    let files = render(&samples::iam_roles_anywhere(), &facts(34, 2)).unwrap();
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    let count = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), count);
    assert!(
        paths
            .iter()
            .all(|path| path.starts_with("/etc/") || path.starts_with("/var/lib/kubelet/"))
    );
    assert_eq!(
        render(&samples::iam_roles_anywhere(), &facts(34, 2)).unwrap(),
        files
    );
}

proptest! {
    // Whatever is rendered from a NodeConfig with an activation code, the code is
    // in no file and in no error.
    #[test]
    fn an_activation_code_is_in_no_output(code in "[!-~]{20,250}", registered: bool, minor in 28u32..37) {
        let mut config = samples::ssm();
        config.spec.hybrid.as_mut().unwrap().ssm.as_mut().unwrap().activation_code.clone_from(&code);
        let facts = Facts { managed_instance_id: registered.then(|| "mi-1".into()), ..facts(minor, 2) };
        match render(&config, &facts) {
            Ok(files) => for file in files {
                prop_assert!(!String::from_utf8_lossy(&file.content).contains(&code));
            },
            Err(error) => {
                let said = format!("{error:?} {error} {:?}", error.hint());
                prop_assert!(!said.contains(&code));
            }
        }
        let shown = format!("{config:?}");
        prop_assert!(!shown.contains(&code));
    }

    // Names and paths from users may hold anything that is on one line: every
    // output still reads back as what was meant.
    #[test]
    fn odd_names_stay_themselves(name in "[ -~]{1,40}", path in "/[ -~]{1,40}") {
        let mut config = samples::iam_roles_anywhere();
        config.spec.cluster.name.clone_from(&name);
        let settings = config.spec.hybrid.as_mut().unwrap().iam_roles_anywhere.as_mut().unwrap();
        settings.certificate_path.clone_from(&path);
        let files = by_path(&config, &facts(34, 2));
        let kubeconfig: Value = serde_yaml::from_str(&files["/var/lib/kubelet/kubeconfig"]).unwrap();
        prop_assert_eq!(&kubeconfig["users"][0]["user"]["exec"]["args"][2], &Value::from(name.clone()));
        let line = files["/etc/aws/hybrid/config"].lines().find(|line| line.starts_with("credential_process")).unwrap();
        let script = format!("set -- {}; printf '%s' \"$4\"", line.split_once(" = ").unwrap().1);
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
    }
}
