//! A tar reader for untrusted archives: v7, ustar, GNU and PAX, as streams.
//!
//! Memory is bounded whatever the archive says: names and PAX records of more
//! than [`EXTENSION_LIMIT`] bytes are refused, content is never collected. Sparse
//! files are refused in all their encodings. Paths are given as they are:
//! [`relative_path`] says whether one is harmless.
//!
//! Sources: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Interchange
//! Format"; GNU tar manual, "Basic Tar Format".

use std::collections::BTreeMap;
use std::io::{self, Read};

/// Longest name or set of PAX records, in bytes.
pub const EXTENSION_LIMIT: u64 = 1 << 20;
/// Headers that may come before the one they describe.
const EXTENSION_COUNT: usize = 8;
const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content follows.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Directory,
    /// A character or block device, or a pipe.
    Special,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Size of the content in bytes; 0 for all but files.
    pub size: u64,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner; empty when the archive has none.
    pub user: Vec<u8>,
    /// Name of the group; empty when the archive has none.
    pub group: Vec<u8>,
    /// Modification time in seconds since 1970 (fractions are dropped).
    pub modified: i64,
    /// Target of a link; empty for the others.
    pub link: Vec<u8>,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Reads entries one after the other; as a [`Read`] it is the content of the
/// entry that [`Reader::next_entry`] gave last. Errors about the archive itself
/// are of kind `InvalidData`.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// Content of the present entry that was not read yet.
    left: u64,
    /// Zeros after that content.
    padding: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the archive `inner`, which is not compressed.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// What follows in the stream below.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the end. What was not read of the present one
    /// is skipped.
    ///
    /// # Errors
    /// `InvalidData` when the archive is damaged, truncated or passes a bound;
    /// else what the reader below gives.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        for _ in 0..=EXTENSION_COUNT {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return if extension == Extension::default() {
                    Ok(None)
                } else {
                    Err(invalid("it ends after an extended header"))
                };
            };
            match header[156] {
                b'x' => extension.records(&self.extension(&header)?, true)?,
                b'g' => Extension::default().records(&self.extension(&header)?, false)?,
                b'L' => extension.path = Some(until_nul(&self.extension(&header)?).to_vec()),
                b'K' => extension.link = Some(until_nul(&self.extension(&header)?).to_vec()),
                _ => return self.entry(&header, extension).map(Some),
            }
        }
        Err(invalid("too many extended headers in a row"))
    }

    fn entry(&mut self, header: &[u8; BLOCK], extension: Extension) -> io::Result<Entry> {
        let path = extension.path.unwrap_or_else(|| header_path(header));
        let kind = match header[156] {
            // Before ustar, folders were files whose name ends in a slash.
            0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' | b'4' | b'6' => EntryKind::Special,
            b'5' => EntryKind::Directory,
            b'S' => return Err(invalid("it holds a sparse file")),
            other => {
                return Err(invalid(format!(
                    "it holds an entry of the unknown type '{}'",
                    other.escape_ascii()
                )));
            }
        };
        let size = match extension.size {
            Some(size) => size,
            None => unsigned(&header[124..136], "size")?,
        };
        // Only files have content; old writers left the size of a link's target
        // in its header.
        let size = if kind == EntryKind::File { size } else { 0 };
        self.begin_content(size)?;
        let small = |value: u64, name| {
            u32::try_from(value).map_err(|_| invalid(format!("{name} {value} is too large")))
        };
        Ok(Entry {
            kind,
            size,
            mode: small(unsigned(&header[100..108], "mode")? & 0o7777, "mode")?,
            uid: small(
                extension
                    .uid
                    .map_or_else(|| unsigned(&header[108..116], "owner"), Ok)?,
                "owner",
            )?,
            gid: small(
                extension
                    .gid
                    .map_or_else(|| unsigned(&header[116..124], "group"), Ok)?,
                "group",
            )?,
            user: extension.user.unwrap_or_else(|| name(header, 265..297)),
            group: extension.group.unwrap_or_else(|| name(header, 297..329)),
            modified: extension
                .modified
                .map_or_else(|| number(&header[136..148], "time"), Ok)?,
            link: match kind {
                EntryKind::HardLink | EntryKind::Symlink => extension
                    .link
                    .unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
                _ => Vec::new(),
            },
            xattrs: extension.xattrs,
            path,
        })
    }

    /// The content of an extended header.
    fn extension(&mut self, header: &[u8; BLOCK]) -> io::Result<Vec<u8>> {
        let size = unsigned(&header[124..136], "size")?;
        if size > EXTENSION_LIMIT {
            return Err(invalid(format!("an extended header has {size} bytes")));
        }
        self.begin_content(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn begin_content(&mut self, size: u64) -> io::Result<()> {
        let block = BLOCK as u64;
        if size > i64::MAX as u64 {
            return Err(invalid(format!("a file of {size} bytes")));
        }
        self.left = size;
        self.padding = size.next_multiple_of(block) - size;
        Ok(())
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let skip = self.left + self.padding;
        let skipped = io::copy(&mut self.inner.by_ref().take(skip), &mut io::sink())?;
        if skipped < self.left {
            return Err(truncated());
        }
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    /// The next header block; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = Vec::with_capacity(BLOCK);
        self.inner
            .by_ref()
            .take(BLOCK as u64)
            .read_to_end(&mut block)?;
        let header: [u8; BLOCK] = match block.try_into() {
            Ok(header) => header,
            Err(short) if short.is_empty() => {
                self.ended = true;
                return Ok(None);
            }
            Err(_) => return Err(truncated()),
        };
        if header == [0; BLOCK] {
            self.ended = true;
            return Ok(None);
        }
        if is_header(&header) {
            Ok(Some(header))
        } else {
            Err(invalid("a header has a wrong checksum"))
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(truncated());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Whether these 512 bytes are a tar header: their checksum is right.
pub fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    let Ok(stored) = unsigned(&block[148..156], "checksum") else {
        return false;
    };
    let sum: u64 = block[..BLOCK]
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            // The checksum itself counts as spaces.
            u64::from(if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            })
        })
        .sum();
    // A block of zeros would pass with a stored sum of 256 only.
    sum == stored
}

/// The path without `./` and double slashes; `None` when it could lead out
/// (absolute, or with `..`) or holds a NUL. The archive's own folder is `""`.
pub fn relative_path(path: &[u8]) -> Option<Vec<u8>> {
    if path.starts_with(b"/") || path.contains(&0) {
        return None;
    }
    let mut normal = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return None,
            name => {
                if !normal.is_empty() {
                    normal.push(b'/');
                }
                normal.extend_from_slice(name);
            }
        }
    }
    Some(normal)
}

/// What extended headers say about the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    modified: Option<i64>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl Extension {
    /// Reads PAX records, `LENGTH KEY=VALUE\n` each. Records for all following
    /// entries (`own` false) are read past when they change nothing that
    /// matters, and refused when they do.
    fn records(&mut self, mut bytes: &[u8], own: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            let (record, rest) =
                split_record(bytes).ok_or_else(|| invalid("a PAX record is damaged"))?;
            bytes = rest;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = equals
                .map(|at| (&record[..at], &record[at + 1..]))
                .ok_or_else(|| invalid("a PAX record has no '='"))?;
            let key = std::str::from_utf8(key)
                .map_err(|_| invalid("the key of a PAX record is no text"))?;
            if !own && matches!(key, "path" | "linkpath" | "size" | "uid" | "gid") {
                return Err(invalid(format!("a global PAX header sets {key}")));
            }
            self.record(key, value)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let decimal = || {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| invalid(format!("PAX record '{key}' is no number")))
        };
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(decimal()?),
            "uid" => self.uid = Some(decimal()?),
            "gid" => self.gid = Some(decimal()?),
            "uname" => self.user = Some(value.to_vec()),
            "gname" => self.group = Some(value.to_vec()),
            "mtime" => {
                let seconds = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.split('.').next()?.parse::<i64>().ok())
                    .ok_or_else(|| invalid("PAX record 'mtime' is no time"))?;
                self.modified = Some(seconds);
            }
            _ if key.starts_with("GNU.sparse.") => {
                return Err(invalid("it holds a sparse file"));
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.insert(name.to_owned(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

/// `KEY=VALUE` of the first record, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(..length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((content, &bytes[length..]))
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    // GNU archives have other fields where POSIX has the prefix.
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// A name of ustar and GNU archives; older ones have none.
fn name(header: &[u8; BLOCK], range: std::ops::Range<usize>) -> Vec<u8> {
    if &header[257..262] == b"ustar" {
        until_nul(&header[range]).to_vec()
    } else {
        Vec::new()
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

fn unsigned(field: &[u8], name: &str) -> io::Result<u64> {
    u64::try_from(number(field, name)?).map_err(|_| invalid(format!("a {name} is negative")))
}

/// A number of a header: octal digits, or GNU's base 256 when the first bit is
/// set.
fn number(field: &[u8], name: &str) -> io::Result<i64> {
    if field[0] & 0x80 != 0 {
        // Two's complement over the whole field but for the mark itself.
        let first = i64::from(field[0] & 0x7f);
        let mut value = if field[0] & 0x40 == 0 {
            first
        } else {
            first - 0x80
        };
        for byte in &field[1..] {
            value = value
                .checked_mul(256)
                .and_then(|value| value.checked_add(i64::from(*byte)))
                .ok_or_else(|| invalid(format!("a {name} is too large")))?;
        }
        return Ok(value);
    }
    let text = until_nul(field).trim_ascii();
    text.iter()
        .try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
        .ok_or_else(|| invalid(format!("a {name} is no number")))
}

fn truncated() -> io::Error {
    invalid("it is truncated")
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests;
