//! Kernel modules to load and settings to make at boot.

use std::fmt::Write as _;

use super::draft::Draft;
use crate::error::{Error, Result};
use crate::os::modules;
use crate::os::tree::fixed;
use crate::profile::model::Kernel;

/// Read by systemd-modules-load.
const MODULES_PATH: &str = "/etc/modules-load.d/nodekiln.conf";
/// Read by systemd-sysctl; sorts before the `99-` files of first boot, which
/// the kubelet depends on and which therefore win.
const SYSCTL_PATH: &str = "/etc/sysctl.d/90-nodekiln.conf";

const SMALL_KERNEL: &str = "a smaller kernel may lack it: take a base with the full kernel, or \
    add the package with the rest of its modules (linux-modules-extra, kernel-modules)";

/// With `is_node`, the kernels must have what every node needs.
pub(super) fn plan(
    draft: &mut Draft<'_>,
    wish: &Kernel,
    kernels: &[String],
    is_node: bool,
) -> Result<()> {
    if is_node {
        check_needed(draft, kernels)?;
    }
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
        let known = modules::known(draft, kernel)?;
        for module in wanted {
            if !known.contains(&modules::canonical(module)) {
                let near = crate::profile::nearest(module, known.iter().map(String::as_str));
                let error = Error::input(format!(
                    "plan the kernel module {module}: kernel {kernel} of the image has none of that name"
                ));
                return Err(match near {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint(SMALL_KERNEL),
                });
            }
        }
    }
    Ok(())
}

/// Fails when a kernel of the image lacks what every node needs. An image without any
/// kernel is none that boots, or one whose kernel comes from elsewhere.
fn check_needed(draft: &mut Draft<'_>, kernels: &[String]) -> Result<()> {
    let mut problems = Vec::new();
    for kernel in kernels {
        for need in modules::lacking(draft, kernel)? {
            problems.push(
                Error::input(format!(
                    "plan a node: kernel {kernel} of the image has no {}, and {}",
                    need.any_of.join(" or "),
                    need.purpose
                ))
                .hint(SMALL_KERNEL),
            );
        }
    }
    let mut problems = problems.into_iter();
    match problems.next() {
        None => Ok(()),
        Some(first) => Err(first.and(problems.collect())),
    }
}
