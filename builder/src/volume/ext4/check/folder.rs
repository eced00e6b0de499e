//! Folders: every block of names, with its checksum.

use std::collections::HashSet;
use std::io;

use fs_ext4::checksum::linux_crc32c;

use super::inode::Node;
use super::{Check, ROOT};
use crate::volume::ext4::geometry::{Checksums, get16, get32};

const FLAG_INDEX: u32 = 0x1000;
/// Type of the entry that hides a checksum behind the names.
const TAIL: u8 = 0xDE;
/// Its size in bytes.
const TAIL_SIZE: usize = 12;
/// Offset of the index header in a folder's first block (behind `.` and `..`)
/// and in later ones (behind an empty entry).
const ROOT_COUNT: usize = 0x20;
const NODE_COUNT: usize = 0x8;

/// Who a folder's parent is.
#[derive(Debug, Default)]
pub(super) struct Parents {
    /// By its `..`.
    pub(super) said: u32,
    /// By the folder that names it.
    pub(super) named: u32,
}

impl Check<'_> {
    pub(super) fn check_folder(&mut self, node: &Node<'_>) -> io::Result<()> {
        let block_size = u64::from(self.geometry.block_size);
        let number = node.number;
        self.folders.entry(number).or_default();
        if number == ROOT {
            self.folders.entry(ROOT).or_default().named = ROOT;
        }
        if !node.size().is_multiple_of(block_size) || node.size() == 0 {
            self.find(format!(
                "the size of folder {number} is no number of blocks"
            ));
        }
        let indexed = get32(node.raw, 0x20) & FLAG_INDEX != 0;
        let mut names = HashSet::new();
        for (logical, start, count) in node.pieces.clone() {
            for step in 0..count {
                if self.is_full() {
                    return Ok(());
                }
                if (logical + step) * block_size >= node.size() {
                    self.find(format!("folder {number} has a block behind its end"));
                    break;
                }
                let raw = self.read_block(start + step)?;
                self.check_names(node, logical + step, indexed, &raw, &mut names);
            }
        }
        Ok(())
    }

    fn check_names(
        &mut self,
        node: &Node<'_>,
        logical: u64,
        indexed: bool,
        raw: &[u8],
        names: &mut HashSet<Vec<u8>>,
    ) {
        let number = node.number;
        let is_index =
            indexed && (logical == 0 || get32(raw, 0) == 0 && entry_length(raw, 0) == raw.len());
        if let Checksums::Crc32c { .. } = self.geometry.checksums {
            let holds = if is_index {
                index_holds(
                    raw,
                    if logical == 0 { ROOT_COUNT } else { NODE_COUNT },
                    node.seed,
                )
            } else {
                names_hold(raw, node.seed)
            };
            if !holds {
                self.find(format!(
                    "the checksum of block {logical} of folder {number} is wrong"
                ));
            }
        }
        let mut at = 0;
        let mut position = 0;
        while at < raw.len() {
            let length = entry_length(raw, at);
            if length < 8 || !length.is_multiple_of(4) || at + length > raw.len() {
                self.find(format!("block {logical} of folder {number} makes no sense"));
                return;
            }
            let inode = get32(raw, at);
            let name_length = usize::from(raw[at + 6]);
            if inode != 0 {
                if 8 + name_length > length || name_length == 0 {
                    self.find(format!("a name in folder {number} makes no sense"));
                    return;
                }
                let name = &raw[at + 8..at + 8 + name_length];
                self.check_name(
                    number,
                    logical == 0 && position < 2,
                    position,
                    inode,
                    name,
                    names,
                );
                position += 1;
            }
            at += length;
        }
    }

    fn check_name(
        &mut self,
        folder: u32,
        is_dot: bool,
        position: usize,
        inode: u32,
        name: &[u8],
        names: &mut HashSet<Vec<u8>>,
    ) {
        if inode > self.geometry.inodes {
            self.find(format!(
                "a name in folder {folder} leads to inode {inode}, which is none"
            ));
            return;
        }
        self.inodes.of(inode).names += 1;
        if is_dot {
            let sound = if position == 0 {
                name == b"." && inode == folder
            } else {
                name == b".."
            };
            if !sound {
                self.find(format!("folder {folder} does not begin with '.' and '..'"));
            }
            if position == 1 {
                self.folders.entry(folder).or_default().said = inode;
            }
            return;
        }
        if name.contains(&b'/') || name.contains(&0) || !names.insert(name.to_vec()) {
            self.find(format!(
                "the name '{}' in folder {folder} is there twice or impossible",
                name.escape_ascii()
            ));
        }
        self.name_child(folder, inode);
    }

    /// Remembers who names an inode; whether it is a folder may be known only
    /// later, so every name is looked at when its inode says so.
    fn name_child(&mut self, folder: u32, inode: u32) {
        if self.is_folder_inode(inode) {
            self.folders.entry(inode).or_default().named = folder;
        }
    }

    fn is_folder_inode(&self, inode: u32) -> bool {
        let per_group = self.geometry.inodes_per_group;
        let (group, index) = ((inode - 1) / per_group, (inode - 1) % per_group);
        let Some(descriptor) = self.descriptors.get(group as usize) else {
            return false;
        };
        let place = descriptor.inode_table() * u64::from(self.geometry.block_size)
            + u64::from(index) * u64::from(self.geometry.inode_size);
        let mut mode = [0; 2];
        self.storage.read_at(&mut mode, place).is_ok() && get16(&mode, 0) & 0xF000 == 0x4000
    }
}

/// Length of the entry at `at`, in bytes; the two lowest bits extend it where
/// blocks are larger than 64 KiB.
fn entry_length(raw: &[u8], at: usize) -> usize {
    if at + 8 > raw.len() {
        return 0;
    }
    match usize::from(get16(raw, at + 4)) {
        0 | 0xFFFF => raw.len(),
        length => length & 0xFFFC | (length & 3) << 16,
    }
}

fn names_hold(raw: &[u8], seed: u32) -> bool {
    let tail = raw.len() - TAIL_SIZE;
    get32(raw, tail) == 0
        && get16(raw, tail + 4) == TAIL_SIZE as u16
        && raw[tail + 7] == TAIL
        && linux_crc32c(seed, &raw[..tail]) == get32(raw, tail + 8)
}

/// Index blocks: the sum covers the entries in use and the tail with its own
/// field as zero (Linux, `ext4_dx_csum`).
fn index_holds(raw: &[u8], count_at: usize, seed: u32) -> bool {
    let limit = usize::from(get16(raw, count_at));
    let count = usize::from(get16(raw, count_at + 2));
    let (used, tail) = (count_at + count * 8, count_at + limit * 8);
    if count > limit || tail + 8 > raw.len() {
        return false;
    }
    let sum = linux_crc32c(seed, &raw[..used]);
    let sum = linux_crc32c(sum, &raw[tail..tail + 4]);
    linux_crc32c(sum, &[0; 4]) == get32(raw, tail + 4)
}
