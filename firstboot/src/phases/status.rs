//! Where the work stands, for people and programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::journal::OnDisk;
use super::{Journal, Phase};
use crate::system::{self, Files};

/// Where the work stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// Nothing was done here yet.
    Untouched,
    /// A phase was begun and did not end.
    Working {
        /// Which.
        phase: Phase,
        /// The whole journal.
        journal: Journal,
    },
    /// A phase ended badly.
    Failed {
        /// Which.
        phase: Phase,
        /// Why.
        error: String,
        /// The whole journal.
        journal: Journal,
    },
    /// The machine is a node.
    Done {
        /// The whole journal.
        journal: Journal,
    },
}

/// Reads where the work stands.
pub fn status(files: &dyn Files) -> Result<Status, system::Error> {
    // After one that cannot be read the work starts anew.
    let OnDisk::Journal(journal) = Journal::read(files)? else {
        return Ok(Status::Untouched);
    };
    let open = Phase::ALL.into_iter().find_map(|phase| {
        let Some(record) = journal.phases.get(&phase) else {
            return Some((phase, None));
        };
        record
            .finished
            .is_none()
            .then(|| (phase, record.error.clone()))
    });
    Ok(match open {
        None => Status::Done { journal },
        Some((phase, Some(error))) => Status::Failed {
            phase,
            error,
            journal,
        },
        Some((phase, None)) => Status::Working { phase, journal },
    })
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, journal) = match self {
            Self::Untouched => return formatter.write_str("nothing was done here yet\n"),
            Self::Working { phase, journal } => (format!("working on {phase}"), journal),
            Self::Failed {
                phase,
                error,
                journal,
            } => (format!("failed in {phase}: {error}"), journal),
            Self::Done { journal } => ("done".to_owned(), journal),
        };
        writeln!(formatter, "{head}\n")?;
        writeln!(
            formatter,
            "{:<18}{:<10}{:<26}{:>10}",
            "PHASE", "STATE", "STARTED", "TOOK"
        )?;
        for phase in Phase::ALL {
            let mut line = format!("{:<18}", phase.name());
            match journal.phases.get(&phase) {
                None => line.push_str("waiting"),
                Some(record) => {
                    let state = match (&record.finished, &record.error) {
                        (Some(_), _) => "done",
                        (None, Some(_)) => "failed",
                        (None, None) => "begun",
                    };
                    write!(line, "{state:<10}{:<26}", record.started)?;
                    if let Some(milliseconds) = record.milliseconds {
                        write!(line, "{:>10}", format!("{milliseconds} ms"))?;
                    }
                }
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
