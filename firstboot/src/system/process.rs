//! Runs a program with a time limit, without threads: waits on its pipes and on
//! its end at once.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{Argument, Ended, Error, Task};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program; `breathe` is called about every `interval` while it runs.
pub(super) fn run(
    task: &Task,
    interval: Option<Duration>,
    breathe: &dyn Fn(),
) -> Result<Ended, Error> {
    let failed = |source: io::Error| Error::Program {
        program: task.program.clone(),
        source,
    };
    let mut child = Command::new(&task.program)
        .args(task.arguments.iter().map(Argument::value))
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(task.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that at the deadline its children end with it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let followed = follow(&mut child, task, interval, breathe);
    if !matches!(followed, Ok(Some(_))) {
        end(&mut child);
    }
    match followed.map_err(failed)? {
        Some(ended) => Ok(Ended {
            success: ended.success,
            output: task.hide(ended.output),
            // Unlike the output it is only for people.
            errors: task.for_people(ended.errors),
        }),
        None => Err(Error::Deadline {
            program: task.program.clone(),
            limit: task.limit,
        }),
    }
}

/// Reads until the program has ended; `None` at the deadline.
fn follow(
    child: &mut Child,
    task: &Task,
    interval: Option<Duration>,
    breathe: &dyn Fn(),
) -> io::Result<Option<Ended>> {
    let deadline = Instant::now() + task.limit;
    let pid = Pid::from_child(child);
    let pidfd: OwnedFd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut output = Stream::new(child.stdout.take(), task.most);
    let mut errors = Stream::new(child.stderr.take(), task.most);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let patience = interval.map_or(left, |interval| interval.min(left));
        let mut waiting = vec![PollFd::new(&pidfd, PollFlags::IN)];
        waiting.extend(output.poll());
        waiting.extend(errors.poll());
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_ended = waiting[0].revents().contains(PollFlags::IN);
        breathe();
        output.read()?;
        errors.read()?;
        if has_ended {
            let success = child.wait()?.success();
            // What its own children may still write is not waited for.
            return Ok(Some(Ended {
                success,
                output: output.text(),
                errors: errors.text(),
            }));
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself just now: then there is nobody to kill.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// One output of a program, read without blocking.
struct Stream<R> {
    pipe: Option<R>,
    content: Vec<u8>,
    /// Most that is kept, in bytes; what comes after is thrown away.
    most: usize,
}

impl<R: Read + AsFd> Stream<R> {
    fn new(pipe: Option<R>, most: usize) -> Self {
        let pipe = pipe.filter(|pipe| rustix::io::ioctl_fionbio(pipe, true).is_ok());
        Self {
            pipe,
            content: Vec::new(),
            most,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(());
                }
                Ok(length) => {
                    let room = self.most - self.content.len();
                    self.content.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn poll(&self) -> Option<PollFd<'_>> {
        self.pipe
            .as_ref()
            .map(|pipe| PollFd::new(pipe, PollFlags::IN))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Ended, Error> {
        run(&Task::new("sh", &["-c", script], limit), None, &|| {})
    }

    #[test]
    fn what_a_program_writes_and_how_it_ends() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!(
            ended,
            Ended {
                success: false,
                output: "out\n".into(),
                errors: "err\n".into()
            }
        );
        let script = "head -c 300000 /dev/zero | tr '\\0' x";
        let task = Task::new("sh", &["-c", script], Duration::from_secs(20));
        for (task, kept) in [
            (task.clone(), 64 << 10),
            (task.clone().keeping(7), 7),
            (task.keeping(1 << 20), 300_000),
        ] {
            let long = run(&task, None, &|| {}).unwrap();
            assert!(long.success);
            assert_eq!(long.output.len(), kept);
        }
    }

    #[test]
    fn nothing_of_our_environment_and_no_input() {
        let ended = shell("env | sort; cat", Duration::from_secs(20)).unwrap();
        let names: Vec<_> = ended
            .output
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        assert_eq!(names, ["LANG", "PATH", "PWD"]);
    }

    #[test]
    fn a_secret_that_a_program_repeats_is_hidden_and_variables_reach_it() {
        let task = Task::new(
            "sh",
            &["-c", "echo $1 $NAME; echo $1 >&2", "sh"],
            Duration::from_secs(20),
        )
        .and_secret("s3cr3t")
        .with_variable("NAME", "value");
        let ended = run(&task, None, &|| {}).unwrap();
        assert_eq!(ended.output, "(hidden) value\n");
        assert_eq!(ended.errors, "(hidden)\n");
    }

    #[test]
    fn the_password_of_a_proxy_in_an_error_is_hidden() {
        let script = "echo $HTTPS_PROXY; echo \"$HTTPS_PROXY: refused\" >&2";
        let task = Task::new("sh", &["-c", script], Duration::from_secs(20))
            .with_variable("HTTPS_PROXY", "http://me:s3cr3t@proxy:3128");
        let ended = run(&task, None, &|| {}).unwrap();
        assert_eq!(ended.errors, "http://(hidden)@proxy:3128: refused\n");
        // What it gives is for this program.
        assert_eq!(ended.output, "http://me:s3cr3t@proxy:3128\n");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        let error = shell("sleep 60 & sleep 60", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.to_string(), "sh did not end within 0 s");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_that_keeps_the_pipe_open_is_not_waited_for() {
        let started = Instant::now();
        let ended = shell("sleep 30 & echo $!", Duration::from_secs(25)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
        let pid = ended
            .output
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn signs_of_life_while_it_runs() {
        let breaths = Cell::new(0);
        let task = Task::new("sleep", &["0.3"], Duration::from_secs(20));
        let breathe = || breaths.set(breaths.get() + 1);
        run(&task, Some(Duration::from_millis(20)), &breathe).unwrap();
        assert!(breaths.get() >= 3, "{}", breaths.get());
    }

    #[test]
    fn a_program_that_is_not_there() {
        let task = Task::new("no-such-program-here", &[], Duration::from_secs(1));
        let error = run(&task, None, &|| {}).unwrap_err();
        assert_eq!(error.to_string(), "running no-such-program-here");
    }
}
