//! The header of a qcow2 image.
//!
//! Source of the format: `docs/interop/qcow2.txt` of QEMU.

use crate::error::{Error, Result};

/// The first four bytes of every version.
pub(in crate::disk) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Length of a header of version 2, and the least one of version 3, in bytes.
const LENGTH_V2: usize = 72;
const LENGTH_V3: usize = 104;
/// Bytes from the begin of the file that can hold header and extensions, as far
/// as they are of interest here.
pub(super) const PEEK: usize = 64 << 10;
/// Largest disk that is opened, in bytes: the largest EBS volume.
const SIZE_MAX: u64 = 64 << 40;
/// Largest L1 table, in bytes; QEMU's own limit.
const L1_MAX: u64 = 32 << 20;
/// Longest name of a backing file, in bytes; QEMU's own limit.
const BACKING_NAME_MAX: u32 = 1023;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Zlib,
    Zstd,
}

/// The file that holds what an image does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    pub(super) name: Vec<u8>,
    /// `raw` or `qcow2`, if the image says.
    pub(super) format: Option<Vec<u8>>,
}

/// What of a header matters for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Size of the disk, in bytes.
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    /// Entries of the L1 table that the disk needs.
    pub(super) l1_entries: u64,
    pub(super) compression: Compression,
    pub(super) backing: Option<Backing>,
}

fn damaged(problem: impl Into<String>) -> Error {
    Error::input("read the qcow2 header")
        .caused_by(problem.into())
        .hint("`qemu-img check IMAGE` tells more; if the image was downloaded, fetch it again")
}

fn unsupported(problem: impl Into<String>) -> Error {
    Error::unsupported("read the qcow2 header")
        .caused_by(problem.into())
        .hint("convert it: qemu-img convert -O qcow2 IMAGE base.qcow2")
}

/// Big-endian numbers of a header.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn slice(&self, at: u64, length: usize) -> Result<&[u8]> {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.0.get(at..at.checked_add(length)?))
            .ok_or_else(|| damaged("the file ends within the header: it is cut off"))
    }

    fn u32(&self, at: u64) -> Result<u32> {
        let bytes = self.slice(at, 4)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    fn u64(&self, at: u64) -> Result<u64> {
        let bytes = self.slice(at, 8)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }
}

impl Header {
    /// Reads the header from the begin of a file of `file_size` bytes.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is damaged, [`crate::Class::Unsupported`]
    /// for features that are not supported.
    pub(super) fn parse(begin: &[u8], file_size: u64) -> Result<Self> {
        let bytes = Bytes(begin);
        if bytes.slice(0, 4)? != MAGIC {
            return Err(damaged("it does not begin as a qcow2 image does"));
        }
        let version = bytes.u32(4)?;
        if !(2..=3).contains(&version) {
            return Err(unsupported(format!(
                "it is version {version} of the format"
            )));
        }
        let cluster_bits = bytes.u32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged(format!(
                "its clusters have 2^{cluster_bits} bytes, not 2^9 to 2^21"
            )));
        }
        if bytes.u32(32)? != 0 {
            return Err(unsupported("it is encrypted"));
        }
        let (header_length, compression) = if version == 2 {
            (LENGTH_V2, Compression::Zlib)
        } else {
            features(&bytes)?
        };
        let size = bytes.u64(24)?;
        if size == 0 || size > SIZE_MAX || !size.is_multiple_of(512) {
            return Err(damaged(format!(
                "its disk has {size} bytes, not a multiple of 512 up to 64 TiB"
            )));
        }
        let (l1_offset, l1_entries) = l1_table(&bytes, size, cluster_bits, file_size)?;
        Ok(Self {
            version,
            cluster_bits,
            size,
            l1_offset,
            l1_entries,
            compression,
            backing: backing(&bytes, header_length, 1 << cluster_bits)?,
        })
    }
}

/// Header length and compression of version 3; refuses what cannot be read.
fn features(bytes: &Bytes<'_>) -> Result<(usize, Compression)> {
    let incompatible = bytes.u64(72)?;
    let length = bytes.u32(100)? as usize;
    if length < LENGTH_V3 || !length.is_multiple_of(8) || length > PEEK {
        return Err(damaged(format!("its header claims {length} bytes")));
    }
    if incompatible & CORRUPT != 0 {
        return Err(
            damaged("QEMU marked it as corrupt").hint("repair a copy: qemu-img check -r all IMAGE")
        );
    }
    if incompatible & DIRTY != 0 {
        return Err(damaged("it was not closed properly, or is in use")
            .hint("stop the machine that uses it, then: qemu-img check -r all IMAGE"));
    }
    if incompatible & EXTERNAL_DATA != 0 {
        return Err(unsupported(
            "its data lie in another file (external data file)",
        ));
    }
    if incompatible & EXTENDED_L2 != 0 {
        return Err(unsupported(
            "its clusters are divided (extended L2 entries)",
        ));
    }
    let unknown =
        incompatible & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        return Err(unsupported(format!(
            "it uses features that are not known here (bits {unknown:#x})"
        )));
    }
    let declared = incompatible & COMPRESSION_TYPE != 0;
    let kind = if length > LENGTH_V3 {
        bytes.slice(LENGTH_V3 as u64, 1)?[0]
    } else {
        0
    };
    let compression = match (declared, kind) {
        (false, 0) => Compression::Zlib,
        (true, 1) => Compression::Zstd,
        (true, 2..) => return Err(unsupported(format!("it uses compression type {kind}"))),
        _ => return Err(damaged("its compression type contradicts its features")),
    };
    Ok((length, compression))
}

/// Place and needed length of the L1 table.
fn l1_table(bytes: &Bytes<'_>, size: u64, cluster_bits: u32, file_size: u64) -> Result<(u64, u64)> {
    let entries = u64::from(bytes.u32(36)?);
    let offset = bytes.u64(40)?;
    // An L2 table fills a cluster with entries of 8 bytes.
    let needed = size.div_ceil(1 << (2 * cluster_bits - 3));
    if entries * 8 > L1_MAX {
        return Err(damaged(format!("its L1 table claims {entries} entries")));
    }
    if entries < needed {
        return Err(damaged(format!(
            "its L1 table has {entries} entries, its disk needs {needed}"
        )));
    }
    let end = offset.checked_add(entries * 8);
    if offset == 0
        || !offset.is_multiple_of(1 << cluster_bits)
        || end.is_none_or(|end| end > file_size)
    {
        return Err(damaged(format!(
            "its L1 table lies at {offset}, outside of the file of {file_size} bytes"
        )));
    }
    Ok((offset, needed))
}

fn backing(bytes: &Bytes<'_>, header_length: usize, cluster_size: u64) -> Result<Option<Backing>> {
    let offset = bytes.u64(8)?;
    let length = bytes.u32(16)?;
    if offset == 0 {
        return Ok(None);
    }
    let in_header = offset
        .checked_add(u64::from(length))
        .is_some_and(|end| end <= cluster_size);
    if length == 0 || length > BACKING_NAME_MAX || !in_header {
        return Err(damaged(
            "the name of its backing file lies outside of its header",
        ));
    }
    let name = bytes.slice(offset, length as usize)?.to_vec();
    let mut format = None;
    let mut at = header_length as u64;
    while at + 8 <= offset {
        let (kind, length) = (bytes.u32(at)?, bytes.u32(at + 4)?);
        if kind == EXTENSION_END {
            break;
        }
        if kind == EXTENSION_BACKING_FORMAT {
            format = Some(bytes.slice(at + 8, length as usize)?.to_vec());
        }
        at += 8 + u64::from(length).next_multiple_of(8);
    }
    Ok(Some(Backing { name, format }))
}
