//! Progress on standard error: bars, plain lines, JSON Lines, or nothing; and
//! how long each step took.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nodekiln::Error;
use nodekiln::environment;
use nodekiln::progress::{Progress, Step};
use serde::Serialize;

use super::stop::Stop;
use super::{ProgressMode, error, printer};

const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();

/// How often a JSON line tells of bytes, at most.
const JSON_INTERVAL: Duration = Duration::from_millis(200);

/// Shows progress and remembers how long each step took.
#[derive(Debug)]
pub struct Reporter {
    mode: Mode,
    stop: Stop,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Mode {
    Bars(MultiProgress),
    Plain,
    Json,
    None,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<Step, Running>,
    finished: Vec<Timing>,
}

#[derive(Debug)]
struct Running {
    what: String,
    since: Instant,
    bytes: u64,
    total: Option<u64>,
    told: Instant,
    bar: Option<ProgressBar>,
}

/// How long a step took.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// The step.
    pub step: Step,
    /// What it was about.
    pub what: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Bytes that went through it.
    pub bytes: u64,
}

/// One line of `--progress json`; its schema is `nodekiln schema progress`.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event<'a> {
    /// A step begins.
    #[serde(rename_all = "camelCase")]
    Begin {
        /// Seconds since the command began.
        at: f64,
        /// The step's name.
        step: String,
        /// What it is about.
        what: &'a str,
        /// Bytes to do, if known.
        total: Option<u64>,
    },
    /// Bytes are done.
    #[serde(rename_all = "camelCase")]
    Advance {
        /// Seconds since the command began.
        at: f64,
        /// The step's name.
        step: String,
        /// Bytes done so far.
        bytes: u64,
        /// Bytes to do, if known.
        total: Option<u64>,
    },
    /// A step is over.
    #[serde(rename_all = "camelCase")]
    End {
        /// Seconds since the command began.
        at: f64,
        /// The step's name.
        step: String,
        /// Seconds that it took.
        seconds: f64,
        /// Bytes that were done.
        bytes: u64,
    },
    /// A fact or decision.
    #[serde(rename_all = "camelCase")]
    Note {
        /// Seconds since the command began.
        at: f64,
        /// The text.
        text: &'a str,
    },
    /// Something that is probably not meant.
    #[serde(rename_all = "camelCase")]
    Warning {
        /// Seconds since the command began.
        at: f64,
        /// The text.
        text: &'a str,
    },
    /// The command failed.
    #[serde(rename_all = "camelCase")]
    Error {
        /// Seconds since the command began.
        at: f64,
        /// Class, code, message, place, causes, hint.
        error: serde_json::Value,
    },
}

impl Reporter {
    /// A reporter for `--progress`.
    pub fn new(mode: ProgressMode, stop: Stop) -> Self {
        let bars = std::io::stderr().is_terminal() && !is_set(environment::CI);
        let mode = match mode {
            ProgressMode::Auto if bars => Mode::Bars(MultiProgress::with_draw_target(
                ProgressDrawTarget::stderr_with_hz(12),
            )),
            ProgressMode::Auto | ProgressMode::Plain => Mode::Plain,
            ProgressMode::Json => Mode::Json,
            ProgressMode::None => Mode::None,
        };
        Self {
            mode,
            stop,
            started: Instant::now(),
            state: Mutex::new(State::default()),
        }
    }

    /// How long each finished step took, in the order of their ends.
    pub fn timings(&self) -> Vec<Timing> {
        self.state().finished.clone()
    }

    /// Since the command began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes all bars off the terminal.
    pub fn finish(&self) {
        let running = std::mem::take(&mut self.state().running);
        for bar in running.into_values().filter_map(|running| running.bar) {
            bar.finish_and_clear();
        }
    }

    /// Tells of the command's failure, where the mode wants it as an event, and
    /// says whether it did: text after it would not be JSON Lines.
    pub fn failed(&self, problem: &Error) -> bool {
        let wanted = matches!(self.mode, Mode::Json);
        if wanted {
            self.json(&Event::Error {
                at: self.at(),
                error: error::to_json(problem),
            });
        }
        wanted
    }

    /// Prints a line to standard error without tearing the bars.
    pub fn line(&self, text: &str) {
        match &self.mode {
            Mode::Bars(bars) => bars.suspend(|| error::stderr(&format!("{text}\n"))),
            _ => error::stderr(&format!("{text}\n")),
        }
    }

    /// Whether lines for people are wanted.
    pub fn is_for_people(&self) -> bool {
        matches!(self.mode, Mode::Bars(_) | Mode::Plain)
    }

    fn at(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere must not hide the error that is being reported.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[expect(clippy::unused_self, reason = "events belong to the reporter")]
    fn json(&self, event: &Event<'_>) {
        if let Ok(line) = serde_json::to_string(event) {
            error::stderr(&format!("{line}\n"));
        }
    }

    fn bar(&self, what: &str, step: Step, total: Option<u64>) -> Option<ProgressBar> {
        let Mode::Bars(bars) = &self.mode else {
            return None;
        };
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix:>9.bold.cyan} {bar:24.cyan/dim} {bytes:>10} / {total_bytes:<10} {bytes_per_sec:>12}  {wide_msg}",
            )),
            None => ProgressBar::new_spinner().with_style(style(
                "{prefix:>9.bold.cyan} {spinner:.cyan} {elapsed:>5}  {wide_msg}",
            )),
        };
        let bar = bars.add(bar);
        bar.set_prefix(name(step));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are sound")
        .progress_chars("━━─")
}

fn name(step: Step) -> String {
    format!("{step:?}").to_lowercase()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

impl Progress for Reporter {
    fn begin(&self, step: Step, what: &str, total: Option<u64>) {
        self.end(step);
        let bar = self.bar(what, step, total);
        match self.mode {
            Mode::Plain => error::stderr(&format!("{:>9} {what}\n", name(step))),
            Mode::Json => self.json(&Event::Begin {
                at: self.at(),
                step: name(step),
                what,
                total,
            }),
            _ => {}
        }
        let now = Instant::now();
        self.state().running.insert(
            step,
            Running {
                what: what.to_owned(),
                since: now,
                bytes: 0,
                total,
                told: now,
                bar,
            },
        );
    }

    fn advance(&self, step: Step, bytes: u64) {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(&step) else {
            return;
        };
        running.bytes += bytes;
        if let Some(bar) = &running.bar {
            bar.inc(bytes);
        }
        if matches!(self.mode, Mode::Json) && running.told.elapsed() >= JSON_INTERVAL {
            running.told = Instant::now();
            let event = Event::Advance {
                at: self.at(),
                step: name(step),
                bytes: running.bytes,
                total: running.total,
            };
            drop(state);
            self.json(&event);
        }
    }

    fn end(&self, step: Step) {
        let Some(running) = self.state().running.remove(&step) else {
            return;
        };
        let took = running.since.elapsed();
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        let amount = if running.bytes > 0 {
            format!(", {}", printer::bytes(running.bytes))
        } else {
            String::new()
        };
        match &self.mode {
            Mode::Bars(_) | Mode::Plain => self.line(&format!(
                "{GREEN}{:>9}{GREEN:#} {} in {}{amount}",
                name(step),
                running.what,
                printer::duration(took)
            )),
            Mode::Json => self.json(&Event::End {
                at: self.at(),
                step: name(step),
                seconds: took.as_secs_f64(),
                bytes: running.bytes,
            }),
            Mode::None => {}
        }
        self.state().finished.push(Timing {
            step,
            what: running.what,
            seconds: took.as_secs_f64(),
            bytes: running.bytes,
        });
    }

    fn note(&self, text: &str) {
        match &self.mode {
            Mode::Bars(_) | Mode::Plain => self.line(&format!("{:>9} {text}", "·")),
            Mode::Json => self.json(&Event::Note {
                at: self.at(),
                text,
            }),
            Mode::None => {}
        }
    }

    fn warn(&self, text: &str) {
        if matches!(self.mode, Mode::Json) {
            self.json(&Event::Warning {
                at: self.at(),
                text,
            });
        } else {
            self.line(&format!("{YELLOW}  warning{YELLOW:#} {text}"));
        }
    }

    fn stopped(&self) -> bool {
        self.stop.is_set()
    }
}
