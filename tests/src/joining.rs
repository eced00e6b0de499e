//! A machine that joins, as processes: the first-boot program in a root and a network
//! of its own, with a service manager made of a script, and the cloud of the tests
//! beside it. What it cannot have is a kernel of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cloud::World;
use crate::cloud::certificates::Authority;
use crate::cloud::client::Cloud;
use crate::first_boot;
use crate::namespace::Namespace;

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

/// A NodeConfig of a hybrid node: what of the cluster is known, and its credentials,
/// both as lines of YAML.
pub fn hybrid(cluster: &str, credentials: &str) -> String {
    format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: farm\n    \
         region: us-west-2\n{cluster}  hybrid:\n{credentials}"
    )
}

/// Lines of a NodeConfig: the credentials of a site with certificates.
pub const ROLES_ANYWHERE: &str = "    iamRolesAnywhere:\n      nodeName: node-1\n      \
    trustAnchorArn: arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a\n      \
    profileArn: arn:aws:rolesanywhere:us-west-2:111122223333:profile/b\n      \
    roleArn: arn:aws:iam::111122223333:role/hybrid-node\n";

/// See the module documentation.
#[derive(Debug)]
pub struct Machine {
    root: TempDir,
    namespace: Namespace,
    /// The world around it.
    pub cloud: Cloud,
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: Option<i32>,
    /// The console.
    pub console: String,
    /// The journal, as the program wrote it.
    pub journal: String,
}

impl From<(Output, String)> for Ran {
    fn from((output, console): (Output, String)) -> Self {
        Self {
            code: output.status.code(),
            console,
            journal: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Makes the token that the cluster of the tests takes.
const AUTHENTICATOR: &str = r#"#!/bin/sh
echo '{"kind": "ExecCredential", "status": {"token": "k8s-aws-v1.c3RhbmQtaW4"}}'
"#;

impl Machine {
    /// A machine in a world. `programs` are the cloud and the agent's stand-in;
    /// `arguments` go to the cloud.
    ///
    /// # Panics
    /// When it cannot be made: this needs root.
    pub fn new(programs: (&str, &str), world: &World, arguments: &[&str]) -> Self {
        let namespace = Namespace::new();
        let mut cloud = namespace.command(Path::new(programs.0));
        cloud.env("PATH", "/usr/bin:/bin");
        let imds = ["--imds", "169.254.169.254:80"];
        let cloud = Cloud::start(cloud, world, &[&imds, arguments].concat());
        let machine = Self {
            root: TempDir::with_prefix("nodekiln-machine-").expect("a folder"),
            namespace,
            cloud,
        };
        machine.furnish(Path::new(programs.1));
        machine
    }

    fn furnish(&self, agent: &Path) {
        self.install(first_boot::program(), "usr/libexec/nodekiln/firstboot");
        self.install(agent, "usr/bin/amazon-ssm-agent");
        self.install(Path::new("/bin/busybox"), "bin/busybox");
        for tool in ["sh", "cat", "true"] {
            symlink("busybox", self.path(&format!("bin/{tool}"))).expect("linked");
        }
        let version = |line: &str| format!("#!/bin/sh\necho '{line}'\n");
        let authority = fs::read_to_string(self.cloud.file("ca.pem")).expect("it was written");
        let endpoint = self.cloud.url(crate::cloud::Service::Ssm);
        let agent_config = format!("{{\"Ssm\": {{\"Endpoint\": \"{endpoint}\"}}}}");
        for (path, content, mode) in [
            ("usr/bin/systemctl", SYSTEMCTL, 0o755),
            ("usr/bin/kubelet", &version("Kubernetes v1.34.1"), 0o755),
            (
                "usr/bin/containerd",
                &version("containerd containerd.io 2.1.4 abc"),
                0o755,
            ),
            ("usr/local/bin/aws-iam-authenticator", AUTHENTICATOR, 0o755),
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
            ("etc/os-release", "ID=amzn\nVERSION_ID=2023\n", 0o644),
            (
                "etc/nodekiln/sandbox-image",
                "localhost/kubernetes/pause:latest\n",
                0o644,
            ),
            ("etc/resolv.conf", "nameserver 127.0.0.1\n", 0o644),
            ("etc/hosts", "127.0.0.1 localhost\n", 0o644),
            ("etc/amazon/ssm/amazon-ssm-agent.json", &agent_config, 0o600),
            ("etc/ssl/certs/ca-certificates.crt", &authority, 0o644),
            ("proc/meminfo", "MemTotal: 4000000 kB\n", 0o444),
            ("proc/swaps", "Filename Type Size Used Priority\n", 0o444),
            ("proc/cmdline", "quiet\n", 0o444),
            ("proc/net/route", ROUTES, 0o444),
            ("sys/class/block/.keep", "", 0o444),
            ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n", 0o444),
            ("sys/devices/system/cpu/cpu0/online", "1\n", 0o444),
            ("dev/console", "", 0o600),
            ("dev/null", "", 0o666),
            ("run/.keep", "", 0o644),
            ("tmp/.keep", "", 0o644),
            ("root/.keep", "", 0o600),
        ] {
            self.write(path, content, mode);
        }
    }

    /// A path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
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
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    /// Copies a program and the libraries that it is linked with.
    fn install(&self, program: &Path, at: &str) {
        let copy = |from: &Path, to: PathBuf| {
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(from, to).unwrap_or_else(|error| unreachable!("{}: {error}", from.display()));
        };
        copy(program, self.path(at));
        let linked = Command::new("ldd")
            .arg(program)
            .output()
            .expect("ldd must be installed");
        let listing = String::from_utf8_lossy(&linked.stdout).into_owned();
        for library in listing
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            copy(Path::new(library), self.path(library));
        }
    }

    /// Runs `firstboot run` as the service manager would, sent to the cloud, with
    /// further variables.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn boot(&self, variables: &[(&str, &str)]) -> Ran {
        let output = self.command(variables).output();
        let output = output.expect("chroot must be installed");
        (output, self.read("dev/console")).into()
    }

    /// The same, where something happens to the machine or its world as soon as the
    /// journal says `told`.
    ///
    /// # Panics
    /// When it cannot be started, or never says so.
    pub fn boot_until(
        &self,
        variables: &[(&str, &str)],
        told: &str,
        then: impl FnOnce(&Self),
    ) -> Ran {
        let mut child = self
            .command(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chroot must be installed");
        let stderr = child.stderr.take().expect("it is piped");
        let (mut journal, mut then) = (String::new(), Some(then));
        for line in BufReader::new(stderr).lines() {
            let line = line.expect("UTF-8");
            if line.contains(told)
                && let Some(then) = then.take()
            {
                then(self);
            }
            journal += &line;
            journal.push('\n');
        }
        let status = child.wait().expect("it was started");
        assert!(then.is_none(), "it never said {told:?}: {journal}");
        Ran {
            code: status.code(),
            console: self.read("dev/console"),
            journal,
        }
    }

    /// `firstboot run` in the machine.
    fn command(&self, variables: &[(&str, &str)]) -> Command {
        let _ = fs::remove_file(self.path("run/calls"));
        self.write("dev/console", "", 0o600);
        let mut command = self.namespace.command(Path::new("chroot"));
        command
            .arg(self.root.path())
            .args(["/usr/libexec/nodekiln/firstboot", "run"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // As a service it speaks to the console; nobody listens here.
            .env("NOTIFY_SOCKET", "/run/notify");
        for (name, value) in self.cloud.environment() {
            match name.as_str() {
                "AWS_CA_BUNDLE" => command.env(name, "/etc/ssl/certs/ca-certificates.crt"),
                // It is where it is on every instance.
                "AWS_EC2_METADATA_SERVICE_ENDPOINT" => &mut command,
                _ => command.env(name, value),
            };
        }
        command.envs(variables.iter().copied());
        command
    }

    /// Lays down a certificate of a site, good for a month.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn certify(&self) {
        let yesterday = time::OffsetDateTime::now_utc() - time::Duration::DAY;
        let month = std::time::Duration::from_secs(30 * 24 * 3600);
        let issued = Authority::new("the site").node("node-1", 7, yesterday, month);
        self.write("etc/iam/pki/server.pem", &issued.certificate, 0o644);
        self.write("etc/iam/pki/server.key", &issued.key, 0o600);
    }

    /// Lines of a NodeConfig that say all of the cluster.
    ///
    /// # Panics
    /// When the cloud's certificate cannot be read.
    pub fn described(&self) -> String {
        use base64::Engine as _;
        let authority = fs::read(self.cloud.file("ca.pem")).expect("it was written");
        let authority = base64::engine::general_purpose::STANDARD.encode(authority);
        let endpoint = self.cloud.url(crate::cloud::Service::Cluster);
        format!(
            "    apiServerEndpoint: {endpoint}\n    certificateAuthority: {authority}\n    \
             cidr: 10.100.0.0/16\n"
        )
    }

    /// What `firstboot status` says.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn status(&self) -> Value {
        let output = Command::new(first_boot::program())
            .args(["status", "--json", "--root"])
            .arg(self.root.path())
            .output()
            .expect("it starts");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}
