//! A network of a test: a namespace in which only what the test serves can be reached.
//! Needs root.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A namespace, held by a process that waits for its standard input to end: it cannot
/// outlive the test.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

/// What prepares it: loopback, the address of the metadata service, and an interface
/// with a default route that leads nowhere.
const PREPARE: &str = "
ip link set lo up
ip address add 169.254.169.254/32 dev lo
ip link add eth0 type veth peer name uplink
ip address add 10.20.30.40/24 dev eth0
ip link set eth0 up
ip link set uplink up
ip route add default via 10.20.30.1
";

impl Namespace {
    /// Makes one: network and mounts.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        Self::prepared(PREPARE, &[])
    }

    /// Makes one that a script of the shell prepares, which gets `arguments`, `$0` the
    /// first.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn prepared(script: &str, arguments: &[&Path]) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--", "sh", "-c"])
            .arg(format!("set -e\n{script}\necho ready\nexec cat\n"))
            .args(arguments)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare must be installed");
        let stdout = holder.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it can be read");
        assert_eq!(
            line, "ready\n",
            "no network namespace: this needs root and iproute2"
        );
        Self { holder }
    }

    /// A path of its mounts, as every process sees it.
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The network alone, for a thread that enters it.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--net", "--mount", "--"])
            .arg(program);
        command
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
