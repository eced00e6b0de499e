//! Debian packages (deb(5)): an `ar` archive with `debian-binary`, `control.tar` and
//! `data.tar`.
//!
//! A package is not trusted. Every read is bounded; paths that lead out, devices and
//! pipes are refused; the control files are those that dpkg knows by their form.

pub mod control;
pub mod relation;
pub mod scripts;
pub mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::{Damage, Item, Keep, Kind, Limits, Md5, item_path, keep_file, text_target};
use crate::image_path::ImagePath;
use crate::store::compression::decompress;
use crate::store::tar::{self, EntryKind, Reader};
use control::Paragraph;
use relation::Group;

/// Marks the archive.
pub const MAGIC: &[u8] = b"!<arch>\n";
/// Members that one package may have: three are the rule.
const MEMBERS: usize = 16;
/// Bytes of all control files of one package.
const CONTROL_LIMIT: u64 = 32 << 20;
/// Files in `control.tar`.
const CONTROL_FILES: usize = 64;
/// The scripts that dpkg runs when it installs a package.
pub const INSTALL_SCRIPTS: [&str; 3] = ["preinst", "postinst", "config"];

/// What a Debian package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// The fields of its `control`.
    pub control: Paragraph,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `all`, or Debian's name of an architecture.
    pub architecture: String,
    /// What it says of other packages, by field.
    pub relations: Relations,
    /// Its configuration files, in order.
    pub conffiles: Vec<ImagePath>,
    /// Its other control files, by name, with their modes.
    pub files: BTreeMap<String, ControlFile>,
    /// MD5 of each regular file.
    pub sums: BTreeMap<ImagePath, Md5>,
    /// What its `triggers` file says.
    pub triggers: Vec<Trigger>,
}

/// The fields about other packages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations {
    /// `Depends` and `Pre-Depends`.
    pub needs: Vec<Group>,
    /// `Conflicts` and `Breaks`.
    pub conflicts: Vec<Group>,
    /// `Provides`.
    pub provides: Vec<Group>,
}

/// A file of `control.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// A line of a `triggers` file (deb-triggers(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The package wants to be told of this; whether others need not wait for it.
    Interest(String, bool),
    /// The package sets this off.
    Activate(String),
}

impl Relations {
    /// Reads the fields of a paragraph.
    ///
    /// # Errors
    /// The name of a field that is damaged.
    pub fn of(paragraph: &Paragraph) -> Result<Self, &'static str> {
        let mut relations = Self::default();
        for (field, list) in [
            ("Pre-Depends", 0),
            ("Depends", 0),
            ("Conflicts", 1),
            ("Breaks", 1),
            ("Provides", 2),
        ] {
            let text = paragraph.get(field).unwrap_or_default();
            let groups = relation::parse(text).ok_or(field)?;
            let list = match list {
                0 => &mut relations.needs,
                1 => &mut relations.conflicts,
                _ => &mut relations.provides,
            };
            list.extend(groups);
        }
        Ok(relations)
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
) -> Result<(Deb, Vec<Item>), Damage> {
    let mut magic = [0; MAGIC.len()];
    package.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err("it is no Debian package".into());
    }
    let mut control = None;
    for index in 0..MEMBERS {
        let Some((name, size)) = member(&mut package)? else {
            return Err("it has no data.tar".into());
        };
        let mut content = package.by_ref().take(size);
        if index == 0 {
            let mut version = String::new();
            content.by_ref().take(16).read_to_string(&mut version)?;
            if name != "debian-binary" || !version.starts_with("2.") {
                return Err("it is not in the format 2 of Debian packages".into());
            }
        } else if name.starts_with("control.tar") && control.is_none() {
            control = Some(control_files(&mut content)?);
        } else if name.starts_with("data.tar") {
            let files = control.ok_or("its control.tar is missing or comes after its data.tar")?;
            let (items, sums) = data(&mut content, keep, limits)?;
            let deb = understand(files, sums)?;
            return Ok((deb, items));
        } else if !name.starts_with('_') {
            // deb(5): members that may be passed over begin with an underscore.
            return Err(format!("it has an unknown member '{}'", name.escape_debug()).into());
        }
        // Members begin at even offsets.
        io::copy(&mut content, &mut io::sink())?;
        io::copy(&mut package.by_ref().take(size % 2), &mut io::sink())?;
    }
    Err("it has too many members".into())
}

/// The header of the next member: its name and size.
fn member(package: &mut impl Read) -> Result<Option<(String, u64)>, Damage> {
    let mut header = Vec::with_capacity(60);
    package.by_ref().take(60).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let field = |range: std::ops::Range<usize>| {
        let bytes = header.get(range)?;
        std::str::from_utf8(bytes).map(str::trim).ok()
    };
    let size: Option<u64> = field(48..58).and_then(|size| size.parse().ok());
    let name = field(0..16).map(|name| name.trim_end_matches('/').to_owned());
    match (name, size, header.get(58..60)) {
        (Some(name), Some(size), Some(b"`\n")) => Ok(Some((name, size))),
        _ => Err("the header of a member is damaged".into()),
    }
}

type Files = BTreeMap<String, ControlFile>;

fn control_files(archive: &mut dyn Read) -> Result<Files, Damage> {
    let (_, content) = decompress(archive, CONTROL_LIMIT)?;
    let mut reader = Reader::new(content);
    let mut files = Files::new();
    while let Some(entry) = reader.next_entry()? {
        let path = tar::relative_path(&entry.path).ok_or("its control.tar leads out of itself")?;
        match entry.kind {
            EntryKind::Directory if path.is_empty() => continue,
            EntryKind::File => {}
            _ => return Err("its control.tar holds more than files".into()),
        }
        let name = String::from_utf8(path).unwrap_or_default();
        let is_name = (1..=50).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            // dpkg keeps its own record under this name.
            && name != "list";
        if !is_name || files.len() == CONTROL_FILES {
            let name = name.escape_debug();
            return Err(format!("its control.tar holds an unknown file '{name}'").into());
        }
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        let mode = entry.mode;
        if files.insert(name, ControlFile { content, mode }).is_some() {
            return Err("its control.tar holds a file twice".into());
        }
    }
    io::copy(&mut reader.into_inner(), &mut io::sink())?;
    Ok(files)
}

type Sums = BTreeMap<ImagePath, Md5>;

fn data(
    archive: &mut dyn Read,
    keep: &mut dyn Keep,
    limits: &Limits,
) -> Result<(Vec<Item>, Sums), Damage> {
    let (_, content) = decompress(archive, limits.unpacked)?;
    let mut reader = Reader::new(content);
    let mut items: Vec<Item> = Vec::new();
    let mut places: BTreeMap<ImagePath, usize> = BTreeMap::new();
    let mut sums = Sums::new();
    let mut texts = 0;
    while let Some(entry) = reader.next_entry()? {
        keep.check()?;
        if items.len() as u64 == limits.entries {
            return Err(format!("it holds more than {} files", limits.entries).into());
        }
        let path = item_path(&entry.path)?;
        let mut text = None;
        let kind = match entry.kind {
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink => Kind::Symlink(text_target(&path, &entry.link)?),
            EntryKind::File => {
                let (content, sum, bytes) =
                    keep_file(keep, &path, &mut reader, entry.size, &mut texts)?;
                text = bytes;
                sums.insert(path.clone(), sum);
                Kind::File(content)
            }
            EntryKind::HardLink => {
                let target = item_path(&entry.link)?;
                let first = places.get(&target).map(|at| &items[*at].kind);
                let Some(Kind::File(content)) = first else {
                    return Err(
                        format!("{path} is a link to {target}, which is no file in it").into(),
                    );
                };
                let content = *content;
                if let Some(sum) = sums.get(&target).copied() {
                    sums.insert(path.clone(), sum);
                }
                Kind::File(content)
            }
            EntryKind::Special => return Err(format!("{path} is a device or pipe").into()),
        };
        if places.insert(path.clone(), items.len()).is_some() {
            return Err(format!("it holds {path} twice").into());
        }
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        items.push(Item {
            path,
            kind,
            mode: entry.mode,
            owner: (name(&entry.user), Some(entry.uid)),
            group: (name(&entry.group), Some(entry.gid)),
            modified: entry.modified,
            // dpkg takes none either.
            xattrs: BTreeMap::new(),
            text,
        });
    }
    io::copy(&mut reader.into_inner(), &mut io::sink())?;
    Ok((items, sums))
}

/// Makes sense of the control files.
fn understand(mut files: Files, sums: Sums) -> Result<Deb, Damage> {
    let control = files.remove("control").ok_or("it has no file 'control'")?;
    let text = String::from_utf8(control.content).map_err(|_| "its control file is no text")?;
    // Only blank lines may follow the one paragraph.
    let control = Paragraph::parse(text.trim()).ok_or("its control file is damaged")?;
    let field = |name: &str| {
        let value = control.get(name).map(str::to_owned);
        value.ok_or_else(|| Damage::from(format!("its control file has no {name}")))
    };
    let (name, version, architecture) =
        (field("Package")?, field("Version")?, field("Architecture")?);
    if !relation::is_name(&name) || !relation::is_name(&architecture) {
        return Err("its name or architecture is none".into());
    }
    if !version::is_version(&version) {
        return Err(format!("'{}' is no version", version.escape_debug()).into());
    }
    let relations =
        Relations::of(&control).map_err(|field| format!("its field {field} is damaged"))?;
    let text = |name: &str| -> Result<String, Damage> {
        let content = files.get(name).map(|file| file.content.clone());
        String::from_utf8(content.unwrap_or_default())
            .map_err(|_| format!("its file '{name}' is no text").into())
    };
    let conffiles = conffiles(&text("conffiles")?, &sums)?;
    check_sums(&text("md5sums")?, &sums)?;
    let triggers = triggers(&text("triggers")?)?;
    Ok(Deb {
        control,
        name,
        version,
        architecture,
        relations,
        conffiles,
        files,
        sums,
        triggers,
    })
}

fn conffiles(text: &str, sums: &Sums) -> Result<Vec<ImagePath>, Damage> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // Nothing of an older version is there that could be removed.
        if line.starts_with("remove-on-upgrade ") {
            continue;
        }
        let path = ImagePath::new(line)
            .map_err(|_| format!("'{}' is no conffile", line.escape_debug()))?;
        if !sums.contains_key(&path) {
            return Err(format!("its conffile {path} is no file of it").into());
        }
        found.push(path);
    }
    let different: BTreeSet<&ImagePath> = found.iter().collect();
    if different.len() < found.len() {
        return Err("it has a conffile twice".into());
    }
    Ok(found)
}

/// The sums that the package brings must be those of its files.
fn check_sums(text: &str, sums: &Sums) -> Result<(), Damage> {
    for line in text.lines().filter(|line| !line.is_empty()) {
        let parts = line.split_once(' ');
        let (sum, path) = parts.ok_or("its md5sums are damaged")?;
        let path = item_path(path.trim_start_matches([' ', '*']).as_bytes())?;
        match sums.get(&path) {
            Some(found) if found.to_string() == sum => {}
            Some(_) => return Err(format!("{path} has not the sum of its md5sums").into()),
            None => return Err(format!("its md5sums name {path}, which is no file of it").into()),
        }
    }
    Ok(())
}

fn triggers(text: &str) -> Result<Vec<Trigger>, Damage> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let damaged = || {
            format!(
                "the line '{}' of its triggers is damaged",
                line.escape_debug()
            )
        };
        let (verb, name) = line.split_once(char::is_whitespace).ok_or_else(damaged)?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(damaged().into());
        }
        let name = name.to_owned();
        found.push(match verb {
            "interest" | "interest-await" => Trigger::Interest(name, false),
            "interest-noawait" => Trigger::Interest(name, true),
            "activate" | "activate-await" | "activate-noawait" => Trigger::Activate(name),
            _ => return Err(damaged().into()),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
