//! A first boot until it starts the container runtime: the program as the service
//! manager runs it, in a root and a network of its own, with stand-ins of what it
//! calls.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::machine_root::MachineRoot;
use nodekiln_tests::namespace::Namespace;
use nodekiln_tests::program::run;

use crate::measure::Sample;

/// A stand-in for systemctl: every unit is installed and starts at once. Asked for
/// containerd, it says so and waits until the time is taken.
const SYSTEMCTL: &str = r"#!/bin/sh
verb=$1; shift
for word; do case $word in --*) ;; *) unit=$word;; esac; done
case $verb in
show)
    echo LoadState=loaded; echo UnitFileState=enabled
    if [ -e /run/active.$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi;;
start|restart)
    echo > /run/active.$unit
    case $unit in containerd*) echo $verb > /run/asked; read line < /run/measured;; esac;;
esac
exit 0
";

/// The checks that ask others, as in the image of `make demo`.
const LEFT_OUT: &str = "iam-ra-api-network
api-server-endpoint-resolution-validation
k8s-authentication-validation
";

/// Waits for its cue, so that neither the namespace nor the root is part of the time.
const WAIT_AND_RUN: &str =
    "echo waits > /run/asked; read line < /run/go; exec /usr/libexec/nodekiln/firstboot run";

/// Longest time that a first boot may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// The names of the node in the NodeConfig of `scripts/bench`.
const NODE: &str = "bench-node";

/// Runs first boot on a new machine; the sample ends with its call of `systemctl start
/// containerd.service`, and the figures are the program's own.
pub fn once(network: &Namespace, firstboot: &Path, node_config: &Path) -> Sample {
    let root = machine(firstboot, node_config);
    // Opened for both, a pipe waits for nobody.
    let pipe = |name: &str| {
        let path = root.path(&format!("run/{name}"));
        let pipe = File::options().read(true).write(true).open(path);
        pipe.expect("the pipe can be opened")
    };
    let (mut go, asked, mut measured) = (pipe("go"), pipe("asked"), pipe("measured"));
    let said = File::create(root.path("run/said")).expect("a file for what it says");
    let mut child = network
        .command(Path::new("chroot"))
        .arg(root.folder())
        .args(["/bin/sh", "-c", WAIT_AND_RUN])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("nsenter is installed");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(asked).lines() {
            // Nobody listens after the limit.
            let _ = sender.send(line.map(|_| Instant::now()));
        }
    });
    let next = || {
        let next = receiver.recv_timeout(LIMIT).ok();
        next.and_then(Result::ok)
            .unwrap_or_else(|| panic!("it did not go on: {}", root.read("run/said")))
    };
    next();
    let begun = Instant::now();
    go.write_all(b"\n").expect("it can be told");
    let ended = next();
    let sample = Sample {
        wall: (ended - begun).as_secs_f64(),
        ..own_figures(child.id())
    };
    measured.write_all(b"\n").expect("it can be told");
    let status = child.wait().expect("it was started");
    assert!(status.success(), "{}", root.read("run/said"));
    sample
}

/// A machine that first boot has all of the node to make of.
fn machine(firstboot: &Path, node_config: &Path) -> MachineRoot {
    let root = MachineRoot::new(firstboot);
    let issued = Authority::new("the site").node_for_a_month(NODE);
    let node_config = fs::read_to_string(node_config).expect("the NodeConfig can be read");
    for (path, content, mode) in [
        ("etc/nodekiln/nodeconfig.yaml", &*node_config, 0o600),
        ("etc/nodekiln/skip-validations", LEFT_OUT, 0o644),
        ("etc/iam/pki/server.pem", &issued.certificate, 0o644),
        ("etc/iam/pki/server.key", &issued.key, 0o600),
        ("usr/bin/systemctl", SYSTEMCTL, 0o755),
    ] {
        root.write(path, content, mode);
    }
    for name in ["go", "asked", "measured"] {
        let path = root.path(&format!("run/{name}"));
        run("mkfifo", &[path.to_str().expect("UTF-8")]);
    }
    root
}

/// Memory and processor time of a process that runs, without its children.
fn own_figures(process: u32) -> Sample {
    let read = |name: &str| {
        let path = format!("/proc/{process}/{name}");
        fs::read_to_string(path).expect("it runs")
    };
    let peak = read("status")
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .expect("the kernel tells it");
    // After the name, which may hold blanks, the 12th and 13th field: user and system
    // time in hundredths of a second (proc(5)).
    let stat = read("stat");
    let ticks: f64 = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().expect("a number"))
        .sum();
    Sample {
        wall: 0.0,
        processor: ticks / 100.0,
        peak,
    }
}
