//! Milestones: what a console must show, in which order and by when; and the
//! signs that a boot has failed. All of it is data; [`Tracker`] is the pure
//! machine that compares a console with it.

use std::time::Duration;

/// Text to be found in a line of the console. `*` stands for anything; the
/// pieces between must occur in their order. There is nothing else to know: no
/// anchors, no escapes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern. An empty one matches every line that is not empty.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `line` has it; if so, the text behind it.
    pub fn find<'a>(&self, line: &'a str) -> Option<&'a str> {
        if line.is_empty() {
            return None;
        }
        self.0.split('*').try_fold(line, |rest, piece| {
            rest.find(piece).map(|at| &rest[at + piece.len()..])
        })
    }
}

/// A point that a boot passes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Milestone {
    /// Short name, for reports: `kernel`.
    pub name: String,
    /// For people: `kernel started`.
    pub title: String,
    /// Any of these marks it.
    pub patterns: Vec<Pattern>,
    /// A line with any of these does not mark it, whatever else it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlike: Vec<Pattern>,
    /// Longest time since power-on, before scaling.
    #[serde(with = "seconds")]
    pub deadline: Duration,
    /// Some guests pass it without a word (a boot loader without a menu), so
    /// that its deadline alone fails nothing; a later milestone implies it.
    #[serde(default)]
    pub silent: bool,
}

/// A line that means the boot has failed, so that nobody waits for a deadline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// What the line has.
    pub pattern: Pattern,
    /// What it means. The text behind the pattern is added when this ends with
    /// a colon.
    pub meaning: String,
    /// What the user can do, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a boot is measured by.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Milestones {
    /// In their order. The boot is done when the last is reached.
    pub steps: Vec<Milestone>,
    /// Signs of failure.
    pub failures: Vec<Failure>,
}

impl Milestones {
    /// The way of a baked node, from power-on to a running kubelet. Deadlines
    /// are three times what a loaded machine needs without hardware
    /// virtualisation.
    pub fn node() -> Self {
        let firstboot = |text: &str| format!("nodekiln-firstboot: {text}");
        let mut all = Self::up_to_systemd();
        all.steps.extend([
            step("network", "network online", 75, &NETWORK).silent(),
            step(
                "firstboot",
                "first boot started",
                90,
                &[&firstboot("started")],
            ),
            step(
                "config",
                "node configuration found",
                95,
                &[&firstboot("node configuration from ")],
            ),
            step(
                "containerd",
                "containerd is running",
                135,
                &[&firstboot("containerd is active")],
            ),
            step(
                "kubelet",
                "kubelet is running",
                165,
                &[&firstboot("kubelet is active")],
            ),
            step("done", "first boot done", 180, &[&firstboot("done in ")]),
        ]);
        all.failures.push(Failure {
            pattern: Pattern::new(firstboot("failed: ")),
            meaning: "first boot failed:".to_owned(),
            hint: None,
        });
        all
    }

    /// The way of any Linux image to its login prompt.
    pub fn login() -> Self {
        let mut all = Self::up_to_systemd();
        all.steps
            .push(step("login", "login prompt", 90, &[" login:"]));
        all
    }

    fn up_to_systemd() -> Self {
        Self {
            steps: vec![
                // The firmware's first word, whatever it is.
                step("firmware", "firmware started", 30, &[""]),
                step(
                    "loader",
                    "boot loader started",
                    45,
                    &[
                        "GNU GRUB",
                        "Welcome to GRUB",
                        "Booting `",
                        "systemd-boot",
                        "EFI stub:",
                    ],
                )
                .silent(),
                step("kernel", "kernel started", 60, &["Linux version "]),
                step(
                    "systemd",
                    "systemd started",
                    75,
                    &["systemd[1]:", "Welcome to *!"],
                )
                // GRUB greets in the same words, before the kernel runs.
                .unlike("GRUB"),
            ],
            failures: boot_failures(),
        }
    }

    /// For images whose kernel command line says `quiet`: nothing before the
    /// last milestones needs to be seen.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        for step in &mut self.steps {
            step.silent |= ["kernel", "systemd"].contains(&step.name.as_str());
        }
        self
    }

    /// Adds a milestone before the last one that has a later deadline.
    #[must_use]
    pub fn and(mut self, milestone: Milestone) -> Self {
        let place = self
            .steps
            .partition_point(|step| step.deadline <= milestone.deadline);
        self.steps.insert(place, milestone);
        self
    }

    /// All deadlines, scaled: a machine with twice the load needs twice the
    /// time.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for step in &mut self.steps {
            step.deadline = step.deadline.mul_f64(factor);
        }
        self
    }
}

impl Milestone {
    /// See [`Milestone::silent`](field@Milestone::silent).
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// See [`Milestone::unlike`](field@Milestone::unlike).
    #[must_use]
    pub fn unlike(mut self, text: &str) -> Self {
        self.unlike.push(Pattern::new(text));
        self
    }

    fn is_marked_by(&self, line: &str) -> bool {
        let has = |patterns: &[Pattern]| patterns.iter().any(|it| it.find(line).is_some());
        has(&self.patterns) && !has(&self.unlike)
    }
}

/// systemd's own target, or the table that cloud-init prints when it has waited
/// for the network.
const NETWORK: [&str; 3] = [
    "Reached target *network-online.target",
    "Reached target *Network is Online",
    "ci-info: *Net device info",
];

fn step(name: &str, title: &str, seconds: u64, patterns: &[&str]) -> Milestone {
    Milestone {
        name: name.to_owned(),
        title: title.to_owned(),
        patterns: patterns.iter().copied().map(Pattern::new).collect(),
        unlike: Vec::new(),
        deadline: Duration::from_secs(seconds),
        silent: false,
    }
}

fn boot_failures() -> Vec<Failure> {
    let table: [(&str, &str, Option<&str>); 14] = [
        ("Kernel panic - not syncing", "the kernel panicked:", None),
        (
            "emergency mode",
            "systemd gave up and entered emergency mode",
            Some("a file system of /etc/fstab is probably missing or broken"),
        ),
        (
            "You are in rescue mode",
            "systemd entered rescue mode",
            None,
        ),
        (
            "Dropping to a shell!",
            "the initramfs did not find the root file system",
            None,
        ),
        ("dracut: FATAL:", "the initramfs failed:", None),
        (
            "grub rescue>",
            "GRUB did not find its configuration and stopped at its rescue prompt",
            None,
        ),
        (
            "grub>",
            "GRUB found nothing to boot and stopped at its prompt",
            None,
        ),
        (
            "error: you need to load the kernel first",
            "GRUB could not load the kernel",
            None,
        ),
        (
            "UEFI Interactive Shell",
            "the firmware found no boot loader on the disk and started its shell",
            Some("the image may be made for BIOS; try it with BIOS firmware"),
        ),
        (
            "No bootable option or device was found",
            "the firmware found no boot loader on the disk",
            Some("the image may be made for BIOS; try it with BIOS firmware"),
        ),
        (
            "Start PXE over ",
            "the firmware found no boot loader on the disk and tried the network",
            Some("the image may be made for BIOS; try it with BIOS firmware"),
        ),
        (
            "No bootable device",
            "the firmware found nothing to boot on the disk",
            Some("the image may be made for UEFI; try it without BIOS firmware"),
        ),
        (
            "Security Violation",
            "Secure Boot refused the boot loader",
            Some("the loader must be signed by a key that the firmware knows"),
        ),
        (
            "Out of memory and no killable processes",
            "the guest ran out of memory",
            Some("give it more memory"),
        ),
    ];
    table
        .into_iter()
        .map(|(pattern, meaning, hint)| Failure {
            pattern: Pattern::new(pattern),
            meaning: meaning.to_owned(),
            hint: hint.map(str::to_owned),
        })
        .collect()
}

/// How far a milestone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Not yet.
    Pending,
    /// Seen on the console.
    Reached,
    /// Not seen, but a later one was.
    Implied,
    /// Not seen by its deadline.
    Missed,
}

/// What a line of the console, or the passing of time, means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The milestone of this index was seen.
    Reached(usize),
    /// The boot has failed.
    Failed {
        /// Why.
        reason: String,
        /// What the user can do.
        hint: Option<String>,
    },
}

/// Compares a console with milestones. Knows no clock: time is given.
#[derive(Debug)]
pub struct Tracker {
    milestones: Milestones,
    standings: Vec<(Standing, Option<Duration>)>,
}

impl Tracker {
    /// Nothing reached yet.
    pub fn new(milestones: Milestones) -> Self {
        let standings = vec![(Standing::Pending, None); milestones.steps.len()];
        Self {
            milestones,
            standings,
        }
    }

    /// Takes a clean line that came at `time` since power-on.
    pub fn line(&mut self, line: &str, time: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for (index, step) in self.milestones.steps.iter().enumerate() {
            let open = matches!(
                self.standings[index].0,
                Standing::Pending | Standing::Implied
            );
            if open && step.is_marked_by(line) {
                self.standings[index] = (Standing::Reached, Some(time));
                for standing in &mut self.standings[..index] {
                    if standing.0 == Standing::Pending {
                        standing.0 = Standing::Implied;
                    }
                }
                events.push(Event::Reached(index));
            }
        }
        let failure = self
            .milestones
            .failures
            .iter()
            .find_map(|failure| failure.pattern.find(line).map(|rest| (failure, rest)));
        if let Some((failure, rest)) = failure {
            let rest = rest.trim_start_matches([':', ' ']).trim_end();
            let reason = match failure.meaning.strip_suffix(':') {
                Some(meaning) if rest.is_empty() => meaning.to_owned(),
                Some(_) => format!("{} {rest}", failure.meaning),
                None => failure.meaning.clone(),
            };
            events.push(Event::Failed {
                reason,
                hint: failure.hint.clone(),
            });
        }
        events
    }

    /// When the next deadline passes, since power-on; `None` when all is done.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.due().map(|(_, deadline)| deadline)
    }

    /// The milestone whose deadline has passed at `time`; it counts as missed
    /// from now on.
    pub fn miss(&mut self, time: Duration) -> Option<&Milestone> {
        let (index, deadline) = self.due()?;
        if time < deadline {
            return None;
        }
        self.standings[index].0 = Standing::Missed;
        Some(&self.milestones.steps[index])
    }

    /// The first milestone that the guest still owes. Silent ones are never
    /// owed, unless nothing follows them.
    fn due(&self) -> Option<(usize, Duration)> {
        let steps = &self.milestones.steps;
        (0..steps.len())
            .filter(|index| self.standings[*index].0 == Standing::Pending)
            .filter(|index| !steps[*index].silent || index + 1 == steps.len())
            .map(|index| (index, steps[index].deadline))
            .min_by_key(|(_, deadline)| *deadline)
    }

    /// The first milestone that was neither seen nor implied.
    pub fn waiting_for(&self) -> Option<&Milestone> {
        self.due().map(|(index, _)| &self.milestones.steps[index])
    }

    /// Whether the last milestone was seen.
    pub fn is_done(&self) -> bool {
        self.standings
            .last()
            .is_none_or(|(standing, _)| *standing == Standing::Reached)
    }

    /// The milestones with how far each is, and when it was seen.
    pub fn standings(&self) -> impl Iterator<Item = (&Milestone, Standing, Option<Duration>)> {
        self.milestones
            .steps
            .iter()
            .zip(&self.standings)
            .map(|(step, (standing, time))| (step, *standing, *time))
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
