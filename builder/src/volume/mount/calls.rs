//! The system calls of the mount engine, in the terms of volumes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::volume::content::{at_its_end, read_exactly};
use crate::volume::refusal::refuse;
use crate::volume::{Kind, Problem, Timestamp};

/// Bytes copied at once.
const PIECE: usize = 1 << 20;
/// Largest extended attribute, and largest list of them, in bytes
/// (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MAX: usize = 64 << 10;
/// How XFS keeps access control lists, which it tells by the names of programs too.
const STORED_LISTS: &[u8] = b"trusted.SGI_ACL_";

pub(super) fn xattrs(path: &[u8], doing: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let failed = |errno| translate(doing, errno);
    let mut names = vec![0u8; XATTR_MAX];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(failed(errno)),
    };
    let mut found = BTreeMap::new();
    let mut value = vec![0u8; XATTR_MAX];
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(STORED_LISTS))
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).map_err(failed)?;
        found.insert(name, value[..length].to_vec());
    }
    Ok(found)
}

pub(super) fn kind_of(found: &Stat) -> Kind {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // The fields differ by architecture.
pub(super) fn modified_of(found: &Stat) -> Timestamp {
    Timestamp {
        seconds: found.st_mtime as i64,
        nanoseconds: found.st_mtime_nsec as u32,
    }
}

pub(super) fn times(modified: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: modified.seconds,
        tv_nsec: modified.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(in crate::volume) fn translate(doing: &str, errno: Errno) -> Error {
    let problem = match errno {
        Errno::NOENT => Problem::NotFound,
        Errno::EXIST => Problem::Exists,
        Errno::NOTDIR | Errno::LOOP => Problem::NotADirectory,
        Errno::ISDIR => Problem::IsADirectory,
        Errno::NOTEMPTY => Problem::NotEmpty,
        Errno::NOSPC | Errno::DQUOT => Problem::NoSpace,
        Errno::UCLEAN | Errno::BADMSG => Problem::Damaged,
        Errno::INVAL
        | Errno::OPNOTSUPP
        | Errno::PERM
        | Errno::ROFS
        | Errno::MLINK
        | Errno::NAMETOOLONG
        | Errno::RANGE
        | Errno::TOOBIG
        | Errno::XDEV
        | Errno::BUSY => Problem::NotSupported,
        _ => Problem::Io,
    };
    refuse(problem, doing, std::io::Error::from(errno).to_string())
}

pub(super) fn failed_write(doing: &str, error: &std::io::Error) -> Error {
    Errno::from_io_error(error).map_or_else(
        || refuse(Problem::Io, doing, error.to_string()),
        |errno| translate(doing, errno),
    )
}

pub(super) fn fill(file: OwnedFd, size: u64, content: &mut dyn Read, doing: &str) -> Result<()> {
    if size > 0 {
        // All the room at once: too little shows before the first byte.
        match rustix::fs::fallocate(file.as_fd(), rustix::fs::FallocateFlags::empty(), 0, size) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(translate(doing, errno)),
        }
    }
    let mut file = File::from(file);
    let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE)).max(1)];
    let mut left = size;
    while left > 0 {
        let piece = buffer.len().min(usize::try_from(left).unwrap_or(PIECE));
        read_exactly(content, &mut buffer[..piece], doing)?;
        file.write_all(&buffer[..piece])
            .map_err(|error| failed_write(doing, &error))?;
        left -= piece as u64;
    }
    at_its_end(content, size, doing)
}
