//! Kernel modules to load and settings to make at boot.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::draft::Draft;
use crate::error::{Error, Result};
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::profile::model::Kernel;

/// Read by systemd-modules-load.
const MODULES_PATH: &str = "/etc/modules-load.d/nodekiln.conf";
/// Read by systemd-sysctl; sorts before the `99-` files of first boot, which
/// the kubelet depends on and which therefore win.
const SYSCTL_PATH: &str = "/etc/sysctl.d/90-nodekiln.conf";

pub(super) fn plan(draft: &mut Draft<'_>, wish: &Kernel, kernels: &[String]) -> Result<()> {
    if !wish.modules.is_empty() {
        check_modules(draft, &wish.modules, kernels)?;
        let text = wish.modules.join("\n") + "\n";
        draft.put_text(&fixed(MODULES_PATH), 0o644, text, "kernel modules")?;
    }
    if !wish.sysctl.is_empty() {
        let mut text = String::new();
        for (key, value) in &wish.sysctl {
            if value.contains('\n') || key.contains(['\n', '=']) {
                return Err(Error::input(format!(
                    "plan the kernel setting {}: a key or value with a line break",
                    key.escape_debug()
                )));
            }
            writeln!(text, "{key} = {value}").expect("writing to a string cannot fail");
        }
        draft.put_text(&fixed(SYSCTL_PATH), 0o644, text, "kernel settings")?;
    }
    Ok(())
}

fn check_modules(draft: &mut Draft<'_>, wanted: &[String], kernels: &[String]) -> Result<()> {
    if kernels.is_empty() {
        return Err(
            Error::input("plan kernel modules: the image has no kernel with modules")
                .hint("take a base with a kernel, or remove spec.kernel.modules"),
        );
    }
    for kernel in kernels {
        let known = modules(draft, kernel)?;
        for module in wanted {
            if !known.contains(&canonical(module)) {
                let near = crate::profile::nearest(module, known.iter().map(String::as_str));
                let error = Error::input(format!(
                    "plan the kernel module {module}: kernel {kernel} of the image has none of that name"
                ));
                return Err(match near {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint(
                        "a smaller kernel (cloud) may lack it: take a base with the full kernel",
                    ),
                });
            }
        }
    }
    Ok(())
}

/// Every name that modprobe takes for this kernel, but for wildcard aliases.
fn modules(draft: &mut Draft<'_>, kernel: &str) -> Result<BTreeSet<String>> {
    let mut folder = fixed("/lib/modules").join(kernel)?;
    if draft.stat(&folder)?.is_none() {
        folder = fixed("/usr/lib/modules").join(kernel)?;
    }
    let mut known = BTreeSet::new();
    for list in ["modules.dep", "modules.builtin"] {
        let text = draft.read_text(&folder.join(list)?)?.unwrap_or_default();
        known.extend(text.lines().filter_map(|line| {
            let path = line.split(':').next()?;
            let file = path.rsplit('/').next()?;
            file.split_once(".ko").map(|(name, _)| canonical(name))
        }));
    }
    let text = draft
        .read_text(&folder.join("modules.alias")?)?
        .unwrap_or_default();
    known.extend(text.lines().filter_map(|line| {
        let name = line.strip_prefix("alias ")?.split_whitespace().next()?;
        (!name.contains(['*', '?', ':'])).then(|| canonical(name))
    }));
    Ok(known)
}

/// modprobe takes `-` and `_` for the same.
fn canonical(module: &str) -> String {
    module.replace('-', "_")
}
