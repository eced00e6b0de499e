//! A node that is taken out again, with mounts where it removes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::kills::killed_at_every_step;
use crate::machine::{Machine, assert_same};
use crate::{text, tree};

const STATE: &[&str] = &[
    "var/lib/kubelet/pki/kubelet-client-current.pem",
    "var/lib/kubelet/pods/1/etc-hosts",
    "var/lib/kubelet/cpu_manager_state",
    "var/lib/cni/results/cni-1",
    "etc/cni/net.d/10-cilium.conflist",
];

/// A node that has run pods.
fn node() -> Machine {
    let machine = Machine::new();
    machine.boot("a node");
    for path in STATE {
        machine.write(path, "x", 0o600);
    }
    machine
}

/// The same with mounts that it sees and nobody else, and the kernel's own word on
/// them.
fn node_with_mounts(mounts: &[(&[&str], &str)]) -> Machine {
    let machine = node();
    machine.write("outside/kept", "not a node's", 0o600);
    for (_, at) in mounts {
        fs::create_dir_all(machine.path(at)).unwrap();
    }
    let machine = machine.with_own_mounts();
    machine.mount(&["--rbind", "/proc"], "proc");
    let outside = machine.place("outside");
    for (arguments, at) in mounts {
        let arguments: Vec<&str> = arguments
            .iter()
            .map(|word| match *word {
                "OUTSIDE" => outside.to_str().unwrap(),
                word => word,
            })
            .collect();
        machine.mount(&arguments, at);
    }
    machine
}

const BIND: &[&str] = &["--bind", "OUTSIDE"];
const TMPFS: &[&str] = &["-t", "tmpfs", "none"];

/// Runs a reset; gives exit code, output and what was said.
fn reset(machine: &Machine, options: &[&str]) -> (Option<i32>, String, String) {
    let _ = fs::remove_file(machine.path("run/calls"));
    let output = machine
        .command(&[], &[&["reset"], options].concat())
        .output()
        .unwrap();
    let code = output.status.code();
    (code, text(&output.stdout), text(&output.stderr))
}

fn count(machine: &Machine, folder: &str) -> usize {
    fs::read_dir(machine.path(folder)).map_or(0, Iterator::count)
}

#[test]
fn killed_at_every_step_of_a_reset_it_goes_on() {
    let node = node();
    let whole = node.twin();
    let (code, acts, said) = reset(&whole, &[]);
    assert_eq!(code, Some(0), "{said}");
    for folder in ["var/lib/kubelet", "var/lib/cni", "etc/cni/net.d"] {
        assert_eq!(count(&whole, folder), 0, "{folder}: {acts}");
    }
    killed_at_every_step(&node, &["reset"], 10);
}

#[test]
fn what_pods_have_mounted_is_unmounted_and_what_lies_behind_it_stays() {
    let machine = node_with_mounts(&[
        (BIND, "var/lib/kubelet/pods/1/volumes/bound"),
        (TMPFS, "var/lib/kubelet/pods/1/volumes/memory"),
        (BIND, "var/lib/kubelet/pods/1/volumes/memory"),
        (BIND, "var/lib/kubelet/plugins/driver/with blank"),
    ]);
    let (code, acts, said) = reset(&machine, &[]);
    assert_eq!(code, Some(0), "{acts}{said}");
    assert_eq!(acts.matches("unmount ").count(), 4, "{acts}");
    assert_eq!(count(&machine, "var/lib/kubelet"), 0);
    assert_eq!(machine.read("outside/kept"), "not a node's");
}

#[test]
fn a_mount_of_somebody_else_stops_a_reset_before_anything_is_changed() {
    for at in [
        "var/lib/kubelet/data",
        "var/lib/kubelet/pods",
        "var/lib/kubelet/pki",
        "var/lib/cni/results",
        "etc/cni/net.d/more",
        "etc/cni/net.d",
    ] {
        for how in [BIND, TMPFS] {
            let machine = node_with_mounts(&[(how, at)]);
            machine.write(&format!("{at}/below"), "kept", 0o600);
            let before = machine.settled();
            let services = machine.services();
            for options in [&[][..], &["--keep-identity"], &["--dry-run"]] {
                let (code, acts, said) = reset(&machine, options);
                assert_eq!(code, Some(4), "{at}: {acts}{said}");
                let expected = format!("error: /{at} is mounted where a reset would remove");
                assert!(said.starts_with(&expected), "{said}");
                assert!(
                    said.contains("hint: unmount it, then reset again"),
                    "{said}"
                );
                assert_same(&machine.settled(), &before, at);
                assert_eq!(machine.services(), services, "{at}");
            }
        }
    }
}

#[test]
fn a_disk_of_the_kubelets_own_is_emptied_and_stays_mounted() {
    const AT: &str = "var/lib/kubelet";
    let machine = node_with_mounts(&[(TMPFS, AT)]);
    machine.write(&format!("{AT}/folder/file"), "x", 0o600);
    let device = |machine: &Machine| fs::metadata(machine.path(AT)).unwrap().dev();
    let before = device(&machine);
    let (code, acts, said) = reset(&machine, &[]);
    assert_eq!(code, Some(0), "{acts}{said}");
    assert_eq!(device(&machine), before);
    assert_eq!(count(&machine, AT), 0, "{acts}");
}

#[test]
fn trying_it_changes_nothing_and_tells_what_a_reset_does() {
    let machine = node();
    // A folder shows that something in it was made or removed.
    let all = |machine: &Machine| {
        let times = walkdir::WalkDir::new(machine.root()).into_iter();
        let times = times.map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            (
                entry.path().to_owned(),
                metadata.ino(),
                metadata.mtime_nsec(),
            )
        });
        let times = times.filter(|(path, ..)| !path.starts_with(machine.path("run")));
        (tree(&machine.root(), &["run"]), times.collect::<Vec<_>>())
    };
    for options in [&[][..], &["--keep-identity"]] {
        let machine = machine.twin();
        let before = all(&machine);
        let (code, told, said) = reset(&machine, &[options, &["--dry-run"]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(all(&machine) == before, "{told}");
        assert_eq!(machine.read("run/calls"), "");
        let (code, done, said) = reset(&machine, options);
        assert_eq!((code, done), (Some(0), told), "{said}");
    }
}

#[test]
fn who_keeps_its_identity_joins_as_the_same_machine() {
    const KEY: &str = "var/lib/kubelet/pki/kubelet-client-current.pem";
    let machine = node();
    let journal = |machine: &Machine| -> serde_json::Value {
        serde_json::from_str(&machine.read(crate::machine::JOURNAL)).unwrap()
    };
    let owner = journal(&machine)["machine"].clone();
    let (code, acts, said) = reset(&machine, &["--keep-identity"]);
    assert_eq!(code, Some(0), "{acts}{said}");
    assert_eq!(machine.read(KEY), "x");
    // The keys, and an empty folder on which something might be mounted.
    assert_eq!(count(&machine, "var/lib/kubelet"), 2, "{acts}");
    assert_eq!(count(&machine, "var/lib/kubelet/pods"), 0, "{acts}");
    assert_eq!(journal(&machine)["machine"], owner);
    assert_eq!(journal(&machine)["files"], serde_json::json!([]));
    machine.boot("again");
    assert_eq!(machine.read(KEY), "x");
    assert_eq!(journal(&machine)["machine"], owner);
    killed_at_every_step(&node(), &["reset", "--keep-identity"], 10);
}
