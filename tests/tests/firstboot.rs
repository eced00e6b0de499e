//! The program that joins the machine, as it is: in a root of its own with a
//! service manager that is pretended, killed wherever it can be killed; and what it
//! writes, read by programs that others wrote.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nodekiln_tests::first_boot::program;
use serde_json::Value;
use tempfile::TempDir;

const CERTIFICATE: &str = include_str!("../../firstboot/src/node_config/testdata/ca.pem");
const UNIT: &str =
    include_str!("../../overlays/linux/etc/systemd/system/nodekiln-firstboot.service");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn node_config(flags: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    let output = pipe("base64", &["-w0"], CERTIFICATE.as_bytes());
    write!(encoded, "{}", text(&output.stdout)).expect("a string can be written to");
    format!(
        "apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: farm
    region: eu-central-1
    apiServerEndpoint: https://example.eu-central-1.eks.amazonaws.com
    certificateAuthority: {encoded}
    cidr: 10.100.0.0/16
  kubelet:
    flags: [{flags}]
    config: {{maxPods: 42}}
  containerd:
    config: |
      [debug]
      level = \"debug\"
  hybrid:
    enableCredentialsFile: true
    iamRolesAnywhere:
      nodeName: node-1
      trustAnchorArn: arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/a
      profileArn: arn:aws:rolesanywhere:eu-central-1:123456789012:profile/b
      roleArn: arn:aws:iam::123456789012:role/c
"
    )
}

fn pipe(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    // A program may end without reading all.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it can be waited for")
}

fn firstboot(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .output()
        .expect("it starts")
}

/// Everything below a folder: mode and content, or where a link leads.
fn tree(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| entry.expect("the tree can be read"))
        .map(|entry| {
            let path = entry.path();
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o7777;
            let content = if entry.file_type().is_file() {
                fs::read(path).expect("it can be read")
            } else {
                Vec::new()
            };
            let name = path
                .strip_prefix(root)
                .expect("it is below")
                .display()
                .to_string();
            (name, (mode, content))
        })
        .collect()
}

#[test]
fn what_is_rendered_is_read_by_others() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, node_config("--v=4")).unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let arguments = [
        "render",
        "--root",
        root.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    for containerd in ["1.6.20", "2.1.0"] {
        let facts = folder.path().join("facts.json");
        fs::write(
            &facts,
            format!(r#"{{"os": "debian", "kubelet": "1.34.1", "containerd": "{containerd}"}}"#),
        )
        .unwrap();
        let all = [&arguments[..], &["--facts", facts.to_str().unwrap()]].concat();
        let output = firstboot(&all);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first = tree(&root);
        // Python's own readers of JSON and TOML.
        let script = "
import json, pathlib, sys, tomllib
root = pathlib.Path(sys.argv[1])
for path in ['etc/kubernetes/kubelet/config.json', 'etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf',
             'etc/eks/image-credential-provider/config.json']:
    json.loads((root / path).read_text())
toml = tomllib.loads((root / 'etc/containerd/config.toml').read_text())
merged = [toml] + [tomllib.loads(path.read_text()) for path in root.glob('etc/containerd/config.d/*.toml')]
assert any(one.get('debug', {}).get('level') == 'debug' for one in merged), merged
plugins = toml['plugins']
if toml['version'] == 2:
    cri = plugins['io.containerd.grpc.v1.cri']
    print(2, cri['sandbox_image'], cri['containerd']['runtimes']['runc']['options']['SystemdCgroup'])
else:
    print(toml['version'], plugins['io.containerd.cri.v1.images']['pinned_images']['sandbox'],
          plugins['io.containerd.cri.v1.runtime']['containerd']['runtimes']['runc']['options']['SystemdCgroup'])
";
        let read = pipe("python3", &["-", root.to_str().unwrap()], script.as_bytes());
        assert!(read.status.success(), "{}", text(&read.stderr));
        let schema = if containerd.starts_with('1') { 2 } else { 3 };
        let image = "602401143452.dkr.ecr.eu-central-1.amazonaws.com/eks/pause:3.5";
        assert_eq!(text(&read.stdout), format!("{schema} {image} True\n"));
        for (path, (mode, content)) in &first {
            let expected = if content.is_empty() { 0o755 } else { 0o644 };
            assert!(path.is_empty() || *mode == expected, "{path} {mode:o}");
        }
        let again = firstboot(&all);
        assert!(
            text(&again.stdout)
                .lines()
                .all(|line| line.starts_with("kept "))
        );
        assert_eq!(tree(&root), first);
    }
    let helper = root.join("etc/systemd/system/aws_signing_helper_update.service");
    let verified = verify(
        "aws_signing_helper_update.service",
        &fs::read_to_string(helper).unwrap(),
    );
    assert_eq!(verified, "");
}

#[test]
fn rendering_follows_no_link_out_of_the_folder() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, node_config("")).unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("etc")).unwrap();
    let output = firstboot(&[
        "render",
        "--root",
        root.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("is a link"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn checking_tells_all_problems_with_their_places() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    let bad = node_config("--hostname-override=x").replace("    name: farm\n", "    nmae: farm\n");
    fs::write(&config, bad).unwrap();
    let output = firstboot(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("line 5, column 5: "), "{said}");
    assert!(output.stdout.is_empty());

    let output = firstboot(&["check", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["valid"], false);
    assert_eq!(value["problems"][0]["line"], 5);

    let output = pipe(
        program().to_str().unwrap(),
        &["check", "--config", "-"],
        node_config("--v=4").as_bytes(),
    );
    assert_eq!(
        text(&output.stdout),
        "the NodeConfig is valid\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn wrong_usage_is_told() {
    for (arguments, said) in [
        (&[][..], "no command is given"),
        (&["jion"], "there is no command \"jion\""),
        (&["check"], "--config FILE is missing"),
        (&["check", "--config"], "--config needs a value"),
        (
            &["check", "--config=a", "--config=b"],
            "--config is given twice",
        ),
        (&["check", "--root=/"], "check does not take \"--root\""),
        (&["status", "--json=yes"], "--json takes no value"),
        (
            &["check", "--config", "/no/such/file"],
            "reading /no/such/file: ",
        ),
    ] {
        let output = firstboot(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).starts_with(&format!("error: {said}")),
            "{}",
            text(&output.stderr)
        );
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert!(firstboot(arguments).status.success(), "{arguments:?}");
    }
    let help = text(&firstboot(&["--help"]).stdout);
    assert!(help.lines().all(|line| line.chars().count() <= 80));
}

/// What `systemd-analyze verify` has to say about a unit among those of a system.
fn verify(name: &str, unit: &str) -> String {
    let root = TempDir::new().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for path in ["usr/libexec/nodekiln", "usr/local/bin", "usr/bin"] {
        fs::create_dir_all(root.path().join(path)).unwrap();
    }
    for path in [
        "usr/libexec/nodekiln/firstboot",
        "usr/local/bin/aws_signing_helper",
        "usr/bin/containerd",
        "usr/bin/kubelet",
        "usr/bin/cloud-init",
    ] {
        let path = root.path().join(path);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copied = Command::new("cp")
        .args(["-r", "/usr/lib/systemd/system"])
        .arg(root.path().join("usr/lib-systemd-system"))
        .status()
        .unwrap();
    assert!(copied.success());
    fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
    fs::rename(
        root.path().join("usr/lib-systemd-system"),
        root.path().join("usr/lib/systemd/system"),
    )
    .unwrap();
    // The neighbours, with the order that distributions give them.
    for (name, content) in [
        (
            "cloud-init.service",
            "[Unit]\nAfter=network.target\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n",
        ),
        (
            "cloud-final.service",
            "[Unit]\nAfter=network-online.target multi-user.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n",
        ),
        (
            "containerd.service",
            "[Unit]\nAfter=network.target local-fs.target\n[Service]\nType=notify\nExecStart=/usr/bin/containerd\n[Install]\nWantedBy=multi-user.target\n",
        ),
        (
            "kubelet.service",
            "[Unit]\nAfter=containerd.service\nRequires=containerd.service\n[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nWantedBy=multi-user.target\n",
        ),
    ] {
        fs::write(units.join(name), content).unwrap();
    }
    fs::write(units.join(name), unit).unwrap();
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for name in ["containerd.service", "kubelet.service", name] {
        symlink(format!("../{name}"), wants.join(name)).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .arg(format!("--root={}", root.path().display()))
        .args(["verify", "--man=no", name, "multi-user.target"])
        .output()
        .expect("systemd-analyze must be installed");
    let said = text(&output.stderr);
    let about: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(name) || line.contains("cycle"))
        .collect();
    assert!(output.status.success() || !about.is_empty(), "{said}");
    about.join("\n")
}

#[test]
fn systemd_accepts_the_unit_and_its_order() {
    let name = "nodekiln-firstboot.service";
    assert_eq!(verify(name, UNIT), "");
    // That the check can fail is checked, too.
    let unknown = UNIT.replace("WatchdogSec", "WatchdogSeconds");
    assert!(verify(name, &unknown).contains("WatchdogSeconds"));
    let cycle = UNIT.replace("After=network-online.target", "After=kubelet.service");
    assert!(verify(name, &cycle).contains("cycle"));
}

/// A root of its own with the program and a service manager made of a script,
/// which can kill whoever calls it.
struct Machine {
    root: TempDir,
}

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /run/calls
verb=$1; shift
for word; do case $word in --*) ;; *) unit=$word;; esac; done
if [ -e /run/kill-at ] && [ "$(wc -l < /run/calls)" -eq "$(cat /run/kill-at)" ]; then
    [ -e /run/kill-after ] || { kill -9 $PPID; exit 1; }
fi
case $verb in
show)
    echo LoadState=loaded
    if [ -e /run/active.$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
    if [ -e /etc/enabled.$unit ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi;;
start|restart) echo started >> /run/active.$unit;;
enable) echo > /etc/enabled.$unit;;
esac
if [ -e /run/kill-at ] && [ "$(wc -l < /run/calls)" -eq "$(cat /run/kill-at)" ]; then
    kill -9 $PPID
fi
exit 0
"#;

impl Machine {
    fn new() -> Self {
        let machine = Self {
            root: TempDir::new().unwrap(),
        };
        machine.install(Path::new("/bin/sh"), "bin/sh");
        for tool in ["wc", "cat", "expr"] {
            let found = pipe("sh", &["-c", &format!("command -v {tool}")], b"");
            machine.install(
                Path::new(text(&found.stdout).trim()),
                &format!("usr/bin/{tool}"),
            );
        }
        machine.install(program(), "usr/libexec/nodekiln/firstboot");
        let version = |line: &str| format!("#!/bin/sh\necho '{line}'\n");
        for (path, content, mode) in [
            ("usr/bin/systemctl", SYSTEMCTL, 0o755),
            ("usr/bin/kubelet", &version("Kubernetes v1.34.1"), 0o755),
            (
                "usr/bin/containerd",
                &version("containerd containerd.io 1.6.20 abc"),
                0o755,
            ),
            ("usr/local/bin/aws-iam-authenticator", "", 0o755),
            ("usr/local/bin/aws_signing_helper", "", 0o755),
            (
                "etc/eks/image-credential-provider/ecr-credential-provider",
                "",
                0o755,
            ),
            (
                "etc/machine-id",
                "0123456789abcdef0123456789abcdef\n",
                0o444,
            ),
            ("etc/os-release", "ID=debian\n", 0o644),
            (
                "etc/fstab",
                "LABEL=root / ext4 defaults 0 1\n/swap none swap sw 0 0\n",
                0o640,
            ),
            ("etc/iam/pki/server.pem", CERTIFICATE, 0o644),
            ("etc/iam/pki/server.key", "key", 0o600),
            ("etc/nodekiln/nodeconfig.yaml", &node_config("--v=4"), 0o600),
            // There is no network in this root.
            (
                "etc/nodekiln/skip-validations",
                "iam-ra-api-network\napi-server-endpoint-resolution-validation\n\
                 k8s-authentication-validation\n",
                0o644,
            ),
            ("eks-hybrid/.aws/credentials", "x", 0o600),
            ("proc/meminfo", "MemTotal: 4000000 kB\n", 0o444),
            ("proc/swaps", "Filename Type Size Used Priority\n", 0o444),
            ("proc/cmdline", "quiet\n", 0o444),
            ("sys/class/block/.keep", "", 0o444),
            ("sys/devices/system/cpu/cpu0/online", "1\n", 0o444),
            ("dev/console", "", 0o600),
            ("dev/null", "", 0o666),
            ("run/.keep", "", 0o644),
        ] {
            let path = machine.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Copies a program and the libraries that it is linked with.
    fn install(&self, program: &Path, at: &str) {
        let at = self.path(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::copy(program, at).unwrap();
        let linked = Command::new("ldd")
            .arg(program)
            .output()
            .expect("ldd must be installed");
        let listing = text(&linked.stdout);
        for library in listing
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let copy = self.path(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, copy).unwrap();
        }
    }

    /// Runs the program as the service manager would, with this root.
    fn start(&self) -> Output {
        let _ = fs::remove_file(self.path("run/calls"));
        Command::new("chroot")
            .arg(self.root.path())
            .args(["/usr/libexec/nodekiln/firstboot", "run"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", "/run/notify")
            .env("WATCHDOG_USEC", "3000000")
            .output()
            .expect("chroot must be installed, and these tests run as root")
    }

    /// What of the tree is to be the same however often the work was cut off.
    fn settled(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut tree = tree(self.root.path());
        tree.retain(|path, _| {
            !path.starts_with("run") && !path.starts_with("dev") && !path.ends_with("state.json")
        });
        tree
    }
}

#[test]
fn the_program_joins_a_machine_and_leaves_it_alone_afterwards() {
    let machine = Machine::new();
    let manager = UnixDatagram::bind(machine.path("run/notify")).unwrap();
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            match text(&buffer[..length]).as_str() {
                "END" => return heard,
                message => heard.push(message.to_owned()),
            }
        }
    });
    let output = machine.start();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let console = machine.read("dev/console");
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "nodekiln-firstboot: started",
            "nodekiln-firstboot: node configuration from file /etc/nodekiln/nodeconfig.yaml",
            "nodekiln-firstboot: containerd is active",
            "nodekiln-firstboot: kubelet is active",
        ]
    );
    assert!(
        lines[4].starts_with("nodekiln-firstboot: done in "),
        "{console}"
    );
    for line in text(&output.stderr).lines() {
        let entry = line
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .unwrap();
        assert!(["3", "4", "6"].contains(&entry.0), "{line}");
        serde_json::from_str::<Value>(entry.1).unwrap();
    }
    let notify = UnixDatagram::unbound().unwrap();
    notify.send_to(b"END", machine.path("run/notify")).unwrap();
    let heard = listener.join().unwrap();
    fs::remove_file(machine.path("run/notify")).unwrap();
    assert_eq!(
        heard.iter().filter(|message| *message == "READY=1").count(),
        1
    );
    assert!(heard.iter().any(|message| message == "WATCHDOG=1"));

    assert_eq!(
        machine.read("etc/fstab"),
        "LABEL=root / ext4 defaults 0 1\n"
    );
    let state = machine.path("var/lib/nodekiln/firstboot/state.json");
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let environment = machine.read("etc/eks/kubelet/environment");
    assert!(environment.contains(" --v=4\""), "{environment}");

    let before = (tree(&machine.path("etc")), fs::read(&state).unwrap());
    let output = machine.start();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        (tree(&machine.path("etc")), fs::read(&state).unwrap()),
        before
    );
    let calls = machine.read("run/calls");
    assert!(
        calls.lines().all(|call| call.starts_with("show ")),
        "{calls}"
    );

    let status = firstboot(&[
        "status",
        "--json",
        "--root",
        machine.root.path().to_str().unwrap(),
    ]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "done");
}

#[test]
fn killed_at_every_call_of_the_service_manager_it_converges() {
    let whole = Machine::new();
    assert!(whole.start().status.success());
    let calls = whole.read("run/calls");
    let expected = whole.settled();
    // Killed while it asks is killed before its next act.
    let acts = calls
        .lines()
        .zip(1..)
        .filter(|(call, _)| !call.starts_with("show "));
    let acts: Vec<u32> = acts.map(|(_, number)| number).collect();
    assert!(acts.len() > 7, "{calls}");
    for call in acts {
        for after in [false, true] {
            let machine = Machine::new();
            fs::write(machine.path("run/kill-at"), call.to_string()).unwrap();
            if after {
                fs::write(machine.path("run/kill-after"), "").unwrap();
            }
            let killed = machine.start();
            assert_eq!(
                killed.status.code(),
                None,
                "call {call}: {}",
                text(&killed.stderr)
            );
            fs::remove_file(machine.path("run/kill-at")).unwrap();
            let output = machine.start();
            assert!(
                output.status.success(),
                "call {call}: {}",
                text(&output.stderr)
            );
            assert_eq!(machine.settled(), expected, "call {call}");
            for unit in ["containerd", "kubelet"] {
                assert!(
                    machine.path(&format!("run/active.{unit}.service")).exists(),
                    "{unit}"
                );
            }
        }
    }
}

#[test]
fn without_a_node_configuration_the_unit_fails_for_good() {
    let machine = Machine::new();
    fs::remove_file(machine.path("etc/nodekiln/nodeconfig.yaml")).unwrap();
    let output = machine.start();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let console = machine.read("dev/console");
    assert!(
        console.contains("\nnodekiln-firstboot: failed: no NodeConfig was found"),
        "{console}"
    );
    assert!(!machine.path("run/calls").exists());
    assert!(
        UNIT.lines()
            .any(|line| line == "RestartPreventExitStatus=2 3 7")
    );
}
