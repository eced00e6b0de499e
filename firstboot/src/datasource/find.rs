//! The search itself.

use std::io;
use std::path::Path;

use super::volume::Volume;
use super::{
    BlockDevice, Document, FindError, Found, MAXIMUM_FILE, Machine, Options, Source, Tried,
};
use crate::node_config::{DecodeError, decode};

const FILE: &str = "/etc/nodekiln/nodeconfig.yaml";
const FOLDER: &str = "/etc/nodekiln/nodeconfig.d";
const CLOUD_INIT: &str = "/var/lib/cloud/instance/user-data.txt";
const PARAMETER: &str = "nodekiln.config=";
/// Most files of the folder that are read.
const MAXIMUM_DOCUMENTS: usize = 256;

/// What one source gives.
enum Answer {
    Config {
        origin: String,
        documents: Vec<Document>,
    },
    Nothing(String),
    Unusable {
        problem: String,
        hint: String,
    },
}

impl Answer {
    fn unusable(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unusable {
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

/// Asks the sources in their order. With a named file no other source is asked.
///
/// # Errors
/// When no source holds a NodeConfig, or the first that should cannot be used.
pub fn find(options: &Options, machine: &dyn Machine) -> Result<Found, FindError> {
    let mut tried = Vec::new();
    let named = named_file(options, machine, &mut tried);
    if let Some(path) = named {
        let answer = file(&path, machine, true);
        return first(vec![(Source::NamedFile, answer)].into_iter(), tried);
    }
    // The volumes are looked at once, for both kinds, and only when it comes to that.
    let mut volumes = None;
    let answers = [
        Source::File,
        Source::Folder,
        Source::CloudInit,
        Source::NoCloud,
        Source::ConfigDrive,
    ]
    .into_iter()
    .map(|source| {
        let answer = match source {
            Source::NamedFile | Source::File => file(FILE, machine, false),
            Source::Folder => folder(machine),
            Source::CloudInit => cloud_init(machine),
            Source::NoCloud | Source::ConfigDrive => {
                let seeds = volumes.get_or_insert_with(|| seeds(machine));
                seed(source, seeds)
            }
        };
        (source, answer)
    });
    first(answers, tried)
}

/// The path that `--config` or the kernel command line names.
fn named_file(options: &Options, machine: &dyn Machine, tried: &mut Vec<Tried>) -> Option<String> {
    if let Some(path) = &options.config {
        return Some(path.to_string_lossy().into_owned());
    }
    let outcome = match machine.kernel_command_line() {
        Ok(line) => match kernel_parameter(&line) {
            Some(path) => return Some(path),
            None => format!("neither --config nor {PARAMETER} names one"),
        },
        Err(error) => format!("the kernel command line cannot be read: {error}"),
    };
    tried.push(Tried {
        source: Source::NamedFile,
        outcome,
    });
    None
}

/// The last value of our parameter, as the kernel takes the last too; quotation
/// marks as the kernel allows them. All after ` -- ` is for init.
fn kernel_parameter(line: &str) -> Option<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.trim_end_matches('\n').chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => words.push(String::new()),
            other => words.last_mut()?.push(other),
        }
    }
    words
        .iter()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.strip_prefix(PARAMETER))
        .filter(|value| !value.is_empty())
        .last()
        .map(str::to_owned)
}

/// Takes the first source that gives something, and compares the others with it.
fn first(
    answers: impl Iterator<Item = (Source, Answer)>,
    mut tried: Vec<Tried>,
) -> Result<Found, FindError> {
    let mut found: Option<Found> = None;
    for (source, answer) in answers {
        let Some(winner) = &mut found else {
            match answer {
                Answer::Config { origin, documents } => {
                    found = Some(Found {
                        source,
                        origin,
                        documents,
                        ignored: Vec::new(),
                        tried: std::mem::take(&mut tried),
                    });
                }
                Answer::Nothing(outcome) => tried.push(Tried { source, outcome }),
                Answer::Unusable { problem, hint } => {
                    return Err(FindError::Refused {
                        source_kind: source,
                        problem,
                        hint,
                    });
                }
            }
            continue;
        };
        let outcome = match answer {
            Answer::Nothing(_) => continue,
            Answer::Config { origin, documents } => {
                if is_same(&winner.documents, &documents) {
                    continue;
                }
                format!("another NodeConfig lies there and is not used: {origin}")
            }
            Answer::Unusable { problem, .. } => problem,
        };
        winner.ignored.push(Tried { source, outcome });
    }
    found.ok_or(FindError::NotFound { tried })
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

/// Takes user data as an answer, if there is a NodeConfig in it.
fn user_data(origin: String, bytes: Vec<u8>) -> Answer {
    match decode(&bytes) {
        Ok(_) => {
            let documents = vec![Document {
                origin: origin.clone(),
                bytes,
            }];
            Answer::Config { origin, documents }
        }
        Err(DecodeError::NoNodeConfig(seen)) => {
            Answer::Nothing(format!("{origin}: no NodeConfig in it: {seen}"))
        }
        Err(error) => Answer::unusable(format!("{origin}: {error}"), "mend or remove it"),
    }
}

fn unreadable(origin: &str, error: &io::Error) -> Answer {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Answer::unusable(
            format!("{origin} is larger than 16 MiB"),
            "a NodeConfig is some kilobytes; move the rest elsewhere",
        );
    }
    Answer::unusable(
        format!("{origin} cannot be read: {error}"),
        "mend or remove it",
    )
}

/// A file that is for nothing but a NodeConfig: what it holds is one, or wrong.
fn file(path: &str, machine: &dyn Machine, must_exist: bool) -> Answer {
    match machine.read_file(Path::new(path), MAXIMUM_FILE) {
        Ok(content) => {
            let documents = vec![Document {
                origin: path.to_owned(),
                bytes: content.bytes,
            }];
            Answer::Config {
                origin: path.to_owned(),
                documents,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if must_exist {
                let hint = "name a file that exists, or none";
                Answer::unusable(format!("{path} does not exist"), hint)
            } else {
                Answer::Nothing(format!("{path} does not exist"))
            }
        }
        Err(error) => unreadable(path, &error),
    }
}

fn folder(machine: &dyn Machine) -> Answer {
    let names = match machine.list_folder(Path::new(FOLDER)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Answer::Nothing(format!("{FOLDER} does not exist"));
        }
        Err(error) => return unreadable(FOLDER, &error),
    };
    let is_config = |name: &String| {
        let extension = Path::new(name)
            .extension()
            .and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
    };
    let names: Vec<String> = names.into_iter().filter(is_config).collect();
    if names.is_empty() {
        return Answer::Nothing(format!("{FOLDER} holds no file *.yaml, *.yml or *.json"));
    }
    if names.len() > MAXIMUM_DOCUMENTS {
        let problem = format!("{FOLDER} holds more than {MAXIMUM_DOCUMENTS} files");
        return Answer::unusable(problem, "merge some of them");
    }
    let mut documents = Vec::new();
    let mut left = MAXIMUM_FILE;
    for name in names {
        let path = format!("{FOLDER}/{name}");
        match machine.read_file(Path::new(&path), left) {
            Ok(content) => {
                left -= content.bytes.len() as u64;
                documents.push(Document {
                    origin: path,
                    bytes: content.bytes,
                });
            }
            Err(error) => return unreadable(&path, &error),
        }
    }
    Answer::Config {
        origin: FOLDER.to_owned(),
        documents,
    }
}

fn cloud_init(machine: &dyn Machine) -> Answer {
    match machine.read_file(Path::new(CLOUD_INIT), MAXIMUM_FILE) {
        Ok(content) if !content.is_trusted => Answer::unusable(
            format!("{CLOUD_INIT} can be written by others than root"),
            "cloud-init writes it as root with mode 0600; find out who changed it",
        ),
        Ok(content) => user_data(CLOUD_INIT.to_owned(), content.bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Answer::Nothing(format!("{CLOUD_INIT} does not exist"))
        }
        Err(error) => unreadable(CLOUD_INIT, &error),
    }
}

/// A volume with a label that is looked for.
struct Seed {
    source: Source,
    device: BlockDevice,
    /// For people: device, file system, label.
    place: String,
    data: io::Result<Option<Vec<u8>>>,
}

/// The volumes found, and what hindered the search.
type Seeds = (Vec<Seed>, Vec<String>);

/// The path of the user data in a volume of a label.
fn user_data_path(label: &str) -> Option<(Source, &'static str)> {
    match label.to_ascii_lowercase().as_str() {
        "cidata" => Some((Source::NoCloud, "user-data")),
        "config-2" => Some((Source::ConfigDrive, "openstack/latest/user_data")),
        _ => None,
    }
}

fn seeds(machine: &dyn Machine) -> Seeds {
    let mut seeds = Vec::new();
    let devices = match machine.block_devices() {
        Ok(devices) => devices,
        Err(error) => {
            return (
                seeds,
                vec![format!("block devices cannot be listed: {error}")],
            );
        }
    };
    let mut hindered = Vec::new();
    for device in devices {
        let name = format!("/dev/{}", device.name);
        let source = match machine.open_device(&device.name) {
            Ok(source) => source,
            Err(error) => {
                hindered.push(format!("{name} cannot be opened: {error}"));
                continue;
            }
        };
        let source = &*source;
        let volume = match Volume::open(&source) {
            Ok(Some(volume)) => volume,
            Ok(None) => continue,
            Err(error) => {
                hindered.push(format!("{name} cannot be read: {error}"));
                continue;
            }
        };
        if let Some((source, path)) = user_data_path(volume.label()) {
            let place = format!("{name} ({}, {})", volume.file_system(), volume.label());
            let data = volume.read(path, MAXIMUM_FILE);
            seeds.push(Seed {
                source,
                device,
                place,
                data,
            });
        }
    }
    // A bootable ISO shows once as the whole device and again as its partition.
    let whole: Vec<String> = seeds
        .iter()
        .filter(|seed| !seed.device.is_partition)
        .map(|seed| seed.device.name.clone())
        .collect();
    seeds.retain(|seed| {
        !seed.device.is_partition || !whole.iter().any(|name| is_part_of(&seed.device.name, name))
    });
    (seeds, hindered)
}

/// Whether a partition's name is that of a device and a number: `sda1`, `nvme0n1p1`.
fn is_part_of(partition: &str, device: &str) -> bool {
    partition.strip_prefix(device).is_some_and(|rest| {
        let number = rest.strip_prefix('p').unwrap_or(rest);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn seed(source: Source, (seeds, hindered): &Seeds) -> Answer {
    let (label, path) = match source {
        Source::ConfigDrive => ("config-2", "openstack/latest/user_data"),
        _ => ("cidata", "user-data"),
    };
    let mut candidates = seeds.iter().filter(|seed| seed.source == source);
    let Some(only) = candidates.next() else {
        let mut outcome = format!("no volume is labelled {label}");
        for hindrance in hindered {
            outcome.push_str("; ");
            outcome.push_str(hindrance);
        }
        return Answer::Nothing(outcome);
    };
    if candidates.next().is_some() {
        let places: Vec<&str> = seeds
            .iter()
            .filter(|seed| seed.source == source)
            .map(|seed| seed.place.as_str())
            .collect();
        return Answer::unusable(
            format!(
                "several volumes are labelled {label}: {}",
                places.join(", ")
            ),
            "detach all but one",
        );
    }
    let origin = format!("{path} on {}", only.place);
    match &only.data {
        Ok(Some(bytes)) => user_data(origin, bytes.clone()),
        Ok(None) => Answer::Nothing(format!("{} has no file {path}", only.place)),
        Err(error) => unreadable(&origin, error),
    }
}

#[cfg(test)]
mod tests;
