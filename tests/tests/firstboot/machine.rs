//! A machine as a folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nodekiln_tests::first_boot::program;
use tempfile::TempDir;

use crate::{CERTIFICATE, node_config, pipe, text, tree};

/// A root of its own with the program and a service manager made of a script,
/// which can kill whoever calls it.
pub struct Machine {
    pub root: TempDir,
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
    pub fn new() -> Self {
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

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn read(&self, path: &str) -> String {
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
    pub fn start(&self) -> Output {
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
    pub fn settled(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut tree = tree(self.root.path());
        tree.retain(|path, _| {
            !path.starts_with("run") && !path.starts_with("dev") && !path.ends_with("state.json")
        });
        tree
    }
}
