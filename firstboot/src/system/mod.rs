//! The edge: what touches a running system, behind one small trait each, so that
//! everything above can be tried without one.

mod console;
mod cpu;
pub mod dns;
mod facts;
mod folder;
mod hardware;
mod http;
mod journal_line;
mod linux;
mod mounts;
mod network;
mod notify;
mod process;
mod task;
mod timestamp;
mod tree;
mod variables;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

pub use facts::{Missing, gather};
pub use folder::Folder;
pub(crate) use http::{SIGNATURES, Url};
pub use journal_line::Level;
pub use linux::Linux;
pub use mounts::{mounts_at_or_below, mounts_below};
pub use network::{Network, NetworkError, Request, Response, Route};
pub use task::{Argument, Task};
pub use timestamp::rfc3339;
pub use variables::Variables;

/// Why something could not be done to the system. Never holds the content of a
/// file or an argument that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written or removed.
    #[error("{doing} {path}")]
    File {
        /// What was being done, such as `writing`.
        doing: &'static str,
        /// Its path, as the node sees it.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is larger than anything that belongs there.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// Its path.
        path: String,
        /// The most that is read, in bytes.
        limit: usize,
    },
    /// A program could not be started or followed.
    #[error("running {program}")]
    Program {
        /// Its name.
        program: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program took too long and was killed.
    #[error("{program} did not end within {} s", limit.as_secs())]
    Deadline {
        /// Its name.
        program: String,
        /// The time it had.
        limit: Duration,
    },
}

impl Error {
    /// What to do about it, where the reason says so.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::File { source, .. } = self else {
            return None;
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("the disk is full, `df -h` and `df -i` show where: make room")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("the file system is mounted read-only, and the kernel's log may say why")
            }
            _ => None,
        }
    }
}

/// Permission bits and age of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The twelve permission bits.
    pub mode: u32,
    /// When its content last changed.
    pub modified: SystemTime,
    /// Whether it is a regular file, and not a link or anything else.
    pub is_file: bool,
}

/// Room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written by those who are not root.
    pub free: u64,
    /// All bytes that it can hold.
    pub total: u64,
}

/// A file to be put in place.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Absolute path.
    pub path: &'a str,
    /// The whole content.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
}

/// Files by absolute path.
pub trait Files {
    /// The whole content; `None` when there is no such file.
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Error>;
    /// Of the thing itself, not of what a link points to; `None` when there is none.
    fn status(&self, path: &str) -> Result<Option<Status>, Error>;
    /// Names in a folder, sorted; empty when there is no such folder.
    fn names(&self, folder: &str) -> Result<Vec<String>, Error>;
    /// Where a chain of links ends; `None` when there is nothing.
    fn resolve(&self, path: &str) -> Option<String>;
    /// Puts a file in place at once: whoever looks sees the old content or the
    /// new, whole and with the right mode, after a power cut as well. Folders on the
    /// way are made with mode 0755.
    fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Error> {
        self.write_all(&[NewFile {
            path,
            content,
            mode,
        }])
    }
    /// Puts several files in place as [`Files::write`] does, one after the other,
    /// but waits for the disk only once. Cut off, some are new and some are old.
    fn write_all(&self, files: &[NewFile<'_>]) -> Result<(), Error>;
    /// Removes a file or a link; that it is gone already is no error.
    fn remove(&self, path: &str) -> Result<(), Error>;
    /// Removes a folder in which nothing lies. One that holds something, on which
    /// something is mounted or that is gone already is no error.
    fn remove_empty(&self, folder: &str) -> Result<(), Error>;
    /// Removes all that a folder holds and leaves the folder. No link is followed and
    /// no mount is crossed: one that is met is an error. That there is no such folder
    /// is none.
    fn empty(&self, folder: &str) -> Result<(), Error>;
    /// Moves a file, link or whole folder within its file system; folders on the way
    /// are made as for [`Files::write`]. That it is gone already is no error.
    fn rename(&self, from: &str, to: &str) -> Result<(), Error>;
    /// Puts a symbolic link in place at once, as [`Files::write`] does with a file.
    fn link(&self, path: &str, target: &str) -> Result<(), Error>;
    /// Room of the file system that holds a folder; `None` when there is no such
    /// folder.
    fn space(&self, path: &str) -> Result<Option<Space>, Error>;
    /// What a link says; `None` when there is none, or something else.
    fn link_target(&self, path: &str) -> Result<Option<String>, Error>;
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// Whether it ended with code 0.
    pub success: bool,
    /// What it wrote to its output; at most as much as the task keeps.
    pub output: String,
    /// What it wrote to its error output; at most as much as the task keeps. No URL in
    /// it has a password.
    pub errors: String,
}

/// Runs programs.
pub trait Programs {
    /// Runs a program to its end.
    fn run(&self, task: &Task) -> Result<Ended, Error>;
    /// Time spent so far in waiting for programs.
    fn waited(&self) -> Duration;
}

/// Time.
pub trait Clock {
    /// The time of day; may be wrong by years on a first boot.
    fn now(&self) -> SystemTime;
    /// Time since this program started; never goes back.
    fn elapsed(&self) -> Duration;
    /// Lets time pass, for something that gives no sign when it happens.
    fn pause(&self, time: Duration);
}

/// What is said, and to whom.
pub trait Voice {
    /// One entry of the log, with fields beside the message.
    fn log(&self, level: Level, message: &str, fields: &BTreeMap<&str, String>);
    /// One line for a person at the console.
    fn milestone(&self, text: &str);
    /// Tells the service manager that everything that others wait for is done.
    fn ready(&self);
    /// Tells the service manager what goes on.
    fn status_line(&self, text: &str);
}

/// A running system. Several threads may ask it at once, so that what waits for
/// the network waits together.
pub trait System: Files + Programs + Clock + Voice + Network + Sync {}

impl<T: Files + Programs + Clock + Voice + Network + Sync> System for T {}

/// Writes a file only if its content or mode differs; says whether it did.
pub fn write_if_changed(
    files: &dyn Files,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Result<bool, Error> {
    if is_current(files, path, content, mode)? {
        return Ok(false);
    }
    files.write(path, content, mode)?;
    Ok(true)
}

/// Whether a file has this content and mode already.
pub fn is_current(files: &dyn Files, path: &str, content: &[u8], mode: u32) -> Result<bool, Error> {
    let same_mode = files
        .status(path)?
        .is_some_and(|status| status.is_file && status.mode == mode);
    if !same_mode {
        return Ok(false);
    }
    match files.read(path, content.len()) {
        Ok(current) => Ok(current.as_deref() == Some(content)),
        Err(Error::TooLarge { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) mod pretended;
#[cfg(test)]
mod shared;
