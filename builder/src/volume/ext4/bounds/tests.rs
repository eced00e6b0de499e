use std::cell::Cell;
use std::collections::HashMap;

use super::*;

const ROOM: Room = Room {
    block_size: 1024,
    first: 1,
    blocks: 4096,
    per_group: 1024,
};

fn put(raw: &mut [u8], at: usize, bytes: &[u8]) {
    raw[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An extent tree's node: `depth`, and entries of logical block, block, length.
fn node(raw: &mut [u8], depth: u16, entries: &[(u32, u32, u16)]) {
    put(raw, 0, &0xF30A_u16.to_le_bytes());
    put(raw, 2, &(entries.len() as u16).to_le_bytes());
    put(raw, 4, &(((raw.len() - 12) / 12) as u16).to_le_bytes());
    put(raw, 6, &depth.to_le_bytes());
    for (index, (logical, block, length)) in entries.iter().enumerate() {
        let at = 12 + index * 12;
        put(raw, at, &logical.to_le_bytes());
        if depth > 0 {
            put(raw, at + 4, &block.to_le_bytes());
        } else {
            put(raw, at + 4, &length.to_le_bytes());
            put(raw, at + 8, &block.to_le_bytes());
        }
    }
}

fn inode(depth: u16, entries: &[(u32, u32, u16)]) -> Vec<u8> {
    let mut raw = vec![0; 256];
    put(&mut raw, 0x20, &FLAG_EXTENTS.to_le_bytes());
    node(&mut raw[0x28..0x64], depth, entries);
    raw
}

fn block(depth: u16, entries: &[(u32, u32, u16)]) -> Vec<u8> {
    let mut raw = vec![0; 1024];
    node(&mut raw, depth, entries);
    raw
}

/// Walks `raw` over `blocks`; gives the outcome and how many blocks were read.
fn walked(raw: &[u8], blocks: &HashMap<u64, Vec<u8>>) -> (Result<Mapped, String>, usize) {
    let reads = Cell::new(0);
    let read = |number: u64, buffer: &mut [u8]| {
        reads.set(reads.get() + 1);
        buffer.copy_from_slice(blocks.get(&number).expect("only what the map names"));
        Ok(())
    };
    let outcome = walk(&ROOM, raw, &read).map_err(|error| match error {
        Unfit::Damaged(text) | Unfit::TooLarge(text) => text,
        Unfit::Io(error) => error.to_string(),
    });
    (outcome, reads.get())
}

fn refused(raw: &[u8], blocks: &HashMap<u64, Vec<u8>>) -> String {
    walked(raw, blocks).0.expect_err("refused")
}

#[test]
fn a_sound_tree_is_counted() {
    let blocks = HashMap::from([
        (20, block(0, &[(0, 100, 8), (8, 108, 0x8004)])),
        (21, block(0, &[(50, 200, 1)])),
    ]);
    let raw = inode(1, &[(0, 20, 0), (50, 21, 0)]);
    assert_eq!(
        walked(&raw, &blocks).0.expect("sound"),
        Mapped {
            content: 13,
            nodes: 2,
            runs: vec![(20, 1), (21, 1), (100, 12), (200, 1)],
        }
    );
}

#[test]
fn a_tree_that_fans_out_to_one_block_is_refused_after_reading_it_once() {
    // Five levels of 84 entries to the same block below: 84^5 paths.
    let mut blocks = HashMap::new();
    for level in 0..5u16 {
        let below: Vec<(u32, u32, u16)> =
            (0..84).map(|_| (0, 20 + u32::from(level) - 1, 1)).collect();
        blocks.insert(20 + u64::from(level), block(level, &below));
    }
    let raw = inode(5, &[(0, 24, 0); 4]);
    let (outcome, reads) = walked(&raw, &blocks);
    let text = outcome.expect_err("refused");
    assert!(text.contains("twice") || text.contains("order"), "{text}");
    assert!(reads <= 6, "{reads} blocks were read");
}

#[test]
fn trees_that_make_no_sense_are_refused() {
    let none = HashMap::new();
    assert!(refused(&inode(6, &[]), &none).contains("no sense"));
    assert!(refused(&inode(0, &[(0, 4090, 7)]), &none).contains("ends at 4096"));
    assert!(refused(&inode(0, &[(0, 0, 7)]), &none).contains("blocks 0 to 7"));
    assert!(refused(&inode(0, &[(0, 5, 0)]), &none).contains("empty"));
    assert!(refused(&inode(0, &[(5, 90, 2), (6, 95, 1)]), &none).contains("order"));
    assert!(refused(&inode(0, &[(0, 90, 2), (2, 91, 1)]), &none).contains("twice"));
    let cycle = HashMap::from([(20, block(1, &[(0, 20, 0)]))]);
    assert!(refused(&inode(2, &[(0, 20, 0)]), &cycle).contains("twice"));
    let mut many = inode(0, &[]);
    put(&mut many, 0x2A, &[5, 0, 5, 0]);
    assert!(refused(&many, &none).contains("no sense"));
}

#[test]
fn a_list_of_lists_that_leads_to_itself_is_refused() {
    let mut raw = vec![0; 256];
    put(&mut raw, 0x1C, &8_u32.to_le_bytes());
    put(&mut raw, 0x28 + 14 * 4, &30_u32.to_le_bytes());
    let list: Vec<u8> = (0..256).flat_map(|_| 30_u32.to_le_bytes()).collect();
    let (outcome, reads) = walked(&raw, &HashMap::from([(30, list)]));
    assert!(outcome.expect_err("refused").contains("twice"));
    assert_eq!(reads, 1);
}

#[test]
fn a_link_or_a_device_maps_nothing() {
    let mut raw = vec![0; 256];
    raw[0x28..0x64].fill(0xFF);
    assert_eq!(
        walked(&raw, &HashMap::new()).0.expect("nothing"),
        Mapped::default()
    );
}

#[test]
fn the_count_of_sectors_must_fit() {
    let mut raw = inode(0, &[(0, 90, 2)]);
    let mapped = walked(&raw, &HashMap::new()).0.expect("sound");
    assert!(count_holds(&ROOM, &raw, &mapped).is_err());
    put(&mut raw, 0x1C, &4_u32.to_le_bytes());
    count_holds(&ROOM, &raw, &mapped).expect("two blocks of two sectors");
}

#[test]
fn damaged_blocks_of_attributes_are_refused() {
    let mut raw = vec![0; 256];
    put(&mut raw, 0x68, &40_u32.to_le_bytes());
    let mut sound = vec![0; 1024];
    put(&mut sound, 0, &ATTRIBUTE_MAGIC.to_le_bytes());
    put(&mut sound, 4, &[1, 0, 0, 0, 1, 0, 0, 0]);
    put(&mut sound, 32, &[3, 1, 0xF0, 3, 0, 0, 0, 0, 16, 0, 0, 0]);
    let look = |block: &[u8]| {
        let read = |_: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(block);
            Ok(())
        };
        attributes(&ROOM, &raw, &read)
    };
    look(&sound).expect("sound");
    for (at, bytes, what) in [
        (0, &[1][..], "no magic"),
        (4, &[0], "no user"),
        (8, &[2], "two blocks"),
        (34, &[0xF4], "a value behind the end"),
        (40, &[17], "a value too long"),
        (40, &[0xFF, 0xFF, 0xFF, 0xFF], "a value of 4 GiB"),
    ] {
        let mut broken = sound.clone();
        put(&mut broken, at, bytes);
        assert!(look(&broken).is_err(), "{what}");
    }
    let mut endless = sound.clone();
    for at in (32..1024).step_by(16) {
        put(&mut endless, at, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert!(look(&endless).is_err(), "no end");
}
