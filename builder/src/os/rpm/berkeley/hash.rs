//! A database by hash (`src/hash/hash_page.c`): a chain of pages for each bucket, with the
//! keys of a page in order. The file `Packages` is one.
//!
//! It is written anew as a whole, with the number of its buckets a power of two, so that
//! their first pages lie one behind the other.

use std::collections::BTreeMap;

use super::super::{Problem, array};
use super::file::File;
use super::writer::Writer;
use super::{MAGIC_HASH, Meta, Take, kind, meta};
use crate::packages::Damage;

/// Kinds of item: in the page itself; on pages of its own.
const INLINE: u8 = 1;
const OFF_PAGE: u8 = 3;
/// Bytes of an item that is on pages of its own.
const OFF_PAGE_SIZE: usize = 12;
/// Larger parts of a page are put on pages of their own (`MINFILL`, `ISBIG`).
const BIG: usize = 4;
/// What shows which function hashes, with the zero at its end.
const TESTED: &[u8] = b"%$sniglet^&\0";

/// Hands `take` every key with its value, bucket by bucket.
pub(super) fn each(bytes: &[u8], take: Take<'_>) -> Result<(), Problem> {
    let mut file = File::open(bytes)?;
    if file.magic != MAGIC_HASH {
        return Err("it is no hash of Berkeley DB");
    }
    let last = file.meta(meta::LAST_BUCKET)? as usize;
    if last >= file.count() {
        return Err("it has more buckets than pages");
    }
    for bucket in 0..=last {
        let doubling = (usize::BITS - bucket.leading_zeros()) as usize;
        let spare = file.meta(meta::SPARES + 4 * doubling)? as usize;
        let mut number = bucket + spare;
        while number != 0 {
            let page = file.page(number)?;
            match page[kind::AT] {
                kind::HASH | kind::HASH_UNSORTED => pairs(&mut file, page, take)?,
                _ if page.iter().all(|byte| *byte == 0) => {}
                _ => return Err("a page of a bucket is none"),
            }
            number = file.next(page)?;
        }
    }
    Ok(())
}

fn pairs(file: &mut File<'_>, page: &[u8], take: Take<'_>) -> Result<(), Problem> {
    let offsets = file.offsets(page)?;
    // Items lie one before the other, from the end of the page on.
    let mut end = page.len();
    let mut key = None;
    for start in offsets {
        let item = page.get(start..end).ok_or("an item is outside its page")?;
        end = start;
        let content = match item.first() {
            Some(&INLINE) => item[1..].to_vec(),
            Some(&OFF_PAGE) if item.len() == OFF_PAGE_SIZE => {
                let first = file.number(item, 4)? as usize;
                let size = file.number(item, 8)? as usize;
                file.pieces(first, size)?
            }
            _ => return Err("an item is of no kind"),
        };
        match key.take() {
            None => key = Some(content),
            Some(key) => take(key, content)?,
        }
    }
    if key.is_some() {
        return Err("a key has no value");
    }
    Ok(())
}

/// Whether the hash is one whose keys are found by [`hash`].
pub(super) fn check(bytes: &[u8]) -> Result<(), Problem> {
    match array(bytes, meta::HASH_OF_TEST).map(u32::from_le_bytes) {
        Some(found) if found == hash(TESTED) => Ok(()),
        _ => Err("its hash function is not that of Berkeley DB 5"),
    }
}

/// By Fowler, Noll and Vo (`__ham_func5` of `src/hash/hash_func.c`).
fn hash(key: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| hash.wrapping_mul(16_777_619) ^ u32::from(*byte);
    key.iter().fold(0, step)
}

/// A hash with these keys and values; all keys of the same length, which fits a page many
/// times.
///
/// # Errors
/// When it would be too large.
pub(super) fn write(like: &Meta, records: &BTreeMap<[u8; 4], &[u8]>) -> Result<Vec<u8>, Damage> {
    let big = like.page_size / BIG;
    let item_sizes = |value: &[u8]| {
        let value = if value.len() > big {
            OFF_PAGE_SIZE
        } else {
            1 + value.len()
        };
        // With the places of both in the index.
        (1 + size_of::<[u8; 4]>()) + value + 4
    };
    let all: usize = records.values().map(|value| item_sizes(value)).sum();
    // Three quarters full: few buckets need a second page.
    let buckets = all.div_ceil(Writer::room(like.page_size) * 3 / 4);
    let buckets = buckets.next_power_of_two().max(2);
    let mut writer = Writer::new(like.page_size, 1 + buckets)?;
    let mut ends: Vec<usize> = (1..=buckets).collect();
    for page in &ends {
        writer.start(*page, kind::HASH, 0, 0);
    }
    for (key, value) in records {
        let bucket = hash(key) as usize & (buckets - 1);
        let item = if value.len() > big {
            let first = writer.pieces(value)?;
            let size = u32::try_from(value.len()).map_err(|_| "a value is too large")?;
            [
                &[OFF_PAGE, 0, 0, 0][..],
                &first.to_le_bytes(),
                &size.to_le_bytes(),
            ]
            .concat()
        } else {
            [&[INLINE], *value].concat()
        };
        if !writer.has_room(ends[bucket], item_sizes(value)) {
            let page = writer.add()?;
            writer.start(page, kind::HASH, 0, ends[bucket]);
            writer.chain(ends[bucket], page);
            ends[bucket] = page;
        }
        writer.put(ends[bucket], &[&[INLINE], &key[..]].concat());
        writer.put(ends[bucket], &item);
    }
    let mut meta_page = like.page(MAGIC_HASH, kind::HASH_META);
    let mut set = |at: usize, number: u32| {
        meta_page[at..at + 4].copy_from_slice(&number.to_le_bytes());
    };
    let mask = (buckets - 1) as u32;
    set(meta::LAST_BUCKET, mask);
    set(meta::HIGH_MASK, mask);
    set(meta::LOW_MASK, mask >> 1);
    set(meta::FILL, like.fill);
    set(meta::ELEMENTS, records.len() as u32);
    set(meta::HASH_OF_TEST, hash(TESTED));
    for doubling in 0..=buckets.ilog2() as usize {
        set(meta::SPARES + 4 * doubling, 1);
    }
    Ok(writer.finish(&meta_page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_berkeley_db() {
        // Of the first page of a database that db5.3_load made.
        assert_eq!(hash(TESTED), 0x5e68_8dd1);
        assert_eq!(hash(b""), 0);
    }
}
