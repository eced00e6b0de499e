//! Where the clusters of the disk lie in the file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::cache::Recent;
use super::header::Header;
use crate::disk::Storage;
use crate::disk::bits::SparseBits;

/// Entries of L2 tables are read and kept in pieces of this many.
const SLICE: u64 = 2048;
/// Memory for pieces of L2 tables, in bytes.
const CACHE: usize = 4 << 20;

/// Bits of an L1 or L2 entry that hold an offset.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Where a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in this file: in the backing file, else zeros.
    Absent,
    /// Nowhere: zeros.
    Zero,
    /// At this offset, as it is.
    Plain(u64),
    /// At this offset, compressed into at most so many bytes.
    Compressed { offset: u64, length: usize },
}

/// Clusters that follow one another and have their data at the same kind of
/// place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// In bytes of the disk; may pass its end.
    pub(super) bytes: Range<u64>,
    pub(super) place: Place,
}

/// The two levels of tables.
#[derive(Debug)]
pub(super) struct Map {
    file: Arc<dyn Storage>,
    version: u32,
    size: u64,
    cluster_bits: u32,
    /// Offsets of the L2 tables; 0 where there is none.
    l1: Vec<u64>,
    slices: Recent<u64>,
}

fn damaged(problem: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the qcow2 image is damaged: {problem}"),
    )
}

fn big_endian(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .chunks_exact(8)
        .map(|entry| u64::from_be_bytes(entry.try_into().expect("eight bytes")))
}

impl Map {
    pub(super) fn read(file: Arc<dyn Storage>, header: &Header) -> io::Result<Self> {
        let mut bytes = vec![0; header.l1_entries as usize * 8];
        file.read_at(&mut bytes, header.l1_offset)?;
        let slice_bytes = SLICE.min(1 << (header.cluster_bits - 3)) as usize * 8;
        Ok(Self {
            l1: big_endian(&bytes).map(|entry| entry & OFFSET).collect(),
            slices: Recent::new(CACHE / slice_bytes),
            file,
            version: header.version,
            size: header.size,
            cluster_bits: header.cluster_bits,
        })
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table, as a power of two.
    fn l2_bits(&self) -> u32 {
        self.cluster_bits - 3
    }

    /// Where the cluster that holds `offset` of the disk is.
    pub(super) fn place(&self, offset: u64) -> io::Result<Place> {
        let cluster = offset >> self.cluster_bits;
        let l2 = self.l1[(cluster >> self.l2_bits()) as usize];
        if l2 == 0 {
            return Ok(Place::Absent);
        }
        let index = cluster & ((1 << self.l2_bits()) - 1);
        let slice = self.slice(l2, index / SLICE)?;
        self.decode(slice[(index % SLICE) as usize])
    }

    /// The clusters from the one that holds `offset` on that are of one kind.
    /// It ends at the end of an L2 table at the latest.
    pub(super) fn run(&self, offset: u64) -> io::Result<Run> {
        let first = offset >> self.cluster_bits;
        let table = first >> self.l2_bits();
        let table_end = (table + 1) << self.l2_bits();
        let bytes = |end: u64| first << self.cluster_bits..end << self.cluster_bits;
        let l2 = self.l1[table as usize];
        if l2 == 0 {
            return Ok(Run {
                bytes: bytes(table_end),
                place: Place::Absent,
            });
        }
        let mut index = first & ((1 << self.l2_bits()) - 1);
        let entries = 1 << self.l2_bits();
        let mut place = None;
        'slices: while index < entries {
            let slice = self.slice(l2, index / SLICE)?;
            for entry in &slice[(index % SLICE) as usize..] {
                let here = self.decode(*entry)?;
                let start = *place.get_or_insert(here);
                if kind(start) != kind(here) {
                    break 'slices;
                }
                index += 1;
            }
        }
        Ok(Run {
            bytes: bytes((table << self.l2_bits()) + index),
            place: place.unwrap_or(Place::Absent),
        })
    }

    fn slice(&self, l2: u64, number: u64) -> io::Result<Arc<[u64]>> {
        let length = SLICE.min(1 << self.l2_bits()) * 8;
        let at = l2 + number * length;
        self.slices.get(at, || {
            let mut bytes = vec![0; length as usize];
            self.file.read_at(&mut bytes, at)?;
            Ok(big_endian(&bytes).collect())
        })
    }

    fn decode(&self, entry: u64) -> io::Result<Place> {
        if entry & COMPRESSED != 0 {
            // The rest is offset and number of sectors; the larger the clusters,
            // the more bits take the sectors.
            let offset_bits = 62 - (self.cluster_bits - 8);
            let offset = entry & ((1 << offset_bits) - 1);
            let more_sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
            let length = (more_sectors + 1) * 512 - offset % 512;
            return Ok(Place::Compressed {
                offset,
                length: length as usize,
            });
        }
        if entry & ZERO != 0 {
            return if self.version >= 3 {
                Ok(Place::Zero)
            } else {
                Err(damaged("a cluster is marked as zero in version 2"))
            };
        }
        Ok(match entry & OFFSET {
            0 => Place::Absent,
            offset => Place::Plain(offset),
        })
    }

    /// Walks all tables: everything must lie inside the file, and nothing twice.
    /// So a file that was cut off is found before work begins, and an image
    /// whose parts lead back to each other cannot cost more than its size.
    pub(super) fn check(&self, l1_offset: u64) -> io::Result<()> {
        let file_size = self.file.size();
        let mut claims = Claims {
            used: SparseBits::new(file_size.div_ceil(self.cluster_size())),
            cluster_size: self.cluster_size(),
            file_size,
        };
        claims.used.insert(0);
        claims.claim(l1_offset, self.l1.len() as u64 * 8, "the L1 table")?;
        for l2 in self.l1.iter().filter(|l2| **l2 != 0) {
            claims.claim(*l2, self.cluster_size(), "an L2 table")?;
        }
        let entries = 1 << self.l2_bits();
        for (table, l2) in (0..).zip(&self.l1).filter(|(_, l2)| **l2 != 0) {
            for number in 0..u64::div_ceil(entries, SLICE) {
                let first = table * entries + number * SLICE;
                let slice = self.slice(*l2, number)?;
                for (cluster, entry) in (first..).zip(&*slice).filter(|(_, entry)| **entry != 0) {
                    let at = cluster << self.cluster_bits;
                    if at < self.size {
                        self.check_place(self.decode(*entry)?, at, &mut claims)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_place(&self, place: Place, at: u64, claims: &mut Claims) -> io::Result<()> {
        match place {
            // The last cluster may lack what is past the end of the disk.
            Place::Plain(offset) => claims.claim(
                offset,
                self.cluster_size().min(self.size - at),
                "a data cluster",
            ),
            // The last sector of the file need not be whole.
            Place::Compressed { offset, length } => claims.inside(
                offset,
                (length as u64).saturating_sub(511),
                "a compressed cluster",
            ),
            Place::Absent | Place::Zero => Ok(()),
        }
    }
}

/// Which clusters of the file are taken, and by what.
#[derive(Debug)]
struct Claims {
    used: SparseBits,
    cluster_size: u64,
    file_size: u64,
}

impl Claims {
    fn inside(&self, offset: u64, length: u64, what: &str) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.file_size => Ok(()),
            _ => Err(damaged(format!(
                "{what} lies at {offset}, past the end of the file of {} bytes: was the file cut \
                 off?",
                self.file_size
            ))),
        }
    }

    /// Takes all clusters of a range, the last of which may be a part only.
    fn claim(&mut self, offset: u64, length: u64, what: &str) -> io::Result<()> {
        self.inside(offset, length, what)?;
        if !offset.is_multiple_of(self.cluster_size) {
            return Err(damaged(format!(
                "{what} lies at {offset}, within a cluster"
            )));
        }
        let first = offset / self.cluster_size;
        for cluster in first..(offset + length).div_ceil(self.cluster_size) {
            if !self.used.insert(cluster) {
                return Err(damaged(format!(
                    "{what} at {offset} overlaps something else"
                )));
            }
        }
        Ok(())
    }
}

/// Tells kinds of places apart, for runs.
fn kind(place: Place) -> u8 {
    match place {
        Place::Absent => 0,
        Place::Zero => 1,
        Place::Plain(_) | Place::Compressed { .. } => 2,
    }
}
