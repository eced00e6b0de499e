//! The header of an rpm (rpm's `docs/manual/format_header.md`, `lib/header.c`): an index of
//! tags, and the data that it points into. All numbers are big endian.

use std::collections::BTreeMap;

use super::super::Damage;

/// Marks a header in a package file; a database keeps it without.
pub const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
/// Bytes before the index: the number of its entries, and the size of the data.
const PREFIX: usize = 8;
/// Bytes of an entry: tag, type, offset, count.
const ENTRY: usize = 16;
/// Most entries that a header has (rpm's own bound).
const ENTRIES: usize = 0xffff;
/// Largest data of a header; rpm's own bound is 256 MiB.
pub const DATA_LIMIT: usize = 64 << 20;

const TYPE_CHAR: u32 = 1;
const TYPE_INT8: u32 = 2;
const TYPE_INT16: u32 = 3;
const TYPE_INT32: u32 = 4;
const TYPE_INT64: u32 = 5;
const TYPE_STRING: u32 = 6;
const TYPE_BINARY: u32 = 7;
const TYPE_STRINGS: u32 = 8;
const TYPE_TRANSLATED: u32 = 9;

/// The region that is signed: every header since rpm 4 begins with it.
const IMMUTABLE: u32 = 63;

/// A header that was read: the bytes, and where each tag's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Without the magic, as a database keeps it.
    blob: Vec<u8>,
    index: BTreeMap<u32, Value>,
    data: usize,
}

/// Type, place in the data and number of a tag's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    kind: u32,
    offset: usize,
    count: usize,
}

/// A tag that is added to a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    tag: u32,
    kind: u32,
    count: u32,
    data: Vec<u8>,
}

impl Added {
    /// One number.
    pub fn number(tag: u32, number: u32) -> Self {
        let (kind, data) = (TYPE_INT32, number.to_be_bytes().to_vec());
        Self {
            tag,
            kind,
            count: 1,
            data,
        }
    }

    /// `count` bytes of zero, as characters.
    pub fn zeros(tag: u32, count: usize) -> Self {
        let data = vec![0; count];
        Self {
            tag,
            kind: TYPE_CHAR,
            count: count as u32,
            data,
        }
    }
}

/// Entries and bytes of data that the header beginning with `prefix` has.
///
/// # Errors
/// When they are more than any header has.
pub fn sizes(prefix: &[u8]) -> Result<(usize, usize), Damage> {
    let entries = number(prefix, 0).ok_or(SHORT)? as usize;
    let size = number(prefix, 4).ok_or(SHORT)? as usize;
    if entries == 0 || entries > ENTRIES || size > DATA_LIMIT {
        return Err("a header of it is larger than any".into());
    }
    Ok((entries, size))
}

const SHORT: &str = "a header of it is cut off";

impl Header {
    /// Takes a header without its magic.
    ///
    /// # Errors
    /// When an entry leads out of it.
    pub fn parse(blob: Vec<u8>) -> Result<Self, Damage> {
        let (entries, size) = sizes(&blob)?;
        let data = PREFIX + entries * ENTRY;
        if blob.len() != data + size {
            return Err(SHORT.into());
        }
        let mut index = BTreeMap::new();
        for at in (PREFIX..data).step_by(ENTRY) {
            let field = |place: usize| number(&blob, at + place).ok_or(SHORT);
            let (tag, kind) = (field(0)?, field(4)?);
            let (offset, count) = (field(8)? as usize, field(12)? as usize);
            if offset > size || count > size {
                return Err("an entry of a header leads out of it".into());
            }
            // A later entry stands in place of an earlier one, as in rpm.
            index.insert(
                tag,
                Value {
                    kind,
                    offset,
                    count,
                },
            );
        }
        Ok(Self { blob, index, data })
    }

    /// The bytes, without the magic.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Whether there is a value.
    pub fn has(&self, tag: u32) -> bool {
        self.index.contains_key(&tag)
    }

    /// Whether the header has the region that is signed.
    pub fn is_immutable(&self) -> bool {
        self.has(IMMUTABLE)
    }

    fn rest(&self, value: Value) -> Result<&[u8], Damage> {
        self.blob
            .get(self.data + value.offset..)
            .ok_or_else(|| SHORT.into())
    }

    /// The strings of a tag; none without it. Of a translated text the first counts.
    ///
    /// # Errors
    /// When the value is no text or leads out of the header.
    pub fn strings(&self, tag: u32) -> Result<Vec<&[u8]>, Damage> {
        let Some(value) = self.index.get(&tag).copied() else {
            return Ok(Vec::new());
        };
        let count = match value.kind {
            TYPE_STRING | TYPE_TRANSLATED => 1,
            TYPE_STRINGS => value.count,
            _ => return Err(format!("tag {tag} of a header is no text").into()),
        };
        let mut rest = self.rest(value)?;
        let mut found = Vec::new();
        for _ in 0..count {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
            found.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
        Ok(found)
    }

    /// As [`Header::strings`], as text.
    ///
    /// # Errors
    /// As [`Header::strings`]; when one is not UTF-8.
    pub fn texts(&self, tag: u32) -> Result<Vec<String>, Damage> {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| format!("tag {tag} of a header is no text").into())
        };
        self.strings(tag)?.into_iter().map(text).collect()
    }

    /// The first text of a tag.
    ///
    /// # Errors
    /// As [`Header::texts`].
    pub fn text(&self, tag: u32) -> Result<Option<String>, Damage> {
        Ok(self.texts(tag)?.into_iter().next())
    }

    /// The numbers of a tag; none without it.
    ///
    /// # Errors
    /// When the value is no number or leads out of the header.
    pub fn numbers(&self, tag: u32) -> Result<Vec<u64>, Damage> {
        let Some(value) = self.index.get(&tag).copied() else {
            return Ok(Vec::new());
        };
        let size = match value.kind {
            TYPE_CHAR | TYPE_INT8 => 1,
            TYPE_INT16 => 2,
            TYPE_INT32 => 4,
            TYPE_INT64 => 8,
            _ => return Err(format!("tag {tag} of a header is no number").into()),
        };
        let bytes = self.rest(value)?.get(..size * value.count).ok_or(SHORT)?;
        let join = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(bytes.chunks_exact(size).map(join).collect())
    }

    /// The bytes of a tag; `None` without it.
    ///
    /// # Errors
    /// When the value is no binary or leads out of the header.
    pub fn bytes(&self, tag: u32) -> Result<Option<&[u8]>, Damage> {
        match self.index.get(&tag).copied() {
            None => Ok(None),
            Some(value) if value.kind == TYPE_BINARY => {
                let bytes = self.rest(value)?.get(..value.count).ok_or(SHORT)?;
                Ok(Some(bytes))
            }
            Some(_) => Err(format!("tag {tag} of a header is no binary").into()),
        }
    }

    /// A tag with its value, to be added to another header as `other`.
    ///
    /// # Errors
    /// When the value leads out of the header.
    pub fn copied(&self, tag: u32, other: u32) -> Result<Option<Added>, Damage> {
        let Some(value) = self.index.get(&tag).copied() else {
            return Ok(None);
        };
        let rest = self.rest(value)?;
        let fixed = |size: usize| rest.get(..size * value.count).map(<[u8]>::to_vec);
        let data = match value.kind {
            TYPE_CHAR | TYPE_INT8 | TYPE_BINARY => fixed(1),
            TYPE_INT16 => fixed(2),
            TYPE_INT32 => fixed(4),
            TYPE_INT64 => fixed(8),
            TYPE_STRING => rest
                .iter()
                .position(|byte| *byte == 0)
                .map(|end| rest[..=end].to_vec()),
            // No tag of a signature has several texts.
            _ => return Ok(None),
        };
        let data = data.ok_or(SHORT)?;
        let (kind, count) = (value.kind, value.count as u32);
        Ok(Some(Added {
            tag: other,
            kind,
            count,
            data,
        }))
    }

    /// The tags of this header.
    pub fn tags(&self) -> impl Iterator<Item = u32> {
        self.index.keys().copied()
    }

    /// The header with more tags behind its signed region, as rpm keeps that of an
    /// installed package.
    pub fn with(&self, mut added: Vec<Added>) -> Vec<u8> {
        added.sort_by_key(|added| added.tag);
        let mut index = self.blob[PREFIX..self.data].to_vec();
        let mut data = self.blob[self.data..].to_vec();
        for one in &added {
            let alignment = match one.kind {
                TYPE_INT16 => 2,
                TYPE_INT32 => 4,
                TYPE_INT64 => 8,
                _ => 1,
            };
            data.resize(data.len().next_multiple_of(alignment), 0);
            for field in [one.tag, one.kind, data.len() as u32, one.count] {
                index.extend(field.to_be_bytes());
            }
            data.extend_from_slice(&one.data);
        }
        let entries = (index.len() / ENTRY) as u32;
        let size = data.len() as u32;
        [
            &entries.to_be_bytes()[..],
            &size.to_be_bytes(),
            &index,
            &data,
        ]
        .concat()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}
