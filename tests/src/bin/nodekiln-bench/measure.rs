//! Measures whole processes with GNU time, in turn.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

/// What one run of one subject took.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Wall-clock seconds from start to end of the process.
    pub wall: f64,
    /// Seconds of processor time of it and its children, user and system.
    pub processor: f64,
    /// Largest resident memory of one process among them, in KiB.
    pub peak: u64,
}

impl Sample {
    /// As the results keep it.
    pub fn to_json(self) -> Value {
        json!({
            "wallSeconds": self.wall,
            "processorSeconds": self.processor,
            "peakKib": self.peak,
        })
    }
}

/// A way to do the work.
pub struct Subject<'a> {
    /// Its name in the results.
    pub name: &'static str,
    /// What is not measured: removes what the last run left, prepares.
    pub prepare: Box<dyn Fn() + 'a>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// Runs all subjects one after another, `rounds` times, and checks none away: a
/// subject that fails ends the benchmark. `log` is a file for GNU time.
pub fn interleaved(subjects: &[Subject<'_>], rounds: usize, log: &Path) -> Vec<Vec<Sample>> {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            (subject.prepare)();
            sync();
            warm();
            let sample = once(&subject.command, log);
            eprintln!(
                "    round {round}: {:<28} {:7.3} s wall, {:7.3} s processor, {} MB",
                subject.name,
                sample.wall,
                sample.processor,
                sample.peak / 1000
            );
            samples.push(sample);
        }
    }
    samples
}

/// Runs a command that must succeed.
pub fn once(command: &[String], log: &Path) -> Sample {
    let begun = Instant::now();
    let output = Command::new("/usr/bin/time")
        .args(["--quiet", "-f", "%U %S %M", "-o"])
        .arg(log)
        .args(command)
        .output()
        .expect("GNU time is installed");
    let wall = begun.elapsed().as_secs_f64();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(log).expect("GNU time wrote its figures");
    let figures: Vec<f64> = text
        .split_whitespace()
        .map(|figure| figure.parse().expect("a figure of GNU time"))
        .collect();
    let [user, system, peak] = figures[..] else {
        panic!("GNU time wrote '{text}'");
    };
    Sample {
        wall,
        processor: user + system,
        peak: peak as u64,
    }
}

/// Nothing that an earlier run left to be written may burden the next one.
pub fn sync() {
    let status = Command::new("sync").status().expect("sync is installed");
    assert!(status.success(), "sync failed");
}

/// Bytes that a sample may take from the free memory: more than any subject's
/// files and processes need.
const WARMED: usize = 4 << 30;

/// Touches free memory and gives it back, so that a sample finds pages that the
/// machine really has. A virtual machine whose balloon reports free pages to its
/// host loses them, and has each one back by a fault that costs seven times as much
/// as a page at hand: that would go to whoever writes next, by chance.
fn warm() {
    let mut memory = vec![0u8; WARMED];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
}

/// The middle of some figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    }
}
