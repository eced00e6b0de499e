//! Disks that were copied from another machine.

use std::fs;

use crate::kills::killed_at_every_step;
use crate::machine::{JOURNAL, Machine};
use crate::text;

const KEYS: &str = "var/lib/kubelet/pki";

/// A machine that has the disk of another one.
fn clone() -> Machine {
    let original = Machine::new();
    original.boot("original");
    original.write(
        &format!("{KEYS}/kubelet-client-current.pem"),
        "the other's",
        0o600,
    );
    let clone = original.twin();
    // Nothing of it runs yet.
    for entry in fs::read_dir(clone.path("run")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    clone.write(
        "etc/machine-id",
        "ffffffffffffffffffffffffffffffff\n",
        0o444,
    );
    clone
}

#[test]
fn a_clone_becomes_a_node_of_its_own_wherever_it_is_killed() {
    let clone = clone();
    let whole = clone.twin();
    let owner = clone.read(JOURNAL);
    whole.boot("a clone");
    assert_eq!(fs::read_dir(whole.path(KEYS)).unwrap().count(), 0);
    let machine = |journal: &str| {
        let journal: serde_json::Value = serde_json::from_str(journal).unwrap();
        journal["machine"].clone()
    };
    assert_ne!(machine(&whole.read(JOURNAL)), machine(&owner));
    killed_at_every_step(&clone, &["run"], 30);
}

#[test]
fn a_clone_that_is_offered_nothing_never_starts_as_the_other() {
    let clone = clone();
    fs::remove_file(clone.path("etc/nodekiln/nodeconfig.yaml")).unwrap();
    let output = clone.start();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(clone.path(KEYS)).unwrap().count(), 0);
    // The kubelet's unit needs it.
    assert!(!clone.path("etc/eks/kubelet/environment").exists());
}
