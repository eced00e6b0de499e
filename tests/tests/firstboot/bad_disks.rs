//! Disks that are full or can only be read: it is said what, where and what to do; no
//! file is left half-written; and once the disk is mended the machine becomes a node.

use std::process::{Command, Output};

use crate::machine::{Machine, assert_same};
use crate::tracing::{side_by_side, start_with, steps};
use crate::{Tree, text};

const FULL: (&str, &str) = ("No space left on device", "make room");
const READ_ONLY: (&str, &str) = ("Read-only file system", "mounted read-only");

/// The run failed for a reason of the disk, and the console says so.
fn assert_refused(machine: &Machine, output: &Output, path: &str, told: (&str, &str), what: &str) {
    let console = machine.read("dev/console");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{what}: {console}{said}");
    let line = console.lines().next_back().unwrap_or_default();
    let (problem, hint) = line.split_once("; hint: ").unwrap_or((line, ""));
    let prefix = "nodekiln-firstboot: failed: ";
    assert!(problem.starts_with(prefix), "{what}: {console}");
    for part in [path, told.0] {
        assert!(problem.contains(part), "{what}: no {part:?} in {problem:?}");
    }
    assert!(hint.contains(told.1), "{what}: {hint:?}");
}

/// Every file is as it was before, or as the whole work leaves it.
fn assert_nothing_is_half_written(machine: &Machine, before: &Tree, whole: &Tree, what: &str) {
    for (path, entry) in &machine.settled() {
        let is_whole = [before, whole]
            .iter()
            .any(|tree| tree.get(path) == Some(entry));
        assert!(is_whole, "{what}: {path} is in neither");
    }
}

#[test]
fn a_disk_that_fails_at_any_step_is_told_and_the_work_goes_on_after() {
    let fresh = Machine::new();
    let whole = fresh.twin();
    let steps = steps(&whole, &["run"]);
    let trees = (fresh.settled(), whole.settled());
    assert!(steps.len() > 70, "{} steps", steps.len());
    side_by_side(&steps, |step| {
        for (error, told) in [("ENOSPC", FULL), ("EROFS", READ_ONLY)] {
            let what = format!("{error} of {}", step.line);
            let machine = fresh.twin();
            let output = start_with(&machine, &["run"], step, &format!("error={error}"));
            assert_refused(&machine, &output, &step.path, told, &what);
            assert_nothing_is_half_written(&machine, &trees.0, &trees.1, &what);
            machine.boot(&what);
            machine.assert_is_as(&whole, &what);
        }
    });
}

/// A machine on a file system of its own, of which only the service manager's notes
/// and the console are outside.
fn on_a_small_disk(like: &Machine) -> Machine {
    let machine = Machine::empty().with_own_mounts();
    machine.mount(&["-t", "tmpfs", "-o", "size=1g", "none"], "");
    let copied = Command::new("cp")
        .arg("--archive")
        .arg(like.root().join("."))
        .arg(machine.root())
        .status();
    assert!(copied.unwrap().success());
    for folder in ["run", "dev"] {
        machine.mount(&["-t", "tmpfs", "none"], folder);
    }
    machine.write("dev/null", "", 0o666);
    machine
}

/// Gives it a page or an inode more on each start, until it has joined.
fn with_more_room_each_time(limit: &str, used: impl Fn(rustix::fs::StatVfs) -> u64) {
    let fresh = Machine::new();
    let whole = fresh.twin();
    whole.boot("whole");
    let trees = (fresh.settled(), whole.settled());
    let machine = on_a_small_disk(&fresh);
    for more in 0.. {
        machine.write("dev/console", "", 0o600);
        let room = used(rustix::fs::statvfs(machine.root()).unwrap()) + more;
        machine.mount(&["-o", &format!("remount,{limit}={room}")], "");
        let output = machine.start();
        if output.status.success() {
            assert!(more > 3, "it never ran out of room");
            break;
        }
        let what = format!("{limit} {more} more");
        assert_refused(&machine, &output, "/", FULL, &what);
        assert_nothing_is_half_written(&machine, &trees.0, &trees.1, &what);
        assert!(more < 100, "{what} is not enough: {}", text(&output.stderr));
    }
    machine.assert_is_as(&whole, limit);
}

#[test]
fn a_disk_without_a_free_block_takes_one_file_after_the_other_as_there_is_room() {
    // A tmpfs counts pages.
    with_more_room_each_time("nr_blocks", |disk| disk.f_blocks - disk.f_bfree);
}

#[test]
fn a_disk_without_a_free_inode_takes_one_file_after_the_other_as_there_is_room() {
    with_more_room_each_time("nr_inodes", |disk| disk.f_files - disk.f_ffree);
}

#[test]
fn a_root_that_is_mounted_read_only_stays_as_it_is_until_it_can_be_written() {
    let fresh = Machine::new();
    let whole = fresh.twin();
    whole.boot("whole");
    for (folder, path) in [
        ("", "/var/lib/nodekiln/firstboot"),
        ("var", "/var/lib/nodekiln/firstboot"),
        ("etc", "/etc/"),
        ("var/lib/kubelet", "/var/lib/kubelet/kubeconfig"),
    ] {
        let machine = fresh.twin();
        std::fs::create_dir_all(machine.path("var/lib/kubelet")).unwrap();
        let machine = machine.with_own_mounts();
        let bind = |folder: &str| {
            let from = machine.place(folder);
            machine.mount(&["--bind", from.to_str().unwrap()], folder);
        };
        bind(folder);
        for written in ["run", "dev"] {
            bind(written);
        }
        machine.mount(&["-o", "remount,bind,ro"], folder);
        let before = machine.settled();
        let output = machine.start();
        assert_refused(&machine, &output, path, READ_ONLY, folder);
        let mut after = machine.settled();
        if folder == "etc" || folder == "var/lib/kubelet" {
            // The rest may be written.
            assert_nothing_is_half_written(&machine, &before, &whole.settled(), folder);
            after.retain(|path, _| path.starts_with(folder));
        }
        let below = before
            .into_iter()
            .filter(|(path, _)| after.contains_key(path) || path.starts_with(folder));
        assert_same(&after, &below.collect(), folder);
        machine.mount(&["-o", "remount,bind,rw"], folder);
        machine.boot(folder);
        machine.assert_is_as(&whole, folder);
    }
}
