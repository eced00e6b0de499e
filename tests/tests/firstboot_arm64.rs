//! The first-boot program for arm64, as it lies in images, under QEMU's emulator of
//! single programs and under a kernel: it is what it should be, and does what the one
//! for x86-64 does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::command::{Ran, Workshop};
use nodekiln_tests::first_boot::{self, ARM64_EMULATOR, Rendered, arm64, arm64_program};
use nodekiln_tests::joining::{Machine, ROLES_ANYWHERE, hybrid};
use nodekiln_tests::judges::judge;
use nodekiln_tests::node_configs::{FLAVOURS, Flavour, facts, node_config};
use nodekiln_tests::program::{self, run};
use nodekiln_tests::small_base::{self, MIB, ROOT_START, Shape, text};
use serde_json::json;
use tempfile::TempDir;

/// Largest program in bytes.
const LIMIT: u64 = 3_000_000;
/// What a program says, and how it ends.
fn said(mut command: Command, arguments: &[&str]) -> Output {
    let output = command.args(arguments).output();
    output.unwrap_or_else(|error| panic!("{command:?} is needed for this test: {error}"))
}

/// What both programs say to these arguments, after it is known to be the same.
#[track_caller]
fn said_by_both(arguments: &[&str]) -> Output {
    let here = said(Command::new(first_boot::program()), arguments);
    let there = said(arm64(), arguments);
    assert_eq!(there, here, "{arguments:?}");
    there
}

#[test]
fn it_is_a_small_static_program_for_arm64() {
    let path = text(arm64_program());
    let size = fs::metadata(path).expect("it was built").len();
    assert!(size <= LIMIT, "{size} bytes");
    let header = run("readelf", &["-hW", path]);
    for (field, value) in [
        ("Class:", "ELF64"),
        ("Type:", "EXEC (Executable file)"),
        ("Machine:", "AArch64"),
    ] {
        let line = header.lines().find(|line| line.trim().starts_with(field));
        let line = line.unwrap_or_else(|| panic!("{field} is missing in {header}"));
        assert!(line.ends_with(value), "{line}");
    }
    program::assert_static_for_every_page(arm64_program());
    let sections = run("readelf", &["-SW", path]);
    assert!(!sections.contains(".eh_frame"), "{sections}");
}

#[test]
fn it_says_what_the_one_for_x86_64_says() {
    for arguments in [&["--version"][..], &["--help"]] {
        assert_eq!(said_by_both(arguments).status.code(), Some(0));
    }
    for arguments in [&[][..], &["jion"], &["check", "--config", "/no/such/file"]] {
        assert_eq!(said_by_both(arguments).status.code(), Some(2));
    }
}

#[test]
fn it_checks_as_the_one_for_x86_64_does() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("config.yaml");
    let check = |config: &str, json: bool| {
        fs::write(&path, config).expect("written");
        let all = ["check", "--config", text(&path), "--json"];
        said_by_both(&all[..if json { 4 } else { 3 }])
    };
    for flavour in FLAVOURS {
        let output = check(&node_config(flavour, ""), false);
        assert_eq!(output.status.code(), Some(0), "{flavour:?}");
        assert_eq!(output.stdout, b"the NodeConfig is valid\n");
    }
    let good = node_config(Flavour::RolesAnywhere, "");
    for bad in [
        good.replace("    name: farm\n", "    nmae: farm\n"),
        good.replace("10.100.0.0/16", "10.100.0.0/161"),
        good.replace("arn:aws:iam::", "arn:aws:mai::"),
        node_config(Flavour::Ec2, "  kubelet: {config: {maxPods: [}}\n"),
        node_config(Flavour::Ssm, "  containerd: {config: '[debug'}\n"),
        "\0".into(),
        String::new(),
    ] {
        for json in [false, true] {
            let output = check(&bad, json);
            assert_eq!(output.status.code(), Some(2), "{bad}");
        }
    }
}

/// Paths and modes below a folder.
fn modes(root: &Path) -> Vec<(String, u32)> {
    walkdir::WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("the tree can be read"))
        .map(|entry| {
            let path = entry.path().strip_prefix(root).expect("it is below");
            let mode = entry.metadata().expect("it is there").permissions().mode();
            (path.display().to_string(), mode)
        })
        .collect()
}

#[test]
fn it_renders_the_files_that_the_one_for_x86_64_renders() {
    // nodeadm's files name no architecture: only what it downloads does.
    let more = "  kubelet:\n    flags: [--v=4]\n    config: {maxPods: 42, shutdownGracePeriod: 30s}\n  \
                containerd:\n    config: |\n      [debug]\n      level = \"debug\"\n";
    for flavour in FLAVOURS {
        for (kubelet, containerd) in [("1.28.5", "1.6.20"), ("1.34.4", "2.1.9")] {
            let mut facts = facts(flavour, kubelet, containerd);
            if flavour == Flavour::Ec2 {
                facts["instance"]["instanceType"] = json!("m7g.large");
            }
            for more in ["", more] {
                let config = node_config(flavour, more);
                let here = Rendered::new(&config, &facts);
                let there = Rendered::by(arm64(), &config, &facts);
                run("diff", &["-r", text(&here.root()), text(&there.root())]);
                let modes = modes(&there.root());
                assert_eq!(modes, self::modes(&here.root()), "{facts} {config}");
                assert!(modes.len() > 10, "{modes:?}");
            }
        }
    }
}

#[test]
fn it_asks_eks_by_signed_requests_over_tls_and_joins() {
    let programs = (
        env!("CARGO_BIN_EXE_nodekiln-cloud"),
        env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
    );
    let world = World::sample();
    let mut machine = Machine::new(programs, &world, &[]);
    machine.emulate_arm64();
    machine.certify();
    // In place of the signing helper, keys that are always the same.
    let key = &world.keys[0];
    let keys = json!({
        "Version": 1, "AccessKeyId": key.access_key_id, "SecretAccessKey": key.secret_access_key,
    });
    let helper = format!("#!/bin/sh\necho '{keys}'\n");
    machine.write("usr/local/bin/aws_signing_helper", &helper, 0o755);
    let config = hybrid("", ROLES_ANYWHERE);
    machine.write("etc/nodekiln/nodeconfig.yaml", &config, 0o600);
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    let asked = machine.cloud.record();
    let of_eks = |path: &str| {
        let mut answers = asked.iter().filter(|one| one.service == Service::Eks);
        answers.any(|one| one.path == path && one.status == 200)
    };
    assert!(of_eks("/clusters/farm"), "{asked:#?}");
    assert!(asked.iter().all(|one| one.status < 400), "{asked:#?}");
    let kubeconfig = machine.read("var/lib/kubelet/kubeconfig");
    let endpoint = machine.cloud.url(Service::Cluster);
    assert!(kubeconfig.contains(endpoint), "{kubeconfig}");
    assert_eq!(machine.status()["state"], "done");
}

/// A workshop whose base, components and profile are for arm64.
fn workshop() -> Workshop {
    let workshop = Workshop::with(&Shape::default(), small_base::turn_to_arm64);
    small_base::turn_to_arm64(&workshop.path("components"));
    workshop.write_profile(
        "base.raw",
        "  architecture: arm64\n  outputs:\n    - format: raw\n",
    );
    workshop.lock().succeeded();
    workshop
}

#[test]
fn an_image_for_arm64_gets_the_program_for_arm64() {
    let workshop = workshop();
    let build = |name: Option<&Path>| -> Ran {
        let mut command = workshop.command(&["build", "--offline", "--format", "json"]);
        command.env_remove("NODEKILN_FIRSTBOOT");
        command.envs(name.map(|name| ("NODEKILN_FIRSTBOOT", name)));
        command.output().expect("the command starts").into()
    };
    // The workshop's own program is for x86-64.
    let words = ["no ELF program for arm64", "scripts/build-firstboot arm64"];
    build(Some(&workshop.path("firstboot"))).failed(2, &words);

    let built = build(None).succeeded().json();
    let built = workshop.path(built["folder"].as_str().expect("a folder"));
    let (root, dumped) = (workshop.path("root.ext4"), workshop.path("dumped"));
    small_base::cut(&built.join("small.raw"), ROOT_START, 48 * MIB, &root);
    let request = format!("dump -p /usr/libexec/nodekiln/firstboot {}", text(&dumped));
    run("debugfs", &["-R", &request, text(&root)]);
    let header = run("readelf", &["-hW", text(&dumped)]);
    assert!(header.contains("AArch64"), "{header}");
    let mut program = Command::new(ARM64_EMULATOR);
    program.arg(&dumped);
    assert_eq!(said(program, &["--version"]), said(arm64(), &["--version"]));
}

/// Becomes the first process of a machine that has nothing else.
const INIT: &str = "#!/bin/busybox sh
busybox=/bin/busybox
$busybox echo \"machine: $($busybox uname -m)\"
/firstboot --version
/firstboot check --config /good.yaml
$busybox echo \"good: $?\"
/firstboot check --config /bad.yaml
$busybox echo \"bad: $?\"
/firstboot render --root /node --config /good.yaml --facts /facts.json
$busybox find /node -type f -exec $busybox sha256sum '{}' +
$busybox poweroff -f
";

/// An initial RAM disk of the program, busybox for arm64 and `files`.
fn ram_disk(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("bin")).expect("creates");
    fs::create_dir(tree.join("node")).expect("creates");
    fs::copy(judge("arm64-busybox"), tree.join("bin/busybox")).expect("copies");
    fs::copy(arm64_program(), tree.join("firstboot")).expect("copies");
    for (name, content) in files {
        fs::write(tree.join(name), content).expect("writes");
    }
    let init = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.join("init"), init).expect("sets");
    let pack = "cd \"$1\" && find . | cpio --quiet -o -H newc >\"$2\"";
    let disk = folder.join("initrd");
    run("sh", &["-ec", pack, "sh", text(&tree), text(&disk)]);
    disk
}

#[test]
fn a_kernel_for_arm64_runs_it() {
    let folder = TempDir::with_prefix("nodekiln-arm64-").expect("a folder");
    let good = node_config(Flavour::RolesAnywhere, "");
    let bad = good.replace("    name: farm\n", "    nmae: farm\n");
    let facts = facts(Flavour::RolesAnywhere, "1.34.4", "2.1.9");
    let disk = ram_disk(
        folder.path(),
        &[
            ("init", INIT),
            ("good.yaml", &good),
            ("bad.yaml", &bad),
            ("facts.json", &facts.to_string()),
        ],
    );
    let mut machine = Command::new("timeout");
    machine
        .args(["--kill-after=5", "300", "qemu-system-aarch64"])
        .args(["-machine", "virt", "-cpu", "cortex-a57", "-m", "512"])
        .args([
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(program::script("vm-kernel", "arm64"))
        .arg("-initrd")
        .arg(disk)
        .args(["-append", "console=ttyAMA0 quiet panic=-1"])
        .stdin(Stdio::null());
    let output = said(machine, &[]);
    let console = program::text(&output).replace('\r', "");
    assert!(output.status.success(), "{console}");
    let here = said(Command::new(first_boot::program()), &["--version"]);
    for line in [
        "machine: aarch64",
        program::text(&here).trim_end(),
        "the NodeConfig is valid",
        "good: 0",
        "bad: 2",
    ] {
        assert!(
            console.lines().any(|found| found == line),
            "{line}: {console}"
        );
    }
    assert!(console.contains("line 5, column 5: "), "{console}");
    let here = Rendered::new(&good, &facts);
    let script = "cd \"$1\" && find . -type f -exec sha256sum {} +";
    let sums = run("sh", &["-ec", script, "sh", text(&here.root())]);
    assert!(sums.lines().count() > 5, "{sums}");
    for sum in sums.lines().map(|line| line.replace(" ./", " /node/")) {
        assert!(console.contains(&sum), "{sum}: {console}");
    }
}
