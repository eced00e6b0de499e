//! Empties the log of an XFS that a kernel has unmounted.
//!
//! What was in the log is in its place by then, and nobody reads it again. What is left
//! of it differs from one build to the next (in which order changes that came together
//! were noted, and what lay in the memory behind them), and tells of files that are gone.
//! So every block keeps only the number of its cycle, by which Linux finds the end of the
//! log, and the record at that end, which says that the file system was unmounted, is
//! written anew.
//!
//! Records and cycles: Linux, `fs/xfs/libxfs/xfs_log_format.h`, `xlog_find_head` in
//! `fs/xfs/xfs_log_recover.c`, and `libxfs_log_clear` of xfsprogs.

use std::io;
use std::ops::Range;

use fs_ext4::checksum::linux_crc32c;
use fs_xfs::Superblock;

use crate::disk::Storage;

/// Logs are made of blocks of this size, in bytes (`BBSIZE`).
const BLOCK: usize = 512;
/// First word of a record (`XLOG_HEADER_MAGIC_NUM`).
const MAGIC: u32 = 0xFEED_BABE;
/// Size of the header that a checksum covers, in bytes (`struct xlog_rec_header`).
const HEADER: usize = 328;
/// Bytes of a record of which one header keeps the first words (`XLOG_HEADER_CYCLE_SIZE`).
const PER_HEADER: usize = 32 << 10;
/// Where fields of a header lie.
const VERSION: usize = 8;
const LENGTH: usize = 12;
const CHECKSUM: usize = 32;
const FIRST_WORDS: usize = 44;
const SIZE: usize = 320;
/// The number of the transaction that mkfs.xfs gives to its own record.
const TRANSACTION: u32 = 0xB0C0_D0D0;
/// `XLOG_UNMOUNT_TRANS` among the flags of an operation, and where they lie.
const UNMOUNT: u8 = 0x20;
const FLAGS: usize = 9;
/// Header and content of the operation in a record of an unmount, in bytes.
const OPERATION: usize = 12 + 8;
/// Longest record of an unmount, in bytes: one stripe of a log.
const LONGEST: usize = 512 << 10;
/// Bytes read and written at once.
const PIECE: usize = 1 << 20;

/// Empties the log of the file system on `storage`, and tells whether that was done: a log
/// that does not end in a sound record of an unmount is left as it is.
///
/// # Errors
/// What the storage gives.
pub(super) fn settle(storage: &dyn Storage, superblock: &Superblock) -> io::Result<bool> {
    let (group, block) = superblock.split_fsblock(superblock.logstart);
    if group >= superblock.agcount || block >= superblock.agblocks {
        return Ok(false);
    }
    let start = superblock.fsblock_offset(superblock.logstart);
    let size = u64::from(superblock.logblocks) * u64::from(superblock.blocksize);
    let log = Log {
        storage,
        range: start..start + size,
    };
    if superblock.logstart == 0 || log.range.end > storage.size() {
        return Ok(false);
    }
    let Some(head) = log.head()? else {
        return Ok(false);
    };
    let Some(record) = log.unmounted(head)? else {
        return Ok(false);
    };
    log.clear()?;
    log.write(&record)?;
    Ok(true)
}

/// The log as a ring of blocks.
struct Log<'a> {
    storage: &'a dyn Storage,
    range: Range<u64>,
}

/// The last record: its first block, and its blocks as they are to be.
struct Record {
    first: u64,
    bytes: Vec<u8>,
}

impl Log<'_> {
    /// Number of blocks.
    fn blocks(&self) -> u64 {
        (self.range.end - self.range.start) / BLOCK as u64
    }

    /// Calls `each` with the pieces of the log that hold data: the number of the first
    /// block, and the bytes. Those that it says it changed are written back.
    fn pieces(&self, mut each: impl FnMut(u64, &mut [u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        let mut at = self.range.start;
        while let Some(data) = self.storage.next_data(at)? {
            // Whole blocks, whatever the storage keeps its data in.
            let block = BLOCK as u64;
            let from = (data.start.max(at) - self.range.start) / block * block + self.range.start;
            if from >= self.range.end {
                break;
            }
            let end = (data.end - self.range.start).next_multiple_of(block) + self.range.start;
            let end = end.min(self.range.end).min(from + PIECE as u64);
            let piece = &mut buffer[..(end - from) as usize];
            self.storage.read_at(piece, from)?;
            if each((from - self.range.start) / block, piece) {
                self.storage.write_at(piece, from)?;
            }
            at = end;
        }
        Ok(())
    }

    /// The block that Linux would write next: the first whose cycle is not that of the
    /// first one, or the first one. `None` for a log in which nothing was written.
    fn head(&self) -> io::Result<Option<u64>> {
        let (mut first, mut next, mut head) = (0, 0, None);
        self.pieces(|number, bytes| {
            for (index, block) in bytes.chunks_exact(BLOCK).enumerate() {
                let at = number + index as u64;
                if at == 0 {
                    first = cycle(block);
                }
                // A hole before it is of cycle 0.
                if head.is_none() && (at != next || cycle(block) != first) {
                    head = Some(next);
                }
                next = at + 1;
            }
            false
        })?;
        if first == 0 {
            return Ok(None);
        }
        let head = head.unwrap_or(next);
        Ok(Some(if head == self.blocks() { 0 } else { head }))
    }

    /// Reads `count` blocks from `first` on, around the end.
    fn read(&self, first: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count as usize * BLOCK];
        for (index, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            self.storage.read_at(block, self.place(first, index))?;
        }
        Ok(bytes)
    }

    fn place(&self, first: u64, index: usize) -> u64 {
        self.range.start + (first + index as u64) % self.blocks() * BLOCK as u64
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        for (index, block) in record.bytes.chunks_exact(BLOCK).enumerate() {
            self.storage
                .write_at(block, self.place(record.first, index))?;
        }
        Ok(())
    }

    /// The record before `head` as it is to be, when it is that of an unmount.
    fn unmounted(&self, head: u64) -> io::Result<Option<Record>> {
        let longest = self.blocks().min((LONGEST / BLOCK) as u64);
        for count in 2..=longest {
            let first = (head + self.blocks() - count) % self.blocks();
            let block = self.read(first, 1)?;
            if be32(&block, 0) != MAGIC {
                continue;
            }
            let bytes = self.read(first, count)?;
            return Ok(anew(bytes).map(|bytes| Record { first, bytes }));
        }
        Ok(None)
    }

    /// Leaves of every block its cycle alone.
    fn clear(&self) -> io::Result<()> {
        self.pieces(|_, bytes| {
            for block in bytes.chunks_exact_mut(BLOCK) {
                let cycle = cycle(block);
                block.fill(0);
                block[..4].copy_from_slice(&cycle.to_be_bytes());
            }
            true
        })
    }
}

/// A record of an unmount with nothing in it but that; `None` when it is another, or not
/// sound.
fn anew(mut record: Vec<u8>) -> Option<Vec<u8>> {
    let length = be32(&record, LENGTH) as usize;
    let headers = match be32(&record, VERSION) {
        2 => (be32(&record, SIZE) as usize).div_ceil(PER_HEADER).max(1),
        _ => 1,
    };
    if !length.is_multiple_of(BLOCK) || headers * BLOCK + length != record.len() {
        return None;
    }
    if length == 0 || checksum(&record, headers, length) != le32(&record, CHECKSUM) {
        return None;
    }
    let (header, data) = record.split_at_mut(headers * BLOCK);
    if data[FLAGS] != UNMOUNT || be32(header, 40) != 1 {
        return None;
    }
    // Of every block the first word is the cycle, and what was there is in the header.
    data[OPERATION..BLOCK].fill(0);
    for block in data.chunks_exact_mut(BLOCK).skip(1) {
        block[4..].fill(0);
    }
    let mut words = header[FIRST_WORDS..SIZE - 20].chunks_exact_mut(4);
    words.next()?.copy_from_slice(&TRANSACTION.to_be_bytes());
    words.for_each(|word| word.fill(0));
    for more in header.chunks_exact_mut(BLOCK).skip(1) {
        more[4..].fill(0);
    }
    let checksum = checksum(&record, headers, length);
    record[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    Some(record)
}

/// `xlog_cksum`: of the header without its checksum, of the headers that follow it as far
/// as the record is long, and of the data.
fn checksum(record: &[u8], headers: usize, length: usize) -> u32 {
    let mut header = record[..HEADER].to_vec();
    header[CHECKSUM..CHECKSUM + 4].fill(0);
    let mut sum = linux_crc32c(!0, &header);
    let further = length.div_ceil(PER_HEADER).min(headers);
    for number in 1..further {
        // `struct xlog_rec_ext_header`: a cycle and 64 words.
        sum = linux_crc32c(sum, &record[number * BLOCK..number * BLOCK + 260]);
    }
    !linux_crc32c(sum, &record[headers * BLOCK..][..length])
}

/// The cycle in which a block was written (`xlog_get_cycle`).
fn cycle(block: &[u8]) -> u32 {
    match be32(block, 0) {
        MAGIC => be32(block, 4),
        cycle => cycle,
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::Memory;

    /// A record of an unmount as Linux writes it, with `filler` where nothing is said.
    fn record(cycle: u32, filler: u8) -> Vec<u8> {
        let mut record = vec![0; 2 * BLOCK];
        let mut put =
            |at: usize, word: u32| record[at..at + 4].copy_from_slice(&word.to_be_bytes());
        put(0, MAGIC);
        put(4, cycle);
        put(VERSION, 2);
        put(LENGTH, BLOCK as u32);
        put(40, 1);
        put(FIRST_WORDS, 0x1234_5678);
        put(SIZE, PER_HEADER as u32);
        put(BLOCK, cycle);
        record[BLOCK + FLAGS] = UNMOUNT;
        record[BLOCK + OPERATION..].fill(filler);
        let sum = checksum(&record, 1, BLOCK);
        record[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
        record
    }

    /// A log of 64 blocks: `head` blocks of the second cycle, which end in `record`.
    fn log(head: usize, record: &[u8], filler: u8) -> Memory {
        let mut bytes = vec![filler; 64 * BLOCK];
        for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            let cycle: u32 = if number < head { 2 } else { 1 };
            block[..4].copy_from_slice(&cycle.to_be_bytes());
        }
        let start = head * BLOCK - record.len();
        bytes[start..start + record.len()].copy_from_slice(record);
        Memory::new(bytes)
    }

    fn settled(memory: &Memory) -> bool {
        let log = Log {
            storage: memory,
            range: 0..memory.size(),
        };
        let head = log.head().expect("read").expect("it was written");
        let Some(record) = log.unmounted(head).expect("read") else {
            return false;
        };
        log.clear().expect("written");
        log.write(&record).expect("written");
        true
    }

    #[test]
    fn what_was_in_it_makes_no_difference() {
        for head in [2, 17, 64] {
            let (one, other) = (log(head, &record(2, 7), 7), log(head, &record(2, 9), 9));
            assert!(settled(&one) && settled(&other), "{head}");
            let bytes = one.content();
            assert_eq!(bytes, other.content(), "{head}");
            for (number, block) in bytes.chunks_exact(BLOCK).enumerate() {
                assert_eq!(cycle(block), if number < head { 2 } else { 1 }, "{head}");
            }
            let kept = &bytes[(head - 2) * BLOCK..head * BLOCK];
            assert_eq!(le32(kept, CHECKSUM), checksum(kept, 1, BLOCK));
            // Once more changes nothing.
            assert!(settled(&one));
            assert_eq!(one.content(), bytes);
        }
    }

    #[test]
    fn a_record_that_is_not_sound_is_left() {
        for at in [BLOCK + 100, FIRST_WORDS, BLOCK + FLAGS, LENGTH + 2] {
            let mut record = record(2, 7);
            record[at] ^= 1;
            let log = log(20, &record, 7);
            let before = log.content();
            assert!(!settled(&log), "{at}");
            assert_eq!(log.content(), before, "{at}");
        }
    }
}
