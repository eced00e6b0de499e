//! Programs of others that judge what first boot does, obtained by `scripts/judges`
//! when they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a judge: `python`, `containerd-1`, `containerd-2`, `kubelet-config-1.34`.
///
/// # Panics
/// When it cannot be obtained: a test that cannot judge must fail.
pub fn judge(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(workspace.join("scripts/judges"))
        .arg(name)
        .output()
        .expect("the script runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/judges {name}: {said}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}
