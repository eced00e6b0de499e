//! Makes an unmounted ext4 fill its partition.
//!
//! Old blocks stay where they are: the last group is filled up, further groups
//! are laid behind it with their own bitmaps and inode table, and the group
//! descriptors grow into the blocks that `mke2fs` reserved for them. It is what
//! `resize2fs` does to a file system that is not mounted, without a program, and
//! on any [`Storage`].
//!
//! Layout: Linux, `Documentation/filesystems/ext4/{super,group_descr,bitmaps}.rst`;
//! the resize inode: e2fsprogs, `lib/ext2fs/res_gdt.c`.

mod resize_inode;

use std::io;

use super::descriptor::Descriptor;
use super::gate::{self, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::geometry::{Geometry, put32};
use crate::disk::Storage;
use crate::error::{Error, Result};
use crate::volume::Access;
use crate::volume::refusal::storage_failed;

/// A last group with fewer free blocks than this is not worth its metadata;
/// `resize2fs` draws the line at the same number.
const SMALLEST_LAST_GROUP: u64 = 50;

/// Sizes before and after, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Size before.
    pub from: u64,
    /// Size after; less than the partition by at most one small group.
    pub to: u64,
}

/// Grows the file system on `storage` to the storage's size. One that is as
/// large already stays untouched.
///
/// # Errors
/// [`crate::Class::Unsupported`] when more descriptors are needed than were
/// reserved; else what opening it for writing gives.
pub fn grow(storage: &dyn Storage) -> Result<Growth> {
    let mut raw = vec![0; SUPERBLOCK_SIZE];
    let read = |error| Error::io("read the ext4 superblock", error);
    storage.read_at(&mut raw, SUPERBLOCK_OFFSET).map_err(read)?;
    gate::judge(&raw, storage.size(), Access::Write)?;
    let old = Geometry::read(&raw);
    let new = plan(&old, storage.size())?;
    let growth = Growth {
        from: old.bytes(),
        to: new.bytes(),
    };
    if new.blocks > old.blocks {
        apply(storage, &mut raw, &old, &new).map_err(failed)?;
    }
    Ok(growth)
}

/// What contradicts itself is damage; the rest is the machine's fault.
fn failed(error: io::Error) -> Error {
    let doing = "grow the ext4 file system";
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => storage_failed(doing, &error),
        _ => Error::io(doing, error),
    }
}

/// The geometry that fills `size` bytes.
fn plan(old: &Geometry, size: u64) -> Result<Geometry> {
    let mut new = old.clone();
    let mut blocks = (size / u64::from(old.block_size)).min(old.most_blocks());
    loop {
        new.blocks = blocks.max(old.blocks);
        let extra = new.descriptor_blocks() - old.descriptor_blocks();
        if extra > u64::from(old.reserved_descriptor_blocks) {
            return Err(Error::unsupported(format!(
                "grow the ext4 file system from {} to {size} bytes: it has room for the \
                 descriptors of {} bytes only",
                old.bytes(),
                old.most_bytes()
            ))
            .hint("choose a smaller diskSize, or make the base with `mke2fs -E resize=`"));
        }
        new.reserved_descriptor_blocks = old.reserved_descriptor_blocks - extra as u16;
        let last = new.groups() - 1;
        let small = last >= old.groups()
            && new.group_blocks(last) < new.group_overhead(last) + SMALLEST_LAST_GROUP;
        if !small {
            return Ok(new);
        }
        blocks = new.group_start(last);
    }
}

fn apply(storage: &dyn Storage, raw: &mut [u8], old: &Geometry, new: &Geometry) -> io::Result<()> {
    let mut descriptors = read_descriptors(storage, old)?;
    resize_inode::update(storage, old, new, &descriptors[0])?;
    let mut free = fill_last_group(storage, old, new, &mut descriptors)?;
    for group in old.groups()..new.groups() {
        let (descriptor, free_here) = add_group(storage, new, group)?;
        descriptors.push(descriptor);
        free += free_here;
    }
    update_superblock(raw, old, new, free);
    write_copies(storage, raw, new, &descriptors)
}

/// The descriptors of all groups, none of which leads out of the file system.
pub(super) fn read_descriptors(
    storage: &dyn Storage,
    geometry: &Geometry,
) -> io::Result<Vec<Descriptor>> {
    let size = geometry.descriptor_size;
    let mut table = vec![0; geometry.groups() as usize * size];
    let start = (geometry.first_block + 1) * u64::from(geometry.block_size);
    storage.read_at(&mut table, start)?;
    let descriptors: Vec<Descriptor> = table
        .chunks(size)
        .map(|raw| Descriptor::new(raw.to_vec()))
        .collect();
    let behind = |start: u64, count: u64| {
        start
            .checked_add(count)
            .is_none_or(|end| end > geometry.blocks)
    };
    for (group, descriptor) in descriptors.iter().enumerate() {
        if behind(descriptor.block_bitmap(), 1)
            || behind(descriptor.inode_table(), geometry.inode_table_blocks())
            || descriptor.free_blocks() > geometry.blocks_per_group
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the descriptor of group {group} makes no sense"),
            ));
        }
    }
    Ok(descriptors)
}

/// Frees the blocks behind the old end in the group that it lay in; gives their
/// number.
fn fill_last_group(
    storage: &dyn Storage,
    old: &Geometry,
    new: &Geometry,
    descriptors: &mut [Descriptor],
) -> io::Result<u64> {
    let group = old.groups() - 1;
    let (before, after) = (old.group_blocks(group), new.group_blocks(group));
    let Some(descriptor) = descriptors.last_mut() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "there is no block group",
        ));
    };
    if after == before {
        return Ok(0);
    }
    if !descriptor.blocks_uninitialised() {
        let place = descriptor.block_bitmap();
        let mut bitmap = vec![0; new.block_size as usize];
        storage.read_at(&mut bitmap, place * u64::from(new.block_size))?;
        for bit in before..after {
            bitmap[bit as usize / 8] &= !(1 << (bit % 8));
        }
        storage.write_at(&bitmap, place * u64::from(new.block_size))?;
        descriptor.set_block_bitmap_checksum(new.block_bitmap_checksum(&bitmap));
    }
    descriptor.set_free_blocks(descriptor.free_blocks() + (after - before) as u32);
    descriptor.seal(new, group);
    Ok(after - before)
}

/// Lays a new group: its bitmaps and an empty inode table, all inside it. Gives
/// its descriptor and the number of its free blocks.
fn add_group(
    storage: &dyn Storage,
    geometry: &Geometry,
    group: u64,
) -> io::Result<(Descriptor, u64)> {
    let block_size = u64::from(geometry.block_size);
    let start = geometry.group_start(group);
    let blocks = geometry.group_blocks(group);
    let overhead = geometry.group_overhead(group);
    let block_bitmap = start + geometry.group_copies(group);
    let (inode_bitmap, inode_table) = (block_bitmap + 1, block_bitmap + 2);

    // Set bits: what the metadata takes, and what lies behind the end.
    let bits = bitmap(geometry.block_size, |bit| bit < overhead || bit >= blocks);
    storage.write_at(&bits, block_bitmap * block_size)?;
    let inode_bits = bitmap(geometry.block_size, |bit| {
        bit >= u64::from(geometry.inodes_per_group)
    });
    storage.write_at(&inode_bits, inode_bitmap * block_size)?;
    clear(
        storage,
        inode_table * block_size,
        geometry.inode_table_blocks() * block_size,
    )?;

    let mut descriptor = Descriptor::new(vec![0; geometry.descriptor_size]);
    descriptor.set_places(block_bitmap, inode_bitmap, inode_table);
    descriptor.set_free_blocks((blocks - overhead) as u32);
    descriptor.set_free_inodes(geometry.inodes_per_group);
    descriptor.set_block_bitmap_checksum(geometry.block_bitmap_checksum(&bits));
    descriptor.set_inode_bitmap_checksum(geometry.inode_bitmap_checksum(&inode_bits));
    if geometry.has_descriptor_checksums() {
        descriptor.mark_inodes_unused(geometry.inodes_per_group);
    }
    descriptor.seal(geometry, group);
    Ok((descriptor, blocks - overhead))
}

fn bitmap(block_size: u32, used: impl Fn(u64) -> bool) -> Vec<u8> {
    (0..u64::from(block_size))
        .map(|byte| (0..8).fold(0, |bits, bit| bits | u8::from(used(byte * 8 + bit)) << bit))
        .collect()
}

/// Writes zeros where something else may be: the old backup of the partition
/// table, for one, lies in the middle of the new room.
fn clear(storage: &dyn Storage, start: u64, length: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let end = start + length;
    let zeros = vec![0; PIECE as usize];
    let mut offset = start;
    while let Some(data) = storage.next_data(offset)? {
        if data.start >= end {
            break;
        }
        let stop = data.end.min(end);
        let mut at = data.start.max(start);
        while at < stop {
            let piece = PIECE.min(stop - at);
            storage.write_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
        offset = stop;
        if offset >= end {
            break;
        }
    }
    Ok(())
}

fn update_superblock(raw: &mut [u8], old: &Geometry, new: &Geometry, more_free: u64) {
    let wide = |raw: &mut [u8], low: usize, high: usize, value: u64| {
        put32(raw, low, value as u32);
        if new.is_64bit {
            put32(raw, high, (value >> 32) as u32);
        }
    };
    let more_inodes = (new.groups() - old.groups()) as u32 * new.inodes_per_group;
    wide(raw, 0x4, 0x150, new.blocks);
    wide(raw, 0xC, 0x158, old.free_blocks + more_free);
    // The share that is kept for root stays the same.
    let reserved = u128::from(old.root_blocks) * u128::from(new.blocks) / u128::from(old.blocks);
    wide(raw, 0x8, 0x154, reserved as u64);
    put32(raw, 0x0, old.inodes + more_inodes);
    put32(raw, 0x10, old.free_inodes + more_inodes);
    raw[0xCE..0xD0].copy_from_slice(&new.reserved_descriptor_blocks.to_le_bytes());
    // s_overhead_clusters: zero makes the kernel compute it at mount.
    put32(raw, 0x248, 0);
}

/// Writes superblock and descriptors to every group that holds a copy.
fn write_copies(
    storage: &dyn Storage,
    raw: &mut [u8],
    geometry: &Geometry,
    descriptors: &[Descriptor],
) -> io::Result<()> {
    let block_size = u64::from(geometry.block_size);
    let mut table = Vec::with_capacity((geometry.descriptor_blocks() * block_size) as usize);
    for descriptor in descriptors {
        table.extend_from_slice(descriptor.raw());
    }
    table.resize((geometry.descriptor_blocks() * block_size) as usize, 0);
    for group in (0..geometry.groups()).filter(|group| geometry.has_copy(*group)) {
        let start = geometry.group_start(group) * block_size;
        // Group 0 begins with the boot block, which 1 KiB blocks leave outside.
        let superblock = if group == 0 { SUPERBLOCK_OFFSET } else { start };
        raw[0x5A..0x5C].copy_from_slice(&(group as u16).to_le_bytes());
        geometry.seal_superblock(raw);
        storage.write_at(raw, superblock)?;
        storage.write_at(&table, start + block_size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Checksums;
    use super::*;

    fn geometry(blocks: u64, reserved: u16) -> Geometry {
        Geometry {
            block_size: 4096,
            blocks,
            first_block: 0,
            blocks_per_group: 32768,
            inodes_per_group: 8192,
            inode_size: 256,
            descriptor_size: 64,
            reserved_descriptor_blocks: reserved,
            is_64bit: true,
            sparse: true,
            checksums: Checksums::Crc32c { seed: 0 },
            uuid: [0; 16],
            free_blocks: 0,
            free_inodes: 0,
            inodes: 0,
            root_blocks: 0,
        }
    }

    #[test]
    fn drops_a_last_group_that_is_too_small() {
        let old = geometry(32768, 100);
        let tiny = plan(&old, (32768 + 500) * 4096).expect("plans");
        assert_eq!(tiny.blocks, 32768);
        let enough = plan(&old, (32768 + 2000) * 4096).expect("plans");
        assert_eq!(enough.blocks, 32768 + 2000);
    }

    #[test]
    fn takes_reserved_descriptor_blocks_and_refuses_when_they_are_used_up() {
        // 64 descriptors of 64 bytes fill a block: 64 groups, 8 GiB.
        let old = geometry(64 * 32768, 1);
        let new = plan(&old, 128 * 32768 * 4096).expect("plans");
        assert_eq!(new.reserved_descriptor_blocks, 0);
        let error = plan(&old, 129 * 32768 * 4096 + 40_000_000).expect_err("no room");
        assert_eq!(error.class(), crate::Class::Unsupported);
    }

    #[test]
    fn a_descriptor_that_leads_out_is_refused_before_anything_is_written() {
        let packed = include_bytes!("../../../../../fuzz/fixtures/ext4-plain.zst");
        let mut image = zstd::decode_all(&packed[..]).expect("zstd");
        image.resize(10 << 20, 0);
        // The inode table of group 0 (1 KiB blocks: descriptors are in block 2).
        for (at, bytes) in [
            (2048 + 8, [0xFF; 4]),
            (2048, [0xFF; 4]),
            (2048 + 12, [0xFF; 4]),
        ] {
            let mut broken = image.clone();
            broken[at..at + 4].copy_from_slice(&bytes);
            let storage = crate::disk::memory::Memory::new(broken.clone());
            let error = grow(&storage).expect_err("refused");
            assert_eq!(error.class(), crate::Class::Input);
            assert!(storage.content() == broken, "nothing is written");
        }
        grow(&crate::disk::memory::Memory::new(image)).expect("the sound one grows");
    }

    #[test]
    fn never_shrinks() {
        let old = geometry(65536, 10);
        assert_eq!(plan(&old, 4096).expect("plans").blocks, 65536);
    }
}
