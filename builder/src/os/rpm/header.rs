//! The header of a package, as the database keeps it: without the magic that it has in a
//! package file (rpm, `lib/header.c`). All numbers are big endian.

use super::{Problem, array};

/// A package by its header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name.
    pub name: String,
    /// `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
}

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const TYPE_INT32: u32 = 4;
const TYPE_STRING: u32 = 6;
/// Bytes before the entries: their number, and the size of the data.
const PREFIX: usize = 8;
/// Bytes of an entry: tag, type, offset, count.
const ENTRY: usize = 16;
/// Longest name or version that is taken.
const TEXT_LIMIT: usize = 1024;

pub(super) fn package(blob: &[u8]) -> Result<Package, Problem> {
    let number = |at: usize| array(blob, at).map(u32::from_be_bytes);
    let short = "a header is cut off";
    let entries = number(0).ok_or(short)? as usize;
    let size = number(4).ok_or(short)? as usize;
    let data = entries
        .checked_mul(ENTRY)
        .and_then(|bytes| bytes.checked_add(PREFIX))
        .ok_or(short)?;
    let store = blob
        .get(data..)
        .and_then(|rest| rest.get(..size))
        .ok_or(short)?;
    let find = |wanted: u32, kind: u32| {
        (0..entries).find_map(|index| {
            let at = PREFIX + index * ENTRY;
            let is_it = number(at) == Some(wanted) && number(at + 4) == Some(kind);
            is_it.then(|| number(at + 8)).flatten()
        })
    };
    let text = |tag: u32| -> Result<String, Problem> {
        let at = find(tag, TYPE_STRING).ok_or("a package has no name or version")?;
        let rest = store.get(at as usize..).ok_or(short)?;
        let rest = &rest[..rest.len().min(TEXT_LIMIT)];
        let end = rest.iter().position(|byte| *byte == 0).ok_or(short)?;
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| "a name is no text")?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("a name is no text");
        }
        Ok(text.to_owned())
    };
    let epoch = match find(EPOCH, TYPE_INT32) {
        Some(at) => {
            let epoch = array(store, at as usize).map(u32::from_be_bytes);
            format!("{}:", epoch.ok_or(short)?)
        }
        None => String::new(),
    };
    Ok(Package {
        name: text(NAME)?,
        version: format!("{epoch}{}-{}", text(VERSION)?, text(RELEASE)?),
    })
}
