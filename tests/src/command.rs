//! The command as a user starts it, in a workshop of its own: a folder with a
//! small base, components, a profile, a store and an output folder.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::program;
use crate::small_base::{self, Shape, text};

/// Names the command to test, as an absolute path.
const BINARY: &str = "NODEKILN_TEST_BINARY";
/// Starts a program without any right, whatever its PATH is.
const WITHOUT_RIGHTS: [&str; 8] = [
    "/usr/bin/setpriv",
    "--reuid=nobody",
    "--regid=nogroup",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--",
];

/// Name of the profile of a workshop, and of its images.
pub const PROFILE: &str = "small";
/// The part of a profile that tests replace most.
const SPEC: &str = "  overlays: [common, linux]
  services:
    disable: [cron.service]
  kernel:
    modules: [br_netfilter]
  outputs:
    - format: raw
    - format: qcow2
";

/// The command: that of `NODEKILN_TEST_BINARY`, else the release build of this
/// workspace.
///
/// # Panics
/// When there is none: a test that has nothing to test must fail.
pub fn binary() -> PathBuf {
    let path = std::env::var_os(BINARY).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/nodekiln"),
        PathBuf::from,
    );
    assert!(
        path.is_absolute() && path.is_file(),
        "{} is no program: run `make build`, or set {BINARY} to an absolute path",
        path.display()
    );
    path
}

/// What a run of the command gave.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Itself, after it is known to have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Itself, after it is known to have failed as it should: with `code`, one
    /// error, and every text of `words` in what it said.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:"))
            .count();
        assert_eq!(errors, 1, "one error: {}", self.stderr);
        assert!(
            !self.stderr.contains("panicked"),
            "a panic: {}",
            self.stderr
        );
        assert_eq!(self.stdout, "", "no result where there is none");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "'{word}' is missing in: {}",
                self.stderr
            );
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not one document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// With a base of the usual shape, components and a profile.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&Shape::default(), |_| ())
    }

    /// With a base of `shape`, whose root folder `change` saw last.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn with(shape: &Shape<'_>, change: impl FnOnce(&Path)) -> Self {
        let workshop = Self::empty();
        let tree = workshop.path("tree");
        small_base::tree(&tree);
        change(&tree);
        small_base::disk(workshop.folder(), &tree, shape);
        workshop
    }

    /// With components and a profile, but no base yet.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn empty() -> Self {
        let folder = TempDir::with_prefix("nodekiln-cli-").expect("a temporary folder");
        let workshop = Self { folder };
        let components = workshop.path("components");
        fs::create_dir(&components).expect("creates");
        for (name, size, seed) in [("kubelet", 6_000_001, 3), ("kubectl", 1_000_003, 5)] {
            fs::write(components.join(name), small_base::program(size, seed)).expect("writes");
        }
        fs::write(workshop.path("firstboot"), small_base::tiny_program()).expect("writes");
        workshop.write_profile("base.raw", "");
        workshop
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes the profile: `base` is the path of the base, `more` are lines of
    /// `spec`, which take the place of the usual overlays, services, kernel and
    /// outputs if they are not empty.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_profile(&self, base: &str, more: &str) {
        let more = if more.is_empty() { SPEC } else { more };
        self.write_profile_with(base, "{path: components/kubelet}", more);
    }

    /// As [`Workshop::write_profile`], with another source of the kubelet.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_profile_with(&self, base: &str, kubelet: &str, more: &str) {
        let omitted = [
            "cni-plugins",
            "ecr-credential-provider",
            "aws-iam-authenticator",
            "aws-signing-helper",
        ]
        .map(|name| format!("      {name}: {{omit: true}}\n"))
        .concat();
        let profile = format!(
            "apiVersion: nodekiln.dev/v1alpha1\nkind: ImageProfile\nmetadata:\n  name: {PROFILE}\n\
             spec:\n  base: {{path: {base}}}\n  credentialProvider: iam-ra\n  kubernetes:\n    \
             version: 1.34.4\n    components:\n      kubelet: {kubelet}\n      \
             kubectl: {{path: components/kubectl}}\n      containerd: {{fromBase: true}}\n      \
             runc: {{fromBase: true}}\n{omitted}{more}"
        );
        fs::write(self.path("profile.yaml"), profile).expect("writes");
    }

    /// Has the profile list packages beside its base, each with more of its keys.
    ///
    /// # Panics
    /// As [`Workshop::write_profile`].
    pub fn list_packages(&self, packages: &[(&Path, &str)]) {
        let mut spec =
            "  overlays: [common, linux]\n  outputs: [{format: raw}]\n  packages:\n".to_owned();
        for (package, more) in packages {
            spec += &format!("    - path: {}\n", text(package));
            for line in more.lines() {
                spec += &format!("      {line}\n");
            }
        }
        self.write_profile("base.raw", &spec);
    }

    /// What a build says of a profile with packages that cannot be taken: it leaves nothing.
    ///
    /// # Panics
    /// When they cannot be locked, or something is left.
    pub fn build_of(&self, packages: &[(&Path, &str)]) -> Ran {
        self.list_packages(packages);
        self.lock().succeeded();
        let ran = self.build(&[]);
        assert_eq!(self.left_in("out"), [""; 0], "nothing looks finished");
        ran
    }

    /// The root of the raw image of a build, as a folder.
    ///
    /// # Panics
    /// As [`small_base::copy_root`].
    pub fn root_of(&self, built: &Path) -> PathBuf {
        let tree = self.path("baked");
        small_base::copy_root(&built.join("small.raw"), self.folder(), &tree);
        tree
    }

    /// The command with `arguments`, to be started in the workshop with an
    /// environment that holds nothing of this machine's user.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.furnish(&mut command);
        command
    }

    /// A copy of the command in the workshop: its own folder may be closed to others.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn copy_of_command(&self) -> PathBuf {
        let copy = self.path("nodekiln");
        fs::copy(binary(), &copy).expect("copies");
        copy
    }

    /// `program`, to be started in the workshop by a user with no rights at all.
    pub fn as_nobody(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(WITHOUT_RIGHTS[0]);
        command.args(&WITHOUT_RIGHTS[1..]).arg(program);
        self.furnish(&mut command);
        command
    }

    /// The same in a network that holds nothing, not even a loopback that is up.
    pub fn as_nobody_alone(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--net", "--"]);
        command.args(WITHOUT_RIGHTS).arg(program);
        self.furnish(&mut command);
        command
    }

    /// Gives `command` folder and environment of the workshop.
    pub fn furnish(&self, command: &mut Command) {
        command
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.folder())
            .env("LC_ALL", "C.UTF-8")
            .env("NODEKILN_CACHE", self.path("cache"))
            .env("NODEKILN_FIRSTBOOT", self.path("firstboot"))
            .stdin(Stdio::null());
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn nodekiln(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output();
        output.expect("the command starts").into()
    }

    /// `nodekiln lock --offline`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn lock(&self) -> Ran {
        self.nodekiln(&["lock", "--offline"])
    }

    /// `nodekiln build --offline` with further arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn build(&self, arguments: &[&str]) -> Ran {
        self.nodekiln(&[&["build", "--offline"], arguments].concat())
    }

    /// Locks and builds; gives the folder of the build.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn built(&self, arguments: &[&str]) -> PathBuf {
        self.lock().succeeded();
        let ran = self.build(&[&["--format", "json"], arguments].concat());
        let result = ran.succeeded().json();
        self.path(result["folder"].as_str().expect("a folder"))
    }

    /// Everything below an output folder that is not a lock, hidden files too.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn left_in(&self, output: &str) -> Vec<String> {
        let output = self.path(output);
        if !output.exists() {
            return Vec::new();
        }
        walkdir::WalkDir::new(&output)
            .min_depth(2)
            .sort_by_file_name()
            .into_iter()
            .map(|entry| entry.expect("can be walked"))
            .filter(|entry| entry.file_name() != ".lock")
            .map(|entry| entry.path().display().to_string())
            .collect()
    }

    /// Starts a build whose standard error, JSON Lines, can be read.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_build(&self, arguments: &[&str]) -> Running {
        let fixed = ["build", "--offline", "--progress", "json"];
        let mut command = self.command(&[&fixed[..], arguments].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Running::start(&mut command)
    }
}

impl Default for Workshop {
    fn default() -> Self {
        Self::new()
    }
}

/// A command that runs, and the lines that it prints to standard error.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Running {
    /// Starts a command whose standard error is piped.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let stderr = child.stderr.take().expect("standard error is piped");
        Self {
            child,
            lines: BufReader::new(stderr).lines(),
        }
    }

    /// The next line, or `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next()?.ok()
    }

    /// Sends a signal by its name, such as `INT`.
    ///
    /// # Panics
    /// When kill(1) is missing.
    pub fn signal(&self, name: &str) {
        // It may have ended already: that is for the caller to see.
        program::output("kill", &[&format!("-{name}"), &self.child.id().to_string()]);
    }

    /// Reads to the end and waits; gives exit code and the lines that were left.
    ///
    /// # Panics
    /// When waiting fails.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        (self.child.wait().expect("waits").code(), lines)
    }
}
