//! The one way to run an external program.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Class, Error, Result};

/// A program with its arguments: standard input closed, environment cleared but
/// for what is named, a time limit, its output kept (at most [`OUTPUT_LIMIT`]
/// bytes of each stream).
#[derive(Debug)]
pub struct Task {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    limit: Duration,
}

/// Bytes kept of each output stream; the rest is read and dropped.
pub const OUTPUT_LIMIT: usize = 16 << 20;

/// What a finished task printed.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Task {
    /// `program` is looked up in the `PATH` of nodekiln, plus `/usr/sbin` and
    /// `/sbin`, where Debian keeps the disk tools.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            limit: Duration::from_mins(10),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in `folder`.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Kills it after `limit` (10 minutes by default).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command line as text, for logs.
    pub fn line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end, whatever its exit code.
    ///
    /// # Errors
    /// [`Class::Environment`] when it is not installed, cannot be started or
    /// passes its limit.
    pub fn run(&self) -> Result<Finished> {
        let mut command = Command::new(&self.program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(["/usr/sbin".into(), "/sbin".into()]);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::join_paths(folders).unwrap_or(path))
            .env("LC_ALL", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let program = self.program.to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Error::environment(format!("run {program}: it is not installed"))
                    .hint(format!("install {program}, or put its folder into PATH"))
            } else {
                Error::io(format!("run {program}"), error)
            }
        })?;
        let stdout = child.stdout.take().map(keep);
        let stderr = child.stderr.take().map(keep);
        let deadline = Instant::now() + self.limit;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => {
                    // std has no wait with a limit; 5 ms is far below what any
                    // external program costs.
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => {
                    child.kill().ok();
                    child.wait().ok();
                    return Err(Error::new(
                        Class::Environment,
                        format!("run {program}: no end after {} s", self.limit.as_secs()),
                    ));
                }
                Err(error) => return Err(Error::io(format!("wait for {program}"), error)),
            }
        };
        let collect = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
            reader
                .and_then(|thread| thread.join().ok())
                .unwrap_or_default()
        };
        Ok(Finished {
            code: status.code(),
            stdout: collect(stdout),
            stderr: String::from_utf8_lossy(&collect(stderr)).into_owned(),
        })
    }

    /// Runs it and wants exit code 0; gives its standard output.
    ///
    /// # Errors
    /// As [`Task::run`]; [`Class::Environment`] with the end of its standard
    /// error when it fails.
    pub fn output(&self) -> Result<Vec<u8>> {
        let finished = self.run()?;
        if finished.code == Some(0) {
            return Ok(finished.stdout);
        }
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n");
        Err(Error::environment(format!(
            "run {}: {}",
            self.line(),
            finished
                .code
                .map_or("killed by a signal".to_owned(), |code| format!(
                    "exit code {code}"
                ))
        ))
        .caused_by(tail))
    }
}

fn keep(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut limited = (&mut stream).take(OUTPUT_LIMIT as u64);
        limited.read_to_end(&mut kept).ok();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_not_installed() {
        let error = Task::new("no-such-program-anywhere")
            .output()
            .expect_err("absent");
        assert_eq!(error.class(), Class::Environment);
        assert!(error.to_string().contains("no-such-program-anywhere"));
    }

    #[test]
    fn clears_the_environment_and_keeps_the_exit_code() {
        let finished = Task::new("sh")
            .args(["-c", "echo $HOME.$GIVEN; echo bad >&2; exit 3"])
            .env("GIVEN", "here")
            .run()
            .expect("runs");
        assert_eq!(finished.code, Some(3));
        assert_eq!(finished.stdout, b".here\n");
        assert_eq!(finished.stderr, "bad\n");
    }

    #[test]
    fn ends_what_does_not_end() {
        let error = Task::new("sleep")
            .arg("100")
            .limit(Duration::from_millis(50))
            .run()
            .expect_err("limited");
        assert!(error.to_string().contains("no end"));
    }
}
