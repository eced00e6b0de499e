//! The one way to run an external program.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::{Class, Error, Result};
use crate::progress::{Progress, Silent};

/// A program with its arguments: standard input closed, environment cleared but
/// for what is named, a time limit, its output kept (at most [`OUTPUT_LIMIT`]
/// bytes of each stream). It runs in a process group of its own, so that it ends
/// with all that it started.
#[derive(Debug)]
pub struct Task {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    limit: Duration,
    is_bound: bool,
}

/// Bytes kept of each output stream; the rest is read and dropped.
pub const OUTPUT_LIMIT: usize = 16 << 20;

/// Time that a program has to clean up after it was asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// Time between two looks: std has no wait with a limit, and 5 ms is far below
/// what any external program costs.
const POLL: Duration = Duration::from_millis(5);

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
            is_bound: false,
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

    /// Has it die with nodekiln, whatever kills that, where there is a shell: for what has
    /// nothing to clean up, and would run on.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.is_bound = true;
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
        self.run_stoppable(&Silent)
    }

    /// Runs it to its end, or until the user asks to stop: then it ends with all
    /// that it started.
    ///
    /// # Errors
    /// As [`Task::run`]; [`Class::Interrupted`] when it was stopped.
    pub fn run_stoppable(&self, progress: &dyn Progress) -> Result<Finished> {
        let mut child = self.start()?;
        let _guard = self.is_bound.then(|| Guard::of(&child));
        let stdout = child.stdout.take().map(keep);
        let stderr = child.stderr.take().map(keep);
        let status = self.wait(&mut child, progress)?;
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

    fn start(&self) -> Result<Child> {
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
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let program = self.program.to_string_lossy().into_owned();
        command.spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Error::environment(format!("run {program}: it is not installed"))
                    .hint(format!("install {program}, or put its folder into PATH"))
            } else {
                Error::io(format!("run {program}"), error)
            }
        })
    }

    fn wait(&self, child: &mut Child, progress: &dyn Progress) -> Result<ExitStatus> {
        let program = self.program.to_string_lossy();
        let deadline = Instant::now() + self.limit;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => return Err(Error::io(format!("wait for {program}"), error)),
            }
            if let Err(stopped) = progress.check() {
                end(child);
                return Err(stopped.context(format!("run {program}")));
            }
            if Instant::now() >= deadline {
                end(child);
                return Err(Error::new(
                    Class::Environment,
                    format!("run {program}: no end after {} s", self.limit.as_secs()),
                ));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs it and wants exit code 0; gives its standard output.
    ///
    /// # Errors
    /// As [`Task::run`]; [`Class::Environment`] with the end of its standard
    /// error when it fails.
    pub fn output(&self) -> Result<Vec<u8>> {
        self.output_stoppable(&Silent)
    }

    /// As [`Task::output`], until the user asks to stop.
    ///
    /// # Errors
    /// As [`Task::output`]; [`Class::Interrupted`] when it was stopped.
    pub fn output_stoppable(&self, progress: &dyn Progress) -> Result<Vec<u8>> {
        let finished = self.run_stoppable(progress)?;
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

/// Ends a program with its whole process group: asks first, so that it can clean
/// up, and kills what is left.
fn end(child: &mut Child) {
    let group = Pid::from_child(child);
    kill_process_group(group, Signal::TERM).ok();
    let deadline = Instant::now() + GRACE;
    // The program stays a zombie until the end, so that its number, which is the
    // group's, is not given to another.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while Instant::now() < deadline && matches!(waitid(WaitId::Pid(group), look), Ok(None)) {
        std::thread::sleep(POLL);
    }
    kill_process_group(group, Signal::KILL).ok();
    child.wait().ok();
}

/// A process that kills a program's group when nodekiln ends without having ended the
/// guard: the end of its input tells it.
///
/// Not `PR_SET_PDEATHSIG`, which is for one process: user-mode Linux has several, which
/// nobody else would end.
struct Guard(Option<Child>);

impl Guard {
    /// That of a child which leads its group. None where there is no shell.
    fn of(child: &Child) -> Self {
        let guard = Command::new("/bin/sh")
            .args(["-c", "read -r end; kill -KILL -\"$0\""])
            .arg(child.id().to_string())
            .env_clear()
            // The terminal's Ctrl-C is for nodekiln.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(guard.ok())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.0 {
            // One that has ended already is what is wanted.
            guard.kill().ok();
            guard.wait().ok();
        }
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

    /// Stops as soon as it is told to.
    #[derive(Default)]
    struct Stop(std::sync::atomic::AtomicBool);

    impl Progress for Stop {
        fn begin(&self, _: crate::progress::Step, _: &str, _: Option<u64>) {}
        fn advance(&self, _: crate::progress::Step, _: u64) {}
        fn end(&self, _: crate::progress::Step) {}
        fn note(&self, _: &str) {}
        fn warn(&self, _: &str) {}
        fn stopped(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    #[test]
    fn a_stop_ends_the_program_and_all_that_it_started() {
        let folder = tempfile::tempdir().expect("folder");
        let pipe = folder.path().join("pipe");
        Task::new("mkfifo").arg(&pipe).output().expect("made");
        let stop = Stop::default();
        let error = std::thread::scope(|scope| {
            let open = scope.spawn(|| {
                // Opens when the program has begun, ends when nobody who was
                // started holds the other end.
                let mut reader = std::fs::File::open(&pipe).expect("opened");
                stop.0.store(true, std::sync::atomic::Ordering::SeqCst);
                reader.read_to_end(&mut Vec::new()).expect("read")
            });
            let error = Task::new("sh")
                .args(["-c", "exec 3>\"$1\"; sleep 1000 & wait", "sh"])
                .arg(&pipe)
                .run_stoppable(&stop)
                .expect_err("stopped");
            open.join().expect("all are gone");
            error
        });
        assert_eq!(error.class(), Class::Interrupted);
    }
}
