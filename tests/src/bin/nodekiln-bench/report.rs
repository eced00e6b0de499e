//! What comes out: JSON for programs, a table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::measure::{Sample, Subject, median};

/// A figure that has a limit.
#[derive(Debug)]
pub struct Claim {
    /// What it is.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit, if it is no ratio.
    pub unit: &'static str,
    /// The limit.
    pub limit: f64,
    /// Whether the figure must be at least the limit, not at most.
    pub at_least: bool,
}

impl Claim {
    fn met(&self) -> bool {
        if self.at_least {
            self.value >= self.limit
        } else {
            self.value <= self.limit
        }
    }
}

/// Points of a way that several subjects take, and when each was there.
#[derive(Debug)]
pub struct Course {
    /// Names of the points, in their order.
    pub points: Vec<&'static str>,
    /// Subjects; of each its runs, and of each run the seconds until each point.
    pub subjects: Vec<(String, Vec<Vec<f64>>)>,
}

impl Course {
    fn to_json(&self) -> Value {
        let run = |seconds: &Vec<f64>| {
            let named = self.points.iter().zip(seconds);
            let named = named.map(|(point, seconds)| ((*point).to_owned(), json!(seconds)));
            Value::Object(named.collect())
        };
        let subjects = self.subjects.iter().map(|(name, runs)| {
            let runs: Vec<Value> = runs.iter().map(run).collect();
            (name.clone(), json!(runs))
        });
        Value::Object(subjects.collect())
    }

    /// Medians, side by side.
    fn to_markdown(&self) -> String {
        let mut text = String::from("\n| seconds until |");
        for (name, runs) in &self.subjects {
            write!(text, " {name} ({} runs) |", runs.len()).expect("text takes all");
        }
        text += "\n|---|";
        text += &"---|".repeat(self.subjects.len());
        text.push('\n');
        for (index, point) in self.points.iter().enumerate() {
            write!(text, "| {point} |").expect("text takes all");
            for (_, runs) in &self.subjects {
                let seconds = median(runs.iter().map(|run| run[index]));
                write!(text, " {seconds:.1} |").expect("text takes all");
            }
            text.push('\n');
        }
        text
    }
}

/// One experiment: its samples and what follows from them.
#[derive(Debug)]
pub struct Experiment {
    /// Name of its file and of `--only`.
    pub name: &'static str,
    /// What was compared, in a sentence.
    pub about: &'static str,
    /// Subjects with their samples.
    pub samples: Vec<(String, Vec<Sample>)>,
    /// Where the time goes, of experiments with several points in time.
    pub course: Option<Course>,
    /// Figures with limits.
    pub claims: Vec<Claim>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

impl Experiment {
    /// An experiment without figures yet.
    pub fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            samples: Vec::new(),
            course: None,
            claims: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Adds the samples of some subjects.
    pub fn add(&mut self, subjects: &[Subject<'_>], samples: Vec<Vec<Sample>>) {
        let names = subjects.iter().map(|subject| subject.name.to_owned());
        self.samples.extend(names.zip(samples));
    }

    /// Median of the seconds of a subject.
    pub fn wall(&self, subject: usize) -> f64 {
        median(self.samples[subject].1.iter().map(|sample| sample.wall))
    }

    /// Adds the limit for the ratio of the medians of two subjects.
    pub fn ratio(&mut self, of: usize, to: usize, limit: f64, at_least: bool) {
        self.claims.push(Claim {
            what: format!("{} / {}", self.samples[of].0, self.samples[to].0),
            value: self.wall(of) / self.wall(to),
            unit: "",
            limit,
            at_least,
        });
    }

    fn to_json(&self) -> Value {
        let samples: serde_json::Map<String, Value> = self
            .samples
            .iter()
            .map(|(name, samples)| {
                let samples: Vec<Value> = samples.iter().map(|sample| sample.to_json()).collect();
                (name.clone(), json!(samples))
            })
            .collect();
        let claim = |claim: &Claim| {
            json!({
                "what": claim.what,
                "value": claim.value,
                "unit": claim.unit,
                if claim.at_least { "atLeast" } else { "atMost" }: claim.limit,
                "met": claim.met(),
            })
        };
        json!({
            "name": self.name,
            "about": self.about,
            "samples": samples,
            "course": self.course.as_ref().map(Course::to_json),
            "claims": self.claims.iter().map(claim).collect::<Vec<_>>(),
            "notMeasured": self.missing,
        })
    }

    fn to_markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.name, self.about);
        if !self.samples.is_empty() {
            text += "\n| subject | runs | wall, median (least to most) | processor | peak memory |\n|---|---|---|---|---|\n";
        }
        for (name, samples) in &self.samples {
            let walls = || samples.iter().map(|sample| sample.wall);
            let (least, most) = walls().fold((f64::MAX, 0.0_f64), |(least, most), wall| {
                (least.min(wall), most.max(wall))
            });
            let peak = samples.iter().map(|sample| sample.peak).max().unwrap_or(0);
            writeln!(
                text,
                "| {name} | {} | {:.3} s ({least:.3} to {most:.3}) | {:.3} s | {} MB |",
                samples.len(),
                median(walls()),
                median(samples.iter().map(|sample| sample.processor)),
                peak * 1024 / 1_000_000
            )
            .expect("text takes all");
        }
        if let Some(course) = &self.course {
            text += &course.to_markdown();
        }
        if !self.claims.is_empty() {
            text += "\n| figure | value | limit | |\n|---|---|---|---|\n";
        }
        for claim in &self.claims {
            writeln!(
                text,
                "| {} | {:.2}{} | {} {}{} | {} |",
                claim.what,
                claim.value,
                claim.unit,
                if claim.at_least {
                    "at least"
                } else {
                    "at most"
                },
                claim.limit,
                claim.unit,
                if claim.met() { "met" } else { "**missed**" }
            )
            .expect("text takes all");
        }
        for missing in &self.missing {
            writeln!(text, "\nNot measured: {missing}").expect("text takes all");
        }
        text + "\n"
    }
}

/// Writes one file for each experiment, `machine.json` and `README.md`; gives
/// the latter.
pub fn write(results: &Path, machine: &Value, experiments: &[Experiment]) -> String {
    fs::create_dir_all(results).expect("make the folder of results");
    let save = |name: &str, value: &Value| {
        let text = serde_json::to_string_pretty(value).expect("JSON takes all") + "\n";
        fs::write(results.join(name), text).expect("write a result");
    };
    save("machine.json", machine);
    for experiment in experiments {
        save(&format!("{}.json", experiment.name), &experiment.to_json());
    }
    let mut text = String::from(
        "# Results\n\nWritten by `make bench`; do not edit. The JSON files beside it hold every sample.\n\n",
    );
    for (name, value) in machine.as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        writeln!(text, "- {name}: {value}").expect("text takes all");
    }
    text += "\n";
    for experiment in experiments {
        text += &experiment.to_markdown();
    }
    let text = text.trim_end().to_owned() + "\n";
    fs::write(results.join("README.md"), &text).expect("write the table");
    text
}

/// The machine, without its name.
pub fn machine(nodekiln: &Path, work: &Path) -> Value {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or("unknown")
            .to_owned()
    };
    let processor = file("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown".to_owned(), |rest| {
            rest.trim_start_matches([' ', '\t', ':']).to_owned()
        });
    let memory: u64 = file("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    let (nodekiln, work) = (nodekiln.display().to_string(), work.display().to_string());
    json!({
        "processor": processor,
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memoryGib": memory >> 20,
        "system": file("/etc/os-release").lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown").trim_matches('"'),
        "kernel": file("/proc/sys/kernel/osrelease").trim(),
        "fileSystem": line("stat", &["-f", "-c", "%T", &work]),
        "loadBefore": file("/proc/loadavg").split_whitespace().next().unwrap_or("unknown"),
        "nodekiln": line(&nodekiln, &["--version"]),
        "qemu-img": line("qemu-img", &["--version"]),
    })
}
