//! What a VMware hypervisor tells its guest: `guestinfo.userdata` and
//! `guestinfo.userdata.encoding`, by the program that open-vm-tools brings
//! (<https://docs.cloud-init.io/en/latest/reference/datasources/vmware.html>).

use std::io;
use std::time::Duration;

use super::answer::Answer;
use super::{MAXIMUM_FILE, Outside};
use crate::node_config::base64_lenient;
use crate::system::{Error, Task};

const USER_DATA: &str = "guestinfo.userdata";
const ENCODING: &str = "guestinfo.userdata.encoding";
/// One question has this long: two programs are asked two things within
/// [`super::source::GUESTINFO`].
const QUESTION: Duration = Duration::from_secs(5);
/// What cloud-init writes over a value that it has read.
const REDACTED: &str = "---";
/// What both programs say of a key without a value.
const NO_VALUE: &str = "no value found";

/// A program that asks the hypervisor.
#[derive(Clone, Copy)]
struct Tool {
    program: &'static str,
    before: &'static [&'static str],
}

const TOOLS: [Tool; 2] = [
    Tool {
        program: "vmware-rpctool",
        before: &[],
    },
    Tool {
        program: "vmtoolsd",
        before: &["--cmd"],
    },
];

/// Why a program gave no value.
enum Failure {
    Absent,
    /// Its own words, or what went wrong with it.
    Broken(String),
    TooLarge,
}

pub(super) fn ask(outside: &dyn Outside) -> Answer {
    let mut problems = Vec::new();
    for tool in TOOLS {
        let value = match get(tool, USER_DATA, outside) {
            Ok(Some(value)) => value,
            Ok(None) => return Answer::Nothing(format!("{USER_DATA} has no value")),
            Err(Failure::Absent) => continue,
            Err(Failure::TooLarge) => return Answer::too_large(USER_DATA),
            Err(Failure::Broken(problem)) => {
                problems.push(problem);
                continue;
            }
        };
        return match get(tool, ENCODING, outside) {
            Ok(encoding) => match decoded(value, encoding.as_deref()) {
                Ok(bytes) => Answer::user_data(USER_DATA.to_owned(), bytes),
                Err(problem) => Answer::unusable(
                    problem,
                    "encodings are base64 (b64), gzip+base64 (gz+b64), or none",
                ),
            },
            Err(Failure::Broken(problem)) => Answer::not_now(problem, HINT),
            Err(Failure::TooLarge) => Answer::too_large(ENCODING),
            Err(Failure::Absent) => Answer::not_now(format!("{} is gone", tool.program), HINT),
        };
    }
    if problems.is_empty() {
        return Answer::Nothing("neither vmware-rpctool nor vmtoolsd is installed".into());
    }
    Answer::not_now(problems.join("; "), HINT)
}

const HINT: &str = "look whether open-vm-tools works on this machine; it is tried again";

/// The value of a key; `None` when it has none.
fn get(tool: Tool, key: &str, outside: &dyn Outside) -> Result<Option<String>, Failure> {
    let question = format!("info-get {key}");
    let arguments = [tool.before, &[question.as_str()]].concat();
    let most = MAXIMUM_FILE as usize;
    let task = Task::new(tool.program, &arguments, QUESTION).keeping(most + 1);
    let ended = match outside.run(&task) {
        Ok(ended) => ended,
        Err(Error::Program { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::Absent);
        }
        Err(error) => return Err(Failure::Broken(chain(&error))),
    };
    if ended.output.len() > most {
        return Err(Failure::TooLarge);
    }
    if !ended.success {
        let said = format!("{}{}", ended.errors, ended.output).to_ascii_lowercase();
        if said.contains(NO_VALUE) {
            return Ok(None);
        }
        return Err(Failure::Broken(format!(
            "{} fails: {}",
            tool.program,
            first_line(&ended.errors)
        )));
    }
    let value = ended.output.trim_end();
    Ok((!value.is_empty() && value != REDACTED).then(|| value.to_owned()))
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What a program complains of, short.
fn first_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it does not say why")
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST)
        .collect()
}

/// Takes the stated encoding off. What is compressed is decompressed with the rest
/// of the user data.
fn decoded(value: String, encoding: Option<&str>) -> Result<Vec<u8>, String> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let encoding = encoding.unwrap_or_default().trim();
    let is_compressed = match encoding.to_ascii_lowercase().as_str() {
        // Output that is no UTF-8 was replaced before it came here.
        "" if value.contains('\u{fffd}') => {
            return Err(format!("{USER_DATA} is no UTF-8 text"));
        }
        "" => return Ok(value.into_bytes()),
        "base64" | "b64" => false,
        "gzip+base64" | "gz+b64" => true,
        _ => {
            let encoding: String = encoding.escape_debug().take(40).collect();
            return Err(format!("{ENCODING} is not known: {encoding}"));
        }
    };
    let Some(bytes) = base64_lenient(value.as_bytes()) else {
        return Err(format!("{USER_DATA} is no base64, as {ENCODING} says"));
    };
    if is_compressed && !bytes.starts_with(&GZIP) {
        return Err(format!("{USER_DATA} is not compressed, as {ENCODING} says"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
