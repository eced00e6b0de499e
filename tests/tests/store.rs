//! One store, many processes, some of them killed.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nodekiln::progress::Silent;
use nodekiln::store::{Digest, Store};
use nodekiln::task::Task;

/// Names the store in the processes that this test starts of itself.
const STORE: &str = "NODEKILN_TEST_STORE";
/// What such a process does.
const ROLE: &str = "NODEKILN_TEST_ROLE";

/// `size` bytes that depend on `seed`.
struct Pattern {
    seed: u8,
    left: u64,
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..count].fill(self.seed);
        self.left -= count as u64;
        Ok(count)
    }
}

/// Gives some bytes, says so, and never gives the rest.
struct Stuck {
    said: bool,
}

impl Read for Stuck {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.said {
            eprintln!("half");
            loop {
                std::thread::park();
            }
        }
        self.said = true;
        buffer.fill(1);
        Ok(buffer.len())
    }
}

/// Not a test of its own: the process that the tests below start. Without a role
/// it has nothing to do.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let folder = std::env::var_os(STORE).expect("set beside the role");
    let store = Store::open(folder).expect("opened");
    if role == "half" {
        let _lock = store.exclusive("thing", &Silent).expect("locked");
        store
            .add_reader(&mut Stuck { said: false }, None, u64::MAX)
            .ok();
        return;
    }
    for seed in 0..8 {
        let mut content = Pattern {
            seed,
            left: 3 << 20,
        };
        store
            .add_reader(&mut content, None, u64::MAX)
            .expect("added");
    }
}

fn start(store: &Path, role: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "role", "--nocapture"])
        .env(STORE, store)
        .env(ROLE, role)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

fn objects(store: &Path) -> Vec<std::path::PathBuf> {
    walkdir::WalkDir::new(store.join("sha256"))
        .into_iter()
        .map(|entry| entry.expect("readable"))
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[test]
fn fills_from_many_processes_at_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let children: Vec<Child> = (0..4).map(|_| start(folder.path(), "fill")).collect();
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let found = objects(folder.path());
    assert_eq!(found.len(), 8);
    for path in found {
        let sum = Task::new("sha256sum")
            .arg(&path)
            .output()
            .expect("sha256sum");
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(sum.starts_with(name.as_bytes()), "{}", path.display());
    }
}

#[test]
fn recovers_from_a_killed_writer() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut child = start(folder.path(), "half");
    let stderr = child.stderr.take().expect("piped");
    let said = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("half"));
    assert!(said, "the writer is in the middle of an object");
    let temporary = || {
        std::fs::read_dir(folder.path().join("temporary"))
            .expect("exists")
            .filter(|entry| {
                let name = entry.as_ref().expect("readable").file_name();
                name.to_string_lossy().starts_with("object-")
            })
            .count()
    };
    Store::open(folder.path()).expect("opened");
    assert_eq!(temporary(), 1, "a living writer is left alone");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let store = Store::open(folder.path()).expect("opened");
    assert_eq!(temporary(), 0, "what it left is swept");
    assert!(objects(folder.path()).is_empty());
    store
        .exclusive("thing", &Silent)
        .expect("its lock died with it");
    let (digest, size): (Digest, u64) = store
        .add_reader(&mut Pattern { seed: 1, left: 10 }, None, 10)
        .expect("works");
    assert_eq!((store.contains(&digest), size), (true, 10));
}

/// A file system of its own, so small that it is full at once.
#[test]
fn says_when_the_disk_is_full_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).expect("own");
    // In a namespace of its own the mount needs no clean-up, and no real root.
    let script = format!(
        "mount -t tmpfs -o size=2m none {0} && {STORE}={0} {ROLE}=fill exec {1} --exact role --nocapture",
        mount.display(),
        std::env::current_exe().expect("this test").display()
    );
    let finished = Task::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .run()
        .expect("unshare");
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&finished.stdout),
        finished.stderr
    );
    assert_eq!(finished.code, Some(101), "{output}");
    assert!(output.contains("Environment"), "{output}");
    assert!(output.contains("NODEKILN_CACHE"), "{output}");
}
