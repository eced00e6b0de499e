//! Chosen members of an archive, into the store.
//!
//! Understood are tar (v7, ustar, GNU, PAX), plain or compressed with gzip, xz
//! or zstd; Debian packages (their `data.tar`); and single files compressed with
//! one of these. The kind is told by content, never by name.
//!
//! Archives are not trusted: see [`Limits`]. An archive in which any path leads
//! out of it, or that holds a device or pipe, is refused as a whole. Links are
//! only followed from one selected member to another.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Chain, Cursor, Read};

use super::compression::{self, Format};
use super::tar::{self, Entry, EntryKind, Reader};
use super::{Digest, Store};
use crate::error::{Error, Result};
use crate::lock::{MemberSelection, OTHERS_LIMIT, Stored, StoredMember, Unpacked};
use crate::progress::Progress;

/// Bounds on what an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes after decompression.
    pub unpacked: u64,
    /// Bytes of one path.
    pub path: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            unpacked: 8 << 30,
            path: 4096,
        }
    }
}

/// Members of an archive of the store; see [`unpack`].
///
/// # Errors
/// As [`unpack`]; [`crate::Class::Dependency`] when the store does not have it
/// or it is damaged.
pub fn members(
    store: &Store,
    archive: &Digest,
    selection: &MemberSelection,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Unpacked> {
    let mut file = store.open_object(archive)?;
    let unpacked = unpack(store, &mut file, selection, limits, progress)
        .map_err(|error| error.context(format!("unpack {archive}")))?;
    // What follows the end of the archive belongs to its digest, too.
    file.verify()?;
    Ok(unpacked)
}

/// Streams the members of `archive` that `selection` takes into the store. A
/// single compressed file counts as the file that is asked for.
///
/// # Errors
/// [`crate::Class::Dependency`] when it is no archive, is damaged, passes a
/// bound, or could lead out of itself; [`crate::Class::Interrupted`] on request.
pub fn unpack(
    store: &Store,
    archive: impl Read,
    selection: &MemberSelection,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Unpacked> {
    let (format, content) = compression::decompress(archive, limits.unpacked).map_err(damaged)?;
    let (head, content) = with_head(content).map_err(damaged)?;
    if tar::is_header(&head) {
        return unpack_tar(store, content, selection, limits, progress);
    }
    if head.starts_with(AR_MAGIC) {
        let data = package_data(content).map_err(damaged)?;
        let (_, data) = compression::decompress(data, limits.unpacked).map_err(damaged)?;
        return unpack_tar(store, data, selection, limits, progress);
    }
    match selection {
        MemberSelection::File(name) if format != Format::Plain => {
            single(store, content, name, limits)
        }
        _ => Err(
            Error::dependency("read an archive: it is neither tar nor a Debian package")
                .hint("tar, tar.gz, tar.xz, tar.zst and .deb are understood"),
        ),
    }
}

fn single(store: &Store, mut content: impl Read, name: &str, limits: &Limits) -> Result<Unpacked> {
    let (sha256, size) = store.add_reader(&mut Honest(&mut content), None, limits.unpacked)?;
    let member = StoredMember {
        content: Stored { sha256, size },
        mode: 0o644,
    };
    Ok(Unpacked {
        members: BTreeMap::from([(name.to_owned(), member)]),
        others: Vec::new(),
    })
}

fn unpack_tar(
    store: &Store,
    content: impl Read,
    selection: &MemberSelection,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Unpacked> {
    let mut reader = Reader::new(content);
    let mut collected = Collected::default();
    let mut count = 0;
    while let Some(entry) = reader.next_entry().map_err(damaged)? {
        progress.check()?;
        count += 1;
        if count > limits.entries {
            return Err(refused(format!(
                "it has more than {} entries",
                limits.entries
            )));
        }
        let path = harmless_path(&entry, limits)?;
        let taken = path
            .as_deref()
            .is_some_and(|path| selection.takes(path, entry.mode));
        match (path, entry.kind) {
            (Some(path), EntryKind::File) if taken => {
                let (sha256, size) = store
                    .add_reader(&mut Honest(&mut reader), None, entry.size)
                    .map_err(|error| error.context(format!("unpack {path}")))?;
                let content = Stored { sha256, size };
                let mode = entry.mode;
                collected.member(path, StoredMember { content, mode })?;
            }
            (Some(path), EntryKind::HardLink | EntryKind::Symlink) if taken => {
                let target = link_target(&path, &entry)?;
                collected.link(path, target)?;
            }
            (path, EntryKind::File) => collected.other(path),
            _ => {}
        }
    }
    // The checksums of compressed streams come after the last entry.
    io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(damaged)?;
    collected.finish()
}

/// The path in normal form; `None` when it is no text, so that no selection can
/// mean it.
fn harmless_path(entry: &Entry, limits: &Limits) -> Result<Option<String>> {
    let shown = entry.path.escape_ascii();
    if entry.path.len() > limits.path {
        return Err(refused(format!("a path has {} bytes", entry.path.len())));
    }
    if entry.kind == EntryKind::Special {
        return Err(refused(format!("'{shown}' is a device or pipe")));
    }
    let path = tar::relative_path(&entry.path)
        .ok_or_else(|| refused(format!("the path '{shown}' leads out of it")))?;
    Ok(String::from_utf8(path).ok())
}

/// The path in the archive that a link means.
fn link_target(path: &str, entry: &Entry) -> Result<String> {
    let shown = entry.link.escape_ascii();
    let out = || refused(format!("the link '{path}' leads out of it, to '{shown}'"));
    let target = std::str::from_utf8(&entry.link).map_err(|_| out())?;
    if entry.kind == EntryKind::HardLink {
        let target = tar::relative_path(&entry.link).ok_or_else(out)?;
        return String::from_utf8(target).map_err(|_| out());
    }
    if target.starts_with('/') {
        return Err(out());
    }
    let mut components: Vec<&str> = path.split('/').collect();
    components.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop().ok_or_else(out)?;
            }
            name => components.push(name),
        }
    }
    Ok(components.join("/"))
}

#[derive(Debug, Default)]
struct Collected {
    unpacked: Unpacked,
    links: BTreeMap<String, String>,
}

impl Collected {
    fn member(&mut self, path: String, member: StoredMember) -> Result<()> {
        self.must_be_new(&path)?;
        self.unpacked.members.insert(path, member);
        Ok(())
    }

    fn link(&mut self, path: String, target: String) -> Result<()> {
        self.must_be_new(&path)?;
        self.links.insert(path, target);
        Ok(())
    }

    fn must_be_new(&self, path: &str) -> Result<()> {
        if self.unpacked.members.contains_key(path) || self.links.contains_key(path) {
            return Err(refused(format!("it holds '{path}' twice")));
        }
        Ok(())
    }

    fn other(&mut self, path: Option<String>) {
        if let Some(path) = path
            && self.unpacked.others.len() < OTHERS_LIMIT
        {
            self.unpacked.others.push(path);
        }
    }

    /// Gives the links the content of what they mean.
    fn finish(mut self) -> Result<Unpacked> {
        let (found, _) = resolve_links(&self.links, &self.unpacked.members);
        let mut resolved = Vec::with_capacity(found.len());
        for (path, first) in &self.links {
            let member = found.get(path.as_str()).copied().flatten().ok_or_else(|| {
                refused(format!(
                    "the link '{path}' means '{first}', which is not taken from it"
                ))
            })?;
            resolved.push((path.clone(), member));
        }
        self.unpacked.members.extend(resolved);
        Ok(self.unpacked)
    }
}

/// What each link means in the end: nothing for those that lead nowhere or in a
/// ring. Beside it the number of steps: every link is followed once.
fn resolve_links<'a>(
    links: &'a BTreeMap<String, String>,
    members: &BTreeMap<String, StoredMember>,
) -> (HashMap<&'a str, Option<StoredMember>>, usize) {
    let mut known: HashMap<&str, Option<StoredMember>> = HashMap::with_capacity(links.len());
    let mut steps = 0;
    for start in links.keys() {
        let mut chain: Vec<&str> = Vec::new();
        let mut at = start.as_str();
        let end = loop {
            if let Some(end) = known.get(at) {
                break *end;
            }
            let Some((path, target)) = links.get_key_value(at) else {
                break members.get(at).copied();
            };
            steps += 1;
            // Until the end is known, a way back here leads in a ring.
            known.insert(path, None);
            chain.push(path);
            at = target;
        };
        known.extend(chain.into_iter().map(|path| (path, end)));
    }
    (known, steps)
}

const AR_MAGIC: &[u8] = b"!<arch>\n";
/// Members that a Debian package may have: three are the rule (deb(5)).
const AR_MEMBERS: usize = 16;

/// The `data.tar` of a Debian package, still compressed.
fn package_data<R: Read>(mut archive: R) -> io::Result<impl Read> {
    let mut magic = [0; AR_MAGIC.len()];
    archive.read_exact(&mut magic)?;
    for _ in 0..AR_MEMBERS {
        let mut header = [0; 60];
        archive.read_exact(&mut header)?;
        let field =
            |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim).ok();
        let size: u64 = field(48..58)
            .and_then(|size| size.parse().ok())
            .filter(|_| &header[58..] == b"`\n")
            .ok_or_else(|| invalid("a member of the package has a damaged header"))?;
        if field(0..16).is_some_and(|name| name.starts_with("data.tar")) {
            return Ok(archive.take(size));
        }
        // Members begin at even offsets.
        let skip = size + size % 2;
        if io::copy(&mut archive.by_ref().take(skip), &mut io::sink())? < skip {
            return Err(invalid("the package is truncated"));
        }
    }
    Err(invalid("the package has no data.tar"))
}

type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// The first block, and the reader with that block back in front.
fn with_head<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut head = Vec::with_capacity(512);
    reader.by_ref().take(512).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// Marks every error of the archive as one, for those who copy out of it.
struct Honest<R>(R);

impl<R: Read> Read for Honest<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            io::Error::new(error.kind(), damaged(error))
        })
    }
}

/// What a reader of the archive failed with: the archive is to blame, unless
/// the error says otherwise itself.
fn damaged(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::dependency("read an archive: it is damaged")
            .caused_by(error)
            .hint("get it again, and compare its checksum with the publisher's"),
    }
}

fn refused(problem: impl std::fmt::Display) -> Error {
    Error::dependency(format!("read an archive: {problem}"))
        .hint("get it from its publisher, and compare its checksum: no honest archive is like this")
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
