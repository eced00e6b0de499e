//! Folders have one name: through one with a second a tree leads into itself, or has more
//! paths than can be walked.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Problem;
use super::refusal::refuse;
use crate::error::Result;

/// The folders that were met.
#[derive(Debug)]
pub(super) struct Places {
    root: u64,
    /// Hash of parent and name, by the folder's inode.
    met: HashMap<u64, u64>,
}

impl Places {
    /// None yet, below the folder `root`, which has no name.
    pub(super) fn new(root: u64) -> Self {
        Self {
            root,
            met: HashMap::new(),
        }
    }

    /// Takes note that the folder `number` is `name` in `parent`.
    ///
    /// # Errors
    /// [`Problem::Damaged`] when it is the root, or was met under another name.
    pub(super) fn one_name(
        &mut self,
        number: u64,
        parent: u64,
        name: &[u8],
        doing: &str,
    ) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        (parent, name).hash(&mut hasher);
        let place = hasher.finish();
        if number != self.root && *self.met.entry(number).or_insert(place) == place {
            return Ok(());
        }
        let name = name.escape_ascii();
        Err(refuse(
            Problem::Damaged,
            doing,
            format!("the folder '{name}' (inode {number}) has another name, too"),
        ))
    }

    /// The folder `number` goes, or moves.
    pub(super) fn forget(&mut self, number: u64) {
        self.met.remove(&number);
    }
}
