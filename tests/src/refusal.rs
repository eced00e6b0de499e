//! What is true of every refusal, whatever was refused: one error with its exit
//! code, no panic, bounded memory and time, nothing left behind, and nothing of
//! the user's own changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{Ran, Workshop, binary};

/// Address space of a run, in bytes: what a bad input claims to need must not
/// decide how much is taken.
const ADDRESS_SPACE: u64 = 1 << 30;
/// Seconds that a run may take on a busy machine; the exit code is 124 then.
const PATIENCE: &str = "60";
/// Folder of temporary files of a run, in the workshop.
const TEMPORARY: &str = "temporary";
/// What runs write on purpose: the rest of a workshop is the user's own.
const WRITTEN: [&str; 4] = ["cache", "nodekiln.lock", "out", TEMPORARY];

/// Size, inode, and times of content and inode: a file that was written, even
/// with its old content, has other ones.
type Stamp = (u64, u64, i64, i64, i64, i64);

impl Workshop {
    /// The command with `arguments`, under a limit of memory and time.
    ///
    /// # Panics
    /// When the folder of temporary files cannot be made.
    pub fn bounded(&self, arguments: &[&str]) -> Command {
        let temporary = self.path(TEMPORARY);
        fs::create_dir_all(&temporary).expect("creates");
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", PATIENCE, "prlimit"])
            .args([&format!("--as={ADDRESS_SPACE}"), "--core=0", "--"])
            .arg(binary())
            .args(arguments);
        self.furnish(&mut command);
        command.env("TMPDIR", temporary);
        command
    }

    /// Locks and builds without a network. Fails unless one of both refuses with
    /// `code`, one error and every text of `words`, and nothing is left behind.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) -> Ran {
        self.refused_after(&["lock", "--offline"], code, words)
    }

    /// As [`Workshop::refused`], with another way to lock.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn refused_after(&self, lock: &[&str], code: i32, words: &[&str]) -> Ran {
        let before = self.possessions();
        let mut ran = ended(self.bounded(lock));
        if ran.code == Some(0) {
            ran = ended(self.bounded(&["build", "--offline"]));
        }
        self.assert_refusal(ran, &before, code, words)
    }

    /// Runs the command with `arguments` alone. Fails unless it refuses as
    /// [`Workshop::refused`] says.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn refused_by(&self, arguments: &[&str], code: i32, words: &[&str]) -> Ran {
        let before = self.possessions();
        self.assert_refusal(ended(self.bounded(arguments)), &before, code, words)
    }

    /// As [`Workshop::refused_by`], for a command that the caller prepared.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn refused_run(&self, command: Command, code: i32, words: &[&str]) -> Ran {
        let before = self.possessions();
        self.assert_refusal(ended(command), &before, code, words)
    }

    #[track_caller]
    fn assert_refusal(
        &self,
        ran: Ran,
        before: &BTreeMap<PathBuf, Stamp>,
        code: i32,
        words: &[&str],
    ) -> Ran {
        // Shown only when the test fails.
        println!("{:?} {}", ran.code, ran.stderr);
        let ran = ran.failed(code, words);
        assert_eq!(&self.possessions(), before, "the user's own files");
        assert_eq!(self.left_in("out"), Vec::<String>::new());
        assert_eq!(self.left_in(TEMPORARY), Vec::<String>::new());
        assert_eq!(self.unfinished_objects(), Vec::<String>::new());
        ran
    }

    /// What the store holds beside whole objects.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn unfinished_objects(&self) -> Vec<String> {
        let folder = self.path("cache/store/temporary");
        if !folder.exists() {
            return Vec::new();
        }
        fs::read_dir(folder)
            .expect("reads")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name != "gate")
            .collect()
    }

    /// All of the workshop that runs have to leave alone.
    fn possessions(&self) -> BTreeMap<PathBuf, Stamp> {
        walkdir::WalkDir::new(self.folder())
            .min_depth(1)
            .into_iter()
            .filter_entry(|entry| {
                let name = entry.file_name().to_string_lossy();
                entry.depth() > 1 || !WRITTEN.iter().any(|written| name == *written)
            })
            .map(|entry| {
                let entry = entry.expect("can be walked");
                let data = entry.metadata().expect("is there");
                let stamp = (
                    data.size(),
                    data.ino(),
                    data.mtime(),
                    data.mtime_nsec(),
                    data.ctime(),
                    data.ctime_nsec(),
                );
                (entry.into_path(), stamp)
            })
            .collect()
    }
}

fn ended(mut command: Command) -> Ran {
    command
        .output()
        .expect("timeout and prlimit are needed")
        .into()
}
