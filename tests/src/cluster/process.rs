//! Programs that run for a while, and where.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// The longest that a program may take until it is ready, on a machine that has much
/// else to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is asked whether it is: nothing tells.
const INTERVAL: Duration = Duration::from_millis(50);

/// Where programs run: what has to stand before one on a command line.
#[derive(Debug, Clone)]
pub(super) struct Place {
    before: Vec<OsString>,
    home: PathBuf,
}

impl Place {
    /// The place of the commands that `command` makes. `home` is the programs' home.
    pub fn of(command: impl Fn(&Path) -> Command, home: &Path) -> Self {
        // No program may outlive the test, not even one that is killed.
        let mut command = command(Path::new("setpriv"));
        command.args(["--pdeathsig=KILL", "--"]);
        let program = command.get_program().to_owned();
        let arguments = command.get_args().map(OsString::from);
        Self {
            before: std::iter::once(program).chain(arguments).collect(),
            home: home.to_owned(),
        }
    }

    /// A command that runs a program there, with nothing of this process's environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.before[0]);
        command
            .args(&self.before[1..])
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home);
        command
    }
}

/// A program that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one, whose output goes to `NAME.log` in a folder.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut file = File::options();
        let file = file.create(true).append(true).open(&log);
        let file = file.expect("the folder can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name, child, log }
    }

    /// Waits until a URL answers with success.
    ///
    /// # Panics
    /// When the program ends, or [`PATIENCE`] does; with the end of its log.
    pub fn wait_for(&mut self, place: &Place, url: &str, authority: Option<&Path>) {
        let begun = Instant::now();
        loop {
            let mut command = place.command(Path::new("curl"));
            command.args(["--silent", "--fail", "--max-time", "5"]);
            if let Some(authority) = authority {
                command.arg("--cacert").arg(authority);
            }
            let output = command.arg(url).output().expect("curl must be installed");
            if output.status.success() {
                return;
            }
            let ended = self.child.try_wait().expect("it was started");
            let is_in_time = ended.is_none() && begun.elapsed() < PATIENCE;
            let (name, log) = (self.name, self.tail());
            assert!(
                is_in_time,
                "{name} is not ready at {url} ({ended:?}): {log}"
            );
            thread::sleep(INTERVAL);
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        let id = WaitId::Pid(Pid::from_child(&self.child));
        // Looked at only: the end is still there for its owner.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(id, options), Ok(None))
    }

    /// Ends it, as if its machine had lost power.
    pub fn kill(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
