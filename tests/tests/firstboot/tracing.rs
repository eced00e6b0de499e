//! The calls to the kernel by which the program changes the disk, as `strace` sees
//! them; and a run in which one of them goes wrong.

use std::collections::HashMap;
use std::fs;
use std::num::NonZero;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::machine::Machine;
use crate::text;

/// Every call that can change a file system. Those with a question mark are not there
/// on every processor.
const CALLS: &str = "?open,openat,?creat,?mkdir,mkdirat,?rename,?renameat,renameat2,?link,linkat,\
    ?symlink,symlinkat,?unlink,unlinkat,?rmdir,?chmod,fchmod,fchmodat,?chown,fchown,fchownat,\
    ?lchown,truncate,ftruncate,fallocate,write,writev,pwrite64,pwritev,copy_file_range,sendfile,\
    fsync,fdatasync,sync_file_range,utimensat";

/// One of them.
pub struct Step {
    /// Name of the call.
    call: String,
    /// Which of all calls of that name it is, from 1 on.
    number: usize,
    /// The file that it is about, as the machine names it.
    pub path: String,
    /// The whole call, for people.
    pub line: String,
}

/// Calls between which the disk differs only in a temporary file: how much of it is
/// there.
const WITHIN_A_FILE: [&str; 3] = ["fchmod", "write", "fsync"];

/// The steps of a whole run, which is done here to its good end. Of calls within a file
/// every fourth is taken: each kind of them, at one file or the other.
pub fn steps(machine: &Machine, arguments: &[&str]) -> Vec<Step> {
    let folder = tempfile::TempDir::new().unwrap();
    let log = folder.path().join("log");
    let trace = format!("trace={CALLS}");
    let strace = [
        "strace",
        "-y",
        "-s",
        "0",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &trace,
    ];
    let output = machine.command(&strace, arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let log = fs::read_to_string(log).expect("strace must be installed");
    let root = machine.root().display().to_string();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let (mut steps, mut within) = (Vec::new(), 0);
    for line in log.lines() {
        let Some((call, _)) = line.split_once('(') else {
            continue;
        };
        let number = numbers.entry(call).or_default();
        *number += 1;
        let Some(path) = changed(line, call, &root) else {
            continue;
        };
        within += usize::from(WITHIN_A_FILE.contains(&call));
        if !WITHIN_A_FILE.contains(&call) || within % 4 == 0 {
            steps.push(Step {
                call: call.into(),
                number: *number,
                path,
                line: line.into(),
            });
        }
    }
    steps
}

/// The file of the machine that a call changes, if it changes one.
fn changed(line: &str, call: &str, root: &str) -> Option<String> {
    let is_opening = ["open", "openat"].contains(&call);
    let writes = ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"];
    if line.contains(" = -1 ") || is_opening && !writes.iter().any(|flag| line.contains(flag)) {
        return None;
    }
    // A path as an argument, or what is open behind the number of a file.
    let path = match line.split('"').nth(1).filter(|path| path.starts_with('/')) {
        Some(path) => path,
        None => line
            .split_once('<')?
            .1
            .split_once('>')?
            .0
            .strip_prefix(root)?,
    };
    let (folder, name) = path.rsplit_once('/')?;
    let name = name
        .strip_suffix(".nodekiln-new")
        .map_or(name, |name| name.trim_start_matches('.'));
    (folder != "/dev").then(|| format!("{folder}/{name}"))
}

/// A run in which something happens at a step: what `strace` calls an injection.
pub fn start_with(machine: &Machine, arguments: &[&str], step: &Step, what: &str) -> Output {
    let _ = fs::remove_file(machine.path("run/calls"));
    let trace = format!("trace={}", step.call);
    let inject = format!("inject={}:{what}:when={}", step.call, step.number);
    let strace = ["strace", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    machine.command(&strace, arguments).output().unwrap()
}

/// Does something with each of them, as many at once as there are processors.
pub fn side_by_side<T: Sync>(all: &[T], act: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(one);
                }
            });
        }
    });
}
