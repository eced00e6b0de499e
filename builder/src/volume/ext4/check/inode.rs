//! Inodes: their checksums, and every block that they claim.

use std::io;

use fs_ext4::checksum::linux_crc32c;

use super::groups::bit_of;
use super::{Check, Claim};
use crate::volume::ext4::geometry::{Checksums, get16, get32};

/// Extent trees are at most this deep (Linux, `EXT4_MAX_EXTENT_DEPTH`).
const MOST_DEPTH: u16 = 5;
const EXTENT_MAGIC: u16 = 0xF30A;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
const RESIZE: u32 = 7;
const ATTRIBUTE_MAGIC: u32 = 0xEA02_0000;
/// Bytes of an inode table that are read at once.
const PIECE: usize = 1 << 20;

/// An inode that is being checked.
pub(super) struct Node<'a> {
    pub(super) number: u32,
    pub(super) raw: &'a [u8],
    /// Start value of the checksums of what belongs to it.
    pub(super) seed: u32,
    /// Its blocks: of content and of maps.
    owned: u64,
    /// Pieces of content in logical order: first logical block, first block,
    /// number.
    pub(super) pieces: Vec<(u64, u64, u64)>,
}

impl Node<'_> {
    pub(super) fn size(&self) -> u64 {
        u64::from(get32(self.raw, 0x4)) | u64::from(get32(self.raw, 0x6C)) << 32
    }

    fn flags(&self) -> u32 {
        get32(self.raw, 0x20)
    }

    fn kind(&self) -> u16 {
        get16(self.raw, 0) & 0xF000
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind() == 0x4000
    }

    /// Whether `i_block` maps blocks: files, folders, and links that are too long
    /// for the inode.
    fn maps_blocks(&self) -> bool {
        let long_link = self.kind() == 0xA000 && self.size() >= 60;
        self.flags() & FLAG_INLINE_DATA == 0
            && (matches!(self.kind(), 0x8000 | 0x4000) || long_link || self.kind() == 0)
    }
}

impl Check<'_> {
    /// Reads every inode table as far as it was ever used.
    pub(super) fn read_inodes(&mut self) -> io::Result<()> {
        let size = usize::from(self.geometry.inode_size);
        for group in 0..self.geometry.groups() {
            let descriptor = self.descriptors[group as usize].clone();
            let mut count = self.geometry.inodes_per_group;
            if self.geometry.has_descriptor_checksums() {
                if descriptor.inodes_uninitialised() {
                    continue;
                }
                count -= descriptor.unused_inodes();
            }
            let bitmap = self.read_block(descriptor.inode_bitmap())?;
            let start = descriptor.inode_table() * u64::from(self.geometry.block_size);
            let first = (group * u64::from(self.geometry.inodes_per_group)) as u32;
            let at_once = (PIECE / size) as u32;
            for from in (0..count).step_by(at_once as usize) {
                let mut table = vec![0; at_once.min(count - from) as usize * size];
                self.storage
                    .read_at(&mut table, start + u64::from(from) * size as u64)?;
                for (index, raw) in (from..).zip(table.chunks(size)) {
                    self.read_inode(first + index + 1, bit_of(&bitmap, index.into()), raw)?;
                }
            }
        }
        Ok(())
    }

    fn read_inode(&mut self, number: u32, is_marked: bool, raw: &[u8]) -> io::Result<()> {
        let links = get16(raw, 0x1A);
        // Reserved inodes count as used whatever they hold.
        if number >= self.first_inode && links == 0 && !is_marked {
            return Ok(());
        }
        let tally = self.inodes.of(number);
        tally.used = true;
        tally.links = links;
        self.check_inode(number, raw)
    }

    fn check_inode(&mut self, number: u32, raw: &[u8]) -> io::Result<()> {
        if raw.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let mut node = Node {
            number,
            raw,
            seed: 0,
            owned: 0,
            pieces: Vec::new(),
        };
        if let Checksums::Crc32c { seed } = self.geometry.checksums {
            node.seed = linux_crc32c(seed, &number.to_le_bytes());
            node.seed = linux_crc32c(node.seed, &raw[0x64..0x68]);
            if !inode_checksum_holds(raw, node.seed) {
                self.find(format!("the checksum of inode {number} is wrong"));
            }
        }
        if node.maps_blocks() {
            if node.flags() & FLAG_EXTENTS != 0 {
                self.walk_extents(&mut node, &raw[0x28..0x64], None)?;
            } else {
                self.walk_indirect(&mut node)?;
            }
        }
        self.check_attribute_block(&mut node)?;
        self.check_count(&node);
        if node.is_folder() {
            self.check_folder(&node)?;
        }
        Ok(())
    }

    /// `depth` is what the level above promises; the root promises itself.
    fn walk_extents(
        &mut self,
        node: &mut Node<'_>,
        raw: &[u8],
        depth: Option<u16>,
    ) -> io::Result<()> {
        let number = node.number;
        let (magic, entries, most, here) =
            (get16(raw, 0), get16(raw, 2), get16(raw, 4), get16(raw, 6));
        let fits = 12 + usize::from(most) * 12 <= raw.len();
        if magic != EXTENT_MAGIC
            || entries > most
            || !fits
            || here > MOST_DEPTH
            || depth.is_some_and(|depth| depth != here)
        {
            self.find(format!("the extent tree of inode {number} makes no sense"));
            return Ok(());
        }
        let mut next = node
            .pieces
            .last()
            .map_or(0, |(logical, _, count)| logical + count);
        for entry in raw[12..12 + usize::from(entries) * 12].chunks(12) {
            let logical = u64::from(get32(entry, 0));
            if logical < next {
                self.find(format!("the extents of inode {number} are out of order"));
                return Ok(());
            }
            if here == 0 {
                let length = u64::from(get16(entry, 4));
                // Longer than 32,768 means: allocated, never written.
                let length = if length > 32768 {
                    length - 32768
                } else {
                    length
                };
                let start = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
                let owner = || format!("inode {number}");
                if length == 0 || self.claim(start, length, &owner) != Claim::Fresh {
                    self.find(format!("an extent of inode {number} makes no sense"));
                    return Ok(());
                }
                node.owned += length;
                node.pieces.push((logical, start, length));
                next = logical + length;
            } else {
                let block = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                let owner = || format!("the extent tree of inode {number}");
                if self.claim(block, 1, &owner) != Claim::Fresh {
                    return Ok(());
                }
                node.owned += 1;
                let below = self.read_block(block)?;
                self.check_extent_tail(node, &below);
                self.walk_extents(node, &below, Some(here - 1))?;
                next = node
                    .pieces
                    .last()
                    .map_or(0, |(logical, _, count)| logical + count);
            }
        }
        Ok(())
    }

    fn check_extent_tail(&mut self, node: &Node<'_>, block: &[u8]) {
        let Checksums::Crc32c { .. } = self.geometry.checksums else {
            return;
        };
        let tail = 12 + usize::from(get16(block, 4)) * 12;
        if tail + 4 > block.len() || linux_crc32c(node.seed, &block[..tail]) != get32(block, tail) {
            self.find(format!(
                "the checksum of an extent block of inode {} is wrong",
                node.number
            ));
        }
    }

    /// The block map of ext2 and ext3: 12 direct blocks, then lists, lists of
    /// lists, lists of lists of lists.
    fn walk_indirect(&mut self, node: &mut Node<'_>) -> io::Result<()> {
        let per_block = u64::from(self.geometry.block_size) / 4;
        let mut logical = 0;
        for slot in 0..15 {
            let block = u64::from(get32(node.raw, 0x28 + slot * 4));
            let level = slot.saturating_sub(11) as u32;
            self.walk_list(node, block, level, logical)?;
            logical += per_block.pow(level);
        }
        Ok(())
    }

    fn walk_list(
        &mut self,
        node: &mut Node<'_>,
        block: u64,
        level: u32,
        logical: u64,
    ) -> io::Result<()> {
        let number = node.number;
        if block == 0 || self.claim(block, 1, &|| format!("inode {number}")) != Claim::Fresh {
            return Ok(());
        }
        node.owned += 1;
        if level == 0 {
            node.pieces.push((logical, block, 1));
            return Ok(());
        }
        let below = self.read_block(block)?;
        let per_block = u64::from(self.geometry.block_size) / 4;
        for (index, entry) in below.chunks(4).enumerate() {
            let logical = logical + index as u64 * per_block.pow(level - 1);
            self.walk_list(node, u64::from(get32(entry, 0)), level - 1, logical)?;
        }
        Ok(())
    }

    fn check_attribute_block(&mut self, node: &mut Node<'_>) -> io::Result<()> {
        let high = if self.geometry.is_64bit {
            get16(node.raw, 0x76)
        } else {
            0
        };
        let block = u64::from(get32(node.raw, 0x68)) | u64::from(high) << 32;
        if block == 0 {
            return Ok(());
        }
        node.owned += 1;
        if let Some((_, seen)) = self.attribute_blocks.get_mut(&block) {
            *seen += 1;
            return Ok(());
        }
        let number = node.number;
        let owner = || format!("the attributes of inode {number}");
        if self.claim(block, 1, &owner) != Claim::Fresh {
            return Ok(());
        }
        let raw = self.read_block(block)?;
        if get32(&raw, 0) != ATTRIBUTE_MAGIC {
            self.find(format!(
                "the attribute block of inode {number} makes no sense"
            ));
        }
        if let Checksums::Crc32c { seed } = self.geometry.checksums {
            let sum = linux_crc32c(seed, &block.to_le_bytes());
            let sum = linux_crc32c(sum, &raw[..0x10]);
            let sum = linux_crc32c(sum, &[0; 4]);
            if linux_crc32c(sum, &raw[0x14..]) != get32(&raw, 0x10) {
                self.find(format!(
                    "the checksum of the attribute block of inode {number} is wrong"
                ));
            }
        }
        self.attribute_blocks.insert(block, (get32(&raw, 4), 1));
        Ok(())
    }

    /// `i_blocks` against what was seen.
    fn check_count(&mut self, node: &Node<'_>) {
        let units = u64::from(get32(node.raw, 0x1C)) | u64::from(get16(node.raw, 0x74)) << 32;
        let unit = if node.flags() & FLAG_HUGE_FILE != 0 {
            1
        } else {
            u64::from(self.geometry.block_size) / 512
        };
        if node.owned * unit != units && node.number != RESIZE {
            self.find(format!(
                "inode {} counts {units} sectors, but has {} blocks",
                node.number, node.owned
            ));
        }
    }
}

fn inode_checksum_holds(raw: &[u8], seed: u32) -> bool {
    let has_high = raw.len() > 128 && get16(raw, 0x80) >= 4;
    let mut copy = raw.to_vec();
    copy[0x7C..0x7E].fill(0);
    let mut said = u32::from(get16(raw, 0x7C));
    if has_high {
        copy[0x82..0x84].fill(0);
        said |= u32::from(get16(raw, 0x82)) << 16;
    }
    let sum = linux_crc32c(seed, &copy);
    said == if has_high { sum } else { sum & 0xFFFF }
}
