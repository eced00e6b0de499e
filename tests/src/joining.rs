//! A machine that joins, as processes: the first-boot program in a root and a network
//! of its own, with a service manager made of a script, and the cloud of the tests
//! beside it. What it cannot have is a kernel of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use serde_json::Value;

use crate::cloud::certificates::Authority;
use crate::cloud::client::Cloud;
use crate::cloud::{Service, World};
use crate::first_boot::{self, ARM64_EMULATOR};
use crate::machine_root::{MachineRoot, PROGRAM};
use crate::namespace::Namespace;
use crate::program::run;

/// A NodeConfig of a hybrid node: what of the cluster is known, and its credentials,
/// both as lines of YAML.
pub fn hybrid(cluster: &str, credentials: &str) -> String {
    format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: farm\n    \
         region: us-west-2\n{cluster}  hybrid:\n{credentials}"
    )
}

/// Variables that take away what sends first boot to the cloud: then it asks where
/// AWS is, and trusts whom the machine trusts.
pub const BY_NAME: [(&str, &str); 7] = [
    ("AWS_CA_BUNDLE", ""),
    ("AWS_ENDPOINT_URL_EC2", ""),
    ("AWS_ENDPOINT_URL_ECR", ""),
    ("AWS_ENDPOINT_URL_EKS", ""),
    ("AWS_ENDPOINT_URL_ROLESANYWHERE", ""),
    ("AWS_ENDPOINT_URL_SSM", ""),
    ("AWS_ENDPOINT_URL_STS", ""),
];

/// The trust anchor that a site's certificates lead to.
pub const TRUST_ANCHOR: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a";

/// Lines of a NodeConfig: the credentials of a site with certificates.
pub const ROLES_ANYWHERE: &str = "    iamRolesAnywhere:\n      nodeName: node-1\n      \
    trustAnchorArn: arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a\n      \
    profileArn: arn:aws:rolesanywhere:us-west-2:111122223333:profile/b\n      \
    roleArn: arn:aws:iam::111122223333:role/hybrid-node\n";

/// A line that no console of first boot has.
const END: &str = "the test ends here";

/// See the module documentation.
#[derive(Debug)]
pub struct Machine {
    root: MachineRoot,
    namespace: Namespace,
    /// What starts the program, if the processor cannot.
    emulator: Option<PathBuf>,
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
        let root = MachineRoot::new(first_boot::program());
        root.install(Path::new(programs.1), "usr/bin/amazon-ssm-agent");
        let authority = fs::read_to_string(cloud.file("ca.pem")).expect("it was written");
        let endpoint = cloud.url(Service::Ssm);
        let agent_config = format!("{{\"Ssm\": {{\"Endpoint\": \"{endpoint}\"}}}}");
        for (path, content, mode) in [
            (
                "etc/amazon/ssm/amazon-ssm-agent.json",
                &*agent_config,
                0o600,
            ),
            ("etc/ssl/certs/ca-certificates.crt", &authority, 0o644),
            ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n", 0o444),
        ] {
            root.write(path, content, mode);
        }
        Self {
            root,
            namespace,
            emulator: None,
            cloud,
        }
    }

    /// Gives it the program for arm64, emulated; all else stays as it is.
    ///
    /// # Panics
    /// When the program cannot be built, or the emulator is not installed.
    pub fn emulate_arm64(&mut self) {
        let found = run("sh", &["-c", &format!("command -v {ARM64_EMULATOR}")]);
        let emulator = PathBuf::from(found.trim_end());
        self.install(&emulator, &emulator.display().to_string());
        self.install(first_boot::arm64_program(), PROGRAM);
        self.emulator = Some(emulator);
    }

    /// A path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path(path)
    }

    /// A file of the machine; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        self.root.read(path)
    }

    /// Writes a file of the machine.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str, mode: u32) {
        self.root.write(path, content, mode);
    }

    /// Puts a program into the machine, with the libraries that it is linked with.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn install(&self, program: &Path, at: &str) {
        self.root.install(program, at);
    }

    /// Runs `firstboot run` as the service manager would, sent to the cloud, with
    /// further variables.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn boot(&self, variables: &[(&str, &str)]) -> Ran {
        let output = self.command(&["run"], variables).output();
        let output = output.expect("chroot must be installed");
        (output, self.read("dev/console")).into()
    }

    /// What `firstboot check --live --json` says: its exit code, and the checks.
    ///
    /// # Panics
    /// When it says no JSON.
    pub fn look(&self) -> (Option<i32>, Value) {
        let arguments = ["check", "--live", "--json"];
        let output = self.command(&arguments, &[]).output();
        let output = output.expect("chroot must be installed");
        let said = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|error| unreachable!("{error}: {said}"));
        (output.status.code(), report)
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
            .command(&["run"], variables)
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

    /// Runs `firstboot run` until a line of the console has all these words, then kills
    /// it; gives the console.
    ///
    /// # Panics
    /// When the time passes without such a line.
    pub fn boot_until_told(
        &self,
        variables: &[(&str, &str)],
        told: &[&str],
        limit: Duration,
    ) -> String {
        let deadline = Instant::now() + limit;
        let mut command = self.command(&["run"], variables);
        let path = self.path("dev/console");
        fs::remove_file(&path).expect("it was made");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).expect("a pipe");
        // Written by this test too, so that it never ends by itself.
        let mut pipe = fs::File::options();
        let mut pipe = pipe.read(true).write(true).open(path).expect("opened");
        let reader = BufReader::new(pipe.try_clone().expect("a second handle"));
        let (sender, lines) = mpsc::channel();
        let reading = thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if line == END || sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chroot must be installed");
        let mut console = String::new();
        let is_told = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                break false;
            };
            console += &line;
            console.push('\n');
            if told.iter().all(|word| line.contains(word)) {
                break true;
            }
        };
        // It may have ended; then there is nothing to end.
        let _ = child.kill();
        let _ = child.wait();
        pipe.write_all(format!("{END}\n").as_bytes())
            .expect("written");
        reading.join().expect("it reads to its end");
        assert!(is_told, "{told:?} was not told in {limit:?}: {console}");
        console
    }

    /// Another program in the machine and its network, with nothing of this process's
    /// environment.
    pub fn other_command(&self, words: &[&str]) -> Command {
        let mut command = self.namespace.command(Path::new("chroot"));
        command
            .arg(self.root.folder())
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        command
    }

    /// `firstboot` in the machine.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let _ = fs::remove_file(self.path("run/calls"));
        self.write("dev/console", "", 0o600);
        let mut command = self.namespace.command(Path::new("chroot"));
        command
            .arg(self.root.folder())
            .args(&self.emulator)
            .arg(format!("/{PROGRAM}"))
            .args(arguments)
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

    /// Lets the names of services lead to the cloud, which was started with
    /// `--names`, and no others.
    pub fn name(&self, services: &[Service]) {
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        let region = World::sample().region;
        for name in services.iter().filter_map(|one| one.host(&region)) {
            hosts.extend(["127.0.0.1 ", &name, "\n"]);
        }
        self.write("etc/hosts", &hosts, 0o644);
    }

    /// Lays down a certificate of a site, good for a month, whose authority Roles
    /// Anywhere trusts.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn certify(&self) {
        let site = Authority::new("the site");
        let issued = site.node_for_a_month("node-1");
        self.cloud.change(|world| {
            world.trust_anchors.clear();
            world.trust(TRUST_ANCHOR, &site);
        });
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
        let endpoint = self.cloud.url(Service::Cluster);
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
            .arg(self.root.folder())
            .output()
            .expect("it starts");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}
