//! The header of a payload, and the operations.

use std::io::{self, Read, Write};

use crate::{BLOCK, INLINE, MAX_PATH, MAX_VALUE, MAX_XATTRS, Malformed};

/// First bytes of a payload, with the version of the format.
const MAGIC: &[u8; 8] = b"NKAGENT1";
/// Longest name of a file system, in bytes.
const MAX_TYPE: usize = 8;

/// What the agent has to do, but for the operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Comes back in the answer, so that it cannot be the answer to another list.
    pub identity: [u8; 32],
    /// Name of the file system, as `mount` takes it.
    pub file_system: String,
    /// Where it begins on the image, in bytes.
    pub start: u64,
    /// Size of its partition in bytes.
    pub size: u64,
    /// The time that the guest takes for the present, in seconds since 1970.
    pub clock: i64,
    /// Size in blocks that XFS is to have first, with the largest part of it that
    /// inodes may take, in percent.
    pub grow: Option<(u64, u32)>,
    /// Number of operations.
    pub operations: u64,
    /// Where the list begins on the payload, in bytes: a multiple of [`BLOCK`].
    pub list: u64,
    /// Length of the list in bytes.
    pub length: u64,
}

/// Owner, mode, time, extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970.
    pub seconds: i64,
    /// Modification time: the rest.
    pub nanoseconds: u32,
    /// Extended attributes: all that there are to be. Name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In the list.
    Inline(Vec<u8>),
    /// On the payload, from a multiple of [`BLOCK`] on; filled up to such a multiple.
    Area {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
}

/// One change. Paths are absolute and literal: no link is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes a folder.
    CreateDirectory(Vec<u8>, Attributes),
    /// Writes a file; a file or link that is there goes first.
    WriteFile(Vec<u8>, Content, Attributes),
    /// Adds to a file, which keeps its attributes.
    AppendFile(Vec<u8>, Content),
    /// Makes a link to the second; a file or link that is there goes first.
    CreateSymlink(Vec<u8>, Vec<u8>, Attributes),
    /// Gives the first one more name, the second.
    CreateHardLink(Vec<u8>, Vec<u8>),
    /// Sets all attributes.
    SetAttributes(Vec<u8>, Attributes),
    /// Removes a file, link or special file.
    RemoveFile(Vec<u8>),
    /// Removes an empty folder.
    RemoveDirectory(Vec<u8>),
    /// Moves the first to the second.
    Rename(Vec<u8>, Vec<u8>),
}

impl Header {
    /// The first block of a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = MAGIC.to_vec();
        block.extend_from_slice(&self.identity);
        let mut name = self.file_system.as_bytes().to_vec();
        name.resize(MAX_TYPE, 0);
        block.extend_from_slice(&name);
        let (blocks, percent) = self.grow.unwrap_or_default();
        for number in [
            self.start,
            self.size,
            self.clock as u64,
            blocks,
            u64::from(percent),
            self.operations,
            self.list,
            self.length,
        ] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        block.resize(BLOCK, 0);
        block
    }

    /// Reads the first block of a payload.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(block: &[u8]) -> Result<Self, Malformed> {
        let wrong = |text: &str| Malformed(format!("the payload's header {text}"));
        let rest = block
            .strip_prefix(MAGIC)
            .filter(|_| block.len() >= BLOCK)
            .ok_or_else(|| wrong("is none"))?;
        let mut source = rest;
        let mut identity = [0; 32];
        let mut name = [0; MAX_TYPE];
        let mut numbers = [0u64; 8];
        let mut read = || -> io::Result<()> {
            source.read_exact(&mut identity)?;
            source.read_exact(&mut name)?;
            for number in &mut numbers {
                *number = read_u64(&mut source)?;
            }
            Ok(())
        };
        read().map_err(|_| wrong("is too short"))?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(MAX_TYPE);
        let file_system = std::str::from_utf8(&name[..end])
            .map_err(|_| wrong("names no file system"))?
            .to_owned();
        let [
            start,
            size,
            clock,
            blocks,
            percent,
            operations,
            list,
            length,
        ] = numbers;
        if !list.is_multiple_of(BLOCK as u64) || list.checked_add(length).is_none() {
            return Err(wrong("points nowhere"));
        }
        let percent = u32::try_from(percent).map_err(|_| wrong("grows beyond all"))?;
        Ok(Self {
            identity,
            file_system,
            start,
            size,
            clock: clock as i64,
            grow: (blocks != 0).then_some((blocks, percent)),
            operations,
            list,
            length,
        })
    }
}

impl Content {
    /// Number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Area { size, .. } => *size,
        }
    }

    fn write(&self, sink: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Inline(bytes) => {
                sink.write_all(&[0])?;
                write_bytes(sink, bytes)
            }
            Self::Area { offset, size } => {
                sink.write_all(&[1])?;
                sink.write_all(&offset.to_le_bytes())?;
                sink.write_all(&size.to_le_bytes())
            }
        }
    }

    fn read(source: &mut dyn Read) -> io::Result<Self> {
        match read_u8(source)? {
            0 => Ok(Self::Inline(read_bytes(source, INLINE as usize)?)),
            1 => {
                let (offset, size) = (read_u64(source)?, read_u64(source)?);
                if !offset.is_multiple_of(BLOCK as u64) || offset.checked_add(size).is_none() {
                    return Err(invalid("a content lies nowhere"));
                }
                Ok(Self::Area { offset, size })
            }
            _ => Err(invalid("a content is of no known kind")),
        }
    }
}

impl Attributes {
    fn write(&self, sink: &mut dyn Write) -> io::Result<()> {
        for number in [self.mode, self.uid, self.gid, self.nanoseconds] {
            sink.write_all(&number.to_le_bytes())?;
        }
        sink.write_all(&self.seconds.to_le_bytes())?;
        sink.write_all(&(self.xattrs.len() as u32).to_le_bytes())?;
        for (name, value) in &self.xattrs {
            write_bytes(sink, name)?;
            write_bytes(sink, value)?;
        }
        Ok(())
    }

    fn read(source: &mut dyn Read) -> io::Result<Self> {
        let (mode, uid, gid) = (read_u32(source)?, read_u32(source)?, read_u32(source)?);
        let nanoseconds = read_u32(source)?;
        let seconds = read_u64(source)? as i64;
        let count = read_u32(source)? as usize;
        if nanoseconds >= 1_000_000_000 || count > MAX_XATTRS {
            return Err(invalid("attributes are out of bounds"));
        }
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let name = read_bytes(source, 255)?;
            if name.is_empty() || name.contains(&0) {
                return Err(invalid("an extended attribute has no name"));
            }
            xattrs.push((name, read_bytes(source, MAX_VALUE)?));
        }
        Ok(Self {
            mode: mode & 0o7777,
            uid,
            gid,
            seconds,
            nanoseconds,
            xattrs,
        })
    }
}

impl Operation {
    /// Appends it to a list.
    ///
    /// # Errors
    /// What `sink` gives.
    pub fn write(&self, sink: &mut dyn Write) -> io::Result<()> {
        let (kind, first) = match self {
            Self::CreateDirectory(path, _) => (1u8, path),
            Self::WriteFile(path, ..) => (2, path),
            Self::AppendFile(path, _) => (3, path),
            Self::CreateSymlink(path, ..) => (4, path),
            Self::CreateHardLink(path, _) => (5, path),
            Self::SetAttributes(path, _) => (6, path),
            Self::RemoveFile(path) => (7, path),
            Self::RemoveDirectory(path) => (8, path),
            Self::Rename(path, _) => (9, path),
        };
        sink.write_all(&[kind])?;
        write_bytes(sink, first)?;
        match self {
            Self::CreateDirectory(_, attributes) | Self::SetAttributes(_, attributes) => {
                attributes.write(sink)
            }
            Self::WriteFile(_, content, attributes) => {
                content.write(sink)?;
                attributes.write(sink)
            }
            Self::AppendFile(_, content) => content.write(sink),
            Self::CreateSymlink(_, target, attributes) => {
                write_bytes(sink, target)?;
                attributes.write(sink)
            }
            Self::CreateHardLink(_, second) | Self::Rename(_, second) => write_bytes(sink, second),
            Self::RemoveFile(_) | Self::RemoveDirectory(_) => Ok(()),
        }
    }

    /// Reads the next of a list.
    ///
    /// # Errors
    /// What `source` gives; `InvalidData` when there is none.
    pub fn read(source: &mut dyn Read) -> io::Result<Self> {
        let kind = read_u8(source)?;
        let first = read_path(source)?;
        Ok(match kind {
            1 => Self::CreateDirectory(first, Attributes::read(source)?),
            2 => {
                let content = Content::read(source)?;
                Self::WriteFile(first, content, Attributes::read(source)?)
            }
            3 => Self::AppendFile(first, Content::read(source)?),
            4 => {
                let target = read_bytes(source, MAX_PATH)?;
                Self::CreateSymlink(first, target, Attributes::read(source)?)
            }
            5 => Self::CreateHardLink(first, read_path(source)?),
            6 => Self::SetAttributes(first, Attributes::read(source)?),
            7 => Self::RemoveFile(first),
            8 => Self::RemoveDirectory(first),
            9 => Self::Rename(first, read_path(source)?),
            _ => return Err(invalid("an operation is of no known kind")),
        })
    }

    /// What it does, with its path, for an error.
    pub fn doing(&self) -> String {
        let shown = |path: &[u8]| path.escape_ascii().to_string();
        match self {
            Self::CreateDirectory(path, _) => format!("create the folder {}", shown(path)),
            Self::WriteFile(path, ..) => format!("write {}", shown(path)),
            Self::AppendFile(path, _) => format!("append to {}", shown(path)),
            Self::CreateSymlink(path, ..) => format!("create the link {}", shown(path)),
            Self::CreateHardLink(first, path) => {
                format!("link {} to {}", shown(path), shown(first))
            }
            Self::SetAttributes(path, _) => format!("set the attributes of {}", shown(path)),
            Self::RemoveFile(path) => format!("remove {}", shown(path)),
            Self::RemoveDirectory(path) => format!("remove the folder {}", shown(path)),
            Self::Rename(from, to) => format!("rename {} to {}", shown(from), shown(to)),
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Malformed(text.to_owned()))
}

fn write_bytes(sink: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    sink.write_all(&(bytes.len() as u32).to_le_bytes())?;
    sink.write_all(bytes)
}

fn read_array<const N: usize>(source: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_u8(source: &mut dyn Read) -> io::Result<u8> {
    read_array::<1>(source).map(|[byte]| byte)
}

fn read_u32(source: &mut dyn Read) -> io::Result<u32> {
    read_array(source).map(u32::from_le_bytes)
}

fn read_u64(source: &mut dyn Read) -> io::Result<u64> {
    read_array(source).map(u64::from_le_bytes)
}

fn read_bytes(source: &mut dyn Read, limit: usize) -> io::Result<Vec<u8>> {
    let length = read_u32(source)? as usize;
    if length > limit {
        return Err(invalid("something is too long"));
    }
    let mut bytes = vec![0; length];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A path that leads nowhere but down.
fn read_path(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let path = read_bytes(source, MAX_PATH)?;
    let is_literal = path.strip_prefix(b"/").is_some_and(|rest| {
        rest.is_empty()
            || rest
                .split(|byte| *byte == b'/')
                .all(|name| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0))
    });
    if is_literal {
        Ok(path)
    } else {
        Err(invalid("a path is not absolute and literal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        Attributes {
            mode: 0o4755,
            uid: 1,
            gid: 70_000,
            seconds: -5,
            nanoseconds: 999_999_999,
            xattrs: vec![
                (b"user.a".to_vec(), Vec::new()),
                (b"user.b".to_vec(), vec![0, 1]),
            ],
        }
    }

    fn all() -> Vec<Operation> {
        let path = || b"/a/\xff".to_vec();
        vec![
            Operation::CreateDirectory(path(), attributes()),
            Operation::WriteFile(path(), Content::Inline(vec![7; 100]), attributes()),
            Operation::WriteFile(
                path(),
                Content::Area {
                    offset: 8192,
                    size: 1 << 40,
                },
                Attributes::default(),
            ),
            Operation::AppendFile(path(), Content::Inline(Vec::new())),
            Operation::CreateSymlink(path(), b"../x".to_vec(), attributes()),
            Operation::CreateHardLink(path(), b"/b".to_vec()),
            Operation::SetAttributes(b"/".to_vec(), attributes()),
            Operation::RemoveFile(path()),
            Operation::RemoveDirectory(path()),
            Operation::Rename(path(), b"/c".to_vec()),
        ]
    }

    #[test]
    fn a_list_reads_back() {
        let mut bytes = Vec::new();
        for operation in all() {
            operation.write(&mut bytes).expect("written");
        }
        let mut source = bytes.as_slice();
        for operation in all() {
            assert_eq!(Operation::read(&mut source).expect("read"), operation);
        }
        assert!(source.is_empty());
        for end in 0..bytes.len() {
            let mut cut = &bytes[..end];
            while Operation::read(&mut cut).is_ok() {}
        }
    }

    #[test]
    fn a_header_reads_back() {
        let header = Header {
            identity: [9; 32],
            file_system: "xfs".to_owned(),
            start: 1 << 20,
            size: 1 << 31,
            clock: -1,
            grow: Some((77, 25)),
            operations: 3,
            list: 8192,
            length: 55,
        };
        let block = header.encode();
        assert_eq!(block.len(), BLOCK);
        assert_eq!(Header::decode(&block).expect("read"), header);
        assert!(Header::decode(&block[..100]).is_err());
        assert!(Header::decode(&[0; BLOCK]).is_err());
    }

    #[test]
    fn refuses_paths_that_lead_elsewhere() {
        for path in ["", "a", "/a/../b", "/.", "//a", "/a/", "/a\0"] {
            let mut bytes = Vec::new();
            Operation::RemoveFile(path.as_bytes().to_vec())
                .write(&mut bytes)
                .expect("written");
            let refused = Operation::read(&mut bytes.as_slice()).expect_err(path);
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{path}");
        }
    }
}
