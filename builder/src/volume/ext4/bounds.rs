//! What the driver may be handed of a foreign image.
//!
//! The driver believes block maps: it follows a tree whose branches lead to the
//! same block as often as the tree says, and keeps all that it finds. Before it
//! is asked for anything that walks a whole map, the map is walked here, with
//! bounds: extent trees at most five levels deep (`EXT4_MAX_EXTENT_DEPTH` in
//! Linux), every block of the map and of the content at most once and inside the
//! file system, and no more pieces than [`MOST_RUNS`]. The same holds for blocks of
//! extended attributes.
//!
//! Pure: bytes come from a function that reads a block.

use std::collections::HashSet;
use std::io;

use super::geometry::{get16, get32};

/// Largest number of pieces that one file may lie in: 16 MiB of memory here,
/// about twice that in the driver.
pub const MOST_RUNS: usize = 1 << 20;
/// Largest number of blocks that one map may take.
const MOST_NODES: usize = 1 << 16;
/// Largest number of groups that one file may touch: the driver keeps a bitmap of
/// each while it frees it, 64 MiB of 4 KiB blocks.
const MOST_GROUPS: usize = 1 << 14;
/// `EXT4_MAX_EXTENT_DEPTH`.
const MOST_DEPTH: u16 = 5;
const EXTENT_MAGIC: u16 = 0xF30A;
/// Longer extents than this are allocated and not initialised.
const LONGEST_WRITTEN: u64 = 0x8000;
const ATTRIBUTE_MAGIC: u32 = 0xEA02_0000;
/// Size of the header of a block of attributes, in bytes.
const ATTRIBUTE_HEADER: usize = 32;
/// Size of an attribute's entry without its name, in bytes.
const ATTRIBUTE_ENTRY: usize = 16;

const FLAG_HUGE_FILE: u32 = 0x4_0000;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// Reads a whole block.
pub type ReadBlock<'a> = dyn Fn(u64, &mut [u8]) -> io::Result<()> + 'a;

/// The blocks that a file system has.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Size of a block in bytes.
    pub block_size: u32,
    /// First block that may hold anything of a file.
    pub first: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Blocks in a full group.
    pub per_group: u64,
}

/// Why an inode is not handed to the driver.
#[derive(Debug)]
pub enum Unfit {
    /// It contradicts itself.
    Damaged(String),
    /// It may be sound, but is larger than is handled here.
    TooLarge(String),
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What an inode maps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Blocks of content.
    pub content: u64,
    /// Blocks of the map itself.
    pub nodes: u64,
    /// All of them in order: first block and number.
    pub runs: Vec<(u64, u64)>,
}

impl Mapped {
    fn all(&self) -> u64 {
        self.content + self.nodes
    }
}

/// Walks the block map of the raw inode `raw`, of at least 128 bytes.
///
/// # Errors
/// See [`Unfit`].
pub fn walk(room: &Room, raw: &[u8], read: &ReadBlock<'_>) -> Result<Mapped, Unfit> {
    let flags = get32(raw, 0x20);
    let mut walk = Walk {
        room,
        read,
        nodes: HashSet::new(),
        runs: Vec::new(),
        next: 0,
    };
    if flags & FLAG_EXTENTS != 0 {
        walk.extents(&raw[0x28..0x64], None)?;
    } else if flags & FLAG_INLINE_DATA == 0 && sectors(raw) > attribute_sectors(room, raw) {
        for slot in 0..15 {
            let level = (slot as u32).saturating_sub(11);
            walk.list(u64::from(get32(raw, 0x28 + slot * 4)), level)?;
        }
    }
    walk.finish()
}

/// Whether `i_blocks` of `raw` is what the map and the attributes take.
///
/// # Errors
/// [`Unfit::Damaged`] when it is not.
pub fn count_holds(room: &Room, raw: &[u8], mapped: &Mapped) -> Result<(), Unfit> {
    let unit = match get32(raw, 0x20) & FLAG_HUGE_FILE {
        0 => u64::from(room.block_size / 512),
        _ => 1,
    };
    let owned = mapped.all() + u64::from(attribute_block(raw) != 0);
    if owned * unit == sectors(raw) {
        return Ok(());
    }
    Err(Unfit::Damaged(format!(
        "its inode counts {} sectors, but it has {owned} blocks",
        sectors(raw)
    )))
}

/// Looks at the block of extended attributes of `raw`, if there is one.
///
/// # Errors
/// See [`Unfit`].
pub fn attributes(room: &Room, raw: &[u8], read: &ReadBlock<'_>) -> Result<(), Unfit> {
    let number = attribute_block(raw);
    if number == 0 {
        return Ok(());
    }
    room.holds(number, 1)?;
    let mut block = vec![0; room.block_size as usize];
    read(number, &mut block)?;
    let damaged = |what: &str| {
        Err(Unfit::Damaged(format!(
            "its block of extended attributes {what}"
        )))
    };
    if get32(&block, 0) != ATTRIBUTE_MAGIC {
        return damaged("is none");
    }
    if get32(&block, 4) == 0 || get32(&block, 8) != 1 {
        return damaged("has no user, or more than one block");
    }
    let mut at = ATTRIBUTE_HEADER;
    loop {
        let Some(entry) = block.get(at..at + ATTRIBUTE_ENTRY) else {
            // The list may end with the block's last four bytes.
            return match block.get(at..at + 4) {
                Some([0, 0, 0, 0]) => Ok(()),
                _ => damaged("has no end"),
            };
        };
        if get32(entry, 0) == 0 {
            return Ok(());
        }
        let name = usize::from(entry[0]);
        let (offset, size) = (usize::from(get16(entry, 2)), get32(entry, 8) as usize);
        let inside = get32(entry, 4) != 0
            || offset
                .checked_add(size)
                .is_some_and(|end| end <= block.len());
        if !inside {
            return damaged("has a value that ends behind it");
        }
        at += ATTRIBUTE_ENTRY + name.next_multiple_of(4);
    }
}

/// The block of extended attributes; 0 when there is none.
fn attribute_block(raw: &[u8]) -> u64 {
    u64::from(get32(raw, 0x68)) | u64::from(get16(raw, 0x76)) << 32
}

fn attribute_sectors(room: &Room, raw: &[u8]) -> u64 {
    match attribute_block(raw) {
        0 => 0,
        _ => u64::from(room.block_size / 512),
    }
}

fn sectors(raw: &[u8]) -> u64 {
    u64::from(get32(raw, 0x1C)) | u64::from(get16(raw, 0x74)) << 32
}

impl Room {
    fn holds(&self, start: u64, count: u64) -> Result<(), Unfit> {
        let end = start.checked_add(count);
        if start >= self.first && end.is_some_and(|end| end <= self.blocks) {
            return Ok(());
        }
        Err(Unfit::Damaged(format!(
            "it has blocks {start} to {}, and the file system ends at {}",
            start.saturating_add(count),
            self.blocks
        )))
    }
}

struct Walk<'a> {
    room: &'a Room,
    read: &'a ReadBlock<'a>,
    nodes: HashSet<u64>,
    /// First block and number of what holds content.
    runs: Vec<(u64, u64)>,
    /// First logical block that is not mapped yet.
    next: u64,
}

impl Walk<'_> {
    fn node(&mut self, block: u64) -> Result<Vec<u8>, Unfit> {
        self.room.holds(block, 1)?;
        if !self.nodes.insert(block) {
            return Err(Unfit::Damaged(format!(
                "its block map leads to block {block} twice"
            )));
        }
        if self.nodes.len() > MOST_NODES {
            return Err(Unfit::TooLarge(format!(
                "its block map has more than {MOST_NODES} blocks"
            )));
        }
        let mut bytes = vec![0; self.room.block_size as usize];
        (self.read)(block, &mut bytes)?;
        Ok(bytes)
    }

    fn run(&mut self, start: u64, count: u64) -> Result<(), Unfit> {
        self.room.holds(start, count)?;
        if let Some((first, length)) = self.runs.last_mut()
            && *first + *length == start
        {
            *length += count;
            return Ok(());
        }
        if self.runs.len() >= MOST_RUNS {
            return Err(Unfit::TooLarge(format!(
                "it lies in more than {MOST_RUNS} pieces"
            )));
        }
        self.runs.push((start, count));
        Ok(())
    }

    /// `depth` is what the level above promises; the root promises itself.
    fn extents(&mut self, raw: &[u8], depth: Option<u16>) -> Result<(), Unfit> {
        let (entries, most, here) = (get16(raw, 2), get16(raw, 4), get16(raw, 6));
        let end = 12 + usize::from(entries) * 12;
        if get16(raw, 0) != EXTENT_MAGIC
            || entries > most
            || end > raw.len()
            || here > MOST_DEPTH
            || depth.is_some_and(|depth| depth != here)
        {
            return Err(Unfit::Damaged("its extent tree makes no sense".to_owned()));
        }
        for entry in raw[12..end].chunks(12) {
            let logical = u64::from(get32(entry, 0));
            if logical < self.next {
                return Err(Unfit::Damaged("its extents are out of order".to_owned()));
            }
            if here > 0 {
                let block = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                let below = self.node(block)?;
                self.extents(&below, Some(here - 1))?;
                continue;
            }
            let said = u64::from(get16(entry, 4));
            let length = match said {
                0..=LONGEST_WRITTEN => said,
                _ => said - LONGEST_WRITTEN,
            };
            if length == 0 {
                return Err(Unfit::Damaged("it has an empty extent".to_owned()));
            }
            let start = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
            self.run(start, length)?;
            self.next = logical + length;
        }
        Ok(())
    }

    /// The map of ext2 and ext3: lists of blocks, `level` of them above another.
    fn list(&mut self, block: u64, level: u32) -> Result<(), Unfit> {
        if block == 0 {
            return Ok(());
        }
        if level == 0 {
            return self.run(block, 1);
        }
        let below = self.node(block)?;
        for entry in below.chunks_exact(4) {
            self.list(u64::from(get32(entry, 0)), level - 1)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Mapped, Unfit> {
        let content = self.runs.iter().map(|(_, count)| count).sum();
        let nodes = self.nodes.len() as u64;
        self.runs.extend(self.nodes.iter().map(|block| (*block, 1)));
        self.runs.sort_unstable();
        let mut groups = 0;
        let mut last_group = None;
        let mut end = 0;
        for (start, count) in &self.runs {
            if *start < end {
                return Err(Unfit::Damaged(format!("it has block {start} twice")));
            }
            end = start + count;
            let (first, last) = (start / self.room.per_group, (end - 1) / self.room.per_group);
            groups += last - first + u64::from(last_group != Some(first));
            last_group = Some(last);
        }
        if groups > MOST_GROUPS as u64 {
            return Err(Unfit::TooLarge(format!(
                "it lies in more than {MOST_GROUPS} block groups"
            )));
        }
        Ok(Mapped {
            content,
            nodes,
            runs: self.runs,
        })
    }
}

#[cfg(test)]
mod tests;
