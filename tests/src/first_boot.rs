//! The first-boot program as it is, and what it renders.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The program, built if it is not.
///
/// # Panics
/// When it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = builder(env!("CARGO"))
            .args(["build", "--quiet", "--package", "nodekiln-firstboot"])
            .args(["--bin", "firstboot"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "firstboot cannot be built");
        let test = std::env::current_exe().expect("a test knows where it lies");
        let folder = test.parent().and_then(Path::parent);
        folder.expect("target/debug/deps/TEST").join("firstboot")
    })
}

/// A program that calls cargo, without what cargo tells a test about its package: ring
/// is built again when that changes, and all that is built upon it.
fn builder(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// QEMU's emulator of arm64 for single programs.
pub const ARM64_EMULATOR: &str = "qemu-aarch64-static";

/// The program for arm64 as it lies in images, built if it is not.
///
/// # Panics
/// When it cannot be built.
pub fn arm64_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = builder(workspace.join("scripts/build-firstboot"))
            .arg("arm64")
            .output()
            .expect("the script runs");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "firstboot for arm64: {said}");
        workspace.join(String::from_utf8_lossy(&built.stdout).trim_end())
    })
}

/// The program for arm64, to be started on a processor of another kind.
pub fn arm64() -> Command {
    let mut command = Command::new(ARM64_EMULATOR);
    command.arg(arm64_program());
    command
}

/// What a node would have: the rendered files below a folder.
#[derive(Debug)]
pub struct Rendered {
    folder: TempDir,
}

impl Rendered {
    /// Renders a NodeConfig for a machine of which `facts` are known.
    ///
    /// # Panics
    /// When it is refused.
    pub fn new(node_config: &str, facts: &Value) -> Self {
        Self::by(Command::new(program()), node_config, facts)
    }

    /// As [`Rendered::new`], by the program that `command` starts.
    ///
    /// # Panics
    /// When it cannot be started, or refuses.
    pub fn by(mut command: Command, node_config: &str, facts: &Value) -> Self {
        let folder = TempDir::with_prefix("nodekiln-rendered-").expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("config.yaml"), node_config).expect("written");
        fs::write(path("facts.json"), facts.to_string()).expect("written");
        fs::create_dir(path("root")).expect("a folder");
        let output = command
            .arg("render")
            .arg("--root")
            .arg(path("root"))
            .arg("--config")
            .arg(path("config.yaml"))
            .arg("--facts")
            .arg(path("facts.json"))
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{facts}: {said}");
        Self { folder }
    }

    /// The folder that stands for the node's root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A file of the node.
    ///
    /// # Panics
    /// When it was not rendered.
    pub fn read(&self, path: &str) -> String {
        let file = self.root().join(path.trim_start_matches('/'));
        fs::read_to_string(&file).unwrap_or_else(|error| unreachable!("{path}: {error}"))
    }

    /// Runs a program that sees the rendered /etc over this machine's, in mounts of
    /// its own. Needs root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        let script = "mount -t overlay overlay -o \"lowerdir=$0:/etc\" /etc && exec \"$@\"";
        Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", script])
            .arg(self.root().join("etc"))
            .arg(program)
            .args(arguments)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("unshare must be installed")
    }

    /// The kubelet's flags as systemd passes them: those of the environment file.
    ///
    /// # Panics
    /// When the file has none.
    pub fn kubelet_flags(&self) -> Vec<String> {
        let text = self.read("/etc/eks/kubelet/environment");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("NODEADM_KUBELET_ARGS="));
        let line = line.unwrap_or_else(|| unreachable!("no flags: {text}"));
        let line = line.trim_matches('"').replace("\\\"", "\"");
        line.split_whitespace().map(String::from).collect()
    }
}
