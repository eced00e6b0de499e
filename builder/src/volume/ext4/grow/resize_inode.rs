//! The resize inode (number 7): it owns the blocks that are reserved for group
//! descriptors, here and in every group with a copy, so that nothing else takes
//! them.
//!
//! Its double-indirect block lists the reserved blocks of group 0; each of these
//! serves as an indirect block that lists its copies in the other groups.
//! (e2fsprogs, `lib/ext2fs/res_gdt.c`.)

use std::io;

use fs_ext4::checksum::linux_crc32c;

use crate::disk::Storage;
use crate::volume::ext4::descriptor::Descriptor;
use crate::volume::ext4::geometry::{Checksums, Geometry, get16, get32, put16, put32};

/// `EXT2_RESIZE_INO`.
const NUMBER: u32 = 7;
/// Offset of `i_block[EXT2_DIND_BLOCK]` in an inode.
const DOUBLE_INDIRECT: usize = 0x28 + 13 * 4;

/// Brings the resize inode from `old` to `new`: gives away the blocks that now
/// hold descriptors, takes in the copies in new groups.
pub fn update(
    storage: &dyn Storage,
    old: &Geometry,
    new: &Geometry,
    first_group: &Descriptor,
) -> io::Result<()> {
    if old.reserved_descriptor_blocks == 0 {
        return Ok(());
    }
    let block_size = u64::from(old.block_size);
    let per_block = block_size / 4;
    let place =
        first_group.inode_table() * block_size + u64::from(NUMBER - 1) * u64::from(old.inode_size);
    let mut inode = vec![0; usize::from(old.inode_size)];
    storage.read_at(&mut inode, place)?;
    let list = u64::from(get32(&inode, DOUBLE_INDIRECT));
    if list == 0 || list >= old.blocks {
        return Err(damaged("the resize inode has no list of reserved blocks"));
    }
    let mut reserved = vec![0; block_size as usize];
    storage.read_at(&mut reserved, list * block_size)?;

    let copies = |geometry: &Geometry| -> Vec<u64> {
        (1..geometry.groups())
            .filter(|group| geometry.has_copy(*group))
            .collect()
    };
    let (before, after) = (copies(old), copies(new));
    let (first, kept) = (old.descriptor_blocks(), new.descriptor_blocks());
    let mut owned = i64::from(get32(&inode, 0x1C));
    let sectors = (block_size / 512) as i64;
    for index in first..first + u64::from(old.reserved_descriptor_blocks) {
        let block = old.first_block + 1 + index;
        let entry = (index % per_block) as usize * 4;
        if u64::from(get32(&reserved, entry)) != block {
            return Err(damaged("the resize inode does not own the reserved blocks"));
        }
        if index < kept {
            put32(&mut reserved, entry, 0);
            owned -= (1 + before.len() as i64) * sectors;
        } else if after.len() > before.len() {
            extend(storage, new, block, &before, &after)?;
            owned += (after.len() - before.len()) as i64 * sectors;
        }
    }
    let owned = u32::try_from(owned).map_err(|_| damaged("the resize inode owns too little"))?;
    put32(&mut inode, 0x1C, owned);
    seal(&mut inode, new);
    storage.write_at(&reserved, list * block_size)?;
    storage.write_at(&inode, place)
}

/// Adds the copies in new groups to the list in a reserved block.
fn extend(
    storage: &dyn Storage,
    new: &Geometry,
    block: u64,
    before: &[u64],
    after: &[u64],
) -> io::Result<()> {
    let block_size = u64::from(new.block_size);
    let mut list = vec![0; block_size as usize];
    storage.read_at(&mut list, block * block_size)?;
    for (position, group) in after.iter().enumerate() {
        let wanted = block + group * u64::from(new.blocks_per_group);
        let wanted = u32::try_from(wanted)
            .map_err(|_| damaged("a reserved block lies behind what its list can name"))?;
        let Some(entry) = Some(position * 4).filter(|entry| entry + 4 <= list.len()) else {
            return Err(damaged("there are more copies than a list can name"));
        };
        if position < before.len() && get32(&list, entry) != wanted {
            return Err(damaged(
                "the resize inode does not own the copies of a reserved block",
            ));
        }
        put32(&mut list, entry, wanted);
    }
    storage.write_at(&list, block * block_size)
}

/// Sets the inode's checksum (`metadata_csum`).
fn seal(inode: &mut [u8], geometry: &Geometry) {
    let Checksums::Crc32c { seed } = geometry.checksums else {
        return;
    };
    let has_high = inode.len() > 128 && get16(inode, 0x80) >= 4;
    put16(inode, 0x7C, 0);
    if has_high {
        put16(inode, 0x82, 0);
    }
    let sum = linux_crc32c(seed, &NUMBER.to_le_bytes());
    let sum = linux_crc32c(sum, &inode[0x64..0x68]);
    let sum = linux_crc32c(sum, inode);
    put16(inode, 0x7C, sum as u16);
    if has_high {
        put16(inode, 0x82, (sum >> 16) as u16);
    }
}

fn damaged(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
