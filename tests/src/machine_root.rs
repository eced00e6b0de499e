//! The root of a machine, as a folder: a first-boot program, and stand-ins of what it
//! calls.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Where the first-boot program lies.
pub const PROGRAM: &str = "usr/libexec/nodekiln/firstboot";

/// Notes what it is told. Starting the SSM agent's unit runs the agent's stand-in.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /run/calls
verb=$1; shift
for word; do case $word in --*) ;; *) unit=$word;; esac; done
case $verb in
show)
    echo LoadState=loaded
    if [ -e /run/active.$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
    if [ -e /etc/enabled.$unit ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi;;
start|restart)
    case $unit in amazon-ssm-agent*) /usr/bin/amazon-ssm-agent >> /run/agent 2>&1;; esac
    echo started >> /run/active.$unit;;
enable) echo > /etc/enabled.$unit;;
esac
exit 0
"#;

/// The machine's own network.
const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t011E140A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      eth0\t001E140A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

/// Makes the token that the cluster of the tests takes.
const AUTHENTICATOR: &str = r#"#!/bin/sh
echo '{"kind": "ExecCredential", "status": {"token": "k8s-aws-v1.c3RhbmQtaW4"}}'
"#;

/// What every machine has, whoever plays its service manager.
const COMMON: [(&str, &str, u32); 11] = [
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
    ("proc/meminfo", "MemTotal: 4000000 kB\n", 0o444),
    ("proc/swaps", "Filename Type Size Used Priority\n", 0o444),
    ("proc/cmdline", "quiet\n", 0o444),
    ("sys/class/block/.keep", "", 0o444),
    ("sys/devices/system/cpu/cpu0/online", "1\n", 0o444),
    ("dev/console", "", 0o600),
    ("dev/null", "", 0o666),
    ("run/.keep", "", 0o644),
];

/// A program that says its version and no more.
pub fn version(line: &str) -> String {
    format!("#!/bin/sh\necho '{line}'\n")
}

/// Lays what every machine has into `root`: the first-boot program, a shell with
/// these tools of busybox, programs of this version of containerd, and files of the
/// kernel.
///
/// # Panics
/// When it cannot be made: busybox has to be installed.
pub fn furnish(root: &Path, firstboot: &Path, tools: &[&str], containerd: &str) {
    install(root, firstboot, PROGRAM);
    install(root, Path::new("/bin/busybox"), "bin/busybox");
    for tool in tools {
        symlink("busybox", root.join("bin").join(tool)).expect("linked");
    }
    for (path, content, mode) in COMMON {
        write(root, path, content, mode);
    }
    let kubelet = version("Kubernetes v1.34.1");
    write(root, "usr/bin/kubelet", &kubelet, 0o755);
    let containerd = version(&format!("containerd containerd.io {containerd} abc"));
    write(root, "usr/bin/containerd", &containerd, 0o755);
}

/// Writes a file below `root` anew: never into one that another name shares.
///
/// # Panics
/// When it cannot be written.
pub fn write(root: &Path, path: &str, content: &str, mode: u32) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    // What is not there need not go.
    let _ = fs::remove_file(&path);
    fs::write(&path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Copies a program and the libraries that it is linked with to below `root`.
///
/// # Panics
/// When it cannot be read, or nothing tells its libraries.
pub fn install(root: &Path, program: &Path, at: &str) {
    let copy = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, &to).unwrap_or_else(|error| unreachable!("{}: {error}", from.display()));
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    copy(program, at);
    let linked = Command::new("ldd")
        .arg(program)
        .output()
        .expect("ldd must be installed");
    let listing = String::from_utf8_lossy(&linked.stdout).into_owned();
    for library in listing
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        copy(Path::new(library), library);
    }
}

/// See the module documentation. It goes with its owner.
#[derive(Debug)]
pub struct MachineRoot {
    folder: TempDir,
}

impl MachineRoot {
    /// A root with this first-boot program in it.
    ///
    /// # Panics
    /// When it cannot be made: busybox has to be installed.
    pub fn new(firstboot: &Path) -> Self {
        let root = Self {
            folder: TempDir::with_prefix("nodekiln-machine-").expect("a folder"),
        };
        furnish(root.folder(), firstboot, &["sh", "cat", "true"], "2.1.4");
        for (path, content, mode) in [
            ("usr/bin/systemctl", SYSTEMCTL, 0o755),
            ("usr/local/bin/aws-iam-authenticator", AUTHENTICATOR, 0o755),
            ("etc/os-release", "ID=amzn\nVERSION_ID=2023\n", 0o644),
            (
                "etc/nodekiln/sandbox-image",
                "localhost/kubernetes/pause:latest\n",
                0o644,
            ),
            ("etc/resolv.conf", "nameserver 127.0.0.1\n", 0o644),
            ("etc/hosts", "127.0.0.1 localhost\n", 0o644),
            ("proc/net/route", ROUTES, 0o444),
            ("tmp/.keep", "", 0o644),
            ("root/.keep", "", 0o600),
        ] {
            root.write(path, content, mode);
        }
        root
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// A file of the machine; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Writes a file of the machine.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str, mode: u32) {
        write(self.folder(), path, content, mode);
    }

    /// Copies a program and the libraries that it is linked with.
    ///
    /// # Panics
    /// When it cannot be read, or nothing tells its libraries.
    pub fn install(&self, program: &Path, at: &str) {
        install(self.folder(), program, at);
    }
}
