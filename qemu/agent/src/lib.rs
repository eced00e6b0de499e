//! What nodekiln and its agent tell each other.
//!
//! The agent is the only program of a guest kernel. It gets three disks: the image,
//! the payload, and one block for its answer. The payload begins with a
//! [`Header`]; behind it lie the contents of files, each at a multiple of
//! [`BLOCK`], and the list of [`Operation`]s, which the header points to. The
//! answer is an [`Outcome`].
//!
//! All numbers are little-endian. Reading is bounded: nothing is made larger than
//! the limits below because a payload says so.

mod fuzz;
pub mod list;
pub mod outcome;

use std::fmt;

pub use fuzz::fuzz;
pub use list::{Attributes, Content, Header, Operation};
pub use outcome::{Outcome, Stage};

/// Everything that the guest reads and writes past its page cache lies at a
/// multiple of this, in bytes: the largest sector of XFS images in use.
pub const BLOCK: usize = 4096;
/// Largest content that lies in the list itself, in bytes: below, a page cache is
/// cheaper than a write of its own.
pub const INLINE: u64 = 16 << 10;
/// Longest path, in bytes (Linux `PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Largest value of an extended attribute, in bytes (Linux `XATTR_SIZE_MAX`).
pub const MAX_VALUE: usize = 64 << 10;
/// Most extended attributes of one file.
pub const MAX_XATTRS: usize = 4096;

/// A payload or an answer that is not one.
#[derive(Debug)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}
