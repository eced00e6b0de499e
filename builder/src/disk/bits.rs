//! One bit for each of very many things, of which few are ever set.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of one area: 4 KiB, which holds 32,768 bits.
const WORDS: usize = 512;
const WORD_BITS: u64 = 64;
const AREA_BITS: u64 = WORDS as u64 * WORD_BITS;

type Area = Box<[AtomicU64; WORDS]>;

/// A set of the numbers below `length` that several threads can change at once.
///
/// Memory is taken per area of 32,768 numbers, when the first of them is set.
#[derive(Debug)]
pub(crate) struct SparseBits {
    areas: Vec<OnceLock<Area>>,
    length: u64,
}

impl SparseBits {
    pub(crate) fn new(length: u64) -> Self {
        let areas = length.div_ceil(AREA_BITS);
        Self {
            areas: (0..areas).map(|_| OnceLock::new()).collect(),
            length,
        }
    }

    fn word(&self, number: u64) -> u64 {
        let area = (number / AREA_BITS) as usize;
        let word = (number % AREA_BITS / WORD_BITS) as usize;
        self.areas
            .get(area)
            .and_then(OnceLock::get)
            .map_or(0, |words| words[word].load(Ordering::Acquire))
    }

    /// Sets the bits of `mask` in the word that holds `number`; gives the word
    /// before.
    fn set_mask(&self, number: u64, mask: u64) -> u64 {
        let area = (number / AREA_BITS) as usize;
        let word = (number % AREA_BITS / WORD_BITS) as usize;
        let words = self.areas[area].get_or_init(|| Box::new([const { AtomicU64::new(0) }; WORDS]));
        words[word].fetch_or(mask, Ordering::AcqRel)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.word(number) >> (number % WORD_BITS) & 1 == 1
    }

    /// Adds `number`; says whether it was absent. `number` must be below the
    /// length.
    pub(crate) fn insert(&self, number: u64) -> bool {
        let bit = 1 << (number % WORD_BITS);
        self.set_mask(number, bit) & bit == 0
    }

    /// Adds all of `numbers`, which must be below the length.
    pub(crate) fn insert_range(&self, numbers: Range<u64>) {
        let mut at = numbers.start;
        while at < numbers.end {
            let word_end = (at / WORD_BITS + 1) * WORD_BITS;
            let end = word_end.min(numbers.end);
            let high = u64::MAX >> (WORD_BITS - (end - at));
            self.set_mask(at, high << (at % WORD_BITS));
            at = end;
        }
    }

    /// The first member in `from..limit`, else `limit`.
    pub(crate) fn next_member(&self, from: u64, limit: u64) -> u64 {
        let limit = limit.min(self.length);
        let mut at = from;
        while at < limit {
            if at.is_multiple_of(AREA_BITS) && self.areas[(at / AREA_BITS) as usize].get().is_none()
            {
                at += AREA_BITS;
                continue;
            }
            let rest = self.word(at) >> (at % WORD_BITS);
            if rest != 0 {
                return (at + u64::from(rest.trailing_zeros())).min(limit);
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        limit
    }

    /// The first number in `from..limit` that is no member, else `limit`.
    pub(crate) fn next_gap(&self, from: u64, limit: u64) -> u64 {
        let limit = limit.min(self.length);
        let mut at = from;
        while at < limit {
            let rest = !self.word(at) >> (at % WORD_BITS);
            if rest != 0 {
                return (at + u64::from(rest.trailing_zeros())).min(limit);
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        let bits = SparseBits::new(200_000);
        assert!(bits.insert(3));
        assert!(!bits.insert(3));
        bits.insert_range(60..70);
        bits.insert_range(131_072..131_200);
        assert_eq!(bits.next_member(0, 200_000), 3);
        assert_eq!(bits.next_member(4, 200_000), 60);
        assert_eq!(bits.next_gap(60, 200_000), 70);
        assert_eq!(bits.next_member(70, 200_000), 131_072);
        assert_eq!(bits.next_gap(131_072, 200_000), 131_200);
        assert_eq!(bits.next_member(131_200, 200_000), 200_000);
        assert!(bits.contains(131_199) && !bits.contains(131_200));
    }

    #[test]
    fn takes_memory_only_where_bits_are_set() {
        // 64 TiB in granules of 4 KiB.
        let bits = SparseBits::new(1 << 34);
        bits.insert((1 << 34) - 1);
        assert_eq!(
            bits.areas
                .iter()
                .filter(|area| area.get().is_some())
                .count(),
            1
        );
        assert_eq!(bits.next_member(0, 1 << 34), (1 << 34) - 1);
    }
}
