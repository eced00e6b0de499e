//! One door to all that is done with an ext4, for fuzzing.
//!
//! An input is no image but a list of patches of one: each changes a field where
//! fields are, and checksums are made right again, so that what is tried comes
//! past the first look.

use std::sync::Arc;

use fs_ext4::checksum::linux_crc32c;

use super::descriptor::Descriptor;
use super::gate::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use super::geometry::{Checksums, Geometry, get16, get32, put16, put32};
use super::grow;
use crate::disk::Storage;
use crate::disk::memory::Memory;
use crate::volume::fuzz::{at, attributes, read_all};
use crate::volume::{Access, Timestamp, Volume, check, open, remove_tree};

/// Bytes that one patch takes of an input.
const PATCH: usize = 8;
/// Patches of one input; more would only slow it down.
const PATCHES: usize = 64;
/// Bytes that are put behind the image before it is grown.
const GROWTH: usize = 9 << 20;
/// Applies the patches `input` to the sound `image`, and does with it whatever a
/// build does: opens, checks, lists, reads, replaces, removes, moves, grows. It must
/// end, without a panic but one that becomes an error, whatever the patches are.
pub fn edit(image: &[u8], input: &[u8]) {
    let mut bytes = image.to_vec();
    let inodes = patch(&mut bytes, input);
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(bytes.clone()));
    let epoch = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 0,
    };
    let _ = check(storage.as_ref());
    if let Ok(mut volume) = open(storage, Access::Read, epoch) {
        let folders = read_all(volume.as_mut());
        assert!(
            folders <= inodes as usize,
            "{folders} folders in a tree of {inodes} inodes"
        );
    }
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(bytes.clone()));
    if let Ok(mut volume) = open(storage.clone(), Access::Write, epoch) {
        change(volume.as_mut());
        let _ = volume.finish();
    }
    let _ = check(storage.as_ref());
    bytes.resize(bytes.len() + GROWTH, 0);
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(bytes));
    if grow::grow(storage.as_ref()).is_ok() {
        let _ = check(storage.as_ref());
    }
}

/// The paths of the seed images stand here: both have the same tree.
fn change(volume: &mut dyn Volume) {
    let mut attributes = attributes();
    let _ = volume.remove_file(&at("/etc/pieces"));
    let _ = volume.remove_file(&at("/etc/pipe"));
    let _ = volume.remove_file(&at("/usr/long"));
    let content = [7; 9000];
    let _ = volume.write_file(
        &at("/usr/bin/large"),
        content.len() as u64,
        &mut &content[..],
        &attributes,
    );
    let _ = volume.append_file(&at("/etc/hostname"), &content);
    let _ = volume.set_attributes(&at("/etc/again"), &attributes);
    attributes.xattrs.clear();
    let _ = volume.set_attributes(&at("/many"), &attributes);
    for number in 0..40 {
        let path = at(&format!("/many/one-more-name-that-is-long-{number}"));
        if volume
            .write_file(&path, 1, &mut &[1_u8][..], &attributes)
            .is_err()
        {
            break;
        }
    }
    let _ = volume.create_symlink(&at("/usr/short"), &[b'l'; 90], &attributes);
    let _ = volume.create_directory(&at("/etc/new"), &attributes);
    let _ = volume.rename(&at("/usr"), &at("/etc/new/usr"));
    let _ = volume.rename(&at("/etc/again"), &at("/many/a-name-that-is-long-enough-7"));
    let _ = remove_tree(volume, &at("/many"));
    let _ = remove_tree(volume, &at("/etc"));
}

/// Applies the patches; gives the number of inodes by the sound superblock.
fn patch(bytes: &mut [u8], input: &[u8]) -> u32 {
    let superblock = SUPERBLOCK_OFFSET as usize..SUPERBLOCK_OFFSET as usize + SUPERBLOCK_SIZE;
    let geometry = Geometry::read(&bytes[superblock.clone()]);
    let block = geometry.block_size as usize;
    let table_at = (geometry.first_block as usize + 1) * block;
    let descriptor = bytes[table_at..table_at + geometry.descriptor_size].to_vec();
    let table = Descriptor::new(descriptor).inode_table() as usize * block;
    let size = usize::from(geometry.inode_size);
    let inode = |number: u8| table + usize::from(number) % geometry.inodes as usize * size;
    for raw in input.chunks_exact(PATCH).take(PATCHES) {
        let (kind, short, wide) = (raw[0], get16(raw, 2), get32(raw, 4));
        let (at, length) = match kind % 8 {
            // Any byte; any word of a block.
            0 => ((get32(raw, 1) & 0x00FF_FFFF) as usize % bytes.len(), 1),
            1 => (
                usize::from(short) * block % bytes.len() + usize::from(raw[1]) * 4 % block,
                4,
            ),
            2 => (superblock.start + usize::from(short) % SUPERBLOCK_SIZE, 4),
            3 => (table_at + usize::from(raw[1]) % geometry.descriptor_size, 4),
            // A field of an inode: half a word, a word.
            4 => (inode(raw[1]) + usize::from(short) % size, 2),
            5 => (inode(raw[1]) + usize::from(short) % size, 4),
            // A node of an extent tree, in an inode and in a block.
            6 => {
                let place = inode(raw[1]) + 0x28;
                extents(&mut bytes[place..place + 60], &raw[2..]);
                continue;
            }
            _ => {
                let place = usize::from(short) % (bytes.len() / block) * block;
                extents(&mut bytes[place..place + block], &raw[2..]);
                continue;
            }
        };
        for (target, byte) in bytes
            .iter_mut()
            .skip(at)
            .zip(wide.to_le_bytes())
            .take(length)
        {
            *target = byte;
        }
    }
    seal(bytes, &geometry, table_at, table);
    geometry.inodes
}

/// Makes `node` one of an extent tree whose entries lead to a few blocks.
fn extents(node: &mut [u8], wish: &[u8]) {
    let most = (node.len() - 12) / 12;
    let depth = u16::from(wish[0] % 7);
    let entries = usize::from(wish[1]) % (most + 1);
    put16(node, 0, 0xF30A);
    put16(node, 2, entries as u16);
    put16(node, 4, most as u16);
    put16(node, 6, depth);
    let block = u32::from(get16(wish, 2));
    for (index, entry) in node[12..].chunks_exact_mut(12).take(entries).enumerate() {
        // Always the same block, or one after another.
        let block = block + index as u32 * u32::from(wish[4] & 1);
        put32(entry, 0, index as u32 * u32::from(wish[5] & 3));
        if depth > 0 {
            put32(entry, 4, block);
            put32(entry, 8, 0);
        } else {
            put32(entry, 4, u32::from(wish[4] >> 1));
            put32(entry, 8, block);
        }
    }
}

/// Makes the checksums of superblock, descriptors and inodes right, as far as
/// the superblock that is there now still has any.
fn seal(bytes: &mut [u8], sound: &Geometry, table_at: usize, table: usize) {
    let Checksums::Crc32c { seed } = sound.checksums else {
        return;
    };
    let start = SUPERBLOCK_OFFSET as usize;
    sound.seal_superblock(&mut bytes[start..start + SUPERBLOCK_SIZE]);
    for group in 0..sound.groups() {
        let at = table_at + group as usize * sound.descriptor_size;
        let raw = &mut bytes[at..at + sound.descriptor_size];
        let sum = sound.descriptor_checksum(group, raw);
        put16(raw, 0x1E, sum);
    }
    let size = usize::from(sound.inode_size);
    for number in 1..=sound.inodes_per_group {
        let at = table + (number as usize - 1) * size;
        let raw = &mut bytes[at..at + size];
        if raw.iter().all(|byte| *byte == 0) {
            continue;
        }
        put16(raw, 0x7C, 0);
        put16(raw, 0x82, 0);
        let sum = linux_crc32c(linux_crc32c(seed, &number.to_le_bytes()), &raw[0x64..0x68]);
        let sum = linux_crc32c(sum, raw);
        put16(raw, 0x7C, sum as u16);
        put16(raw, 0x82, (sum >> 16) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fuzz::fixture;

    fn images() -> [Vec<u8>; 2] {
        ["ext4-plain", "ext4-checksums"].map(fixture)
    }

    #[test]
    fn the_images_are_sound_and_take_every_change() {
        for image in images() {
            let storage: Arc<dyn Storage> = Arc::new(Memory::new(image));
            assert_eq!(check(storage.as_ref()).expect("runs"), Vec::<String>::new());
            let mut volume =
                open(storage.clone(), Access::Write, Timestamp::default()).expect("opens");
            assert_eq!(read_all(volume.as_mut()), 6);
            change(volume.as_mut());
            assert_eq!(read_all(volume.as_mut()), 2, "all else was removed");
            volume.finish().expect("finishes");
            assert_eq!(check(storage.as_ref()).expect("runs"), Vec::<String>::new());
        }
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        let images = images();
        crate::seeds::replay("ext4", 25, |input| {
            let Some((which, patches)) = input.split_first() else {
                return;
            };
            edit(&images[usize::from(which & 1)], patches);
        });
    }
}
