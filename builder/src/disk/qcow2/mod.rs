//! qcow2 images, read in place.
//!
//! Versions 2 and 3, clusters of 512 bytes to 2 MiB, plain, zero, zlib and zstd
//! clusters, backing files if they are allowed. Snapshots inside the image are
//! ignored: what is read is its present state. Everything else is refused when
//! the image is opened, and so are images whose tables lead out of the file or
//! to one place twice.
//!
//! The format is that of `docs/interop/qcow2.txt` in QEMU.

mod backing;
mod cache;
mod decompress;
mod header;
mod map;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{OpenOptions, Storage, check_range, raw::RawFile};
use crate::error::{Context as _, Error, Result};
use backing::Chain;
use cache::Recent;
use decompress::Decompressor;
use header::Header;
use map::{Map, Place};

pub(super) use header::MAGIC;

/// Memory for decompressed clusters, in bytes.
const CLUSTER_CACHE: u64 = 8 << 20;
/// Longest range that [`Storage::next_data`] gives, in bytes: it bounds the
/// table entries that are walked at once.
const DATA_RANGE_MAX: u64 = 256 << 20;

/// An open image. It is never written.
#[derive(Debug)]
pub struct Qcow2 {
    file: Arc<dyn Storage>,
    size: u64,
    map: Map,
    decompressor: Decompressor,
    clusters: Recent<u8>,
    backing: Option<Arc<dyn Storage>>,
}

impl Qcow2 {
    /// Opens the image in `file`, which is at `path`.
    pub(super) fn open(file: File, path: &Path, options: OpenOptions) -> Result<Self> {
        let mut chain = Chain::new(path, &file, options.allow_backing_file)?;
        let file = RawFile::read_only(file).doing(|| "open the file".to_owned())?;
        Self::open_in_chain(Arc::new(file), path, &mut chain)
    }

    /// Opens an image that is not a file; a backing file is refused.
    ///
    /// # Errors
    /// As [`super::open_base`].
    pub fn open_storage(file: Arc<dyn Storage>) -> Result<Self> {
        let header = read_header(&*file)?;
        if header.backing.is_some() {
            return Err(Error::unsupported(
                "open an image in memory with a backing file",
            ));
        }
        Self::with_header(file, &header, None)
    }

    fn open_in_chain(file: Arc<dyn Storage>, path: &Path, chain: &mut Chain) -> Result<Self> {
        let header = read_header(&*file)?;
        let backing = match &header.backing {
            Some(backing) => Some(chain.open(path, backing)?),
            None => None,
        };
        Self::with_header(file, &header, backing)
    }

    fn with_header(
        file: Arc<dyn Storage>,
        header: &Header,
        backing: Option<Arc<dyn Storage>>,
    ) -> Result<Self> {
        let map = Map::read(file.clone(), header).map_err(table_error)?;
        map.check(header.l1_offset).map_err(table_error)?;
        Ok(Self {
            file,
            size: header.size,
            decompressor: Decompressor::new(header.compression),
            clusters: Recent::new((CLUSTER_CACHE / map.cluster_size()) as usize),
            map,
            backing,
        })
    }

    /// Reads a part of one cluster; `buffer` does not pass its end.
    fn read_cluster(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let within = offset % self.map.cluster_size();
        match self.map.place(offset)? {
            Place::Zero => buffer.fill(0),
            Place::Absent => self.read_backing(buffer, offset)?,
            Place::Plain(start) => self.file.read_at(buffer, start + within)?,
            Place::Compressed { offset, length } => {
                // A whole cluster will hardly be asked for again.
                if buffer.len() as u64 == self.map.cluster_size() {
                    return self.decompress(offset, length, buffer);
                }
                let cluster = self.clusters.get(offset, || {
                    let mut cluster = vec![0; self.map.cluster_size() as usize];
                    self.decompress(offset, length, &mut cluster)?;
                    io::Result::Ok(cluster.into())
                })?;
                let within = within as usize;
                buffer.copy_from_slice(&cluster[within..within + buffer.len()]);
            }
        }
        Ok(())
    }

    fn decompress(&self, offset: u64, length: usize, cluster: &mut [u8]) -> io::Result<()> {
        self.decompressor
            .run(&self.compressed(offset, length)?, cluster)
    }

    /// The bytes of a compressed cluster, and what follows up to the next sector.
    fn compressed(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        // Lengths are in whole sectors; the file may end within the last one.
        let held = self.file.size().saturating_sub(offset).min(length as u64);
        let mut compressed = vec![0; held as usize];
        self.file.read_at(&mut compressed, offset)?;
        Ok(compressed)
    }

    /// Reads what this image does not hold; a backing file may be shorter.
    fn read_backing(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let held = self
            .backing
            .as_ref()
            .map_or(0, |backing| backing.size().saturating_sub(offset))
            .min(buffer.len() as u64);
        let (inside, past) = buffer.split_at_mut(held as usize);
        past.fill(0);
        match &self.backing {
            Some(backing) if !inside.is_empty() => backing.read_at(inside, offset),
            _ => Ok(()),
        }
    }
}

impl Storage for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(
            self.size,
            buffer.len(),
            offset,
            io::ErrorKind::UnexpectedEof,
        )?;
        let cluster_size = self.map.cluster_size();
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let length = (cluster_size - at % cluster_size).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(length as usize);
            self.read_cluster(now, at)?;
            rest = later;
            at += length;
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a base image is never written",
        ))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let mut at = offset;
        while at < self.size {
            let run = self.map.run(at)?;
            let end = run.bytes.end.min(self.size);
            match run.place {
                Place::Plain(_) | Place::Compressed { .. } => {
                    return self.extend_data(at..end).map(Some);
                }
                Place::Absent => {
                    let found = match &self.backing {
                        Some(backing) => backing.next_data(at)?,
                        None => None,
                    };
                    if let Some(data) = found.filter(|data| data.start < end) {
                        return Ok(Some(data.start..data.end.min(end)));
                    }
                }
                Place::Zero => {}
            }
            at = end;
        }
        Ok(None)
    }

    fn zstd_frame(&self, offset: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
        let whole = size == self.map.cluster_size()
            && offset.is_multiple_of(size)
            && offset.checked_add(size).is_some_and(|end| end <= self.size);
        if !whole || !self.decompressor.is_zstd() {
            return Ok(None);
        }
        let Place::Compressed { offset, length } = self.map.place(offset)? else {
            return Ok(None);
        };
        let mut compressed = self.compressed(offset, length)?;
        let Some(length) = decompress::frame_of(&compressed, size) else {
            return Ok(None);
        };
        compressed.truncate(length);
        Ok(Some(compressed))
    }
}

impl Qcow2 {
    /// Adds the runs of data that follow on those in `data`.
    fn extend_data(&self, mut data: Range<u64>) -> io::Result<Range<u64>> {
        while data.end < self.size && data.end - data.start < DATA_RANGE_MAX {
            let run = self.map.run(data.end)?;
            if matches!(run.place, Place::Absent | Place::Zero) {
                break;
            }
            data.end = run.bytes.end.min(self.size);
        }
        Ok(data)
    }
}

fn read_header(file: &dyn Storage) -> Result<Header> {
    let mut begin = vec![0; file.size().min(header::PEEK as u64) as usize];
    file.read_at(&mut begin, 0)
        .doing(|| "read the qcow2 header".to_owned())?;
    Header::parse(&begin, file.size())
}

fn table_error(error: io::Error) -> Error {
    let doing = "read the tables of the qcow2 image";
    if error.kind() == io::ErrorKind::InvalidData {
        Error::input(doing)
            .caused_by(error)
            .hint("`qemu-img check IMAGE` tells more; if the image was downloaded, fetch it again")
    } else {
        Error::io(doing, error)
    }
}

#[cfg(test)]
mod tests;
