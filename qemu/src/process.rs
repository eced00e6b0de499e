//! Starting programs so that none of them outlives us.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::console::clean_lines;
use crate::error::{Error, Result};

/// Bytes kept of each output stream of a program.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// Looks a program up in `PATH` and where distributions keep it outside of it;
/// one with a `/` is taken as it is.
pub(crate) fn find(program: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let path = Path::new(program);
    if path.components().count() > 1 {
        return is_program(path).then(|| path.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        // RHEL keeps its only QEMU, qemu-kvm, in libexec.
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/libexec".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

/// A command that dies with us, whatever kills us: its process is killed when
/// its handle is dropped, and by the kernel when the thread that started it
/// ends. The latter is `PR_SET_PDEATHSIG`, which `setpriv` of util-linux asks
/// for before it becomes the program itself; doing that between fork and exec
/// in our own process would need unsafe code.
///
/// `bound` says whether `setpriv` is there.
pub(crate) struct Bound {
    pub(crate) command: Command,
    pub(crate) bound: bool,
}

pub(crate) fn command(program: &Path, arguments: &[OsString]) -> Bound {
    let guard = find(OsStr::new("setpriv"));
    let bound = guard.is_some();
    let mut command = match guard {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        // A group of its own: the terminal's Ctrl-C is for us, who then end the
        // program in good order.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(folder) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", folder);
    }
    Bound { command, bound }
}

/// What a finished program said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a program to its end; `None` when it was killed after `limit`.
pub(crate) async fn run(
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
) -> Result<Option<Finished>> {
    let mut command = command(program, arguments).command;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command, program)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finish = async {
        let (status, stdout, stderr) = tokio::join!(child.wait(), keep(stdout), keep(stderr));
        status.map(|status| Finished {
            code: status.code(),
            stdout,
            stderr,
        })
    };
    match tokio::time::timeout(limit, finish).await {
        Ok(finished) => finished
            .map(Some)
            .map_err(|error| Error::io(format!("wait for {}", program.display()), error)),
        Err(_) => Ok(None),
    }
}

/// Runs a program and wants exit code 0; gives its standard output.
pub(crate) async fn output(program: &Path, arguments: &[OsString]) -> Result<Vec<u8>> {
    let failed = |reason: String, stderr: &[u8]| Error::Program {
        program: program.display().to_string(),
        reason,
        stderr: clean_lines(stderr).join("\n"),
    };
    match run(program, arguments, Duration::from_secs(60)).await? {
        Some(finished) if finished.code == Some(0) => Ok(finished.stdout),
        Some(finished) => {
            let last = clean_lines(&finished.stderr).pop().unwrap_or_default();
            Err(failed(
                format!("{} ({last})", ended(finished.code)),
                &finished.stderr,
            ))
        }
        None => Err(failed("no end after 60 s".to_owned(), b"")),
    }
}

pub(crate) fn spawn(command: &mut Command, program: &Path) -> Result<Child> {
    command
        .spawn()
        .map_err(|error| Error::io(format!("run {}", program.display()), error))
}

/// How a program ended, in words.
pub(crate) fn ended(code: Option<i32>) -> String {
    code.map_or("it was killed by a signal".to_owned(), |code| {
        format!("it ended with code {code}")
    })
}

/// Reads a stream to its end and keeps its beginning.
pub(crate) async fn keep(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // A stream that breaks has ended: what was said before counts.
        (&mut stream)
            .take(OUTPUT_LIMIT)
            .read_to_end(&mut kept)
            .await
            .ok();
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .ok();
    }
    kept
}

/// Runs a future to its end on a thread of its own, with a runtime of its own.
///
/// The thread matters: the kernel kills a bound program when the *thread* that
/// started it ends, and the threads of a caller's runtime come and go. It also
/// lets callers be inside of a runtime or not.
pub(crate) fn on_own_thread<T: Send, F: Future<Output = Result<T>>>(
    work: impl FnOnce() -> F + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("qemu".to_owned())
            .spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| Error::io("start the event loop", error))?;
                let result = runtime.block_on(work());
                runtime.shutdown_background();
                result
            })
            .map_err(|error| Error::io("start a thread", error))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
