//! Names of checks, and which are not to be run.

use std::collections::BTreeSet;

use super::CHECKS;
use crate::system::{self, Files};

/// Holds names of checks that an image does without, one a line; `#` begins a
/// remark.
pub const SKIP_FILE: &str = "/etc/nodekiln/skip-validations";

/// Longest [`SKIP_FILE`] that is read, in bytes.
const SKIP_FILE_LIMIT: usize = 64 << 10;

/// Names by which nodeadm skips a phase that is no check here.
const PHASES_OF_NODEADM: [&str; 3] = ["preprocess", "config", "run"];

/// No check has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no check {name:?}")]
pub struct UnknownName {
    name: String,
}

impl UnknownName {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        let names = names.join(", ");
        if PHASES_OF_NODEADM.contains(&self.name.as_str()) {
            format!("phases cannot be skipped, only checks: {names}")
        } else {
            format!("the checks are {names}")
        }
    }
}

/// The checks that are not to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skips {
    names: BTreeSet<&'static str>,
    /// What is worth saying about the names that were given.
    pub remarks: Vec<String>,
}

impl Skips {
    /// Takes names as they were given, those of nodeadm's help among them.
    ///
    /// # Errors
    /// When no check has one of the names.
    pub fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownName> {
        let mut skips = Self::default();
        for name in given {
            skips.add(name)?;
        }
        Ok(skips)
    }

    fn add(&mut self, given: &str) -> Result<(), UnknownName> {
        let check = CHECKS
            .iter()
            .find(|check| check.name == given || check.aliases.contains(&given))
            .ok_or_else(|| UnknownName {
                name: given.chars().take(80).collect(),
            })?;
        if check.name != given {
            let name = check.name;
            self.remarks
                .push(format!("the check {given} is called {name}"));
        }
        self.names.insert(check.name);
        Ok(())
    }

    /// The same with the names of [`SKIP_FILE`] added. A name there that no check
    /// has is remarked on and no more: an image must not stop a machine by a name
    /// that a later version dropped.
    pub fn with_file(mut self, files: &dyn Files) -> Result<Self, system::Error> {
        let Some(bytes) = files.read(SKIP_FILE, SKIP_FILE_LIMIT)? else {
            return Ok(self);
        };
        for line in String::from_utf8_lossy(&bytes).lines() {
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            if let Err(unknown) = self.add(name) {
                self.remarks.push(format!("{SKIP_FILE}: {unknown}"));
            }
        }
        Ok(self)
    }

    /// Whether a check is not to be run.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}
