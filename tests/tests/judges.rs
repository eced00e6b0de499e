//! What first boot writes, judged by the programs that read it: two containerds, the
//! kubelet's own loader of two Kubernetes versions, and systemd.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_tests::first_boot::Rendered;
use nodekiln_tests::judges::judge;
use nodekiln_tests::node_configs::{FLAVOURS, Flavour, facts, node_config};
use nodekiln_tests::program;
use serde_json::{Value, json};

/// What a containerd makes of the configuration, as JSON.
fn dump(rendered: &Rendered, containerd: &Path) -> Value {
    let arguments = ["--config", "/etc/containerd/config.toml", "config", "dump"];
    let output = rendered.run(containerd, &arguments);
    let said = program::text(&output);
    let config = rendered.read("/etc/containerd/config.toml");
    assert!(output.status.success(), "{said}\n{config}");
    let mut python = Command::new("python3")
        .args([
            "-c",
            "import json,sys,tomllib; print(json.dumps(tomllib.load(sys.stdin.buffer)))",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python must be installed");
    let mut input = python.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, &output.stdout).expect("Python reads");
    drop(input);
    let parsed = python.wait_with_output().expect("Python ends");
    serde_json::from_slice(&parsed.stdout).unwrap_or_else(|error| unreachable!("{error}: {said}"))
}

/// The value at a path through tables.
fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| &value[key])
}

/// What matters of a containerd's configuration, wherever its schema has it.
fn what_matters(dump: &Value) -> Value {
    let plugins = &dump["plugins"];
    if dump["version"] == 2 {
        let cri = &plugins["io.containerd.grpc.v1.cri"];
        let runc = at(cri, &["containerd", "runtimes", "runc"]);
        return json!({
            "sandbox": cri["sandbox_image"],
            "cgroup": at(runc, &["options", "SystemdCgroup"]),
            "runtime": runc["runtime_type"],
            "default": at(cri, &["containerd", "default_runtime_name"]),
            "discard": at(cri, &["containerd", "discard_unpacked_layers"]),
            "registry": at(cri, &["registry", "config_path"]),
            "plugins": at(cri, &["cni", "bin_dir"]),
            "networks": at(cri, &["cni", "conf_dir"]),
            "downloads": cri["max_concurrent_downloads"],
        });
    }
    let images = &plugins["io.containerd.cri.v1.images"];
    let cri = &plugins["io.containerd.cri.v1.runtime"];
    let runc = at(cri, &["containerd", "runtimes", "runc"]);
    // Since 2.1 there may be several folders of plugins; distributions have their own.
    let ours = json!("/opt/cni/bin");
    let folders = at(cri, &["cni", "bin_dirs"]).as_array();
    let folder = if folders.is_some_and(|folders| folders.contains(&ours)) {
        &ours
    } else {
        at(cri, &["cni", "bin_dir"])
    };
    json!({
        "sandbox": at(images, &["pinned_images", "sandbox"]),
        "cgroup": at(runc, &["options", "SystemdCgroup"]),
        "runtime": runc["runtime_type"],
        "default": at(cri, &["containerd", "default_runtime_name"]),
        "discard": images["discard_unpacked_layers"],
        "registry": at(images, &["registry", "config_path"]),
        "plugins": folder,
        "networks": at(cri, &["cni", "conf_dir"]),
        "downloads": images["max_concurrent_downloads"],
    })
}

fn expected(flavour: Flavour) -> Value {
    json!({
        "sandbox": match flavour {
            Flavour::Ec2 => "localhost/kubernetes/pause:latest",
            _ => "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5",
        },
        "cgroup": true,
        "runtime": "io.containerd.runc.v2",
        "default": "runc",
        "discard": true,
        "registry": "/etc/containerd/certs.d:/etc/docker/certs.d",
        "plugins": "/opt/cni/bin",
        "networks": "/etc/cni/net.d",
        "downloads": 3,
    })
}

const CONTAINERDS: [(&str, &str); 2] = [("containerd-1", "1.6.20"), ("containerd-2", "2.1.9")];

#[test]
fn containerd_takes_its_configuration_of_every_flavour() {
    for (name, version) in CONTAINERDS {
        let containerd = judge(name);
        for flavour in FLAVOURS {
            let facts = facts(flavour, "1.34.4", version);
            let rendered = Rendered::new(&node_config(flavour, ""), &facts);
            let dump = dump(&rendered, &containerd);
            assert_eq!(what_matters(&dump), expected(flavour), "{name} {flavour:?}");
            assert_eq!(dump["root"], "/var/lib/containerd");
            assert_eq!(
                at(&dump, &["grpc", "address"]),
                "/run/containerd/containerd.sock"
            );
        }
    }
}

#[test]
fn containerd_sees_what_the_user_wants_beside_what_a_node_needs() {
    for (name, version, user) in [
        (
            "containerd-1",
            "1.6.20",
            "version = 2\n[debug]\nlevel = \"debug\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nmax_concurrent_downloads = 7\n",
        ),
        (
            "containerd-2",
            "2.1.9",
            "version = 3\n[debug]\nlevel = \"debug\"\n\
             [plugins.'io.containerd.cri.v1.images']\nmax_concurrent_downloads = 7\n",
        ),
    ] {
        let containerd = judge(name);
        let user: String = user.lines().map(|line| format!("      {line}\n")).collect();
        let more = format!("  containerd:\n    config: |\n{user}");
        for flavour in FLAVOURS {
            let facts = facts(flavour, "1.34.4", version);
            let rendered = Rendered::new(&node_config(flavour, &more), &facts);
            let dump = dump(&rendered, &containerd);
            assert_eq!(
                at(&dump, &["debug", "level"]),
                "debug",
                "{name} {flavour:?}"
            );
            let mut expected = expected(flavour);
            expected["downloads"] = json!(7);
            assert_eq!(what_matters(&dump), expected, "{name} {flavour:?}");
        }
    }
}

/// What a kubelet makes of its files and flags.
fn kubelet(rendered: &Rendered, loader: &Path) -> Result<Value, String> {
    let mut arguments = vec!["--config=/etc/kubernetes/kubelet/config.json".to_owned()];
    arguments.extend(rendered.kubelet_flags());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = rendered.run(loader, &arguments);
    if !output.status.success() {
        return Err(program::text(&output));
    }
    Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
}

const KUBELETS: [(&str, &str); 2] = [
    ("kubelet-config-1.34", "1.34.4"),
    ("kubelet-config-1.36", "1.36.3"),
];

#[test]
fn the_kubelet_takes_files_and_flags_of_every_flavour() {
    for (name, version) in KUBELETS {
        let loader = judge(name);
        for flavour in FLAVOURS {
            let rendered =
                Rendered::new(&node_config(flavour, ""), &facts(flavour, version, "2.1.9"));
            let loaded = kubelet(&rendered, &loader);
            let loaded = loaded.unwrap_or_else(|said| unreachable!("{name} {flavour:?}: {said}"));
            let configuration = &loaded["configuration"];
            for (path, wanted) in [
                (&["clusterDNS"][..], json!(["10.100.0.10"])),
                (&["cgroupDriver"], json!("systemd")),
                (
                    &["authentication", "x509", "clientCAFile"],
                    json!("/etc/kubernetes/pki/ca.crt"),
                ),
                (&["authentication", "anonymous", "enabled"], json!(false)),
                (&["authorization", "mode"], json!("Webhook")),
                (&["readOnlyPort"], Value::Null),
                (&["serverTLSBootstrap"], json!(true)),
                (&["protectKernelDefaults"], json!(true)),
                (&["evictionHard", "memory.available"], json!("100Mi")),
                (
                    &["featureGates", "RotateKubeletServerCertificate"],
                    json!(true),
                ),
            ] {
                assert_eq!(
                    *at(configuration, path),
                    wanted,
                    "{name} {flavour:?} {path:?}"
                );
            }
            let provider = match flavour {
                Flavour::Ec2 => "aws:///us-west-2a/i-0123456789abcdef0",
                Flavour::Ssm => "eks-hybrid:///us-west-2/farm/mi-0123456789abcdef0",
                Flavour::RolesAnywhere => "eks-hybrid:///us-west-2/farm/node-1",
            };
            assert_eq!(configuration["providerID"], provider);
            let flags = &loaded["flags"];
            let cloud = if flavour == Flavour::Ec2 {
                "external"
            } else {
                ""
            };
            assert_eq!(
                flags["cloud-provider"], cloud,
                "{name} {flavour:?}: {flags}"
            );
            assert!(flags["hostname-override"].is_string(), "{flags}");
            assert!(
                flags["image-credential-provider-config"].is_string(),
                "{flags}"
            );
        }
    }
}

#[test]
fn the_kubelet_lets_the_user_win_over_what_a_node_has_by_itself() {
    let more = "  kubelet:\n    config:\n      maxPods: 42\n      evictionHard:\n        \
                memory.available: 200Mi\n      logging:\n        verbosity: 3\n    flags:\n      \
                - --v=4\n      - --node-labels=site=lab,rack=r7\n";
    for (name, version) in KUBELETS {
        let loader = judge(name);
        for flavour in FLAVOURS {
            let rendered = Rendered::new(
                &node_config(flavour, more),
                &facts(flavour, version, "2.1.9"),
            );
            let loaded = kubelet(&rendered, &loader).unwrap_or_else(|said| unreachable!("{said}"));
            let configuration = &loaded["configuration"];
            assert_eq!(configuration["maxPods"], 42, "{name} {flavour:?}");
            let eviction = &configuration["evictionHard"];
            assert_eq!(eviction["memory.available"], "200Mi");
            // The rest of the table stays.
            assert_eq!(eviction["nodefs.available"], "10%");
            assert_eq!(configuration["serverTLSBootstrap"], true);
            let labels = loaded["flags"]["node-labels"].as_str().expect("labels");
            for label in ["site=lab", "rack=r7"] {
                assert!(labels.contains(label), "{labels}");
            }
        }
    }
}

#[test]
fn the_kubelet_refuses_a_configuration_that_it_does_not_know() {
    // That the judge can refuse is known from what it refuses.
    let loader = judge("kubelet-config-1.34");
    let more = "  kubelet:\n    config: {maxPodz: 42}\n";
    let rendered = Rendered::new(
        &node_config(Flavour::Ec2, more),
        &facts(Flavour::Ec2, "1.34.4", "2.1.9"),
    );
    let said = kubelet(&rendered, &loader).expect_err("it is refused");
    assert!(said.contains("unknown field \"maxPodz\""), "{said}");
    let more = "  kubelet:\n    flags: [--no-such-flag]\n";
    let rendered = Rendered::new(
        &node_config(Flavour::RolesAnywhere, more),
        &facts(Flavour::RolesAnywhere, "1.34.4", "2.1.9"),
    );
    let said = kubelet(&rendered, &loader).expect_err("it is refused");
    assert!(said.contains("unknown flag: --no-such-flag"), "{said}");
}

/// What systemd says of all units of a node: the image's, ours and the rendered.
fn verify(rendered: &Rendered, change: impl FnOnce(&Path)) -> String {
    let root = rendered.root();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).expect("a folder");
        let copied = Command::new("cp").arg("-rT").arg(from).arg(to).status();
        assert!(copied.expect("cp runs").success(), "{}", from.display());
    };
    copy(
        Path::new("/usr/lib/systemd/system"),
        &root.join("usr/lib/systemd/system"),
    );
    for overlay in ["common", "linux"] {
        copy(&workspace.join("overlays").join(overlay), &root);
    }
    let units = root.join("etc/systemd/system");
    for unit in ["containerd.service", "kubelet.service"] {
        fs::copy(
            workspace.join("builder/src/plan").join(unit),
            units.join(unit),
        )
        .expect("copied");
    }
    for path in [
        "usr/libexec/nodekiln/firstboot",
        "usr/local/bin/aws_signing_helper",
        "usr/bin/containerd",
        "usr/bin/kubelet",
        "usr/bin/soci-snapshotter-grpc",
        "sbin/iptables",
        "sbin/modprobe",
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    change(&root);
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).expect("a folder");
    let mut names = vec!["multi-user.target".to_owned()];
    for entry in fs::read_dir(&units).expect("units") {
        let name = entry
            .expect("a unit")
            .file_name()
            .into_string()
            .expect("UTF-8");
        if name.ends_with(".service") || name.ends_with(".slice") {
            // Some are wanted already.
            let _ = symlink(format!("../{name}"), wants.join(&name));
            names.push(name);
        }
    }
    let output = Command::new("systemd-analyze")
        .arg(format!("--root={}", root.display()))
        .args(["verify", "--man=no"])
        .args(&names)
        .output()
        .expect("systemd-analyze must be installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = |line: &&str| {
        line.contains("cycle")
            || line.contains("/etc/systemd/")
            || names.iter().any(|name| line.starts_with(name.as_str()))
    };
    said.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

#[test]
fn systemd_takes_every_unit_and_drop_in_that_is_written() {
    let more = "  instance:\n    environment:\n      default: {A: \"b c\"}\n      containerd: {D: e}\n    \
                network:\n      nameservers: [10.0.0.2]\n      domains: [example.com]\n";
    for flavour in FLAVOURS {
        let more = if flavour == Flavour::Ec2 { more } else { "" };
        let rendered = Rendered::new(
            &node_config(flavour, more),
            &facts(flavour, "1.34.4", "2.1.9"),
        );
        assert_eq!(verify(&rendered, |_| ()), "", "{flavour:?}");
    }
    // That it can refuse is known from what it refuses.
    let rendered = Rendered::new(
        &node_config(Flavour::RolesAnywhere, ""),
        &facts(Flavour::RolesAnywhere, "1.34.4", "2.1.9"),
    );
    let said = verify(&rendered, |root| {
        let folder = root.join("etc/systemd/system/kubelet.service.d");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("90-wrong.conf"), "[Service]\nRestartSecond=1\n").expect("written");
    });
    assert!(said.contains("RestartSecond"), "{said}");
}
