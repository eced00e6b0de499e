//! A machine that joins, killed wherever it asks the service manager for something.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use crate::machine::Machine;
use crate::{UNIT, firstboot, text, tree};

#[test]
fn the_program_joins_a_machine_and_leaves_it_alone_afterwards() {
    let machine = Machine::new();
    let manager = UnixDatagram::bind(machine.path("run/notify")).unwrap();
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            match text(&buffer[..length]).as_str() {
                "END" => return heard,
                message => heard.push(message.to_owned()),
            }
        }
    });
    let output = machine.start();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let console = machine.read("dev/console");
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "nodekiln-firstboot: started",
            "nodekiln-firstboot: node configuration from file /etc/nodekiln/nodeconfig.yaml",
            "nodekiln-firstboot: containerd is active",
            "nodekiln-firstboot: kubelet is active",
        ]
    );
    assert!(
        lines[4].starts_with("nodekiln-firstboot: done in "),
        "{console}"
    );
    for line in text(&output.stderr).lines() {
        let entry = line
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .unwrap();
        assert!(["3", "4", "6"].contains(&entry.0), "{line}");
        serde_json::from_str::<Value>(entry.1).unwrap();
    }
    let notify = UnixDatagram::unbound().unwrap();
    notify.send_to(b"END", machine.path("run/notify")).unwrap();
    let heard = listener.join().unwrap();
    fs::remove_file(machine.path("run/notify")).unwrap();
    assert_eq!(
        heard.iter().filter(|message| *message == "READY=1").count(),
        1
    );
    assert!(heard.iter().any(|message| message == "WATCHDOG=1"));

    assert_eq!(
        machine.read("etc/fstab"),
        "LABEL=root / ext4 defaults 0 1\n"
    );
    let state = machine.path("var/lib/nodekiln/firstboot/state.json");
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let environment = machine.read("etc/eks/kubelet/environment");
    assert!(environment.contains(" --v=4\""), "{environment}");

    let before = (tree(&machine.path("etc"), &[]), fs::read(&state).unwrap());
    let output = machine.start();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        (tree(&machine.path("etc"), &[]), fs::read(&state).unwrap()),
        before
    );
    let calls = machine.read("run/calls");
    assert!(
        calls.lines().all(|call| call.starts_with("show ")),
        "{calls}"
    );

    let status = firstboot(&[
        "status",
        "--json",
        "--root",
        machine.root().to_str().unwrap(),
    ]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "done");
}

#[test]
fn killed_at_every_call_of_the_service_manager_it_converges() {
    let fresh = Machine::new();
    let whole = fresh.twin();
    whole.boot("whole");
    let calls = whole.read("run/calls");
    // Killed while it asks is killed before its next act.
    let acts = calls
        .lines()
        .zip(1..)
        .filter(|(call, _)| !call.starts_with("show "));
    let acts: Vec<u32> = acts.map(|(_, number)| number).collect();
    assert!(acts.len() > 7, "{calls}");
    for call in acts {
        for after in [false, true] {
            let machine = fresh.twin();
            machine.write("run/kill-at", &call.to_string(), 0o600);
            if after {
                machine.write("run/kill-after", "", 0o600);
            }
            let killed = machine.start();
            let what = format!("call {call}, after it: {after}");
            let said = text(&killed.stderr);
            assert_eq!(killed.status.code(), None, "{what}: {said}");
            fs::remove_file(machine.path("run/kill-at")).unwrap();
            machine.boot(&what);
            machine.assert_is_as(&whole, &what);
        }
    }
}

#[test]
fn without_a_node_configuration_the_unit_fails_for_good() {
    let machine = Machine::new();
    fs::remove_file(machine.path("etc/nodekiln/nodeconfig.yaml")).unwrap();
    let output = machine.start();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let console = machine.read("dev/console");
    assert!(
        console.contains("\nnodekiln-firstboot: failed: no NodeConfig was found"),
        "{console}"
    );
    assert!(!machine.path("run/calls").exists());
    assert!(
        UNIT.lines()
            .any(|line| line == "RestartPreventExitStatus=2 3 7")
    );
}

#[test]
fn every_console_is_told() {
    let machine = Machine::new();
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n", 0o444);
    for console in ["dev/tty0", "dev/ttyS0"] {
        machine.write(console, "", 0o600);
    }
    let output = machine.start();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let screen = machine.read("dev/tty0");
    assert!(
        screen.contains("\nnodekiln-firstboot: done in "),
        "{screen}"
    );
    assert_eq!(machine.read("dev/ttyS0"), screen);
    assert_eq!(machine.read("dev/console"), "", "it is one of them");
}

#[test]
fn where_no_console_of_the_kernel_is_the_one_that_there_is_is_told() {
    // A container sees the list of its host.
    for active in ["tty0 ttyS0\n", ""] {
        let machine = Machine::new();
        machine.write("sys/class/tty/console/active", active, 0o444);
        let output = machine.start();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let console = machine.read("dev/console");
        assert!(
            console.contains("\nnodekiln-firstboot: done in "),
            "{console}"
        );
        assert!(!machine.path("dev/tty0").exists(), "nothing is made");
    }
}
