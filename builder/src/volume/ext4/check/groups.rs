//! Group descriptors, bitmaps and their counts.

use std::io;

use super::{Check, Claim};
use crate::volume::ext4::descriptor::Descriptor;

impl Check<'_> {
    /// Reads all descriptors and claims what they name; false when they are too
    /// broken to go on.
    pub(super) fn read_descriptors(&mut self) -> io::Result<bool> {
        let geometry = self.geometry.clone();
        let block_size = u64::from(geometry.block_size);
        let mut table = vec![0; geometry.groups() as usize * geometry.descriptor_size];
        self.storage
            .read_at(&mut table, (geometry.first_block + 1) * block_size)?;
        // With 1 KiB blocks the boot block is no part of group 0, but is no
        // file's either; bitmaps begin behind it.
        if geometry.first_block > 0 {
            self.claim(0, geometry.first_block, &|| "the boot block".to_owned());
        }
        for (index, raw) in table.chunks(geometry.descriptor_size).enumerate() {
            let group = index as u64;
            let descriptor = Descriptor::new(raw.to_vec());
            if descriptor.checksum() != geometry.descriptor_checksum(group, raw)
                && geometry.has_descriptor_checksums()
            {
                self.find(format!("the checksum of group {group} is wrong"));
            }
            if geometry.has_copy(group) {
                let copies = 1 + geometry.descriptor_blocks();
                let owner = || format!("the superblock copy of group {group}");
                self.claim(geometry.group_start(group), copies, &owner);
            }
            let mut sound = true;
            for (start, count, what) in [
                (descriptor.block_bitmap(), 1, "block bitmap"),
                (descriptor.inode_bitmap(), 1, "inode bitmap"),
                (
                    descriptor.inode_table(),
                    geometry.inode_table_blocks(),
                    "inode table",
                ),
            ] {
                let owner = || format!("the {what} of group {group}");
                sound &= self.claim(start, count, &owner) != Claim::Absent;
            }
            if !sound || descriptor.unused_inodes() > geometry.inodes_per_group {
                self.find(format!("the descriptor of group {group} makes no sense"));
                return Ok(false);
            }
            self.descriptors.push(descriptor);
        }
        Ok(true)
    }

    /// Compares both bitmaps of every group, and all counts, with what was seen.
    pub(super) fn compare_bitmaps(&mut self) -> io::Result<()> {
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for group in 0..self.geometry.groups() {
            let descriptor = self.descriptors[group as usize].clone();
            free_blocks += self.compare_blocks(group, &descriptor)?;
            free_inodes += self.compare_inodes(group, &descriptor)?;
        }
        let geometry = &self.geometry;
        let (said_blocks, said_inodes) = (geometry.free_blocks, u64::from(geometry.free_inodes));
        if said_blocks != free_blocks {
            self.find(format!(
                "the superblock counts {said_blocks} free blocks of {free_blocks}"
            ));
        }
        if said_inodes != free_inodes {
            self.find(format!(
                "the superblock counts {said_inodes} free inodes of {free_inodes}"
            ));
        }
        Ok(())
    }

    fn compare_blocks(&mut self, group: u64, descriptor: &Descriptor) -> io::Result<u64> {
        let start = self.geometry.group_start(group);
        let count = self.geometry.group_blocks(group);
        let free = (start..start + count)
            .filter(|block| !self.claims.has(*block))
            .count() as u64;
        if u64::from(descriptor.free_blocks()) != free {
            self.find(format!(
                "group {group} counts {} free blocks of {free}",
                descriptor.free_blocks()
            ));
        }
        if descriptor.blocks_uninitialised() {
            return Ok(free);
        }
        let bitmap = self.read_block(descriptor.block_bitmap())?;
        let sum = descriptor.cut(self.geometry.block_bitmap_checksum(&bitmap));
        if self.geometry.has_bitmap_checksums() && descriptor.block_bitmap_checksum() != sum {
            self.find(format!(
                "the checksum of the block bitmap of group {group} is wrong"
            ));
        }
        let differs = (0..count).find(|bit| bit_of(&bitmap, *bit) != self.claims.has(start + bit));
        if let Some(bit) = differs {
            let word = if bit_of(&bitmap, bit) {
                "taken, but nobody's"
            } else {
                "free, but in use"
            };
            self.find(format!("block {} is marked {word}", start + bit));
        }
        let room = u64::from(self.geometry.block_size) * 8;
        if (count..room.min(u64::from(self.geometry.blocks_per_group)))
            .any(|bit| !bit_of(&bitmap, bit))
        {
            self.find(format!("the block bitmap of group {group} has no padding"));
        }
        Ok(free)
    }

    fn compare_inodes(&mut self, group: u64, descriptor: &Descriptor) -> io::Result<u64> {
        let per_group = self.geometry.inodes_per_group;
        let first = group as usize * per_group as usize;
        let used: Vec<bool> = (0..per_group)
            .map(|index| self.inodes.is_used(group as u32, index))
            .collect();
        let free = used.iter().filter(|used| !**used).count() as u64;
        if u64::from(descriptor.free_inodes()) != free {
            self.find(format!(
                "group {group} counts {} free inodes of {free}",
                descriptor.free_inodes()
            ));
        }
        let folders =
            (0..per_group).filter(|index| self.folders.contains_key(&(first as u32 + index + 1)));
        let folders = folders.count() as u32;
        if descriptor.folders() != folders {
            self.find(format!(
                "group {group} counts {} folders of {folders}",
                descriptor.folders()
            ));
        }
        if descriptor.inodes_uninitialised() && self.geometry.has_descriptor_checksums() {
            return Ok(free);
        }
        let bitmap = self.read_block(descriptor.inode_bitmap())?;
        let sum = descriptor.cut(self.geometry.inode_bitmap_checksum(&bitmap));
        if self.geometry.has_bitmap_checksums() && descriptor.inode_bitmap_checksum() != sum {
            self.find(format!(
                "the checksum of the inode bitmap of group {group} is wrong"
            ));
        }
        let differs = used
            .iter()
            .enumerate()
            .find(|(bit, used)| bit_of(&bitmap, *bit as u64) != **used);
        if let Some((bit, used)) = differs {
            let word = if *used {
                "free, but in use"
            } else {
                "taken, but not in use"
            };
            self.find(format!("inode {} is marked {word}", first + bit + 1));
        }
        Ok(free)
    }
}

/// Bit `number` of a bitmap, lowest bit of the first byte first.
pub(super) fn bit_of(bitmap: &[u8], number: u64) -> bool {
    bitmap
        .get((number / 8) as usize)
        .is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}
