//! What cloud-init keeps of the instance's user data.
//!
//! It is written by cloud-init's network stage, after which the unit is ordered;
//! nothing is waited for here. The file with the user data as it was delivered goes
//! first. The other is this boot's instance data: cloud-init leaves the user data
//! out of it, but tools and later stages put it there under the name that
//! `cloud-init query userdata` has for it.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::answer::Answer;
use super::{MAXIMUM_FILE, Machine};
use crate::node_config::base64_lenient;

pub(super) const USER_DATA: &str = "/var/lib/cloud/instance/user-data.txt";
pub(super) const INSTANCE_DATA: &str = "/run/cloud-init/instance-data-sensitive.json";
/// How cloud-init marks a value that is no text.
const BINARY: &str = "ci-b64:";

pub(super) fn ask(machine: &dyn Machine) -> Answer {
    match read(USER_DATA, machine) {
        Ok(Some(bytes)) => Answer::user_data(USER_DATA.to_owned(), bytes),
        Ok(None) => instance_data(machine),
        Err(answer) => answer,
    }
}

fn instance_data(machine: &dyn Machine) -> Answer {
    let bytes = match read(INSTANCE_DATA, machine) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return Answer::Nothing(format!("neither {USER_DATA} nor {INSTANCE_DATA} exists"));
        }
        Err(answer) => return answer,
    };
    match user_data_of(&bytes) {
        Ok(Some(user_data)) => Answer::user_data(format!("userdata in {INSTANCE_DATA}"), user_data),
        Ok(None) => Answer::Nothing(format!(
            "{USER_DATA} does not exist, and {INSTANCE_DATA} has no userdata"
        )),
        Err(problem) => Answer::unusable(
            format!("{INSTANCE_DATA}: {problem}"),
            "cloud-init writes it on each boot; find out who changed it",
        ),
    }
}

/// Reads a file that only root may have written.
fn read(path: &str, machine: &dyn Machine) -> Result<Option<Vec<u8>>, Answer> {
    match machine.read_file(Path::new(path), MAXIMUM_FILE) {
        Ok(content) if !content.is_trusted => Err(Answer::unusable(
            format!("{path} can be written by others than root"),
            "cloud-init writes it as root with mode 0600; find out who changed it",
        )),
        Ok(content) => Ok(Some(content.bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Answer::unreadable(path, &error)),
    }
}

/// The user data in cloud-init's instance data: `userdata` at the top or of the
/// data source, a text, or base64 that is marked as such. `None` when there is none.
///
/// # Errors
/// A text that says what is wrong.
pub fn user_data_of(instance_data: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let document: Value = serde_json::from_slice(instance_data).map_err(|error| {
        // The message of the error may quote what stands there.
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column}: it is no JSON")
    })?;
    for (pointer, key) in [("/userdata", "userdata"), ("/ds/userdata", "ds/userdata")] {
        let text = match document.pointer(pointer) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(Value::String(text)) => text,
            Some(_) => return Err(format!("{key} is no text")),
        };
        let marked = text.strip_prefix(BINARY);
        let is_listed = document
            .get("base64_encoded_keys")
            .and_then(Value::as_array)
            .is_some_and(|keys| keys.iter().any(|listed| listed == key));
        if marked.is_none() && !is_listed {
            return Ok(Some(text.clone().into_bytes()));
        }
        return base64_lenient(marked.unwrap_or(text).as_bytes())
            .map(Some)
            .ok_or_else(|| format!("{key} is marked as base64 and is none"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
