//! Checks an ext4 file system: what `e2fsck -fn` would look at, as far as damage
//! done by a writer goes.
//!
//! It shares no code with the driver that writes (checksum functions apart), so
//! that the one cannot hide the other's mistakes. Passes: descriptors; inodes
//! with their block maps and folders; bitmaps and counts; links. Every block is
//! claimed once, every bitmap says exactly what is claimed, every checksum
//! holds, every name leads to an inode that counts it.
//!
//! Bounded: memory in proportion to blocks (a bit each) and to the groups whose
//! inodes are in use, at most [`MOST_BLOCKS`], [`MOST_GROUPS`] and
//! [`MOST_INODES`]; depth of extent trees 5; findings [`MOST`]. Nothing is walked
//! twice: what is claimed a second time is a finding and is not followed.

mod claims;
mod folder;
mod groups;
mod inode;
mod tally;

use std::collections::HashMap;
use std::io;

use claims::Claims;
use tally::Tallies;

use super::descriptor::Descriptor;
use super::gate::{self, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::geometry::{Geometry, get32};
use crate::disk::Storage;
use crate::error::{Error, Result};
use crate::volume::Access;

/// Findings that are kept; a file system with more is broken anyway.
pub const MOST: usize = 100;
/// The root directory's inode.
const ROOT: u32 = 2;
/// Largest number of blocks that is checked: 4 TiB of 4 KiB blocks, 128 MiB of
/// memory.
const MOST_BLOCKS: u64 = 1 << 30;
/// Largest number of groups; usual ones have 128 MiB.
const MOST_GROUPS: u64 = 1 << 18;
/// Largest number of inodes, whether in use or not.
const MOST_INODES: u32 = 1 << 27;

/// Checks the file system on `storage`; an empty list means that it is sound.
///
/// # Errors
/// When the check could not run: the storage fails, or the layout is one that it
/// does not know.
pub fn check(storage: &dyn Storage) -> Result<Vec<String>> {
    let mut raw = vec![0; SUPERBLOCK_SIZE];
    storage
        .read_at(&mut raw, SUPERBLOCK_OFFSET)
        .map_err(|error| Error::io("read the ext4 superblock", error))?;
    if let Err(problem) = gate::judge(&raw, storage.size(), Access::Write) {
        return match problem.class() {
            // Its hint is for those who write.
            crate::Class::Unsupported => Err(could_not_run(
                std::error::Error::source(&problem)
                    .map_or_else(|| problem.to_string(), ToString::to_string),
            )),
            _ => Ok(vec![problem.to_string()]),
        };
    }
    let geometry = Geometry::read(&raw);
    if geometry.blocks > MOST_BLOCKS
        || geometry.groups() > MOST_GROUPS
        || geometry.inodes > MOST_INODES
    {
        return Err(could_not_run(format!(
            "it has {} blocks in {} groups and {} inodes, which is more than is checked here",
            geometry.blocks,
            geometry.groups(),
            geometry.inodes
        )));
    }
    let mut check = Check::new(storage, geometry, &raw);
    check
        .run()
        .map_err(|error| Error::io("check the ext4 file system", error))?;
    Ok(check.findings)
}

fn could_not_run(why: String) -> Error {
    Error::unsupported("check the ext4 file system: the check could not run")
        .caused_by(why)
        .hint("check a copy of the partition with: e2fsck -fn")
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// All blocks are the claimant's alone.
    Fresh,
    /// Some block belongs to something else, too.
    Taken,
    /// Some block does not exist.
    Absent,
}

/// The state of a check.
struct Check<'a> {
    storage: &'a dyn Storage,
    geometry: Geometry,
    /// First inode that is not reserved.
    first_inode: u32,
    /// Inode of the orphan file, or 0.
    orphan_file: u32,
    descriptors: Vec<Descriptor>,
    claims: Claims,
    inodes: Tallies,
    /// Folders by inode: what their `..` says, and which folder names them.
    folders: HashMap<u32, folder::Parents>,
    /// Blocks of extended attributes: reference count by their own word, and
    /// references seen.
    attribute_blocks: HashMap<u64, (u32, u32)>,
    findings: Vec<String>,
}

impl<'a> Check<'a> {
    fn new(storage: &'a dyn Storage, geometry: Geometry, raw: &[u8]) -> Self {
        Self {
            storage,
            first_inode: if get32(raw, 0x4C) == 0 {
                11
            } else {
                get32(raw, 0x54).max(11)
            },
            orphan_file: get32(raw, 0x280),
            descriptors: Vec::new(),
            claims: Claims::new(geometry.blocks),
            inodes: Tallies::new(geometry.inodes_per_group),
            folders: HashMap::new(),
            attribute_blocks: HashMap::new(),
            findings: Vec::new(),
            geometry,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        if !self.read_descriptors()? {
            // Without descriptors nothing can be found, and all would be reported.
            return Ok(());
        }
        self.read_inodes()?;
        self.compare_bitmaps()?;
        self.compare_links();
        Ok(())
    }

    fn find(&mut self, text: impl Into<String>) {
        if self.findings.len() < MOST {
            self.findings.push(text.into());
        }
    }

    fn read_block(&self, block: u64) -> io::Result<Vec<u8>> {
        let size = self.geometry.block_size as usize;
        let mut bytes = vec![0; size];
        self.storage.read_at(&mut bytes, block * size as u64)?;
        Ok(bytes)
    }

    /// Whether there are as many findings as are kept, so that looking on is idle.
    fn is_full(&self) -> bool {
        self.findings.len() >= MOST
    }

    /// Claims `count` blocks from `start` for `owner`. Only what is
    /// [`Claim::Fresh`] may be read on: all else would be walked again and again
    /// where a hostile image lets blocks lead to themselves.
    fn claim(&mut self, start: u64, count: u64, owner: &dyn Fn() -> String) -> Claim {
        match self.claims.claim(start, count) {
            Ok(None) => Claim::Fresh,
            Ok(Some(twice)) => {
                self.find(format!(
                    "block {twice} of {} belongs to something else too",
                    owner()
                ));
                Claim::Taken
            }
            Err(()) => {
                self.find(format!(
                    "{} has blocks {start}..{} behind the end",
                    owner(),
                    start.saturating_add(count)
                ));
                Claim::Absent
            }
        }
    }

    fn compare_links(&mut self) {
        for (number, tally) in std::mem::take(&mut self.inodes).into_all() {
            let special = number < self.first_inode || number == self.orphan_file;
            let (used, names, links) = (tally.used, tally.names, tally.links);
            if names > 0 && !used {
                self.find(format!(
                    "{names} names lead to inode {number}, which is free"
                ));
            }
            if !used || special && number != ROOT {
                continue;
            }
            if names == 0 {
                self.find(format!("no name leads to inode {number}"));
            }
            // A folder with too many subfolders to count says 1 (dir_nlink).
            let uncounted = self.folders.contains_key(&number) && links == 1;
            if u32::from(links) != names && !uncounted {
                self.find(format!(
                    "inode {number} counts {links} names, but has {names}"
                ));
            }
        }
        let mut wrong: Vec<u32> = self
            .folders
            .iter()
            .filter(|(_, parents)| parents.said != parents.named)
            .map(|(number, _)| *number)
            .collect();
        wrong.sort_unstable();
        for number in wrong {
            self.find(format!(
                "'..' of folder {number} does not lead to the folder that names it"
            ));
        }
        let mut miscounted: Vec<u64> = self
            .attribute_blocks
            .iter()
            .filter(|(_, (said, seen))| said != seen)
            .map(|(block, _)| *block)
            .collect();
        miscounted.sort_unstable();
        for block in miscounted {
            self.find(format!("the attribute block {block} miscounts its users"));
        }
    }
}
