//! The allocation table, held in memory and written once, at the end.

use std::io;

use super::layout::{Layout, Width};
use crate::disk::Storage;

/// Value of the last entry of a chain, as it is written.
const END: u32 = 0x0FFF_FFFF;

/// See the module documentation.
#[derive(Debug)]
pub struct Table {
    width: Width,
    raw: Vec<u8>,
    entries: Vec<u32>,
    free: u32,
    hint: u32,
}

impl Table {
    /// Reads the first table; the second element says whether the copies agree.
    pub fn read(storage: &dyn Storage, layout: &Layout) -> io::Result<(Self, bool)> {
        let count = layout.clusters as usize + 2;
        let size = match layout.width {
            Width::Fat12 => (count * 3).div_ceil(2),
            Width::Fat16 => count * 2,
            Width::Fat32 => count * 4,
        };
        let mut raw = vec![0; size];
        storage.read_at(&mut raw, layout.tables)?;
        let mut agree = true;
        let mut copy = vec![0; size];
        for number in 1..u64::from(layout.copies) {
            storage.read_at(&mut copy, layout.tables + number * layout.table)?;
            agree &= copy == raw;
        }
        let entries: Vec<u32> = (0..count)
            .map(|number| decode(&raw, layout.width, number))
            .collect();
        let free = entries[2..].iter().filter(|entry| **entry == 0).count();
        let table = Self {
            width: layout.width,
            raw,
            entries,
            free: free as u32,
            hint: 2,
        };
        Ok((table, agree))
    }

    /// Number of free clusters.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// The clusters of the chain that begins at `first`; none for 0. `None` when
    /// the chain leaves the volume, meets a free or bad cluster, or itself.
    pub fn chain(&self, first: u32) -> Option<Vec<u32>> {
        let mut clusters = Vec::new();
        let mut current = first;
        if first == 0 {
            return Some(clusters);
        }
        let (bad, end) = match self.width {
            Width::Fat12 => (0xFF7, 0xFF8),
            Width::Fat16 => (0xFFF7, 0xFFF8),
            Width::Fat32 => (0x0FFF_FFF7, 0x0FFF_FFF8),
        };
        loop {
            if current < 2 || current >= bad || clusters.len() >= self.entries.len() {
                return None;
            }
            let next = *self.entries.get(current as usize)?;
            clusters.push(current);
            if next >= end {
                return Some(clusters);
            }
            current = next;
        }
    }

    /// Marks the clusters of chains in `seen`; `false` when one is there
    /// already.
    pub fn mark(chain: &[u32], seen: &mut [bool]) -> bool {
        chain.iter().all(|cluster| {
            seen.get_mut(*cluster as usize)
                .is_some_and(|seen| !std::mem::replace(seen, true))
        })
    }

    /// Clusters that are allocated but not in `seen`.
    pub fn lost(&self, seen: &[bool]) -> usize {
        let bad = match self.width {
            Width::Fat12 => 0xFF7,
            Width::Fat16 => 0xFFF7,
            Width::Fat32 => 0x0FFF_FFF7,
        };
        (2..self.entries.len())
            .filter(|at| !seen[*at] && self.entries[*at] != 0 && self.entries[*at] != bad)
            .count()
    }

    /// Takes `count` clusters as one chain; `None` when there are too few.
    pub fn take(&mut self, count: u32) -> Option<Vec<u32>> {
        if count > self.free {
            return None;
        }
        let mut clusters = Vec::with_capacity(count as usize);
        let length = self.entries.len() as u32;
        let mut at = self.hint;
        while clusters.len() < count as usize {
            if at >= length {
                at = 2;
            }
            if self.entries[at as usize] == 0 {
                self.entries[at as usize] = END;
                clusters.push(at);
            }
            at += 1;
        }
        self.hint = at;
        self.free -= count;
        self.link(&clusters);
        Some(clusters)
    }

    fn link(&mut self, clusters: &[u32]) {
        for pair in clusters.windows(2) {
            self.entries[pair[0] as usize] = pair[1];
        }
    }

    /// Puts `more` behind `chain`.
    pub fn join(&mut self, chain: &[u32], more: &[u32]) {
        if let (Some(last), Some(next)) = (chain.last(), more.first()) {
            self.entries[*last as usize] = *next;
        }
    }

    /// Ends `chain` after its first `kept` clusters, and gives the rest back.
    pub fn cut(&mut self, chain: &[u32], kept: usize) {
        if kept > 0 {
            self.entries[chain[kept - 1] as usize] = END;
        }
        for cluster in &chain[kept..] {
            self.entries[*cluster as usize] = 0;
            self.hint = self.hint.min(*cluster);
        }
        self.free += (chain.len() - kept) as u32;
    }

    /// Marks the volume as put away in order (Microsoft, "ClnShutBitMask").
    pub fn mark_clean(&mut self) {
        match self.width {
            Width::Fat12 => {}
            Width::Fat16 => self.entries[1] |= 0xC000,
            Width::Fat32 => self.entries[1] |= 0x0C00_0000,
        }
    }

    /// Whether the table says that the volume is in use or had errors.
    pub fn is_dirty(&self) -> bool {
        match self.width {
            Width::Fat12 => false,
            Width::Fat16 => self.entries[1] & 0xC000 != 0xC000,
            Width::Fat32 => self.entries[1] & 0x0C00_0000 != 0x0C00_0000,
        }
    }

    /// Where the next free cluster is looked for.
    pub fn hint(&self) -> u32 {
        self.hint
    }

    /// Writes what changed into every copy.
    pub fn write(&mut self, storage: &dyn Storage, layout: &Layout) -> io::Result<()> {
        const PIECE: usize = 4096;
        let mut raw = self.raw.clone();
        for (number, entry) in self.entries.iter().enumerate() {
            encode(&mut raw, self.width, number, *entry);
        }
        for (index, (new, old)) in raw.chunks(PIECE).zip(self.raw.chunks(PIECE)).enumerate() {
            if new != old {
                for copy in 0..u64::from(layout.copies) {
                    let at = layout.tables + copy * layout.table + (index * PIECE) as u64;
                    storage.write_at(new, at)?;
                }
            }
        }
        self.raw = raw;
        Ok(())
    }
}

fn decode(raw: &[u8], width: Width, number: usize) -> u32 {
    let byte = |at: usize| u32::from(raw[at]);
    match width {
        Width::Fat12 => {
            let at = number * 3 / 2;
            let pair = byte(at) | byte(at + 1) << 8;
            if number.is_multiple_of(2) {
                pair & 0xFFF
            } else {
                pair >> 4
            }
        }
        Width::Fat16 => byte(number * 2) | byte(number * 2 + 1) << 8,
        Width::Fat32 => {
            let at = number * 4;
            (byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16 | byte(at + 3) << 24) & END
        }
    }
}

fn encode(raw: &mut [u8], width: Width, number: usize, entry: u32) {
    match width {
        Width::Fat12 => {
            let at = number * 3 / 2;
            let entry = entry & 0xFFF;
            if number.is_multiple_of(2) {
                raw[at] = entry as u8;
                raw[at + 1] = raw[at + 1] & 0xF0 | (entry >> 8) as u8;
            } else {
                raw[at] = raw[at] & 0x0F | (entry << 4) as u8;
                raw[at + 1] = (entry >> 4) as u8;
            }
        }
        Width::Fat16 => {
            raw[number * 2..number * 2 + 2].copy_from_slice(&(entry as u16).to_le_bytes());
        }
        Width::Fat32 => {
            // The upper four bits are reserved and stay.
            let at = number * 4;
            let reserved = u32::from(raw[at + 3] & 0xF0) << 24;
            raw[at..at + 4].copy_from_slice(&(entry & END | reserved).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_every_width() {
        for (width, size) in [(Width::Fat12, 30), (Width::Fat16, 40), (Width::Fat32, 80)] {
            let mut raw = vec![0xF0; size];
            for number in 0..20 {
                encode(&mut raw, width, number, 0x100 + number as u32);
            }
            for number in 0..20 {
                assert_eq!(decode(&raw, width, number), 0x100 + number as u32);
            }
        }
    }

    #[test]
    fn refuses_chains_that_do_not_end() {
        let table = Table {
            width: Width::Fat16,
            raw: Vec::new(),
            entries: vec![0, 0, 3, 2, 0xFFFF, 99, 0],
            free: 1,
            hint: 2,
        };
        assert_eq!(table.chain(2), None);
        assert_eq!(table.chain(4), Some(vec![4]));
        assert_eq!(table.chain(5), None);
        assert_eq!(table.chain(6), None);
        assert_eq!(table.chain(0), Some(vec![]));
    }
}
