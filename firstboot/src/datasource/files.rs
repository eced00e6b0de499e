//! Files that are for nothing but a NodeConfig.

use std::io;
use std::path::Path;

use super::answer::Answer;
use super::{Document, MAXIMUM_FILE, Machine};

pub(super) const FILE: &str = "/etc/nodekiln/nodeconfig.yaml";
pub(super) const FOLDER: &str = "/etc/nodekiln/nodeconfig.d";
/// Most files of the folder that are read.
const MAXIMUM_DOCUMENTS: usize = 256;

/// A file that is for nothing but a NodeConfig: what it holds is one, or wrong.
pub(super) fn file(path: &str, machine: &dyn Machine, must_exist: bool) -> Answer {
    match machine.read_file(Path::new(path), MAXIMUM_FILE) {
        Ok(content) => Answer::only(path.to_owned(), content.bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if must_exist {
                let hint = "name a file that exists, or none";
                Answer::unusable(format!("{path} does not exist"), hint)
            } else {
                Answer::Nothing(format!("{path} does not exist"))
            }
        }
        Err(error) => Answer::unreadable(path, &error),
    }
}

/// The files of the folder, in the order of their names.
pub(super) fn folder(machine: &dyn Machine) -> Answer {
    let names = match machine.list_folder(Path::new(FOLDER)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Answer::Nothing(format!("{FOLDER} does not exist"));
        }
        Err(error) => return Answer::unreadable(FOLDER, &error),
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
            Err(error) => return Answer::unreadable(&path, &error),
        }
    }
    Answer::Config {
        origin: FOLDER.to_owned(),
        documents,
    }
}
