//! The file itself: where clusters and tables go.
//!
//! Source of the format: `docs/interop/qcow2.txt` of QEMU.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::batch::{Batch, Cluster};
use super::{Compression, Options, Written};
use crate::error::{Error, Result};

/// Length of the header, with the compression type; in bytes.
const HEADER_LENGTH: u32 = 112;
/// Reference counts have 2^4 bits.
const REFCOUNT_ORDER: u32 = 4;
/// The feature that says that a compression type is given.
const COMPRESSION_TYPE: u64 = 1 << 3;
const ZSTD: u8 = 1;
/// The cluster is referenced once, so a machine may write it in place.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Largest L1 table that QEMU opens, in bytes.
const L1_MAX: u64 = 32 << 20;
/// Compressed clusters are gathered to writes of this many bytes.
const WRITE: usize = 1 << 20;

/// Lays out one file.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    file: &'a File,
    size: u64,
    cluster_bits: u32,
    compression: Compression,
    /// References to every cluster of the file; its length is that of the file.
    refcounts: Vec<u16>,
    l1: Vec<u64>,
    /// The L2 table that is being filled, and its number.
    l2: Vec<u64>,
    l2_number: Option<usize>,
    /// Where the next compressed cluster may follow on the last one.
    tail: u64,
    /// Compressed clusters that are not written yet, and where they go.
    gathered: Vec<u8>,
    gathered_at: u64,
    written: Written,
}

impl<'a> Layout<'a> {
    pub(super) fn new(file: &'a File, size: u64, options: &Options) -> Result<Self> {
        let doing = || format!("write a qcow2 image of a disk of {size} bytes");
        let cluster_size = u64::from(options.cluster_size);
        if !cluster_size.is_power_of_two() || !(4 << 10..=2 << 20).contains(&cluster_size) {
            return Err(Error::input(doing())
                .caused_by(format!("the cluster size is {cluster_size} bytes"))
                .hint("use a power of two from 4 KiB to 2 MiB: 64 KiB serves nearly everything"));
        }
        if size == 0 || !size.is_multiple_of(512) {
            return Err(Error::input(doing()).hint("a disk has whole sectors of 512 bytes"));
        }
        let l1_entries = size.div_ceil(cluster_size * (cluster_size / 8));
        if l1_entries * 8 > L1_MAX {
            return Err(Error::input(doing())
                .caused_by(format!(
                    "clusters of {cluster_size} bytes are too small for it"
                ))
                .hint("choose larger clusters"));
        }
        Ok(Self {
            file,
            size,
            cluster_bits: cluster_size.trailing_zeros(),
            compression: options.compression,
            // The header.
            refcounts: vec![1],
            l1: vec![0; l1_entries as usize],
            l2: vec![0; (cluster_size / 8) as usize],
            l2_number: None,
            tail: 0,
            gathered: Vec::with_capacity(WRITE),
            gathered_at: 0,
            written: Written {
                size: 0,
                virtual_size: size,
                plain_clusters: 0,
                compressed_clusters: 0,
                linear: None,
            },
        })
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Takes `count` clusters at the end of the file; gives their offset.
    fn take(&mut self, count: usize) -> u64 {
        let offset = (self.refcounts.len() as u64) << self.cluster_bits;
        self.refcounts.resize(self.refcounts.len() + count, 1);
        offset
    }

    /// Adds the next batch. Batches lie within what one L2 table describes.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<()> {
        self.try_add(batch).map_err(write_error)
    }

    fn try_add(&mut self, batch: &Batch) -> io::Result<()> {
        let first = batch.start >> self.cluster_bits;
        let entries = self.l2.len() as u64;
        let mut index = 0;
        while let Some(cluster) = batch.clusters.get(index) {
            let entry = ((first + index as u64) % entries) as usize;
            match cluster {
                Cluster::Zero => index += 1,
                Cluster::Plain => {
                    self.enter((first / entries) as usize)?;
                    let run = batch.clusters[index..]
                        .iter()
                        .take_while(|next| **next == Cluster::Plain)
                        .count();
                    let bytes = index << self.cluster_bits..(index + run) << self.cluster_bits;
                    self.add_plain(entry, run, &batch.bytes[bytes])?;
                    index += run;
                }
                Cluster::Compressed(range) => {
                    self.enter((first / entries) as usize)?;
                    self.add_compressed(entry, &batch.compressed[range.clone()])?;
                    index += 1;
                }
            }
        }
        Ok(())
    }

    fn add_plain(&mut self, entry: usize, count: usize, bytes: &[u8]) -> io::Result<()> {
        let offset = self.take(count);
        for (cluster, slot) in (0..).zip(&mut self.l2[entry..entry + count]) {
            *slot = (offset + (cluster << self.cluster_bits)) | COPIED;
        }
        self.written.plain_clusters += count as u64;
        self.file.write_all_at(bytes, offset)
    }

    fn add_compressed(&mut self, entry: usize, bytes: &[u8]) -> io::Result<()> {
        let offset = self.place_compressed(bytes.len() as u64);
        let end = offset + bytes.len() as u64;
        for cluster in offset >> self.cluster_bits..=(end - 1) >> self.cluster_bits {
            self.refcounts[cluster as usize] += 1;
        }
        self.tail = end;
        let more_sectors = (end - 1) / 512 - offset / 512;
        let offset_bits = 62 - (self.cluster_bits - 8);
        self.l2[entry] = COMPRESSED | more_sectors << offset_bits | offset;
        self.written.compressed_clusters += 1;
        if offset != self.gathered_at + self.gathered.len() as u64
            || self.gathered.len() + bytes.len() > WRITE
        {
            self.write_gathered()?;
            self.gathered_at = offset;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    /// Finds room for a compressed cluster of `length` bytes, behind the last
    /// one where that is possible. The references are not counted yet.
    fn place_compressed(&mut self, length: u64) -> u64 {
        let rest = self.tail.next_multiple_of(self.cluster_size()) - self.tail;
        let current = (self.tail >> self.cluster_bits) as usize;
        let is_last = current + 1 == self.refcounts.len();
        if rest > 0 && self.refcounts[current] < u16::MAX {
            if length <= rest {
                return self.tail;
            }
            if is_last {
                self.refcounts.push(0);
                return self.tail;
            }
        }
        let offset = self.take(1);
        self.refcounts[(offset >> self.cluster_bits) as usize] = 0;
        offset
    }

    fn write_gathered(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.gathered, self.gathered_at)?;
        self.gathered.clear();
        Ok(())
    }

    /// Makes `number` the L2 table that is being filled; the one before goes to
    /// the file.
    fn enter(&mut self, number: usize) -> io::Result<()> {
        if self.l2_number == Some(number) {
            return Ok(());
        }
        if let Some(before) = self.l2_number.replace(number) {
            let offset = self.take(1);
            self.l1[before] = offset | COPIED;
            self.file.write_all_at(&big_endian(&self.l2), offset)?;
            self.l2.fill(0);
        }
        Ok(())
    }

    /// Writes what is left: tables and header.
    pub(super) fn finish(mut self) -> Result<Written> {
        self.try_finish().map_err(write_error)?;
        Ok(self.written)
    }

    fn try_finish(&mut self) -> io::Result<()> {
        self.write_gathered()?;
        // Any other number writes the last table.
        self.enter(usize::MAX)?;
        let cluster_size = self.cluster_size() as usize;
        let l1 = big_endian(&self.l1);
        let l1_offset = self.take(l1.len().div_ceil(cluster_size));
        self.file.write_all_at(&l1, l1_offset)?;

        let (blocks, table_clusters) = self.refcount_sizes();
        let blocks_offset = self.take(blocks);
        let table_offset = self.take(table_clusters);
        let counts: Vec<u8> = self
            .refcounts
            .iter()
            .flat_map(|count| count.to_be_bytes())
            .collect();
        self.file.write_all_at(&counts, blocks_offset)?;
        let table: Vec<u64> = (0..blocks as u64)
            .map(|block| blocks_offset + (block << self.cluster_bits))
            .collect();
        self.file.write_all_at(&big_endian(&table), table_offset)?;

        let header = self.header(l1_offset, table_offset, table_clusters as u32);
        self.file.write_all_at(&header, 0)?;
        self.written.size = (self.refcounts.len() as u64) << self.cluster_bits;
        self.file.set_len(self.written.size)
    }

    /// Clusters for the blocks of reference counts, and for the table of the
    /// blocks: they count themselves too.
    fn refcount_sizes(&self) -> (usize, usize) {
        let cluster_size = self.cluster_size() as usize;
        let (mut blocks, mut table) = (0, 0);
        loop {
            let clusters = self.refcounts.len() + blocks + table;
            let needed_blocks = (clusters * 2).div_ceil(cluster_size);
            let needed_table = (needed_blocks * 8).div_ceil(cluster_size);
            if (needed_blocks, needed_table) == (blocks, table) {
                return (blocks, table);
            }
            (blocks, table) = (needed_blocks, needed_table);
        }
    }

    fn header(&self, l1_offset: u64, table_offset: u64, table_clusters: u32) -> Vec<u8> {
        let (features, kind) = match self.compression {
            Compression::None => (0, 0),
            Compression::Zstd => (COMPRESSION_TYPE, ZSTD),
        };
        let mut header = Vec::with_capacity(HEADER_LENGTH as usize + 8);
        let mut put = |bytes: &[u8]| header.extend_from_slice(bytes);
        put(b"QFI\xfb");
        put(&3_u32.to_be_bytes());
        put(&[0; 8 + 4]); // no backing file
        put(&self.cluster_bits.to_be_bytes());
        put(&self.size.to_be_bytes());
        put(&[0; 4]); // no encryption
        put(&(self.l1.len() as u32).to_be_bytes());
        put(&l1_offset.to_be_bytes());
        put(&table_offset.to_be_bytes());
        put(&table_clusters.to_be_bytes());
        put(&[0; 4 + 8]); // no snapshots
        put(&features.to_be_bytes());
        put(&[0; 8 + 8]); // no compatible and no autoclear features
        put(&REFCOUNT_ORDER.to_be_bytes());
        put(&HEADER_LENGTH.to_be_bytes());
        put(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        put(&[0; 8]); // end of the extensions
        header
    }
}

fn big_endian(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn write_error(error: io::Error) -> Error {
    Error::io("write the qcow2 image", error)
}
