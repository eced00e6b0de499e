//! The search itself.

use std::cell::OnceCell;
use std::io;
use std::path::Path;

use super::answer::Answer;
use super::seed_line::Place;
use super::volumes::{self, Seeds};
use super::{
    Document, FindError, Found, Machine, Options, Outside, Report, Source, State, Survey, Tried,
    cloud_init, ec2, files, guestinfo, kernel_command_line, no_cloud, smbios,
};
use crate::node_config::decode;
use crate::system::Variables;

const CONFIG_PARAMETER: &str = "nodekiln.config";
const SOURCE_PARAMETER: &str = "nodekiln.datasource";
/// Names the only source of an image.
const SOURCE_FILE: &str = "/etc/nodekiln/datasource";
/// Longest such file, in bytes.
const LONGEST_SOURCE_FILE: u64 = 4096;

/// Asks the sources in their order. Where a file or a source is named, no other is
/// asked.
///
/// # Errors
/// When no source holds a NodeConfig, or the first that should cannot be used.
pub fn find(
    options: &Options,
    machine: &dyn Machine,
    outside: &dyn Outside,
) -> Result<Found, FindError> {
    survey(options, machine, outside).outcome
}

/// Asks the sources as [`find`] does, and says what each gave.
pub fn survey(options: &Options, machine: &dyn Machine, outside: &dyn Outside) -> Survey {
    let search = Search {
        machine,
        outside,
        variables: &options.variables,
        seeds: OnceCell::new(),
    };
    match choose(options, machine) {
        Ok(Choice::File(path)) => {
            let mut tally = Tally::default();
            tally.take(Source::NamedFile, files::file(&path, machine, true));
            tally.end()
        }
        Ok(Choice::Source(source)) => {
            let mut tally = Tally::default();
            tally.take(source, search.ask(source, true));
            tally.end()
        }
        Ok(Choice::All(why_no_file)) => search.all(why_no_file),
        Err(error) => Survey {
            reports: Vec::new(),
            outcome: Err(error),
        },
    }
}

/// Which sources are asked.
enum Choice {
    File(String),
    Source(Source),
    /// All; and why no file is named.
    All(String),
}

/// What the options, else the kernel command line, else the image names.
fn choose(options: &Options, machine: &dyn Machine) -> Result<Choice, FindError> {
    if let Some(path) = &options.config {
        return Ok(Choice::File(path.to_string_lossy().into_owned()));
    }
    if let Some(source) = options.datasource {
        return Ok(Choice::Source(source));
    }
    let why_no_file = match machine.kernel_command_line() {
        Ok(line) => {
            let parameter = |name| kernel_command_line::parameter(&line, name);
            if let Some(path) = parameter(CONFIG_PARAMETER) {
                return Ok(Choice::File(path));
            }
            if let Some(name) = parameter(SOURCE_PARAMETER) {
                return named(&name, "the kernel command line").map(Choice::Source);
            }
            format!("neither --config nor {CONFIG_PARAMETER}= names one")
        }
        Err(error) => format!("the kernel command line cannot be read: {error}"),
    };
    Ok(match named_by_image(machine)? {
        Some(source) => Choice::Source(source),
        None => Choice::All(why_no_file),
    })
}

fn named(name: &str, by: &str) -> Result<Source, FindError> {
    Source::named(name).ok_or_else(|| FindError::UnknownSource {
        name: name.escape_debug().take(40).collect(),
        by: by.to_owned(),
    })
}

/// The source that the image names: the first line that is no remark.
fn named_by_image(machine: &dyn Machine) -> Result<Option<Source>, FindError> {
    let content = match machine.read_file(Path::new(SOURCE_FILE), LONGEST_SOURCE_FILE) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(FindError::Pin {
                problem: format!("{SOURCE_FILE} cannot be read: {error}"),
            });
        }
    };
    let text = String::from_utf8_lossy(&content.bytes);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|name| named(name, SOURCE_FILE))
        .transpose()
}

/// A search while it goes on.
struct Search<'a> {
    machine: &'a dyn Machine,
    outside: &'a dyn Outside,
    variables: &'a Variables,
    /// The volumes are looked at once, for both kinds, and only when it comes to that.
    seeds: OnceCell<Seeds>,
}

impl Search<'_> {
    fn all(&self, why_no_file: String) -> Survey {
        let mut tally = Tally::default();
        tally.take(Source::NamedFile, Answer::Nothing(why_no_file));
        for source in Source::NAMEABLE {
            if tally.found.is_some() && self.is_slow(source) {
                tally.skip(source, "a source before it holds a NodeConfig");
                continue;
            }
            if !tally.take(source, self.ask(source, false)) {
                break;
            }
        }
        tally.end()
    }

    /// Whether asking it takes the network or a program: too much for a comparison.
    fn is_slow(&self, source: Source) -> bool {
        match source {
            Source::VMware | Source::Ec2 => true,
            Source::NoCloud => matches!(
                no_cloud::place(self.machine),
                Ok(no_cloud::Named {
                    place: Place::Url(_),
                    ..
                })
            ),
            _ => false,
        }
    }

    /// Asks one source. Those of a cloud are asked only on a machine of that cloud,
    /// unless they are named.
    fn ask(&self, source: Source, is_named: bool) -> Answer {
        let machine = self.machine;
        match source {
            Source::NamedFile | Source::File => files::file(files::FILE, machine, false),
            Source::Folder => files::folder(machine),
            Source::CloudInit => cloud_init::ask(machine),
            Source::NoCloud => match no_cloud::place(machine) {
                Ok(no_cloud::Named { place, by }) => match place {
                    Place::Volume => self.volumes(source),
                    Place::File(path) => no_cloud::file(&path, by, machine),
                    Place::Url(url) => no_cloud::url(&url, by, self.outside),
                },
                Err(answer) => answer,
            },
            Source::ConfigDrive => self.volumes(source),
            Source::VMware if is_named || smbios::is_vmware(machine) => {
                guestinfo::ask(self.outside)
            }
            Source::VMware => Answer::Nothing("this is no virtual machine of VMware's".into()),
            Source::Ec2 if is_named || smbios::is_ec2(machine) => {
                ec2::ask(self.outside, self.variables)
            }
            Source::Ec2 => Answer::Nothing("this is no instance of EC2".into()),
        }
    }

    fn volumes(&self, source: Source) -> Answer {
        self.seeds
            .get_or_init(|| volumes::look(self.machine, self.outside))
            .answer(source)
    }
}

/// What the sources gave so far.
#[derive(Default)]
struct Tally {
    reports: Vec<Report>,
    found: Option<Found>,
    refused: Option<FindError>,
}

impl Tally {
    /// Takes a source's answer: the first that holds something wins, the others are
    /// compared with it. False when nobody else is to be asked.
    fn take(&mut self, source: Source, answer: Answer) -> bool {
        let (state, outcome) = match (answer, &self.found) {
            (Answer::Nothing(outcome), _) => (State::Nothing, outcome),
            (Answer::Config { origin, documents }, None) => {
                self.found = Some(Found {
                    source,
                    origin: origin.clone(),
                    documents,
                    ignored: Vec::new(),
                    tried: Vec::new(),
                });
                (State::Used, origin)
            }
            (Answer::Config { origin, documents }, Some(winner)) => {
                if is_same(&winner.documents, &documents) {
                    (State::Same, origin)
                } else {
                    let text = "another NodeConfig lies there and is not used";
                    (State::Ignored, format!("{text}: {origin}"))
                }
            }
            (Answer::Unusable { problem, .. }, Some(_)) => (State::Ignored, problem),
            (
                Answer::Unusable {
                    problem,
                    hint,
                    may_pass,
                },
                None,
            ) => {
                self.refused = Some(FindError::Refused {
                    source_kind: source,
                    problem: problem.clone(),
                    hint,
                    may_pass,
                });
                (State::Unusable, problem)
            }
        };
        self.reports.push(Report {
            source,
            state,
            outcome,
        });
        self.refused.is_none()
    }

    fn skip(&mut self, source: Source, why: &str) {
        self.reports.push(Report {
            source,
            state: State::NotAsked,
            outcome: why.to_owned(),
        });
    }

    fn end(self) -> Survey {
        let tried = |state: State| -> Vec<Tried> {
            let reports = self.reports.iter().filter(|report| report.state == state);
            reports
                .map(|report| Tried {
                    source: report.source,
                    outcome: report.outcome.clone(),
                })
                .collect()
        };
        let outcome = match (self.refused, self.found) {
            (Some(error), _) => Err(error),
            (None, Some(found)) => Ok(Found {
                tried: tried(State::Nothing)
                    .into_iter()
                    .filter(|it| it.source < found.source)
                    .collect(),
                ignored: tried(State::Ignored),
                ..found
            }),
            (None, None) => Err(FindError::NotFound {
                tried: tried(State::Nothing),
            }),
        };
        Survey {
            reports: self.reports,
            outcome,
        }
    }
}

/// Whether two sources hold the same NodeConfigs, however they are wrapped.
fn is_same(left: &[Document], right: &[Document]) -> bool {
    let texts = |documents: &[Document]| -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for document in documents {
            let decoded = decode(&document.bytes).ok()?;
            texts.extend(
                decoded
                    .parts
                    .into_iter()
                    .map(|part| part.text.trim().to_owned()),
            );
        }
        Some(texts)
    };
    texts(left).is_some_and(|left| texts(right) == Some(left))
}

#[cfg(test)]
mod choice_tests;
#[cfg(test)]
mod tests;
