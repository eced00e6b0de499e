//! Units of the service manager, through `systemctl`.

use std::time::Duration;

use super::Error;
use crate::system::{Programs, Task};

/// Time for a unit to become active, as nodeadm gives it.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Time for an answer of the service manager itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// What the service manager knows about a unit.
#[derive(Debug, Default)]
struct Known {
    load: String,
    active: String,
    file: String,
}

fn systemctl(
    programs: &dyn Programs,
    arguments: &[&str],
    limit: Duration,
) -> Result<Result<String, String>, Error> {
    let ended = programs.run(&Task::new("systemctl", arguments, limit))?;
    if ended.success {
        return Ok(Ok(ended.output));
    }
    let said = ended
        .errors
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    Ok(Err(said.take(3).collect::<Vec<_>>().join(" ")))
}

fn command(programs: &dyn Programs, verb: &str, unit: &str, limit: Duration) -> Result<(), Error> {
    systemctl(programs, &[verb, unit], limit)?
        .map(drop)
        .map_err(|detail| Error::Unit {
            unit: unit.into(),
            detail,
        })
}

fn show(programs: &dyn Programs, unit: &str) -> Result<Known, Error> {
    let properties = "--property=LoadState,ActiveState,UnitFileState";
    let answer =
        systemctl(programs, &["show", properties, unit], ANSWER_LIMIT)?.map_err(|detail| {
            Error::Unit {
                unit: unit.into(),
                detail,
            }
        })?;
    let mut known = Known::default();
    for line in answer.lines() {
        match line.split_once('=') {
            Some(("LoadState", value)) => known.load = value.into(),
            Some(("ActiveState", value)) => known.active = value.into(),
            Some(("UnitFileState", value)) => known.file = value.into(),
            _ => {}
        }
    }
    Ok(known)
}

/// Whether the unit is running now, or about to.
pub(super) fn is_up(programs: &dyn Programs, unit: &str) -> Result<bool, Error> {
    Ok(matches!(
        show(programs, unit)?.active.as_str(),
        "active" | "activating" | "reloading"
    ))
}

/// Makes the service manager read its unit files again.
pub(super) fn reload_manager(programs: &dyn Programs) -> Result<(), Error> {
    let unit = "the service manager";
    systemctl(programs, &["daemon-reload"], ANSWER_LIMIT)?
        .map(drop)
        .map_err(|detail| Error::Unit {
            unit: unit.into(),
            detail,
        })
}

/// Runs a unit that does its work once more.
pub(super) fn restart(programs: &dyn Programs, unit: &str) -> Result<(), Error> {
    command(programs, "restart", unit, START_LIMIT)
}

/// Starts a unit if it does not run, and waits for it.
pub(super) fn start(programs: &dyn Programs, unit: &str) -> Result<(), Error> {
    command(programs, "start", unit, START_LIMIT)
}

/// Stops a unit.
pub(super) fn stop(programs: &dyn Programs, unit: &str) -> Result<(), Error> {
    command(programs, "stop", unit, START_LIMIT)
}

/// Stops a unit and keeps it from starting again.
pub(super) fn retire(programs: &dyn Programs, unit: &str) -> Result<(), Error> {
    systemctl(programs, &["disable", "--now", unit], ANSWER_LIMIT)?
        .map(drop)
        .map_err(|detail| Error::Unit {
            unit: unit.into(),
            detail,
        })
}

/// As [`retire`], where the unit is installed and not at rest already.
pub(super) fn retire_if_known(programs: &dyn Programs, unit: &str) -> Result<(), Error> {
    let known = show(programs, unit)?;
    let is_at_rest = known.active == "inactive" && known.file != "enabled";
    if known.load == "not-found" || is_at_rest {
        return Ok(());
    }
    retire(programs, unit)
}

/// Makes sure that a unit is enabled and active; with `anew` it is started again
/// if it has been running on old files since before (`ran_before`).
pub(super) fn ensure_active(
    programs: &dyn Programs,
    unit: &str,
    anew: bool,
    ran_before: bool,
) -> Result<(), Error> {
    let failed = |detail: &str| Error::Unit {
        unit: unit.into(),
        detail: detail.into(),
    };
    let known = show(programs, unit)?;
    match known.load.as_str() {
        "loaded" => {}
        "masked" => return Err(failed("it is masked")),
        "not-found" => return Err(failed("it is not installed")),
        other => return Err(failed(&format!("its unit file is in state {other:?}"))),
    }
    if known.file == "disabled" {
        command(programs, "enable", unit, ANSWER_LIMIT)?;
    }
    if known.active == "failed" {
        // Earlier failures must not count against this start.
        command(programs, "reset-failed", unit, ANSWER_LIMIT)?;
    }
    if anew && ran_before {
        command(programs, "restart", unit, START_LIMIT)?;
    } else if known.active != "active" {
        command(programs, "start", unit, START_LIMIT)?;
    }
    match show(programs, unit)?.active.as_str() {
        "active" => Ok(()),
        other => Err(failed(&format!("it is {other} after its start"))),
    }
}
