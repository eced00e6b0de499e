//! The work while it goes on: what is noted, when it is tried again, what is said.

use std::collections::BTreeMap;
use std::time::Duration;

use super::journal::{Journal, Machine, Owner};
use super::{Error, Phase};
use crate::system::{Level, System};

/// How long something that fails for a passing reason is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Before the second attempt.
    pub first: Duration,
    /// Each pause is twice as long as the one before, up to this.
    pub longest: Duration,
    /// No attempt begins later than this after the first.
    pub budget: Duration,
}

/// The work while it goes on.
pub(super) struct Work<'a> {
    pub system: &'a dyn System,
    pub journal: Journal,
    /// Whether the journal on disk says the same.
    pub is_saved: bool,
}

impl Work<'_> {
    /// Does a phase and notes it. Each phase looks itself whether anything went
    /// astray; where nothing did, nothing is noted and nothing written.
    ///
    /// The end of a phase reaches the disk with the beginning of the next: cut off
    /// in between, it is done once more.
    pub fn phase<T>(
        &mut self,
        phase: Phase,
        inputs: &str,
        act: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = self.system.elapsed();
        let was_done = self.journal.is_done(phase, inputs);
        if !was_done {
            self.journal.begin(self.system, phase, inputs);
            self.is_saved = false;
            // The files phase notes itself what it is about to do; and without
            // inputs there is nothing to do.
            if phase > Phase::Identity && phase != Phase::Files && !inputs.is_empty() {
                self.save()?;
            }
        }
        let outcome = act(self);
        let is_done = self.journal.is_done(phase, inputs);
        if is_done && outcome.is_ok() {
            return outcome;
        }
        if was_done {
            // Something in it had gone astray and was done again.
            self.journal.resume(self.system, phase);
        }
        let took = self.system.elapsed().saturating_sub(started);
        self.journal.end(
            self.system,
            phase,
            took.as_millis() as u64,
            outcome.as_ref().err(),
        );
        self.is_saved = false;
        // The error matters more than that it could not be noted.
        if outcome.is_err() && self.save().is_err() {
            self.warn("the journal could not be written");
        }
        outcome
    }

    /// Does something that may fail for a passing reason until it succeeds, fails
    /// for good, or patience is at its end. Each failure is noted in the phase, so
    /// that whoever looks sees what is waited for.
    pub fn patiently<T>(
        &mut self,
        phase: Phase,
        patience: Patience,
        mut act: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = self.system.elapsed();
        let mut wait = patience.first;
        loop {
            let error = match act(self) {
                Err(error) if error.may_pass() => error,
                outcome => return outcome,
            };
            let spent = self.system.elapsed().saturating_sub(started);
            if spent + wait > patience.budget {
                return Err(error);
            }
            self.note_retry(phase, &error, wait);
            self.system.pause(wait);
            wait = (wait * 2).min(patience.longest);
        }
    }

    fn note_retry(&mut self, phase: Phase, error: &Error, wait: Duration) {
        let text = error.chain();
        let mut next = format!("{phase}: trying again in {} s: {text}", wait.as_secs());
        let mut fields = BTreeMap::new();
        fields.insert("phase", phase.name().to_owned());
        self.system.status_line(&next);
        let hint = error.hint();
        if let Some(hint) = &hint {
            fields.insert("hint", hint.clone());
        }
        self.system.log(Level::Warning, &next, &fields);
        let is_news = self.journal.retried(phase, text, hint.clone());
        self.note();
        // A person need not read the same again and again.
        if is_news {
            if let Some(hint) = hint {
                next.push_str("; hint: ");
                next.push_str(&hint);
            }
            self.system.milestone(&next);
        }
    }

    /// Waits for something that gives no sign when it happens; says whether it did
    /// within the time. While it is waited for, the journal says so.
    pub fn wait_for(
        &mut self,
        phase: Phase,
        what: &str,
        limit: Duration,
        is_there: &dyn Fn(&dyn System) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        const STEP: Duration = Duration::from_millis(500);
        if is_there(self.system)? {
            return Ok(true);
        }
        let started = self.system.elapsed();
        self.journal.waits(phase, Some(what));
        self.note();
        self.system
            .status_line(&format!("{phase}: waiting for {what}"));
        let outcome = loop {
            if is_there(self.system)? {
                break true;
            }
            if self.system.elapsed().saturating_sub(started) > limit {
                break false;
            }
            self.system.pause(STEP);
        };
        self.journal.waits(phase, None);
        Ok(outcome)
    }

    /// Writes the journal for those who look; that it cannot be written stops
    /// nothing here.
    fn note(&mut self) {
        self.is_saved = false;
        if self.save().is_err() {
            self.warn("the journal could not be written");
        }
    }

    pub fn save(&mut self) -> Result<(), Error> {
        self.journal.save(self.system)?;
        self.is_saved = true;
        Ok(())
    }

    pub fn was_done_by(&self, machine: &Machine) -> bool {
        self.journal.owner(machine) == Owner::This && self.journal.is_complete()
    }

    /// Notes that phases have to be done again. Not yet on disk.
    pub fn reopen(&mut self, phase: Phase) {
        if let Some(record) = self.journal.phases.get_mut(&phase) {
            record.finished = None;
        }
    }

    pub fn info(&self, message: &str) {
        self.system.log(Level::Info, message, &BTreeMap::new());
    }

    pub fn warn(&self, message: &str) {
        self.system.log(Level::Warning, message, &BTreeMap::new());
    }
}
