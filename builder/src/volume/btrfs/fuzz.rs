//! One door to all that is done with a btrfs, for fuzzing.
//!
//! An input is no image but a list of patches of one: each changes a field where fields
//! are, and checksums are made right again, so that what is tried comes past the first
//! look. The guest kernel is not started: what it makes of an image is its own affair, in
//! a process of its own.

use fs_ext4::checksum::linux_crc32c;

use super::Btrfs;
use crate::volume::fuzz::Seed;
use crate::volume::guard;

/// Bytes that one patch takes of an input.
const PATCH: usize = 8;
/// Patches of one input; more would only slow it down.
const PATCHES: usize = 64;
/// The superblock: where it lies and how long it is, in bytes.
const SUPERBLOCK: (usize, usize) = (64 << 10, 4096);
/// Blocks of the image's trees, in bytes.
const NODE: usize = 4096;
/// Bytes of the checksum in front of what it is of.
const SUM: usize = 32;
/// Where the identity of the file system lies in a superblock and in a block of a tree.
const IDENTITY: std::ops::Range<usize> = 32..48;
/// The head of a block of a tree (`struct btrfs_header`), in bytes.
const HEAD: usize = 101;
/// The image of the corpus.
const SEED: Seed = Seed {
    folders: 4096,
    moved: "/home/again",
    removed: &["/many", "/home", "/before", "/packed", "/etc"],
};

/// Applies the patches `input` to the sound `image`, and does with it whatever a build
/// does in this process: opens, checks, lists, reads, plans changes. It must end, without
/// a panic but one that becomes an error, whatever the patches are.
pub fn edit(image: &[u8], input: &[u8]) {
    let mut bytes = image.to_vec();
    patch(&mut bytes, input);
    SEED.enter(bytes, |storage| {
        let _ = guard::catch("grow", || Ok(Btrfs::open(storage)?.growth()));
    });
}

fn patch(bytes: &mut [u8], input: &[u8]) {
    let (start, length) = SUPERBLOCK;
    let identity = bytes[start..][IDENTITY].to_vec();
    let nodes: Vec<usize> = (start + length..bytes.len() - NODE)
        .step_by(NODE)
        .filter(|at| bytes[*at..][IDENTITY] == identity[..])
        .collect();
    for raw in input.chunks_exact(PATCH).take(PATCHES) {
        let short = usize::from(u16::from_be_bytes([raw[2], raw[3]]));
        let node = nodes[short % nodes.len()];
        let place = usize::from(raw[1]);
        let (at, width) = match raw[0] % 8 {
            // The superblock: all of it, and the chunks that it holds.
            0 => (start + IDENTITY.start + place * 4, 4),
            1 => (start + 0x32B + place, 4),
            // The head of a block; what follows: items, or pointers to other blocks.
            2 => (node + IDENTITY.end + place % 53, 4),
            3 | 4 => (node + HEAD + place, 4),
            5 => (node + HEAD + place * 4, 2),
            // What the items hold lies at the end.
            6 => (node + NODE - 4 - place * 4, 4),
            _ => (node + NODE - 2 - place * 2, 2),
        };
        bytes[at..at + width].copy_from_slice(&raw[4..4 + width]);
    }
    for at in nodes {
        seal(&mut bytes[at..at + NODE]);
    }
    seal(&mut bytes[start..start + length]);
}

/// Makes the checksum of a block right, whatever it holds.
fn seal(block: &mut [u8]) {
    let sum = !linux_crc32c(u32::MAX, &block[SUM..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fuzz::fixture;

    #[test]
    fn the_image_is_sound_and_takes_every_change() {
        let mut bytes = fixture("btrfs");
        patch(&mut bytes, &[]);
        assert!(
            bytes == fixture("btrfs"),
            "checksums are made as Linux makes them"
        );
        SEED.assert_sound(bytes, 10);
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        let image = fixture("btrfs");
        crate::seeds::replay("btrfs", 10, |input| edit(&image, input));
    }
}
