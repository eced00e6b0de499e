//! Kernel modules and parameters, and swap.

use std::time::Duration;

use super::steps::Node;
use super::work::Work;
use super::{Error, Phase, unit};
use crate::render;
use crate::system::{Task, write_if_changed};

/// Applies modules and parameters when they are new; swap is always looked at.
pub(super) fn prepare(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    if !work.journal.is_done(Phase::Kernel, inputs) {
        load_modules(work)?;
        unit::restart(work.system, "systemd-sysctl.service")?;
    }
    turn_off_swap(work, node)
}

fn load_modules(work: &Work<'_>) -> Result<(), Error> {
    let Err(error) = unit::restart(work.system, "systemd-modules-load.service") else {
        return Ok(());
    };
    // The unit fails for any module of anybody's; only ours matter here.
    for module in render::MODULES {
        if work
            .system
            .resolve(&format!("/sys/module/{module}"))
            .is_none()
        {
            return Err(Error::Machine {
                problem: format!("the kernel module {module} cannot be loaded"),
                hint: "give the machine a kernel that has it".into(),
            });
        }
    }
    work.warn(&format!(
        "not all kernel modules could be loaded: {}",
        error.chain()
    ));
    Ok(())
}

fn turn_off_swap(work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
    const LIMIT: usize = 1 << 20;
    const TIME: Duration = Duration::from_secs(300);
    let system = work.system;
    let text = |path: &str| -> Result<Option<String>, Error> {
        Ok(system
            .read(path, LIMIT)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let swaps = node
        .variables
        .get("ACTIVE_SWAP_AREAS")
        .unwrap_or("/proc/swaps");
    for area in render::active_swap(&text(swaps)?.unwrap_or_default()) {
        if !area.is_file {
            return Err(Error::Machine {
                problem: format!("swap is on at {}, which is not a file", area.path),
                hint: "build the image without swap partitions and zram, or set failSwapOn there"
                    .into(),
            });
        }
        let ended = system.run(&Task::new("swapoff", &["--", &area.path], TIME))?;
        if !ended.success {
            return Err(Error::Machine {
                problem: format!("swap at {} cannot be turned off", area.path),
                hint: "give the machine enough memory to hold what was swapped out".into(),
            });
        }
    }
    if let Some(fstab) = system.read("/etc/fstab", LIMIT)?
        && let Ok(text) = String::from_utf8(fstab)
        && let Some(without) = render::fstab_without_swap(&text)
    {
        let mode = system
            .status("/etc/fstab")?
            .map_or(0o644, |status| status.mode);
        write_if_changed(system, "/etc/fstab", without.as_bytes(), mode)?;
    }
    Ok(())
}
