//! What is known after a boot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::accelerator::Accelerator;
use crate::firmware::Firmware;
use crate::guest::GuestOutput;
use crate::milestone::{Standing, Tracker};

/// Version of the JSON form of [`Report`]; grows when a field changes its
/// meaning.
pub const REPORT_VERSION: u32 = 1;

/// How a boot went. Its JSON form is stable.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The image, as it was given; `None` for a kernel alone.
    pub image: Option<PathBuf>,
    /// Whether all milestones were reached and all guest commands came to their
    /// end.
    pub passed: bool,
    /// Seconds from power-on to the last milestone, or to the failure.
    pub seconds: f64,
    /// What ran the guest's instructions, and why.
    pub accelerator: Accelerator,
    /// What started the guest, and where it came from.
    pub firmware: Firmware,
    /// The milestones in their order.
    pub milestones: Vec<Reached>,
    /// How often the guest reset itself.
    pub resets: u32,
    /// What the guest commands wrote, by their names.
    pub guest: BTreeMap<String, GuestOutput>,
    /// Where the console was written, if anywhere.
    pub console_log: Option<PathBuf>,
    /// The last lines of the console, clean.
    pub console_tail: Vec<String>,
    /// The command line of QEMU.
    pub command: Vec<String>,
}

/// One milestone of a [`Report`].
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// Short name.
    pub name: String,
    /// For people.
    pub title: String,
    /// How far it is.
    pub standing: Standing,
    /// Seconds since power-on, if it was seen.
    pub seconds: Option<f64>,
    /// Seconds since power-on by which it was due.
    pub deadline: f64,
}

impl Report {
    /// The milestone called `name`.
    pub fn milestone(&self, name: &str) -> Option<&Reached> {
        self.milestones
            .iter()
            .find(|milestone| milestone.name == name)
    }
}

/// The milestones of a tracker, for a report.
pub(crate) fn reached(tracker: &Tracker) -> Vec<Reached> {
    let rounded = |time: std::time::Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    tracker
        .standings()
        .map(|(step, standing, time)| Reached {
            name: step.name.clone(),
            title: step.title.clone(),
            standing,
            seconds: time.map(rounded),
            deadline: rounded(step.deadline),
        })
        .collect()
}
