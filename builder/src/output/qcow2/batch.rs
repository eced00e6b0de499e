//! Clusters on their way from the disk to the file.

use std::io;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::super::digest::BLOCK;
use super::{Compression, Options};
use crate::disk::{Storage, is_zero};
use crate::error::{Class, Error, Result};

/// Least size of a batch in bytes; with larger clusters, it is one cluster.
const BATCH: u64 = 1 << 20;
/// The level of zstd: in clusters of 64 KiB, level 3 makes an image 3 % smaller
/// for a third more time.
const LEVEL: i32 = 1;

/// What becomes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cluster {
    /// It is left out.
    Zero,
    /// It is stored as it is.
    Plain,
    /// It is stored as this part of [`Batch::compressed`].
    Compressed(Range<usize>),
}

/// Some clusters that follow one another on the disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Its place in the order of batches.
    pub(super) number: u64,
    /// Where it begins on the disk, in bytes.
    pub(super) start: u64,
    /// The bytes of its clusters.
    pub(super) bytes: Vec<u8>,
    pub(super) compressed: Vec<u8>,
    pub(super) clusters: Vec<Cluster>,
    /// Numbers and sha256 of its blocks of [`BLOCK`] bytes, if they are wanted.
    pub(super) blocks: Vec<(u64, [u8; 32])>,
}

impl Batch {
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }
}

/// The ranges of the disk that may hold data, in whole clusters and whole blocks
/// of the linear digest, cut into batches that never cross a multiple of the
/// batch size.
#[derive(Debug)]
pub(super) struct Batches<'a> {
    storage: &'a dyn Storage,
    unit: u64,
    step: u64,
    data: Range<u64>,
    number: u64,
}

impl<'a> Batches<'a> {
    pub(super) fn new(storage: &'a dyn Storage, cluster_size: u64) -> Self {
        Self {
            storage,
            unit: BLOCK.max(cluster_size),
            step: BATCH.max(cluster_size),
            data: 0..0,
            number: 0,
        }
    }

    /// Number and range of the next batch; the last one may pass the end of the
    /// disk.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Range<u64>)>> {
        if self.data.is_empty() {
            let found = self.storage.next_data(self.data.end).map_err(read_error)?;
            let Some(data) = found else {
                return Ok(None);
            };
            let start = data.start / self.unit * self.unit;
            // Two ranges may share a unit: the first has taken it.
            self.data = start.max(self.data.end)..data.end.next_multiple_of(self.unit);
        }
        let start = self.data.start;
        let end = ((start / self.step + 1) * self.step).min(self.data.end);
        self.data.start = end;
        let number = self.number;
        self.number += 1;
        Ok(Some((number, start..end)))
    }

    /// Bytes of all batches.
    pub(super) fn total(mut self) -> Result<u64> {
        let mut total = 0;
        while let Some((_, range)) = self.next()? {
            total += range.end - range.start;
        }
        Ok(total)
    }
}

/// Reads batches and compresses their clusters.
pub(super) struct Worker {
    cluster_size: usize,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
    linear: bool,
}

impl Worker {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let cluster_size = options.cluster_size as usize;
        let zstd = match options.compression {
            Compression::None => None,
            Compression::Zstd => Some(zstd::bulk::Compressor::new(LEVEL).map_err(zstd_error)?),
        };
        Ok(Self {
            cluster_size,
            scratch: match zstd {
                Some(_) => vec![0; zstd::zstd_safe::compress_bound(cluster_size)],
                None => Vec::new(),
            },
            zstd,
            linear: options.linear,
        })
    }

    pub(super) fn fill(
        &mut self,
        batch: &mut Batch,
        number: u64,
        range: Range<u64>,
        storage: &dyn Storage,
    ) -> Result<()> {
        batch.number = number;
        batch.start = range.start;
        batch.compressed.clear();
        batch.clusters.clear();
        batch.blocks.clear();
        batch.bytes.resize((range.end - range.start) as usize, 0);
        let held = (storage.size() - range.start).min(range.end - range.start);
        let (inside, past) = batch.bytes.split_at_mut(held as usize);
        storage.read_at(inside, range.start).map_err(read_error)?;
        past.fill(0);
        let mut at = range.start;
        for cluster in batch.bytes.chunks(self.cluster_size) {
            let what = if is_zero(cluster) {
                Cluster::Zero
            } else {
                self.compress(cluster, at, storage, &mut batch.compressed)?
            };
            batch.clusters.push(what);
            at += cluster.len() as u64;
        }
        if self.linear {
            // While the bytes are near: reading them a second time would cost as
            // much as hashing them.
            let numbers = batch.start / BLOCK..storage.size().div_ceil(BLOCK);
            for (number, block) in numbers.zip(batch.bytes.chunks(BLOCK as usize)) {
                batch.blocks.push((number, Sha256::digest(block).into()));
            }
        }
        Ok(())
    }

    /// Compresses the cluster at `offset` of `storage`, unless its base has done that
    /// already: most of a node image is its base, and compressing costs more than
    /// all else that a build does.
    fn compress(
        &mut self,
        cluster: &[u8],
        offset: u64,
        storage: &dyn Storage,
        compressed: &mut Vec<u8>,
    ) -> Result<Cluster> {
        let Some(zstd) = &mut self.zstd else {
            return Ok(Cluster::Plain);
        };
        let start = compressed.len();
        let present = storage
            .zstd_frame(offset, cluster.len() as u64)
            .map_err(read_error)?;
        if let Some(frame) = present.filter(|frame| frame.len() < cluster.len()) {
            compressed.extend_from_slice(&frame);
            return Ok(Cluster::Compressed(start..compressed.len()));
        }
        let length = zstd
            .compress_to_buffer(cluster, &mut self.scratch[..])
            .map_err(zstd_error)?;
        if length >= cluster.len() {
            return Ok(Cluster::Plain);
        }
        compressed.extend_from_slice(&self.scratch[..length]);
        Ok(Cluster::Compressed(start..start + length))
    }
}

fn zstd_error(error: io::Error) -> Error {
    Error::new(Class::Internal, "compress a cluster").caused_by(error)
}

fn read_error(error: io::Error) -> Error {
    let doing = "read the disk to write it as qcow2";
    if error.kind() == io::ErrorKind::InvalidData {
        Error::input(doing).caused_by(error)
    } else {
        Error::io(doing, error)
    }
}
