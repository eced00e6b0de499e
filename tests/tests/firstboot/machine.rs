//! A machine as a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nodekiln_tests::first_boot::program;
use nodekiln_tests::machine_root::{self, PROGRAM};
use nodekiln_tests::namespace::Namespace;
use serde_json::Value;
use tempfile::TempDir;

use crate::{CERTIFICATE, Tree, node_config, text, tree};

/// A root of its own with the program and a service manager made of a script,
/// which can kill whoever calls it.
pub struct Machine {
    root: TempDir,
    /// Mounts of its own, where it has some.
    namespace: Option<Namespace>,
}

/// Keeps for each unit what it read when it was started, and what the manager itself
/// read last: so that one which runs on old files is found out.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /run/calls
verb=$1; shift
for word; do case $word in --*) ;; *) unit=$word;; esac; done
is_last() { [ -e /run/kill-at ] && [ "$(wc -l < /run/calls)" -eq "$(cat /run/kill-at)" ]; }
if is_last && ! [ -e /run/kill-after ]; then kill -9 $PPID; exit 1; fi
start() {
    case $unit in
    containerd.service) cat /etc/containerd/config.toml /etc/containerd/config.d/*;;
    kubelet.service) cat /etc/eks/kubelet/environment /etc/kubernetes/kubelet/config.json \
        /etc/kubernetes/kubelet/config.json.d/* /etc/kubernetes/pki/ca.crt \
        /var/lib/kubelet/kubeconfig /etc/eks/image-credential-provider/config.json;;
    systemd-sysctl.service) cat /etc/sysctl.d/*;;
    systemd-modules-load.service) cat /etc/modules-load.d/*;;
    *) cat /etc/systemd/system/$unit;;
    esac > /run/active.$unit 2> /dev/null
}
case $verb in
show)
    echo LoadState=loaded
    if [ -e /run/active.$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
    if [ -e /run/enabled.$unit ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi;;
start) [ -e /run/active.$unit ] || start;;
restart) start;;
stop) rm -f /run/active.$unit;;
enable) echo > /run/enabled.$unit;;
disable) rm -f /run/active.$unit /run/enabled.$unit;;
daemon-reload)
    cat /etc/systemd/system/*.service > /run/loaded 2> /dev/null
    [ -s /run/loaded ] || rm /run/loaded;;
esac
if is_last; then kill -9 $PPID; fi
exit 0
"#;

/// What the unit sets for the program, and this test for whoever starts it.
const AS_THE_UNIT: [&str; 4] = ["sh", "-c", "umask 0077 && exec \"$@\"", "sh"];

/// The containerd that runs has no pods.
const CTR: &str = "#!/bin/sh\nexit 0\n";

impl Machine {
    /// A folder with nothing in it.
    pub fn empty() -> Self {
        Self {
            root: TempDir::new().unwrap(),
            namespace: None,
        }
    }

    pub fn new() -> Self {
        let machine = Self::empty();
        let tools = ["sh", "cat", "rm", "umount", "wc"];
        machine_root::furnish(&machine.root(), program(), &tools, "1.6.20");
        for (path, content, mode) in [
            ("usr/bin/systemctl", SYSTEMCTL, 0o755),
            ("usr/bin/ctr", CTR, 0o755),
            ("usr/local/bin/aws-iam-authenticator", "", 0o755),
            ("etc/os-release", "ID=debian\n", 0o644),
            (
                "etc/fstab",
                "LABEL=root / ext4 defaults 0 1\n/swap none swap sw 0 0\n",
                0o640,
            ),
            ("etc/iam/pki/server.pem", CERTIFICATE, 0o644),
            ("etc/iam/pki/server.key", "key", 0o600),
            ("etc/nodekiln/nodeconfig.yaml", &node_config("--v=4"), 0o600),
            // There is no network in this root, and its disk may be small.
            (
                "etc/nodekiln/skip-validations",
                "disk-space-validation\niam-ra-api-network\napi-server-endpoint-resolution-validation\n\
                 k8s-authentication-validation\n",
                0o644,
            ),
            ("eks-hybrid/.aws/credentials", "x", 0o600),
            ("var/lib/.keep", "", 0o644),
            ("etc/systemd/system/.keep", "", 0o644),
        ] {
            machine.write(path, content, mode);
        }
        machine
    }

    /// Another machine with the same files. Programs, which nobody writes, are shared.
    pub fn twin(&self) -> Self {
        let twin = Self::empty();
        for entry in walkdir::WalkDir::new(self.root()).min_depth(1) {
            let entry = entry.unwrap();
            let path = entry.path();
            let to = twin.root().join(path.strip_prefix(self.root()).unwrap());
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                fs::create_dir(&to).unwrap();
                fs::set_permissions(to, metadata.permissions()).unwrap();
            } else if metadata.is_symlink() {
                symlink(fs::read_link(path).unwrap(), to).unwrap();
            } else if metadata.mode() & 0o111 != 0 {
                fs::hard_link(path, to).unwrap();
            } else {
                fs::copy(path, to).unwrap();
            }
        }
        twin
    }

    /// The same machine, which sees mounts that nobody else sees.
    pub fn with_own_mounts(mut self) -> Self {
        self.namespace = Some(Namespace::new());
        self
    }

    /// Mounts something; the last argument is a path of the machine.
    pub fn mount(&self, arguments: &[&str], at: &str) {
        let namespace = self.namespace.as_ref().expect("it has mounts of its own");
        let at = self.place(at);
        let output = namespace
            .command(Path::new("mount"))
            .args(arguments)
            .arg(&at)
            .output()
            .expect("nsenter must be installed");
        let said = text(&output.stderr);
        assert!(
            output.status.success(),
            "mount {arguments:?} {}: {said}",
            at.display()
        );
    }

    /// A path of the machine as its own mounts name it.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Its root, as this test sees it.
    pub fn root(&self) -> PathBuf {
        match &self.namespace {
            Some(namespace) => namespace.path(self.root.path()),
            None => self.root.path().into(),
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn write(&self, path: &str, content: &str, mode: u32) {
        machine_root::write(&self.root(), path, content, mode);
    }

    /// The program in this root as the service manager would run it, after other
    /// words, such as those of a tracer.
    pub fn command(&self, before: &[&str], arguments: &[&str]) -> Command {
        let words = [&AS_THE_UNIT, before, &["chroot"]].concat();
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(Path::new(words[0])),
            None => Command::new(words[0]),
        };
        command
            .args(&words[1..])
            .arg(self.root.path())
            .arg(Path::new("/").join(PROGRAM))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", "/run/notify")
            .env("WATCHDOG_USEC", "3000000");
        command
    }

    /// Runs the program as the service manager would, with this root.
    pub fn start(&self) -> Output {
        let _ = fs::remove_file(self.path("run/calls"));
        self.command(&[], &["run"])
            .output()
            .expect("chroot must be installed, and these tests run as root")
    }

    /// Runs it to its good end.
    pub fn boot(&self, what: &str) {
        let output = self.start();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{what}: {said}");
        let journal: Value = serde_json::from_str(&self.read(JOURNAL)).expect("the journal");
        let phases = journal["phases"].as_object().expect("phases");
        for (name, record) in phases {
            assert!(record["finished"].is_string(), "{what}: {name} {record}");
        }
    }

    /// What of the tree is to be the same however often the work was cut off.
    pub fn settled(&self) -> Tree {
        let mut tree = tree(&self.root(), &NOT_SETTLED);
        tree.remove(JOURNAL);
        tree
    }

    /// Each unit that runs, and the service manager, with what they have read.
    pub fn services(&self) -> BTreeMap<String, String> {
        let names = fs::read_dir(self.path("run")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| {
                ["active.", "enabled.", "loaded"]
                    .iter()
                    .any(|it| name.starts_with(it))
            })
            .map(|name| {
                let read = self.read(&format!("run/{name}"));
                (name, read)
            })
            .collect()
    }

    /// The units that the last run started anew, or for the first time.
    pub fn started(&self) -> BTreeSet<String> {
        let calls = self.read("run/calls");
        let calls = calls.lines().filter_map(|call| call.split_once(' '));
        calls
            .filter(|(verb, _)| ["start", "restart"].contains(verb))
            .map(|(_, unit)| unit.to_owned())
            .collect()
    }

    /// This machine is as another one, which nothing happened to.
    pub fn assert_is_as(&self, other: &Self, what: &str) {
        assert_same(&self.settled(), &other.settled(), what);
        let (found, expected) = (self.services(), other.services());
        let differing = differing(&found, &expected);
        assert!(
            differing.is_empty(),
            "{what}: on other files: {differing:?}"
        );
    }
}

/// Folders of the root that are no node's: programs, and what the kernel and the
/// stand-in keep.
const NOT_SETTLED: [&str; 8] = ["bin", "dev", "lib", "lib64", "proc", "run", "sys", "usr"];

/// The journal's path in the root.
pub const JOURNAL: &str = "var/lib/nodekiln/firstboot/state.json";

/// Names that are not in both, or not for the same.
fn differing<'a, T: PartialEq>(
    found: &'a BTreeMap<String, T>,
    expected: &'a BTreeMap<String, T>,
) -> BTreeSet<&'a String> {
    found
        .keys()
        .chain(expected.keys())
        .filter(|name| found.get(*name) != expected.get(*name))
        .collect()
}

/// Two trees are the same; where not, only the paths that differ are told.
pub fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    let differing = differing(found, expected);
    assert!(
        differing.is_empty(),
        "{what}: not as it should be: {differing:?}"
    );
}
