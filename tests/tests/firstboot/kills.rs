//! Killed at every call to the kernel that changes the disk, it goes on where it was.

use std::os::unix::process::ExitStatusExt as _;

use crate::machine::Machine;
use crate::text;
use crate::tracing::{side_by_side, start_with, steps};

/// Kills `arguments` at each of its steps on a machine like `before`, starts it again,
/// and has the machine be as after a run that nobody disturbed.
pub fn killed_at_every_step(before: &Machine, arguments: &[&str], least: usize) {
    let whole = before.twin();
    let steps = steps(&whole, arguments);
    assert!(steps.len() > least, "{} steps", steps.len());
    side_by_side(&steps, |step| {
        let machine = before.twin();
        let killed = start_with(&machine, arguments, step, "signal=KILL");
        let said = text(&killed.stderr);
        assert_eq!(killed.status.signal(), Some(9), "{}: {said}", step.line);
        let output = machine.command(&[], arguments).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{}: {said}", step.line);
        machine.assert_is_as(&whole, &step.line);
    });
}

#[test]
fn killed_at_every_change_of_the_disk_it_becomes_the_same_node() {
    killed_at_every_step(&Machine::new(), &["run"], 70);
}
