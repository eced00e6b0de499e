//! What is in the way of a first boot.

use super::{Finding, Remedy, present};
use crate::error::Result;
use crate::os::Tree;
use crate::os::tree::fixed;

/// The third field of a line of fstab is `swap` (fstab(5)).
pub fn swap(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let path = tree.resolve(&fixed("/etc/fstab"))?;
    let Some(text) = tree.read_text(&path)? else {
        return Ok(Vec::new());
    };
    let is_swap = |line: &str| {
        let mut fields = line.split_whitespace();
        !line.trim_start().starts_with('#') && fields.nth(2) == Some("swap")
    };
    if !text.lines().any(is_swap) {
        return Ok(Vec::new());
    }
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| !is_swap(line))
        .collect();
    Ok(vec![Finding {
        path,
        remedy: Remedy::Write(kept),
    }])
}

/// Files by whose mere presence a system does something else before it serves:
/// a relabel of all files and a restart (selinux-autorelabel-mark), a check of all
/// file systems, the questions of initial-setup at a console where nobody sits, a
/// refusal of all logins (nologin(5)).
pub fn traps(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    present(
        tree,
        &[
            "/.autorelabel",
            "/.unconfigured",
            "/etc/reconfigSys",
            "/forcefsck",
            "/etc/nologin",
        ],
    )
}
