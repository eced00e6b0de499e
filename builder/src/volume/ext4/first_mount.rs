//! What an ext4 leaves to its first mount: see [`FirstMount`].
//!
//! Written is what e2fsck and the kernel themselves write for it: two fields of the
//! superblock as `tune2fs -c 0 -i 0` sets them, and, as `ext4_init_inode_table` in
//! Linux, `fs/ext4/ialloc.c`, zeros behind the used part of each inode table and a flag
//! in the group's descriptor.

use std::collections::BTreeSet;
use std::io;

use super::descriptor::Descriptor;
use super::gate::{self, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::geometry::{Geometry, get16, get32, put16, put32};
use super::grow::read_descriptors;
use crate::disk::Storage;
use crate::error::Result;
use crate::volume::refusal::storage_failed;
use crate::volume::{Access, FirstMount};

/// `s_max_mnt_count`: mounts between two checks; 0 and negative numbers mean none.
const MAX_MOUNT_COUNT: usize = 0x36;
/// `s_checkinterval`: seconds between two checks; 0 means none.
const CHECK_INTERVAL: usize = 0x44;
/// Bytes of an inode table that are looked at in one piece.
const PIECE: u64 = 1 << 20;

/// See [`crate::volume::first_mount::find`].
pub fn find(storage: &dyn Storage) -> Result<BTreeSet<FirstMount>> {
    let doing = "look for what the ext4 file system leaves to its first mount";
    let (raw, geometry) = superblock(storage, Access::Read, doing)?;
    let mut found = BTreeSet::new();
    if is_checked_periodically(&raw) {
        found.insert(FirstMount::PeriodicCheck);
    }
    // Without checksums of descriptors there is no flag, and mke2fs zeroes.
    if geometry.has_descriptor_checksums() && !has_scattered_descriptors(&raw) {
        let descriptors =
            read_descriptors(storage, &geometry).map_err(|error| storage_failed(doing, &error))?;
        if !descriptors.iter().all(Descriptor::table_is_zeroed) {
            found.insert(FirstMount::InodeTables);
        }
    }
    Ok(found)
}

/// See [`crate::volume::first_mount::settle`].
pub fn settle(storage: &dyn Storage, work: &BTreeSet<FirstMount>) -> Result<()> {
    let doing = "spare the machine the first work on the ext4 file system";
    let (mut raw, geometry) = superblock(storage, Access::Write, doing)?;
    let failed = |error: io::Error| storage_failed(doing, &error);
    if work.contains(&FirstMount::InodeTables) && geometry.has_descriptor_checksums() {
        zero_tables(storage, &geometry).map_err(failed)?;
    }
    if work.contains(&FirstMount::PeriodicCheck) && is_checked_periodically(&raw) {
        put16(&mut raw, MAX_MOUNT_COUNT, u16::MAX);
        put32(&mut raw, CHECK_INTERVAL, 0);
        geometry.seal_superblock(&mut raw);
        storage.write_at(&raw, SUPERBLOCK_OFFSET).map_err(failed)?;
    }
    Ok(())
}

fn superblock(storage: &dyn Storage, access: Access, doing: &str) -> Result<(Vec<u8>, Geometry)> {
    let mut raw = vec![0; SUPERBLOCK_SIZE];
    storage
        .read_at(&mut raw, SUPERBLOCK_OFFSET)
        .map_err(|error| storage_failed(doing, &error))?;
    gate::judge(&raw, storage.size(), access)?;
    let geometry = Geometry::read(&raw);
    Ok((raw, geometry))
}

fn is_checked_periodically(raw: &[u8]) -> bool {
    get16(raw, MAX_MOUNT_COUNT).cast_signed() > 0 || get32(raw, CHECK_INTERVAL) != 0
}

/// `meta_bg`: nothing that is written by nodekiln has it.
fn has_scattered_descriptors(raw: &[u8]) -> bool {
    get32(raw, 0x60) & 0x10 != 0
}

fn zero_tables(storage: &dyn Storage, geometry: &Geometry) -> io::Result<()> {
    let mut descriptors = read_descriptors(storage, geometry)?;
    let mut unused = Vec::new();
    for (group, descriptor) in descriptors.iter_mut().enumerate() {
        // Sealing it anew would hide what is wrong with it.
        if descriptor.checksum() != geometry.descriptor_checksum(group as u64, descriptor.raw()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the descriptor of group {group} has a wrong checksum"),
            ));
        }
        if !descriptor.table_is_zeroed() {
            unused.push(unused_part(geometry, descriptor)?);
            descriptor.mark_table_zeroed();
            descriptor.seal(geometry, group as u64);
        }
    }
    // Every group makes sense: now it may be written.
    for bytes in unused {
        zero(storage, bytes)?;
    }
    let table: Vec<u8> = descriptors
        .iter()
        .flat_map(|descriptor| descriptor.raw().iter().copied())
        .collect();
    // The copies in other groups stay: the kernel does not keep them up either.
    let start = (geometry.first_block + 1) * u64::from(geometry.block_size);
    storage.write_at(&table, start)
}

/// The bytes of the group's inode table that no inode ever used, in whole blocks.
fn unused_part(geometry: &Geometry, descriptor: &Descriptor) -> io::Result<std::ops::Range<u64>> {
    let block = u64::from(geometry.block_size);
    let table = descriptor.inode_table() * block;
    let unused = if descriptor.inodes_uninitialised() {
        geometry.inodes_per_group
    } else {
        descriptor.unused_inodes()
    };
    let used = geometry
        .inodes_per_group
        .checked_sub(unused)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a group has more unused inodes than inodes",
            )
        })?;
    let used = (u64::from(used) * u64::from(geometry.inode_size)).div_ceil(block) * block;
    let end = geometry.inode_table_blocks() * block;
    Ok(table + used.min(end)..table + end)
}

/// Writes zeros where other bytes are: what is a hole stays one.
fn zero(storage: &dyn Storage, bytes: std::ops::Range<u64>) -> io::Result<()> {
    let mut piece = vec![0; PIECE as usize];
    let mut offset = bytes.start;
    while let Some(data) = storage.next_data(offset)? {
        let mut at = data.start.max(offset);
        let stop = data.end.min(bytes.end);
        if at >= bytes.end {
            break;
        }
        while at < stop {
            let piece = &mut piece[..PIECE.min(stop - at) as usize];
            storage.read_at(piece, at)?;
            if piece.iter().any(|byte| *byte != 0) {
                piece.fill(0);
                storage.write_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
        offset = stop;
    }
    Ok(())
}
