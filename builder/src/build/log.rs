//! The build log: what a build told while it ran, with times.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use crate::error::{Context as _, Result};
use crate::output::Pending;
use crate::progress::{Progress, Step};

/// Passes progress on and keeps it.
pub struct Log<'a> {
    inner: &'a dyn Progress,
    begun: Instant,
    text: Mutex<String>,
}

impl<'a> Log<'a> {
    /// An empty log in front of `inner`.
    pub fn new(inner: &'a dyn Progress) -> Self {
        Self {
            inner,
            begun: Instant::now(),
            text: Mutex::new(String::new()),
        }
    }

    /// Writes the log to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self
            .text
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let pending = Pending::create(path)?;
        pending
            .file()
            .write_all(text.as_bytes())
            .doing(|| format!("write {}", path.display()))?;
        pending.finish().map(drop)
    }

    fn add(&self, line: std::fmt::Arguments<'_>) {
        let mut text = self
            .text
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing into a String cannot fail.
        writeln!(text, "{:9.3} {line}", self.begun.elapsed().as_secs_f64()).ok();
    }
}

impl Progress for Log<'_> {
    fn begin(&self, step: Step, what: &str, total: Option<u64>) {
        self.add(format_args!("{step:?} begins: {what}"));
        self.inner.begin(step, what, total);
    }

    fn advance(&self, step: Step, bytes: u64) {
        self.inner.advance(step, bytes);
    }

    fn end(&self, step: Step) {
        self.add(format_args!("{step:?} ends"));
        self.inner.end(step);
    }

    fn note(&self, text: &str) {
        self.add(format_args!("{text}"));
        self.inner.note(text);
    }

    fn warn(&self, text: &str) {
        self.add(format_args!("warning: {text}"));
        self.inner.warn(text);
    }

    fn stopped(&self) -> bool {
        self.inner.stopped()
    }
}
