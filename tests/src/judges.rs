//! Programs of others that judge what first boot does, obtained by `scripts/judges`
//! when they are missing.

use std::path::PathBuf;

use crate::program::script;

/// The path of a judge: `python`, `containerd-1`, `containerd-2`, `kubelet-config-1.34`.
///
/// # Panics
/// When it cannot be obtained: a test that cannot judge must fail.
pub fn judge(name: &str) -> PathBuf {
    script("judges", name)
}
