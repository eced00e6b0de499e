//! Where the work stands, for people and programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::journal::OnDisk;
use super::{Journal, Phase, Record};
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
    let is_complete = journal.is_complete();
    let open = Phase::ALL.into_iter().find_map(|phase| {
        let Some(record) = journal.phases.get(&phase) else {
            // An earlier version, which did not know it, may have done everything.
            return (!is_complete).then_some((phase, None));
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
            Self::Working { phase, journal } => {
                let record = journal.phases.get(phase);
                let what = match record.and_then(|record| record.waits_for.as_ref()) {
                    Some(what) => format!(": waiting for {what}"),
                    None => String::new(),
                };
                (format!("working on {phase}{what}"), journal)
            }
            Self::Failed {
                phase,
                error,
                journal,
            } => {
                let record = journal.phases.get(phase);
                let hint = hint(record.and_then(|record| record.hint.as_ref()));
                (format!("failed in {phase}: {error}{hint}"), journal)
            }
            Self::Done { journal } => ("done".to_owned(), journal),
        };
        writeln!(formatter, "{head}\n")?;
        writeln!(
            formatter,
            "{:<18}{:<10}{:<26}{:>10}{:>9}",
            "PHASE", "STATE", "STARTED", "TOOK", "RETRIES"
        )?;
        for phase in Phase::ALL {
            writeln!(formatter, "{}", row(phase, journal.phases.get(&phase))?)?;
        }
        for (phase, record) in &journal.phases {
            if let Some(failure) = &record.last_transient {
                // Beside an error the hint is that of the error.
                let hint = hint(record.hint.as_ref().filter(|_| record.error.is_none()));
                writeln!(
                    formatter,
                    "\n{phase} was tried again after: {failure}{hint}"
                )?;
            }
        }
        Ok(())
    }
}

/// A hint as the console has it, if there is one.
fn hint(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| format!("; hint: {text}"))
}

/// One line of the table.
fn row(phase: Phase, record: Option<&Record>) -> Result<String, fmt::Error> {
    let mut line = format!("{:<18}", phase.name());
    let Some(record) = record else {
        line.push_str("waiting");
        return Ok(line);
    };
    let state = match (&record.finished, &record.error) {
        (Some(_), _) => "done",
        (None, Some(_)) => "failed",
        (None, None) => "begun",
    };
    let took = record.milliseconds.map(|time| format!("{time} ms"));
    let retries = match record.retries {
        0 => String::new(),
        retries => retries.to_string(),
    };
    write!(
        line,
        "{state:<10}{:<26}{:>10}{retries:>9}",
        record.started,
        took.unwrap_or_default()
    )?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
