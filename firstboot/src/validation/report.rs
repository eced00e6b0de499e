//! What all checks found together.

use std::time::Duration;

use serde::Serialize;

use super::{Finding, Verdict};

/// A check that was run, or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Name of the check.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, on one line.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether a failure may mend itself.
    pub may_pass: bool,
    /// The time it took.
    pub milliseconds: u64,
}

impl Outcome {
    pub(super) fn new(name: &'static str, finding: Finding, took: Duration) -> Self {
        // What servers and programs say may have several lines.
        let one_line = |text: String| text.replace(|c: char| c.is_control(), " ");
        Self {
            name,
            verdict: finding.verdict,
            detail: one_line(finding.detail),
            hint: finding.hint.map(one_line),
            may_pass: finding.may_pass,
            milliseconds: took.as_millis() as u64,
        }
    }
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Every check, in the order of [`super::CHECKS`].
    #[serde(rename = "checks")]
    pub outcomes: Vec<Outcome>,
}

/// Checks failed: the machine does not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Refusal {
    /// The checks that failed; at least one.
    pub failed: Vec<Outcome>,
}

impl Refusal {
    fn text(&self) -> String {
        let failed: Vec<String> = self
            .failed
            .iter()
            .map(|it| format!("{}: {}", it.name, it.detail))
            .collect();
        let number = match failed.len() {
            1 => "a check".to_owned(),
            number => format!("{number} checks"),
        };
        format!("{number} before joining failed: {}", failed.join("; "))
    }

    /// 6 when all failures may mend themselves, else 4.
    pub fn exit_code(&self) -> u8 {
        if self.failed.iter().all(|it| it.may_pass) {
            6
        } else {
            4
        }
    }

    /// What to do about the first that has to be mended, and how to go on without.
    pub fn hint(&self) -> String {
        let mended = self.failed.iter().find(|it| !it.may_pass);
        let Some(first) = mended.or(self.failed.first()) else {
            return String::new();
        };
        let hint = first.hint.as_deref().unwrap_or("see its description");
        format!("{hint}; --skip {} goes on without the check", first.name)
    }
}

impl Report {
    /// The report with those of a later moment added.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.outcomes.extend(later.outcomes);
        self
    }

    /// Whether nothing stops the join.
    ///
    /// # Errors
    /// When a check failed.
    pub fn verdict(&self) -> Result<(), Refusal> {
        let failed = self.outcomes.iter();
        let failed: Vec<Outcome> = failed
            .filter(|it| it.verdict == Verdict::Failed)
            .cloned()
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Refusal { failed })
        }
    }

    /// What is worth a line in the log: warnings, and what could not be found out.
    pub fn remarks(&self) -> Vec<String> {
        let noted = self
            .outcomes
            .iter()
            .filter(|it| matches!(it.verdict, Verdict::Warning | Verdict::CouldNotRun));
        noted
            .map(|it| {
                let mut text = format!("{}: {}: {}", it.name, it.verdict.word(), it.detail);
                if let Some(hint) = &it.hint {
                    text.push_str("; hint: ");
                    text.push_str(hint);
                }
                text
            })
            .collect()
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let widest = |length: fn(&Outcome) -> usize| {
            let lengths = self.outcomes.iter().map(length);
            lengths.max().unwrap_or_default()
        };
        let names = widest(|it| it.name.len());
        let words = widest(|it| it.verdict.word().len());
        let mut table = String::new();
        for it in &self.outcomes {
            let word = it.verdict.word();
            let line = format!("{word:words$}  {:names$}  {}", it.name, it.detail);
            table.push_str(line.trim_end());
            table.push('\n');
            if let Some(hint) = &it.hint {
                table.push_str(&format!("{:words$}  {:names$}  hint: {hint}\n", "", ""));
            }
        }
        table
    }

    /// One JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "valid": self.verdict().is_ok(), "checks": self.outcomes })
    }
}
