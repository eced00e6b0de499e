//! Packages of a distribution, read without running anything of them.
//!
//! A package becomes a list of [`Item`]s, whose contents lie in the store, and what it
//! says of itself. What that means for an image, [`crate::plan`] tells: whether its
//! dependencies are there, what its scripts would do, and how the image's own database
//! of packages records it.

pub mod deb;
pub mod fuzz;
mod keep;
pub mod rpm;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::time::SystemTime;

pub use crate::store::archive::Limits;
pub use keep::{Keep, Md5, StoreKeep};

use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::lock::model::{LockedFile, LockedProfile, Origin};
use crate::lock::{SIGNED_BY, Signer, Stored};
use crate::profile::model::Profile;
use crate::progress::Progress;
use crate::store::{Digest, Store, signature, tar};

const NO_PACKAGE: &str = "it is neither a Debian package nor an rpm";
const GET_AGAIN: &str = "get it again from its publisher, and compare its checksum";

/// A package that a profile lists, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Where it came from, and what pins it.
    pub file: LockedFile,
    /// What it says of itself.
    pub details: Details,
    /// What it brings, in its order.
    pub items: Vec<Item>,
    /// Why its scripts need not run, by the profile.
    pub ignore_scripts: Option<String>,
}

/// What a package says of itself, by its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// Debian's.
    Deb(Box<deb::Deb>),
    /// Red Hat's.
    Rpm(Box<rpm::Rpm>),
}

/// Something that a package brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path in the image.
    pub path: ImagePath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// The owner by name, and by number where the package has one.
    pub owner: (String, Option<u32>),
    /// The group, likewise.
    pub group: (String, Option<u32>),
    /// Seconds since 1970.
    pub modified: i64,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The content of a file that a plan looks into: a unit, or configuration.
    pub text: Option<Vec<u8>>,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file. Hard links in a package are files of their own in the image.
    File(Stored),
    /// A symbolic link with its target.
    Symlink(String),
}

/// Why a package cannot be read.
#[derive(Debug)]
pub enum Damage {
    /// It is not as it should be.
    Package(String),
    /// Something else went wrong meanwhile.
    Other(Error),
}

impl From<&str> for Damage {
    fn from(problem: &str) -> Self {
        Self::Package(problem.to_owned())
    }
}

impl From<String> for Damage {
    fn from(problem: String) -> Self {
        Self::Package(problem)
    }
}

impl From<Error> for Damage {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => Self::Other(error),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it is cut off".into(),
            Err(error) => Self::Package(format!("it is damaged: {error}")),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(problem) => formatter.write_str(problem),
            Self::Other(error) => error.fmt(formatter),
        }
    }
}

impl Package {
    /// Its name.
    pub fn name(&self) -> &str {
        match &self.details {
            Details::Deb(deb) => &deb.name,
            Details::Rpm(rpm) => &rpm.name,
        }
    }

    /// Its version, as its own tools write it.
    pub fn version(&self) -> &str {
        match &self.details {
            Details::Deb(deb) => &deb.version,
            Details::Rpm(rpm) => &rpm.version,
        }
    }

    /// Its architecture, as its own tools write it.
    pub fn architecture(&self) -> &str {
        match &self.details {
            Details::Deb(deb) => &deb.architecture,
            Details::Rpm(rpm) => &rpm.architecture,
        }
    }
}

/// Who signed a package of the store, by the public keys of `keyrings`.
///
/// # Errors
/// [`crate::Class::Dependency`] when none of these keys did, or it is no package;
/// [`crate::Class::Input`] when a keyring cannot be read.
pub fn signer(
    store: &Store,
    package: &Digest,
    keyrings: &[Vec<u8>],
    now: SystemTime,
) -> Result<Signer> {
    let mut object = store.open_object(package)?;
    let mut magic = Vec::with_capacity(8);
    let read = (&mut object).take(8).read_to_end(&mut magic);
    read.map_err(|error| Error::io("read a package", error))?;
    if magic == deb::MAGIC {
        return Ok(Signer::NotInFormat);
    }
    if !magic.starts_with(rpm::MAGIC) {
        return Err(Error::dependency(NO_PACKAGE).hint(GET_AGAIN));
    }
    if keyrings.is_empty() {
        return Ok(Signer::NotAsked);
    }
    let wrong = |damage: Damage| Error::dependency(format!("verify its signature: {damage}"));
    let mut whole = io::Cursor::new(magic).chain(object);
    let signed = rpm::signed::Signed::read(&mut whole).map_err(wrong)?;
    let signatures = signed.signatures().map_err(wrong)?;
    let by = signature::verify_data(&signed.header, &signatures, keyrings, now);
    by.map(Signer::Key).map_err(|error| {
        error
            .context("verify its signature")
            .hint("check that `keys` names the publisher's keys: rpm -K -v FILE tells which one signed it")
    })
}

/// Reads the packages of a profile; the contents of their files go into the store.
///
/// # Errors
/// [`crate::Class::Dependency`] when one is damaged, or the store does not have it;
/// [`crate::Class::Interrupted`] on request.
pub fn read_all(
    store: &Store,
    profile: &Profile,
    locked: &LockedProfile,
    progress: &dyn Progress,
) -> Result<Vec<Package>> {
    let sources = &profile.spec.packages;
    if sources.len() != locked.packages.len() {
        let text = "read the packages: the lock has others than the profile";
        return Err(Error::input(text).hint("run: nodekiln lock"));
    }
    let pairs = sources.iter().zip(&locked.packages);
    let read = |(source, file): (&crate::profile::model::PackageSource, &LockedFile)| {
        progress.check()?;
        let mut object = store.open_object(&file.sha256)?;
        let mut keep = StoreKeep::new(store, progress);
        let (details, items) = read_one(&mut object, &mut keep).map_err(|damage| {
            let doing = format!("read the package {}", label(file));
            match damage {
                Damage::Package(problem) => {
                    Error::dependency(format!("{doing}: {problem}")).hint(GET_AGAIN)
                }
                Damage::Other(error) => error.context(doing),
            }
        })?;
        // What follows the last member belongs to its digest, too.
        object.verify()?;
        check_signature(&details, file, source.allow_unsigned)?;
        Ok(Package {
            file: file.clone(),
            details,
            items,
            ignore_scripts: source.ignore_scripts.clone(),
        })
    };
    pairs.map(read).collect()
}

/// Whether somebody vouched for an rpm when it was locked, or the profile does without.
fn check_signature(details: &Details, file: &LockedFile, allow_unsigned: bool) -> Result<()> {
    let is_signed = file.trust.contains(SIGNED_BY);
    if matches!(details, Details::Deb(_)) || is_signed || allow_unsigned {
        return Ok(());
    }
    Err(Error::dependency(format!(
        "read the package {}: the lock names nobody who signed it",
        label(file)
    ))
    .hint("name the publisher's keys with `keys`, and run: nodekiln lock"))
}

/// What people call the file of a package.
fn label(file: &LockedFile) -> String {
    match &file.origin {
        Origin::Url(url) => crate::lock::file_name_of_url(url).to_owned(),
        Origin::Path(path) => path.clone(),
        Origin::Bootstrap { .. } => file.sha256.to_string(),
    }
}

/// Reads a package of either format, which its first bytes tell.
///
/// # Errors
/// What is wrong with it, and what `keep` gives.
pub fn read_one(
    package: &mut dyn Read,
    keep: &mut dyn Keep,
) -> Result<(Details, Vec<Item>), Damage> {
    let mut magic = Vec::with_capacity(8);
    (&mut *package).take(8).read_to_end(&mut magic)?;
    let (is_deb, is_rpm) = (magic == deb::MAGIC, magic.starts_with(rpm::MAGIC));
    let whole = io::Cursor::new(magic).chain(package);
    if is_deb {
        let (deb, items) = deb::read(whole, keep, &Limits::default())?;
        return Ok((Details::Deb(Box::new(deb)), items));
    }
    if is_rpm {
        let (rpm, items) = rpm::read(whole, keep, &Limits::default())?;
        return Ok((Details::Rpm(Box::new(rpm)), items));
    }
    Err(NO_PACKAGE.into())
}

/// Folders whose files a plan may look into.
const LOOKED_INTO: [&[u8]; 3] = [b"/etc/", b"/lib/systemd/", b"/usr/lib/systemd/"];
/// Largest file that a plan looks into, in bytes, and all such files of one package.
const TEXT_LIMIT: u64 = 64 << 10;
const TEXTS_LIMIT: u64 = 16 << 20;

/// A file of a package: where its content is, its sum, and the content where a plan may
/// look into it. `texts` counts the bytes of these.
fn keep_file(
    keep: &mut dyn Keep,
    path: &ImagePath,
    content: &mut dyn Read,
    size: u64,
    texts: &mut u64,
) -> Result<(Stored, Md5, Option<Vec<u8>>), Damage> {
    let is_text = LOOKED_INTO
        .iter()
        .any(|folder| path.as_bytes().starts_with(folder));
    if !is_text || size > TEXT_LIMIT || *texts + size > TEXTS_LIMIT {
        let (stored, sum) = keep.keep_with_sum(content, size)?;
        return Ok((stored, sum, None));
    }
    *texts += size;
    let mut bytes = Vec::new();
    content.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    let (stored, sum) = keep.keep_with_sum(&mut &bytes[..], bytes.len() as u64)?;
    Ok((stored, sum, Some(bytes)))
}

/// The path of an item, in a package as `./usr/bin/x`, `usr/bin/x` or `/usr/bin/x`.
fn item_path(bytes: &[u8]) -> Result<ImagePath, Damage> {
    let shown = || bytes.escape_ascii().to_string();
    let relative = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let relative = tar::relative_path(relative)
        .ok_or_else(|| format!("the path '{}' leads out of it", shown()))?;
    ImagePath::new([b"/", &relative[..]].concat())
        .ok()
        .filter(|path| path.as_str().is_some_and(|path| !path.contains('\n')))
        .ok_or_else(|| format!("the path '{}' is none that an image can have", shown()).into())
}

fn text_target(path: &ImagePath, target: &[u8]) -> Result<String, Damage> {
    let is_one = !target.is_empty() && target.len() < 4096 && !target.contains(&0);
    match String::from_utf8(target.to_vec()) {
        Ok(target) if is_one => Ok(target),
        _ => Err(format!("the target of the link {path} is no path").into()),
    }
}
