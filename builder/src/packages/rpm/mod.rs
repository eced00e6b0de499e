//! rpms (rpm's `docs/manual/format_v4.md`): a lead, a header with signatures, a header, and a
//! compressed cpio archive.
//!
//! The header says everything of every file, its sum too, and carries the sum of the
//! payload; the signature is over the header. So what the payload says of modes, owners
//! and links is not looked at.

pub mod capability;
pub mod condition;
pub mod dependency;
pub mod header;
mod payload;
pub mod scripts;
pub mod signed;
pub mod version;

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::{Damage, Item, Keep, Kind, Limits, item_path, keep_file, text_target};
use crate::error::Error;
use crate::image_path::ImagePath;
use crate::lock::Stored;
use crate::store::Digest;
use crate::store::compression::{Format, decompress};
use dependency::Dependency;
use header::{Added, Header};
use payload::{Name, Payload};

pub use signed::MAGIC;

/// Tags of a header (rpm's `include/rpm/rpmtag.h`).
pub mod tag {
    #![allow(missing_docs)]
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const INSTALL_TIME: u32 = 1008;
    pub const ARCHITECTURE: u32 = 1022;
    pub const FILE_SIZES: u32 = 1028;
    pub const FILE_STATES: u32 = 1029;
    pub const FILE_MODES: u32 = 1030;
    pub const FILE_TIMES: u32 = 1034;
    pub const FILE_DIGESTS: u32 = 1035;
    pub const FILE_LINKS: u32 = 1036;
    pub const FILE_FLAGS: u32 = 1037;
    pub const FILE_USERS: u32 = 1039;
    pub const FILE_GROUPS: u32 = 1040;
    pub const SOURCE_RPM: u32 = 1044;
    pub const SOURCE_PACKAGE: u32 = 1106;
    pub const FILE_DEVICES: u32 = 1095;
    pub const FILE_INODES: u32 = 1096;
    pub const FOLDER_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const FOLDERS: u32 = 1118;
    pub const PAYLOAD_COMPRESSOR: u32 = 1125;
    pub const INSTALL_COLOR: u32 = 1127;
    pub const INSTALL_ID: u32 = 1128;
    pub const LONG_SIZES: u32 = 5008;
    pub const FILE_CAPABILITIES: u32 = 5010;
    pub const DIGEST_ALGORITHM: u32 = 5011;
    pub const FILE_TRIGGER_NAMES: u32 = 5069;
    pub const TRANSACTION_FILE_TRIGGER_NAMES: u32 = 5079;
    pub const PAYLOAD_DIGEST: u32 = 5092;
    pub const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
}

/// OpenPGP's numbers of hash algorithms, which rpm uses.
const MD5: u64 = 1;
const SHA256: u64 = 8;
/// Flags of a file (`include/rpm/rpmfiles.h`).
const CONFIGURATION: u64 = 1;
const NO_REPLACE: u64 = 1 << 4;
const GHOST: u64 = 1 << 6;
/// Kinds of file in a mode.
const KIND: u64 = 0o170_000;
const FILE: u64 = 0o100_000;
const FOLDER: u64 = 0o040_000;
const LINK: u64 = 0o120_000;

/// What an rpm says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpm {
    /// Its name.
    pub name: String,
    /// `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// `noarch`, or rpm's name of an architecture.
    pub architecture: String,
    /// The header.
    pub header: Header,
    /// The tags of the signatures, as an installed package keeps them.
    signatures: Vec<Added>,
    /// Its configuration files, and whether the image's own go over them.
    pub configuration: BTreeMap<ImagePath, bool>,
    /// Files in the header.
    files: usize,
}

/// The relations of a package, new or installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relations {
    /// Name of the package.
    pub name: String,
    /// `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// What it provides.
    pub provides: Vec<Dependency>,
    /// What it needs.
    pub requires: Vec<Dependency>,
    /// What it cannot be beside.
    pub conflicts: Vec<Dependency>,
    /// What it takes the place of.
    pub obsoletes: Vec<Dependency>,
    /// The paths of its files and folders.
    pub paths: Vec<String>,
    /// Packages that set off its triggers.
    pub triggers: Vec<Dependency>,
    /// Beginnings of paths that set off its triggers.
    pub file_triggers: Vec<String>,
}

/// Name and full version of a header.
///
/// # Errors
/// When they are missing or no text.
pub fn identity(header: &Header) -> Result<(String, String), Damage> {
    let text = |tag| {
        let text = header.text(tag)?.filter(|text: &String| {
            !text.is_empty()
                && text.len() < 1024
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
        text.ok_or_else(|| Damage::from("it has no name or version"))
    };
    let epoch = match header.numbers(tag::EPOCH)?.first() {
        Some(epoch) => format!("{epoch}:"),
        None => String::new(),
    };
    let version = format!("{epoch}{}-{}", text(tag::VERSION)?, text(tag::RELEASE)?);
    let name = text(tag::NAME)?;
    if name.contains('/') {
        return Err("its name is none".into());
    }
    Ok((name, version))
}

impl Relations {
    /// Of a header.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn of(header: &Header) -> Result<Self, Damage> {
        let (name, version) = identity(header)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut file_triggers = Vec::new();
        for tag in [tag::FILE_TRIGGER_NAMES, tag::TRANSACTION_FILE_TRIGGER_NAMES] {
            let names = header.strings(tag)?.into_iter();
            file_triggers.extend(names.map(|name| text(name.to_vec())));
        }
        Ok(Self {
            provides: Dependency::all(header, dependency::PROVIDES)?,
            requires: Dependency::all(header, dependency::REQUIRES)?,
            conflicts: Dependency::all(header, dependency::CONFLICTS)?,
            obsoletes: Dependency::all(header, dependency::OBSOLETES)?,
            triggers: Dependency::all(header, dependency::TRIGGERS)?,
            paths: paths(header)?.into_iter().map(text).collect(),
            file_triggers,
            name,
            version,
        })
    }
}

/// The paths of a header's files.
fn paths(header: &Header) -> Result<Vec<Vec<u8>>, Damage> {
    let (names, folders) = (
        header.strings(tag::BASE_NAMES)?,
        header.strings(tag::FOLDERS)?,
    );
    let indexes = header.numbers(tag::FOLDER_INDEXES)?;
    if indexes.len() != names.len() {
        return Err("its lists of files have different lengths".into());
    }
    let path = |(name, index): (&&[u8], &u64)| {
        let folder = folders.get(*index as usize);
        let folder = folder.ok_or_else(|| Damage::from("a file of it is in no folder"))?;
        Ok([folder, *name].concat())
    };
    names.iter().zip(&indexes).map(path).collect()
}

impl Rpm {
    /// What it says of others.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn relations(&self) -> Result<Relations, Damage> {
        Relations::of(&self.header)
    }

    /// The header as a database keeps it when the package was installed at `time`, in
    /// seconds since 1970.
    pub fn installed(&self, time: u32) -> Vec<u8> {
        let mut added = self.signatures.clone();
        added.push(Added::number(tag::INSTALL_TIME, time));
        added.push(Added::number(tag::INSTALL_COLOR, 0));
        added.push(Added::number(tag::INSTALL_ID, time));
        if self.files > 0 {
            // Every file is there: state 0, normal.
            added.push(Added::zeros(tag::FILE_STATES, self.files));
        }
        self.header.with(added)
    }
}

/// Reads a package; the contents of its files go to `keep`.
///
/// # Errors
/// What is wrong with it, and what `keep` gives.
pub fn read(
    mut package: impl Read,
    keep: &mut dyn Keep,
    limits: &Limits,
) -> Result<(Rpm, Vec<Item>), Damage> {
    let signed = signed::Signed::read(&mut package)?;
    signed.check_sum()?;
    let header = Header::parse(signed.header[header::MAGIC.len()..].to_vec())?;
    if !header.is_immutable() {
        return Err("its header has no region that is signed".into());
    }
    if header.has(tag::SOURCE_PACKAGE) || !header.has(tag::SOURCE_RPM) {
        return Err("it is a source package".into());
    }
    let (name, version) = identity(&header)?;
    let architecture = header.text(tag::ARCHITECTURE)?;
    let files = Files::of(&header)?;
    if files.list.len() as u64 > limits.entries {
        return Err(format!("it holds more than {} files", limits.entries).into());
    }
    let items = contents(&mut package, &header, &files, keep, limits)?;
    let configuration = files
        .list
        .iter()
        .filter(|file| file.flags & CONFIGURATION != 0);
    let rpm = Rpm {
        name,
        version,
        architecture: architecture.ok_or("it has no architecture")?,
        signatures: signed.kept(&header)?,
        configuration: configuration
            .map(|file| (file.path.clone(), file.flags & NO_REPLACE != 0))
            .collect(),
        files: files.list.len(),
        header,
    };
    Ok((rpm, items))
}

/// A file by the header.
#[derive(Debug, Clone)]
struct File {
    path: ImagePath,
    mode: u64,
    size: u64,
    modified: i64,
    digest: String,
    link: String,
    flags: u64,
    user: String,
    group: String,
    /// Equal for the names of one file.
    inode: (u64, u64),
    capabilities: String,
}

struct Files {
    list: Vec<File>,
    by_path: BTreeMap<ImagePath, usize>,
    algorithm: u64,
}

impl Files {
    fn of(header: &Header) -> Result<Self, Damage> {
        let paths = paths(header)?;
        let count = paths.len();
        let texts = |tag| header.texts(tag);
        let numbers = |tag| header.numbers(tag);
        let sizes = match numbers(tag::LONG_SIZES)? {
            sizes if sizes.is_empty() => numbers(tag::FILE_SIZES)?,
            sizes => sizes,
        };
        let (modes, times, flags) = (
            numbers(tag::FILE_MODES)?,
            numbers(tag::FILE_TIMES)?,
            numbers(tag::FILE_FLAGS)?,
        );
        let (devices, inodes) = (numbers(tag::FILE_DEVICES)?, numbers(tag::FILE_INODES)?);
        let (digests, links) = (texts(tag::FILE_DIGESTS)?, texts(tag::FILE_LINKS)?);
        let (users, groups) = (texts(tag::FILE_USERS)?, texts(tag::FILE_GROUPS)?);
        let capabilities = texts(tag::FILE_CAPABILITIES)?;
        let lengths = [
            sizes.len(),
            modes.len(),
            times.len(),
            flags.len(),
            devices.len(),
            inodes.len(),
            digests.len(),
            links.len(),
            users.len(),
            groups.len(),
        ];
        if lengths.iter().any(|length| *length != count) {
            return Err("its lists of files have different lengths".into());
        }
        let mut list = Vec::with_capacity(count);
        let mut by_path = BTreeMap::new();
        for (index, path) in paths.iter().enumerate() {
            if path.first() != Some(&b'/') {
                return Err("a file of it has a relative path".into());
            }
            let path = item_path(path)?;
            if by_path.insert(path.clone(), index).is_some() {
                return Err(format!("it holds {path} twice").into());
            }
            list.push(File {
                path,
                mode: modes[index],
                size: sizes[index],
                modified: times[index] as i64,
                digest: digests[index].clone(),
                link: links[index].clone(),
                flags: flags[index],
                user: users[index].clone(),
                group: groups[index].clone(),
                inode: (devices[index], inodes[index]),
                capabilities: capabilities.get(index).cloned().unwrap_or_default(),
            });
        }
        let algorithm = numbers(tag::DIGEST_ALGORITHM)?
            .first()
            .copied()
            .unwrap_or(MD5);
        if !matches!(algorithm, MD5 | SHA256) {
            let text = "read an rpm: its files have sums by an algorithm that is not known";
            return Err(Error::unsupported(text).into());
        }
        Ok(Self {
            list,
            by_path,
            algorithm,
        })
    }

    /// Whether a content is the one that the header means.
    fn check(&self, file: &File, stored: Stored, md5: super::Md5) -> Result<(), Damage> {
        let found = match self.algorithm {
            SHA256 => stored.sha256.to_string(),
            _ => md5.to_string(),
        };
        if found == file.digest && stored.size == file.size {
            return Ok(());
        }
        Err(format!("{} has not the sum of its header", file.path).into())
    }
}

/// Contents that were read, by the file that has them.
type Found = BTreeMap<(u64, u64), (Stored, Option<Vec<u8>>)>;

/// Reads the payload, compares every sum, and makes the items.
fn contents(
    package: &mut dyn Read,
    header: &Header,
    files: &Files,
    keep: &mut dyn Keep,
    limits: &Limits,
) -> Result<Vec<Item>, Damage> {
    let mut hashed = Hashed {
        inner: package,
        hash: Sha256::new(),
    };
    // The bound of the decompression, and a little for the headers of the archive.
    let room = limits.unpacked.saturating_add(1 << 20);
    let (format, content) = decompress(&mut hashed, room)?;
    let mut payload = Payload::new(content);
    let mut found: Found = BTreeMap::new();
    let mut texts = 0;
    let mut seen = vec![false; files.list.len()];
    // Folders have a size in the header, and no content.
    let size = |index: usize| {
        let file = files.list.get(index)?;
        Some(if file.mode & KIND == FOLDER {
            0
        } else {
            file.size
        })
    };
    loop {
        keep.check()?;
        let entry = payload
            .next(size)
            .map_err(|damage| unknown_form(damage, format, header))?;
        let Some((name, size)) = entry else {
            break;
        };
        let index = match name {
            Name::Number(index) => Some(index),
            Name::Path(path) => files.by_path.get(&item_path(&path)?).copied(),
        };
        let index = index.ok_or("its payload holds a file that its header does not know")?;
        if std::mem::replace(&mut seen[index], true) {
            return Err("its payload holds a file twice".into());
        }
        let file = &files.list[index];
        // Of several names of one file only the last has the content.
        if file.mode & KIND == FILE && (size > 0 || file.size == 0) {
            let (stored, md5, text) = keep_file(keep, &file.path, &mut payload, size, &mut texts)?;
            files.check(file, stored, md5)?;
            found.insert(file.inode, (stored, text));
        }
    }
    io::copy(&mut payload.into_inner(), &mut io::sink())?;
    io::copy(&mut hashed, &mut io::sink())?;
    check_payload(header, hashed.hash)?;
    let is_there = |(file, seen): &(&File, &bool)| file.flags & GHOST == 0 || **seen;
    let pairs = files.list.iter().zip(&seen).filter(is_there);
    pairs
        .map(|(file, seen)| item(file, *seen, &found, files))
        .collect()
}

/// A payload that is no cpio archive may be one that is compressed in another way.
fn unknown_form(damage: Damage, format: Format, header: &Header) -> Damage {
    let way = header
        .text(tag::PAYLOAD_COMPRESSOR)
        .ok()
        .flatten()
        .unwrap_or_default();
    if format == Format::Plain && !way.is_empty() && matches!(damage, Damage::Package(_)) {
        let way = way.escape_debug();
        return Error::unsupported(format!("read an rpm: its payload is compressed with {way}"))
            .into();
    }
    damage
}

fn check_payload(header: &Header, hash: Sha256) -> Result<(), Damage> {
    let algorithm = header
        .numbers(tag::PAYLOAD_DIGEST_ALGORITHM)?
        .first()
        .copied();
    let found = Digest::from_bytes(hash.finalize().into()).to_string();
    match (header.text(tag::PAYLOAD_DIGEST)?, algorithm) {
        (Some(wanted), Some(SHA256)) if wanted == found => Ok(()),
        (Some(_), Some(SHA256)) => Err("its payload has not the sum of its header".into()),
        // Before rpm 4.14 there was none: each file has its own.
        _ => Ok(()),
    }
}

fn item(file: &File, seen: bool, found: &Found, files: &Files) -> Result<Item, Damage> {
    let path = &file.path;
    let mut text = None;
    let kind = match file.mode & KIND {
        FOLDER => Kind::Directory,
        LINK => Kind::Symlink(text_target(path, file.link.as_bytes())?),
        FILE => {
            let stored = found.get(&file.inode).filter(|_| seen);
            let (stored, bytes) = stored.ok_or_else(|| format!("its payload lacks {path}"))?;
            text.clone_from(bytes);
            let stored = *stored;
            if stored.size != file.size
                || (files.algorithm == SHA256 && stored.sha256.to_string() != file.digest)
            {
                return Err(format!("{path} has not the sum of its header").into());
            }
            Kind::File(stored)
        }
        _ => return Err(format!("{path} is a device, pipe or socket").into()),
    };
    let mut xattrs = BTreeMap::new();
    if !file.capabilities.is_empty() {
        let value = capability::value(&file.capabilities).ok_or_else(|| {
            format!(
                "the capabilities '{}' of {path} are none",
                file.capabilities.escape_debug()
            )
        })?;
        xattrs.insert(capability::ATTRIBUTE.to_owned(), value);
    }
    Ok(Item {
        path: path.clone(),
        kind,
        mode: (file.mode & 0o7777) as u32,
        owner: (file.user.clone(), None),
        group: (file.group.clone(), None),
        modified: file.modified,
        xattrs,
        text,
    })
}

/// Hashes what passes.
struct Hashed<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
