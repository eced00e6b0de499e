//! One running QEMU: its console, its control socket, its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::boot::{BootOptions, Observer};
use crate::console::{Console, clean_lines};
use crate::error::{Error, Result};
use crate::guest::Collector;
use crate::milestone::{Event, Milestones, Tracker};
use crate::process;
use crate::qmp::{self, Qmp};
use crate::report::{self, Report};

/// How long QEMU may take to open its files and connect.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long QEMU may take to quit before it is killed.
const QUIT_LIMIT: Duration = Duration::from_secs(3);
/// After this silence an incomplete line is taken for a prompt.
const PROMPT_SILENCE: Duration = Duration::from_millis(200);
/// After a sign of failure, the console is followed this much longer: what
/// comes next usually says why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often the observer is asked whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);
/// A first boot may reset once or twice (SELinux labels); more is a loop.
const RESET_LIMIT: u32 = 5;
/// Most bytes of a console log: a guest must not fill the disk.
const LOG_LIMIT: usize = 64 << 20;
/// The path of a Unix socket has at most 107 bytes.
const SOCKET_PATH_LIMIT: usize = 107;

/// The sockets that QEMU connects to.
pub(crate) struct Sockets {
    pub(crate) console_path: PathBuf,
    pub(crate) control_path: PathBuf,
    console: UnixListener,
    control: UnixListener,
    /// Where they lie, when the path of the boot's own folder is too long.
    _folder: Option<tempfile::TempDir>,
}

impl Sockets {
    pub(crate) fn listen(folder: &Path) -> Result<Self> {
        let too_long = folder.join("console").as_os_str().len() > SOCKET_PATH_LIMIT;
        let own = too_long
            .then(|| {
                tempfile::Builder::new()
                    .prefix("nodekiln-")
                    .tempdir_in("/tmp")
            })
            .transpose()
            .map_err(|error| Error::io("create a folder in /tmp", error))?;
        let folder = own.as_ref().map_or(folder, tempfile::TempDir::path);
        let (console_path, control_path) = (folder.join("console"), folder.join("control"));
        Ok(Self {
            console: qmp::listen(&console_path)?,
            control: qmp::listen(&control_path)?,
            console_path,
            control_path,
            _folder: own,
        })
    }
}

/// How a boot ended.
pub(crate) enum Ending {
    Passed(Report),
    Failed {
        reason: String,
        hint: Option<String>,
        report: Report,
    },
    Stopped,
}

/// See the module documentation.
pub(crate) struct Session<'a> {
    options: &'a BootOptions,
    observer: &'a mut dyn Observer,
    program: String,
    child: Child,
    stderr: JoinHandle<Vec<u8>>,
    stream: UnixStream,
    qmp: Qmp,
    power_on: Instant,
    console: Console,
    log: Option<Log>,
    pub(crate) tracker: Tracker,
    pub(crate) collector: Collector,
    resets: u32,
    /// When the guest last wrote, until the incomplete line after that was
    /// looked at.
    unread: Option<Instant>,
}

/// What woke the loop up.
enum Wake {
    Bytes(usize),
    ConsoleClosed,
    Control(qmp::Event),
    Ended,
    Silence,
    Time,
    Tick,
}

impl<'a> Session<'a> {
    /// Starts QEMU and waits until it has opened its files and runs the guest.
    pub(crate) async fn start(
        emulator: &Path,
        arguments: &[OsString],
        sockets: Sockets,
        options: &'a BootOptions,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let log = options
            .console_log
            .as_deref()
            .map(Log::create)
            .transpose()?;
        let process::Bound { mut command, bound } = process::command(emulator, arguments);
        if !bound {
            observer.note(
                "setpriv is not installed: if nodekiln is killed with SIGKILL, QEMU stays behind",
            );
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let power_on = Instant::now();
        let mut child = process::spawn(&mut command, emulator)?;
        let stderr = tokio::spawn(process::keep(child.stderr.take()));
        let program = emulator.display().to_string();

        let connect = async {
            let (console, control) =
                tokio::try_join!(sockets.console.accept(), sockets.control.accept())
                    .map_err(|error| Error::io("wait for QEMU to connect", error))?;
            Ok((console.0, Qmp::open(control.0).await?))
        };
        let stop = async {
            while !observer.stopped() {
                sleep(STOP_INTERVAL).await;
            }
        };
        let connected = tokio::select! {
            connected = connect => connected,
            status = child.wait() => {
                let code = status.ok().and_then(|status| status.code());
                return Err(failed(program, process::ended(code), stderr).await);
            }
            () = sleep(START_LIMIT.mul_f64(options.timeout_scale.max(1.0))) => {
                Err(Error::Control("it did not start in time".to_owned()))
            }
            () = stop => Err(Error::Interrupted { what: options.what() }),
        };
        let (stream, qmp) = match connected {
            Ok(both) => both,
            Err(error) => {
                child.kill().await.ok();
                return Err(match error {
                    Error::Control(reason) => failed(program, reason, stderr).await,
                    other => other,
                });
            }
        };
        Ok(Self {
            options,
            observer,
            program,
            child,
            stderr,
            stream,
            qmp,
            power_on,
            console: Console::new(),
            log,
            tracker: Tracker::new(Milestones {
                steps: Vec::new(),
                failures: Vec::new(),
            }),
            collector: Collector::default(),
            resets: 0,
            unread: None,
        })
    }

    /// Follows the guest until all milestones are reached, one is missed, or
    /// the boot fails otherwise.
    pub(crate) async fn follow(&mut self, mut report: Report) -> Result<Ending> {
        let outcome = self.until_done().await?;
        self.fill(&mut report);
        match outcome {
            Outcome::Done => report.passed = true,
            Outcome::Stopped => return Ok(Ending::Stopped),
            Outcome::Failed { reason, hint } => {
                return Ok(Ending::Failed {
                    reason,
                    hint,
                    report,
                });
            }
        }
        if self.options.keep {
            self.observer.on_keep(&report);
            self.keep().await?;
        }
        Ok(Ending::Passed(report))
    }

    /// Ends QEMU: by its own command, or by a signal if it does not listen.
    pub(crate) async fn end(mut self) {
        if self.qmp.send("quit").await.is_ok()
            && timeout(QUIT_LIMIT, self.child.wait()).await.is_ok()
        {
            return;
        }
        // It may have ended meanwhile; and if a kill fails, the kernel ends it
        // with this thread.
        self.child.kill().await.ok();
    }

    fn fill(&self, report: &mut Report) {
        let seconds = self.power_on.elapsed().as_secs_f64();
        report.seconds = (seconds * 1000.0).round() / 1000.0;
        report.milestones = report::reached(&self.tracker);
        report.resets = self.resets;
        report.guest = self.collector.results();
        report.console_tail = self.console.tail();
    }

    async fn until_done(&mut self) -> Result<Outcome> {
        let mut buffer = vec![0; 16 << 10];
        let mut failure: Option<(Outcome, Instant)> = None;
        let mut guest_deadline: Option<Instant> = None;
        loop {
            if failure.is_none() && self.tracker.is_done() {
                if self.collector.waiting().is_empty() {
                    return Ok(Outcome::Done);
                }
                let limit = self.options.guest_limit.mul_f64(self.options.timeout_scale);
                guest_deadline.get_or_insert_with(|| Instant::now() + limit);
            }
            let due = match &failure {
                Some((_, until)) => Some(*until),
                None => self
                    .tracker
                    .next_deadline()
                    .map(|deadline| self.power_on + deadline)
                    .or(guest_deadline),
            };
            let events = match self.wake(&mut buffer, due).await? {
                Wake::Bytes(count) => self.take(&buffer[..count])?,
                Wake::Silence => {
                    self.unread = None;
                    let prompt = self.console.partial();
                    self.tracker.line(&prompt, self.power_on.elapsed())
                }
                Wake::Control(event) => self.control(event),
                Wake::Time => match failure {
                    Some((outcome, _)) => return Ok(outcome),
                    None => vec![self.late()],
                },
                Wake::Ended | Wake::ConsoleClosed => {
                    return match failure {
                        Some((outcome, _)) => Ok(outcome),
                        None => self.ended(&mut buffer).await,
                    };
                }
                Wake::Tick if self.observer.stopped() => return Ok(Outcome::Stopped),
                Wake::Tick => Vec::new(),
            };
            for event in events {
                match event {
                    Event::Reached(index) => self.tell(index),
                    Event::Failed { reason, hint } if failure.is_none() => {
                        let outcome = Outcome::Failed { reason, hint };
                        failure = Some((outcome, Instant::now() + LAST_WORDS));
                    }
                    Event::Failed { .. } => {}
                }
            }
        }
    }

    /// Follows a guest that has done all it should, until it ends or the
    /// observer wants no more.
    async fn keep(&mut self) -> Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match self.wake(&mut buffer, None).await? {
                Wake::Bytes(count) => {
                    self.take(&buffer[..count])?;
                }
                Wake::Silence => self.unread = None,
                Wake::Ended | Wake::ConsoleClosed => return Ok(()),
                Wake::Tick if self.observer.stopped() => return Ok(()),
                _ => {}
            }
        }
    }

    async fn wake(&mut self, buffer: &mut [u8], due: Option<Instant>) -> Result<Wake> {
        let far = Instant::now() + Duration::from_secs(3600);
        let silence = self.unread.map(|last| last + PROMPT_SILENCE);
        let wake = tokio::select! {
            // Output first: a guest that says why and powers off at once is
            // heard.
            biased;
            read = self.stream.read(buffer) => match read {
                Ok(0) => Wake::ConsoleClosed,
                Ok(count) => Wake::Bytes(count),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    Wake::ConsoleClosed
                }
                Err(error) => return Err(Error::io("read the guest's console", error)),
            },
            event = self.qmp.event() => match event {
                qmp::Event::Closed => Wake::Ended,
                event => Wake::Control(event),
            },
            _ = self.child.wait() => Wake::Ended,
            () = sleep_until(due.unwrap_or(far)) => Wake::Time,
            () = sleep_until(silence.unwrap_or(far)), if silence.is_some() => Wake::Silence,
            () = sleep(STOP_INTERVAL) => Wake::Tick,
        };
        Ok(wake)
    }

    /// Takes output of the guest.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        let time = self.power_on.elapsed();
        self.unread = Some(Instant::now());
        let mut events = Vec::new();
        let mut written = Ok(());
        let (tracker, collector) = (&mut self.tracker, &mut self.collector);
        let (observer, log) = (&mut self.observer, &mut self.log);
        self.console.push(bytes, |line| {
            if let (Some(log), Ok(())) = (log.as_mut(), &written) {
                written = log.line(time, line);
            }
            if !collector.line(line) {
                observer.on_line(time, line);
                events.extend(tracker.line(line, time));
            }
        });
        if let (Some(log), Ok(())) = (&mut self.log, &written) {
            written = log.flush();
        }
        written.map(|()| events)
    }

    fn control(&mut self, event: qmp::Event) -> Vec<Event> {
        if event != qmp::Event::Reset {
            return Vec::new();
        }
        self.resets += 1;
        self.observer.note("the guest resets itself");
        if self.resets < RESET_LIMIT {
            return Vec::new();
        }
        vec![Event::Failed {
            reason: format!("the guest has reset itself {} times", self.resets),
            hint: None,
        }]
    }

    fn late(&mut self) -> Event {
        if let Some(step) = self.tracker.miss(self.power_on.elapsed()) {
            let deadline = step.deadline.as_secs_f64();
            let hint = match step.name.as_str() {
                "kernel" | "systemd" => {
                    "if the image boots with 'quiet' or without a serial console, say so; \
                     if the machine is slow, allow more time"
                }
                _ => "if the machine is slow, allow more time",
            };
            return Event::Failed {
                reason: format!(
                    "milestone '{}' ({}) was not reached within {deadline:.0} s",
                    step.name, step.title
                ),
                hint: Some(hint.to_owned()),
            };
        }
        Event::Failed {
            reason: format!(
                "guest command '{}' did not come to its end",
                self.collector.waiting().join("', '")
            ),
            hint: Some("cloud-init must be in the image for guest commands to run".to_owned()),
        }
    }

    /// QEMU ends by itself: reads what is left, and says what that means.
    async fn ended(&mut self, buffer: &mut [u8]) -> Result<Outcome> {
        while let Ok(Ok(count @ 1..)) = timeout(QUIT_LIMIT, self.stream.read(buffer)).await {
            for event in self.take(&buffer[..count])? {
                match event {
                    Event::Reached(index) => self.tell(index),
                    Event::Failed { reason, hint } => return Ok(Outcome::Failed { reason, hint }),
                }
            }
        }
        if self.tracker.is_done() && self.collector.waiting().is_empty() {
            return Ok(Outcome::Done);
        }
        let status = timeout(QUIT_LIMIT, self.child.wait()).await;
        let code = status
            .ok()
            .and_then(Result::ok)
            .and_then(|status| status.code());
        if code != Some(0) {
            let stderr = std::mem::replace(&mut self.stderr, tokio::spawn(async { Vec::new() }));
            return Err(failed(self.program.clone(), process::ended(code), stderr).await);
        }
        let before = self.tracker.waiting_for().map_or_else(
            || "its commands were done".to_owned(),
            |step| format!("milestone '{}' ({})", step.name, step.title),
        );
        Ok(Outcome::Failed {
            reason: format!("the guest powered off before {before}"),
            hint: None,
        })
    }

    fn tell(&mut self, index: usize) {
        let reached = report::reached(&self.tracker).swap_remove(index);
        self.observer.on_milestone(&reached);
    }
}

/// How following ended, without a report.
enum Outcome {
    Done,
    Stopped,
    Failed {
        reason: String,
        hint: Option<String>,
    },
}

/// An error of QEMU itself, with what it said.
async fn failed(program: String, reason: String, stderr: JoinHandle<Vec<u8>>) -> Error {
    let said = timeout(QUIT_LIMIT, stderr).await;
    let lines = clean_lines(&said.ok().and_then(Result::ok).unwrap_or_default());
    let last = lines.iter().rev().find(|line| !line.is_empty());
    Error::Program {
        program,
        reason: last.map_or(reason.clone(), |last| format!("{reason}: {last}")),
        stderr: lines.join("\n"),
    }
}

/// The console as a file: clean lines, each with its time.
struct Log {
    path: PathBuf,
    file: std::io::BufWriter<File>,
    written: usize,
}

impl Log {
    fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Error::io(format!("write {}", path.display()), error))?;
        Ok(Self {
            path: path.to_owned(),
            file: std::io::BufWriter::new(file),
            written: 0,
        })
    }

    fn line(&mut self, time: Duration, line: &str) -> Result<()> {
        if self.written > LOG_LIMIT {
            return Ok(());
        }
        let mut text = format!("[{:9.3}] {line}\n", time.as_secs_f64());
        self.written += text.len();
        if self.written > LOG_LIMIT {
            text += "[the guest wrote too much; the log ends here]\n";
        }
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| self.error(error))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| self.error(error))
    }

    fn error(&self, error: std::io::Error) -> Error {
        Error::io(format!("write {}", self.path.display()), error)
    }
}
