//! Measures nodekiln against what else does the same work, on one payload, side
//! by side. `scripts/bench` prepares the machine and gives the settings;
//! `benches/README.md` says what is measured and how.

#![allow(clippy::print_stdout, clippy::print_stderr)] // What it prints is the result.

mod bake;
mod join;
mod measure;
mod payload;
mod report;
mod settings;
mod start;
mod subjects;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use measure::{Sample, interleaved, median, once};
use nodekiln_tests::namespace::Namespace;
use report::{Claim, Course, Experiment};
use settings::Settings;
use subjects::Bench;

/// In the order of the report.
const EXPERIMENTS: [&str; 8] = [
    "ext4",
    "xfs",
    "build",
    "labels",
    "size",
    "virt-customize",
    "firstboot",
    "join",
];
/// virt-customize is so much slower that fewer runs tell.
const SLOW_ROUNDS: usize = 3;
/// The first-boot program is so fast that single runs tell nothing.
const FAST_ROUNDS: usize = 100;
/// Whole first boots, each on a machine of its own.
const BOOT_ROUNDS: usize = 30;
/// Whole machines, from power-on until their node is ready.
const JOIN_ROUNDS: usize = 5;
const BOTH: &str = "[{format: raw}, {format: qcow2, compression: zstd}]";
const BOTH_PLAIN: &str = "[{format: raw}, {format: qcow2, compression: none}]";
const QCOW2: &str = "[{format: qcow2, compression: zstd}]";
const QCOW2_PLAIN: &str = "[{format: qcow2, compression: none}]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, image, payload] = &arguments[..]
        && verb == "bake"
    {
        bake::bake(Path::new(image), Path::new(payload));
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::parse(&arguments) {
        Ok(settings) => settings,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let payload = settings.work.join("payload");
    if !payload.exists() {
        let unfinished = settings.work.join("payload.new");
        fs::remove_dir_all(&unfinished).ok();
        payload::make(&unfinished);
        fs::rename(&unfinished, &payload).expect("name the payload");
    }
    let machine = report::machine(&settings.nodekiln, &settings.work);
    let bench = Bench {
        settings: &settings,
        payload,
    };
    let mut experiments = Vec::new();
    for name in EXPERIMENTS {
        if settings.wants(name) {
            eprintln!("  {name}");
            experiments.push(match name {
                "ext4" => ext4(&bench),
                "xfs" => xfs(&bench),
                "build" => build(&bench),
                "labels" => labels(&bench),
                "size" => size(&bench),
                "virt-customize" => virt_customize(&bench),
                "firstboot" => firstboot(&bench),
                _ => join(&bench),
            });
            // What is known so far survives a failure of the next experiment.
            report::write(&settings.results, &machine, &experiments);
        }
    }
    print!(
        "{}",
        report::write(&settings.results, &machine, &experiments)
    );
    ExitCode::SUCCESS
}

fn log(bench: &Bench<'_>) -> PathBuf {
    bench.settings.work.join("time")
}

fn ext4(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "ext4",
        "The payload goes into an empty ext4 of 4 GiB and to the device: by the engine of nodekiln in one process, and by root with a loop mount, tar, unmount and sync.",
    );
    let subjects = bench.ext4();
    let samples = interleaved(&subjects, bench.settings.rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 1, 1.0, false);
    let peak = result.samples[0].1.iter().map(|sample| sample.peak).max();
    result.claims.push(Claim {
        what: "peak memory in process".to_owned(),
        value: peak.unwrap_or(0) as f64 * 1024.0 / 1e6,
        unit: " MB",
        limit: 128.0,
        at_least: false,
    });
    result
}

fn xfs(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "xfs",
        "The payload goes into an empty XFS of 4 GiB and to the device: by guest kernels, that of scripts/build-guest-kernel, that of the package user-mode-linux and that of the distribution in a machine that QEMU emulates, boot and copy of the contents to its second disk included, and by root with a loop mount, tar, unmount and sync. Memory and processor time of the guest kernels are part of it.",
    );
    let subjects = bench.xfs();
    let samples = interleaved(&subjects, bench.settings.rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 3, 2.5, false);
    result.ratio(1, 3, 4.0, false);
    result.ratio(2, 3, 7.0, false);
    let ours = &result.samples[..3];
    let peak = ours.iter().flat_map(|(_, samples)| samples);
    let peak = peak.map(|sample| sample.peak).max();
    result.claims.push(Claim {
        what: "peak memory of guest and command".to_owned(),
        value: peak.unwrap_or(0) as f64 * 1024.0 / 1e6,
        unit: " MB",
        limit: 256.0,
        at_least: false,
    });
    result
}

fn build(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "build",
        "A whole build (open, plan, bake, verify, raw and qcow2 written and synced; the base, a compressed qcow2, in the store) against a sparse copy of the raw base, a copy of the payload and a sync of both.",
    );
    let base = bench.sized_base(0);
    let subjects = [
        bench.build("build, zstd", &base, BOTH),
        bench.copy(),
        bench.build("build, uncompressed", &base, BOTH_PLAIN),
    ];
    let samples = interleaved(&subjects, bench.settings.rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 1, 2.5, false);
    result.ratio(2, 1, 2.5, false);
    result
}

fn labels(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "labels",
        "The whole build from a base that has Debian's policy of SELinux and enforces it, which labels every file, against one that has the same policy and SELinux disabled; both to raw and qcow2.",
    );
    let subjects = [
        bench.build("with labels", &bench.base_with_policy("enforcing"), BOTH),
        bench.build("without", &bench.base_with_policy("disabled"), BOTH),
    ];
    let samples = interleaved(&subjects, bench.settings.rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 1, 1.1, false);
    result
}

fn size(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "size",
        "The whole build from a base of 64 GiB against one of 4 GiB with the same tree, both compressed qcow2 files in the store, to raw and qcow2. A raw base costs more: its checksum covers its holes.",
    );
    let subjects = [
        bench.build("base of 64 GiB", &bench.sized_base(64), BOTH),
        bench.build("base of 4 GiB", &bench.sized_base(4), BOTH),
    ];
    let samples = interleaved(&subjects, bench.settings.rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 1, 1.1, false);
    result
}

fn virt_customize(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "virt-customize",
        "A whole build to qcow2 against virt-customize --copy-in of the same payload into a copy of the raw base (libguestfs in software emulation) and qemu-img convert, both uncompressed.",
    );
    let root = match &bench.settings.virt_customize {
        Ok(root) => root,
        Err(reason) => {
            result.missing.push(reason.clone());
            return result;
        }
    };
    let base = bench.sized_base(0);
    let subjects = [
        bench.virt_customize(root),
        bench.build("build to qcow2, uncompressed", &base, QCOW2_PLAIN),
        bench.build("build to qcow2, zstd", &base, QCOW2),
    ];
    let rounds = bench.settings.rounds.min(SLOW_ROUNDS);
    let samples = interleaved(&subjects, rounds, &log(bench));
    result.add(&subjects, samples);
    result.ratio(0, 1, 15.0, true);
    result
}

fn firstboot(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "firstboot",
        "The first-boot program: its size; `firstboot render` of a NodeConfig into a folder, process start included; and `firstboot run` in a root and a network of its own, with a NodeConfig that needs no API, from exec until it asks systemctl to start containerd. There stand-ins answer for systemctl, kubelet and containerd, and their time is part of it; the memory is its own.",
    );
    let settings = bench.settings;
    let size = fs::metadata(&settings.firstboot)
        .expect("the program is there")
        .len();
    let rendered = render(bench);
    let network = Namespace::new();
    let started: Vec<Sample> = (0..BOOT_ROUNDS)
        .map(|_| start::once(&network, &settings.firstboot, &settings.node_config))
        .collect();
    let milliseconds = |samples: &[Sample]| median(samples.iter().map(|one| one.wall)) * 1000.0;
    let megabytes = |samples: &[Sample]| {
        let peak = samples.iter().map(|one| one.peak).max().unwrap_or(0);
        peak as f64 * 1024.0 / 1e6
    };
    let figures = [
        ("size of the program", size as f64 / 1e6, " MB", 3.0),
        ("render: peak memory", megabytes(&rendered), " MB", 10.0),
        ("render: own work", milliseconds(&rendered), " ms", 50.0),
        (
            "run: peak memory until containerd's start",
            megabytes(&started),
            " MB",
            10.0,
        ),
        (
            "run: from exec to containerd's start",
            milliseconds(&started),
            " ms",
            50.0,
        ),
    ];
    for (what, value, unit, limit) in figures {
        result.claims.push(Claim {
            what: what.to_owned(),
            value,
            unit,
            limit,
            at_least: false,
        });
    }
    let named = [("render", rendered), ("run until containerd", started)];
    let named = named.map(|(name, samples)| (name.to_owned(), samples));
    result.samples.extend(named);
    result
}

fn join(bench: &Bench<'_>) -> Experiment {
    let mut result = Experiment::new(
        "join",
        "One image in QEMU, from power-on to a node of a real control plane that is ready: by its own first boot, and by cloud-init and a script that takes the same steps with files that somebody made before. The seed is given the same way, and a machine has two processors.",
    );
    let rounds = bench.settings.rounds.min(JOIN_ROUNDS);
    let seconds = join::measure(bench, rounds);
    let names = join::WAYS.iter().map(|(name, _)| (*name).to_owned());
    result.course = Some(Course {
        points: join::PHASES.to_vec(),
        subjects: names.zip(seconds).collect(),
    });
    result
}

fn render(bench: &Bench<'_>) -> Vec<Sample> {
    let settings = bench.settings;
    let root = settings.work.join("rendered");
    let command: Vec<String> = [
        settings.firstboot.as_path(),
        Path::new("render"),
        Path::new("--root"),
        &root,
        Path::new("--config"),
        &settings.node_config,
    ]
    .map(|part| part.display().to_string())
    .to_vec();
    let fresh = || {
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(&root).expect("make a root");
    };
    fresh();
    let with_time = once(&command, &log(bench));
    // Without GNU time around it: that would be half of what is measured.
    let rounds = 0..FAST_ROUNDS;
    rounds
        .map(|_| {
            fresh();
            let begun = Instant::now();
            let output = Command::new(&command[0])
                .args(&command[1..])
                .output()
                .expect("the first-boot program can be started");
            let wall = begun.elapsed().as_secs_f64();
            assert!(output.status.success(), "render failed");
            Sample { wall, ..with_time }
        })
        .collect()
}
