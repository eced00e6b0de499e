//! One door to all that is done with an XFS, for fuzzing.
//!
//! An input is no image but a list of patches of one: each changes a field where fields
//! are, and checksums are made right again, so that what is tried comes past the first
//! look. The guest kernel is not started: what it makes of an image is its own affair, in
//! a process of its own.

use fs_ext4::checksum::linux_crc32c;

use super::Xfs;
use crate::volume::fuzz::Seed;
use crate::volume::guard;

/// Bytes that one patch takes of an input.
const PATCH: usize = 8;
/// Patches of one input; more would only slow it down.
const PATCHES: usize = 64;
/// Blocks, sectors and inodes of the image, in bytes.
const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const INODE: usize = 512;
/// The image of the corpus.
const SEED: Seed = Seed {
    folders: 4096,
    moved: "/many/a-name-that-is-long-enough-7",
    removed: &["/many", "/etc"],
};

/// Applies the patches `input` to the sound `image`, and does with it whatever a build
/// does in this process: opens, checks, lists, reads, plans changes. It must end, without
/// a panic but one that becomes an error, whatever the patches are.
pub fn edit(image: &[u8], input: &[u8]) {
    let mut bytes = image.to_vec();
    patch(&mut bytes, input);
    SEED.enter(bytes, |storage| {
        let _ = guard::catch("empty the log", || Xfs::settle_log(storage));
    });
}

fn get16(raw: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([raw[at], raw[at + 1]])
}

fn patch(bytes: &mut [u8], input: &[u8]) {
    // Blocks with something in them; the log, whose records begin with this number, is
    // another matter.
    let used: Vec<usize> = (0..bytes.len() / BLOCK)
        .map(|block| block * BLOCK)
        .filter(|at| {
            let block = &bytes[*at..*at + BLOCK];
            !crate::disk::is_zero(block) && !block.starts_with(&[0xFE, 0xED, 0xBA, 0xBE])
        })
        .collect();
    let inodes: Vec<usize> = used
        .iter()
        .flat_map(|at| (*at..*at + BLOCK).step_by(INODE))
        .filter(|at| bytes[*at..].starts_with(b"IN"))
        .collect();
    for raw in input.chunks_exact(PATCH).take(PATCHES) {
        let (kind, short) = (raw[0], usize::from(get16(raw, 2)));
        let block = used[short % used.len()];
        let inode = inodes[short % inodes.len()];
        let place = usize::from(raw[1]);
        let (at, length) = match kind % 8 {
            // A word of a block.
            0 | 1 => (block + place * 4 % 256, 4),
            2 => (block + place * 16, 4),
            // Superblock and headers of the group.
            3 => (place, 4),
            4 => (SECTOR * (1 + short % 3) + place, 4),
            // A field of an inode.
            5 => (inode + place, 2),
            6 => (inode + place, 4),
            // A piece of a file: where it begins, where it lies, how long it is.
            _ => {
                piece(&mut bytes[inode + 176 + 16 * (place % 4)..], &raw[4..]);
                continue;
            }
        };
        bytes[at..at + length].copy_from_slice(&raw[4..4 + length]);
    }
    for at in used {
        seal(&mut bytes[at..at + BLOCK]);
    }
}

/// Makes the record of an extent (Linux, `xfs_bmbt_rec`).
fn piece(record: &mut [u8], wish: &[u8]) {
    let start = u64::from(wish[0]) << (wish[0] % 40);
    let block = u64::from(get16(wish, 1));
    let count = u64::from(wish[3]) << (wish[3] % 14);
    let high = (start << 9) & (u64::MAX >> 1);
    record[..8].copy_from_slice(&high.to_be_bytes());
    record[8..16].copy_from_slice(&(block << 21 | count & 0x1F_FFFF).to_be_bytes());
}

/// Makes the checksums of a block right, whatever it holds.
fn seal(block: &mut [u8]) {
    // Where the checksum lies, by the number that a block or sector begins with; folders
    // and attributes have theirs at 8.
    let sectors: [(&[u8], usize); 4] = [
        (b"XFSB", 224),
        (b"XAGF", 216),
        (b"XAGI", 312),
        (b"XAFL", 32),
    ];
    for sector in block.chunks_exact_mut(SECTOR) {
        if sector.starts_with(b"IN") {
            sum(sector, 100);
        }
        if let Some((_, at)) = sectors.iter().find(|(magic, _)| sector.starts_with(magic)) {
            sum(sector, *at);
        }
    }
    let whole: [(&[u8], usize); 12] = [
        (b"AB3B", 52),
        (b"AB3C", 52),
        (b"IAB3", 52),
        (b"FIB3", 52),
        (b"RMB3", 52),
        (b"R3FC", 52),
        (b"BMA3", 64),
        (b"XDB3", 4),
        (b"XDD3", 4),
        (b"XDF3", 4),
        (b"XSLM", 12),
        (b"XARM", 12),
    ];
    if let Some((_, at)) = whole.iter().find(|(magic, _)| block.starts_with(magic)) {
        sum(block, *at);
    }
    // XFS_DIR3_LEAF1_MAGIC, XFS_DIR3_LEAFN_MAGIC, XFS_ATTR3_LEAF_MAGIC, XFS_DA3_NODE_MAGIC.
    if matches!(get16(block, 8), 0x3DF1 | 0x3DFF | 0x3BEE | 0x3EBE) {
        sum(block, 12);
    }
}

fn sum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = !linux_crc32c(u32::MAX, bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fuzz::fixture;

    #[test]
    fn the_image_is_sound_and_takes_every_change() {
        let mut bytes = fixture("xfs");
        patch(&mut bytes, &[]);
        assert!(
            bytes == fixture("xfs"),
            "checksums are made as Linux makes them"
        );
        SEED.assert_sound(bytes, 5);
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        let image = fixture("xfs");
        crate::seeds::replay("xfs", 25, |input| edit(&image, input));
    }
}
