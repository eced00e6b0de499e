//! What a check found.

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The node will join, but something is worth knowing.
    Warning,
    /// The node would not join or not work.
    Failed,
    /// Not looked at: it was asked for, or it does not apply to this node.
    Skipped,
    /// It could not be found out. Does not stop the join.
    CouldNotRun,
}

impl Verdict {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::CouldNotRun => "could not run",
        }
    }
}

/// What a check found. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, on one line.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether a failure may mend itself.
    pub may_pass: bool,
}

impl Finding {
    fn new(verdict: Verdict, detail: String, hint: Option<String>) -> Self {
        Self {
            verdict,
            detail,
            hint,
            may_pass: false,
        }
    }

    /// As it should be.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, detail.into(), None)
    }

    /// Worth knowing.
    pub fn warning(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, detail.into(), Some(hint.into()))
    }

    /// Stops the join until somebody mends it.
    pub fn failed(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, detail.into(), Some(hint.into()))
    }

    /// Stops the join now, but may be gone at the next try.
    pub fn failed_for_now(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            may_pass: true,
            ..Self::failed(detail, hint)
        }
    }

    /// Does not apply.
    pub fn skipped(detail: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, detail.into(), None)
    }

    /// It could not be found out.
    pub fn could_not_run(detail: impl Into<String>) -> Self {
        Self::new(Verdict::CouldNotRun, detail.into(), None)
    }
}
