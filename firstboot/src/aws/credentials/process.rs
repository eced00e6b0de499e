//! Credentials that a program prints: `credential_process` of a profile (AWS SDKs and
//! tools reference guide, "Process credential provider"). IAM Roles Anywhere works
//! this way.

use std::time::Duration;

use super::session::{self, SessionRefusal};
use super::{Answer, Credentials, CredentialsError, Source, ini};
use crate::system::{Error, Files, Programs, Task};

/// Time that the program has. It asks IAM Roles Anywhere over the network; with the
/// question after it, it has to fit into the time of the checks.
const LIMIT: Duration = Duration::from_secs(30);

/// Most that is read of what it prints, in bytes.
const MOST: usize = 64 << 10;

/// The `credential_process` of a profile of a configuration file.
#[allow(missing_debug_implementations)] // Holds traits.
pub struct Process<'a> {
    /// Where files are read.
    pub files: &'a dyn Files,
    /// What runs the program.
    pub programs: &'a dyn Programs,
    /// Such as `/etc/aws/hybrid/config`.
    pub path: String,
    /// What will be written there; none when the file itself is read.
    pub settings: Option<&'a [u8]>,
    /// Such as `default`.
    pub profile: String,
    /// Variables that the program gets, such as those of the proxies.
    pub variables: Vec<(String, String)>,
}

impl Process<'_> {
    fn command(&self, origin: &str) -> Result<Option<Vec<String>>, CredentialsError> {
        let failed = |reason: String| CredentialsError::lasting(origin, reason);
        let bytes = match self.settings {
            Some(settings) => settings.to_owned(),
            None => match self.files.read(&self.path, ini::LONGEST) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                Err(error) => return Err(failed(error.to_string())),
            },
        };
        let settings = ini::profile(&String::from_utf8_lossy(&bytes), &self.profile);
        let Some(line) = settings.and_then(|it| ini::setting(&it, "credential_process")) else {
            return Ok(None);
        };
        words(&line)
            .filter(|words| !words.is_empty())
            .map(Some)
            .ok_or_else(|| failed("a quote in its credential_process is not closed".into()))
    }

    /// Why the program failed, as it says. What says nothing of a refusal may pass, as
    /// a network that is not up yet.
    fn failure(origin: String, program: &str, said: &str) -> CredentialsError {
        match SessionRefusal::find(said) {
            Some(refusal) => CredentialsError::Session {
                hint: refusal.hint(),
                is_transient: refusal.is_transient(),
                reason: refusal.reason,
            },
            None => CredentialsError::Source {
                origin,
                reason: format!("{program} says: {}", session::reason(said)),
                // A key or certificate that it cannot read stays what it is.
                is_transient: !said.contains("unable to parse"),
            },
        }
    }
}

impl Source for Process<'_> {
    fn name(&self) -> String {
        format!(
            "credential_process of profile {} of {}",
            self.profile, self.path
        )
    }

    fn find(&self) -> Result<Option<Credentials>, CredentialsError> {
        let origin = self.name();
        let Some(command) = self.command(&origin)? else {
            return Ok(None);
        };
        let arguments: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        let task = Task::new(&command[0], &arguments, LIMIT).keeping(MOST);
        let task = self
            .variables
            .iter()
            .fold(task, |task, (name, value)| task.with_variable(name, value));
        let ended = self
            .programs
            .run(&task)
            .map_err(|error| CredentialsError::Source {
                origin: origin.clone(),
                is_transient: matches!(error, Error::Deadline { .. }),
                reason: match &error {
                    Error::Program { source, .. } => format!("{error}: {source}"),
                    _ => error.to_string(),
                },
            })?;
        if !ended.success {
            return Err(Self::failure(origin, &command[0], &ended.errors));
        }
        let answer = Answer::read(&origin, ended.output.as_bytes())?;
        if answer.version != Some(1) {
            return Err(CredentialsError::lasting(
                &origin,
                "what it prints is not of Version 1",
            ));
        }
        answer.credentials(&origin).map(Some)
    }
}

/// Words as a shell without variables has them: blanks part them, quotes keep them
/// together, and a backslash takes the meaning of what follows. `None` when a quote
/// is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match (character, quote) {
            (end, Some(open)) if end == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().push(rest.next()?),
            (inside, Some(_)) => word.get_or_insert_default().push(inside),
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (blank, None) if blank.is_whitespace() => words.extend(word.take()),
            (other, None) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_of_a_command_line() {
        let line = r#"/usr/bin/a --b "c d" 'e "f' g\ h "" "i\"j" k"l m""#;
        let expected = [
            "/usr/bin/a",
            "--b",
            "c d",
            "e \"f",
            "g h",
            "",
            "i\"j",
            "kl m",
        ];
        assert_eq!(words(line).unwrap(), expected);
        assert_eq!(words("a 'b"), None);
        assert_eq!(words("a \\"), None);
        assert_eq!(words("  ").unwrap(), [""; 0]);
    }
}
