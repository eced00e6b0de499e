//! The root file system, filled in process from the tar of the package tree.

use std::collections::BTreeSet;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::files::{Generated, is_leftover};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::progress::{Progress, Step};
use crate::store::Digest;
use crate::store::tar::{self, Entry, EntryKind, Reader};
use crate::volume::{Attributes, Problem, Timestamp, Volume, create_parents, problem};

/// Bytes kept of one file that the rest of the work needs.
const KEPT_LIMIT: usize = 32 << 20;
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const OS_RELEASE: &str = "/usr/lib/os-release";

/// What of the tree the rest of the work needs.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `/var/lib/dpkg/status`.
    pub(super) status: String,
    /// `/usr/lib/os-release`.
    pub(super) release: String,
    /// The firmware's first program.
    pub(super) shim: Vec<u8>,
    /// shim's key manager.
    pub(super) key_manager: Vec<u8>,
    /// The signed boot loader.
    pub(super) grub: Vec<u8>,
    /// Versions of the kernels in `/boot`.
    pub(super) kernels: BTreeSet<String>,
}

/// Reads through the tree, takes out what [`Kept`] names, and gives the digest of
/// all that goes into the image: not of the tar, which also holds what differs
/// from run to run and is left out.
///
/// # Errors
/// [`crate::Class::Environment`] when the tree lacks one of these.
pub(super) fn scan(
    tar: impl Read,
    platform: super::packages::Platform,
    epoch: i64,
) -> Result<(Kept, Digest)> {
    let mut kept = Kept::default();
    let mut tree = Sha256::new();
    let signed =
        |folder: &str, name: &str| format!("/usr/lib/{folder}/{name}{}.efi.signed", platform.efi);
    let shim = signed("shim", "shim");
    let key_manager = signed("shim", "mm");
    let grub = signed(&format!("grub/{}-signed", platform.grub), "grub");
    let mut reader = Reader::new(tar);
    while let Some(entry) = reader.next_entry().map_err(unreadable)? {
        let path = image_path(&entry)?;
        if is_dropped(&entry, &path) {
            continue;
        }
        tree.update(format!("{path}\0{:?}\0", attributes(&entry, epoch)));
        tree.update(format!("{:?}\0{}\0", entry.kind, entry.size));
        tree.update(&entry.link);
        let text = path.as_str().unwrap_or_default();
        if let Some(version) = text.strip_prefix("/boot/vmlinuz-") {
            kept.kernels.insert(version.to_owned());
        }
        let wanted = [DPKG_STATUS, OS_RELEASE, &shim, &key_manager, &grub].contains(&text);
        let content = hash_content(&mut reader, &mut tree, wanted).map_err(unreadable)?;
        match text {
            DPKG_STATUS => kept.status = String::from_utf8_lossy(&content).into_owned(),
            OS_RELEASE => kept.release = String::from_utf8_lossy(&content).into_owned(),
            _ if text == shim => kept.shim = content,
            _ if text == key_manager => kept.key_manager = content,
            _ if text == grub => kept.grub = content,
            _ => {}
        }
    }
    for (name, missing) in [
        ("a kernel in /boot", kept.kernels.is_empty()),
        ("the status of dpkg", kept.status.is_empty()),
        (&shim, kept.shim.is_empty()),
        (&key_manager, kept.key_manager.is_empty()),
        (&grub, kept.grub.is_empty()),
    ] {
        if missing {
            return Err(Error::environment(format!(
                "read the package tree: it lacks {name}"
            )));
        }
    }
    Ok((kept, Digest::from_bytes(tree.finalize().into())))
}

/// Hashes the content of the present entry; gives it too when it is wanted.
fn hash_content(
    content: &mut impl Read,
    tree: &mut Sha256,
    wanted: bool,
) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            return Ok(kept);
        }
        tree.update(&buffer[..count]);
        if wanted && kept.len() < KEPT_LIMIT {
            kept.extend_from_slice(&buffer[..count]);
        }
    }
}

/// Whether the entry is a trace of the making of the tree.
fn is_dropped(entry: &Entry, path: &ImagePath) -> bool {
    path.as_str().is_some_and(|text| {
        // Empty folders for logs and caches belong to their packages.
        let own_folder = entry.kind == EntryKind::Directory && text.starts_with("/var/");
        is_leftover(text) && !own_folder
    })
}

fn attributes(entry: &Entry, epoch: i64) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: Timestamp {
            seconds: entry.modified.min(epoch),
            nanoseconds: 0,
        },
        xattrs: entry.xattrs.clone(),
    }
}

/// Writes the tree and then what is generated. `epoch` is the time of what is
/// generated and the latest time of anything else.
///
/// # Errors
/// What the volume refuses; [`crate::Class::Environment`] for a damaged tar.
pub(super) fn fill(
    volume: &mut dyn Volume,
    tar: impl Read,
    generated: &[(ImagePath, Generated)],
    epoch: i64,
    progress: &dyn Progress,
) -> Result<()> {
    let replaced: BTreeSet<&ImagePath> = generated.iter().map(|(path, _)| path).collect();
    let mut reader = Reader::new(tar);
    while let Some(entry) = reader.next_entry().map_err(unreadable)? {
        progress.check()?;
        let path = image_path(&entry)?;
        if is_dropped(&entry, &path) || replaced.contains(&path) {
            continue;
        }
        write_entry(volume, &entry, &path, &mut reader, epoch)
            .map_err(|error| too_small(error, &path))?;
        progress.advance(Step::Bootstrap, entry.size);
    }
    for (path, content) in generated {
        write_generated(volume, path, content, epoch).map_err(|error| too_small(error, path))?;
    }
    Ok(())
}

fn write_entry(
    volume: &mut dyn Volume,
    entry: &Entry,
    path: &ImagePath,
    content: &mut dyn Read,
    epoch: i64,
) -> Result<()> {
    let attributes = attributes(entry, epoch);
    match entry.kind {
        EntryKind::Directory if path.is_root() => volume.set_attributes(path, &attributes),
        EntryKind::Directory => volume.create_directory(path, &attributes),
        EntryKind::File => volume.write_file(path, entry.size, content, &attributes),
        EntryKind::Symlink => volume.create_symlink(path, &entry.link, &attributes),
        EntryKind::HardLink => {
            let existing = tar::relative_path(&entry.link)
                .ok_or_else(|| damaged(&format!("the link {path} leads out of it")))?;
            volume.create_hard_link(&absolute(&existing)?, path)
        }
        // /dev is filled by the kernel; packages bring no others.
        EntryKind::Special => Ok(()),
    }
}

fn write_generated(
    volume: &mut dyn Volume,
    path: &ImagePath,
    content: &Generated,
    epoch: i64,
) -> Result<()> {
    let attributes = |mode| Attributes {
        mode,
        uid: 0,
        gid: 0,
        modified: Timestamp {
            seconds: epoch,
            nanoseconds: 0,
        },
        xattrs: std::collections::BTreeMap::new(),
    };
    create_parents(volume, path, &attributes(0o755))?;
    match content {
        Generated::Directory => match volume.create_directory(path, &attributes(0o755)) {
            Err(error) if problem(&error) == Some(Problem::Exists) => Ok(()),
            result => result,
        },
        Generated::File(text) => volume.write_file(
            path,
            text.len() as u64,
            &mut text.as_bytes(),
            &attributes(0o644),
        ),
        Generated::Link(target) => {
            volume.create_symlink(path, target.as_bytes(), &attributes(0o777))
        }
    }
}

fn image_path(entry: &Entry) -> Result<ImagePath> {
    let relative = tar::relative_path(&entry.path).ok_or_else(|| {
        damaged(&format!(
            "the path '{}' leads out of it",
            entry.path.escape_ascii()
        ))
    })?;
    absolute(&relative)
}

fn absolute(relative: &[u8]) -> Result<ImagePath> {
    ImagePath::new([b"/", relative].concat())
}

fn too_small(error: Error, path: &ImagePath) -> Error {
    let error = if problem(&error) == Some(Problem::NoSpace) {
        error.hint("make the base larger with base.bootstrap.size")
    } else {
        error
    };
    error.context(format!("write {path} into the base image"))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("read the package tree", error)
}

fn damaged(problem: &str) -> Error {
    Error::environment(format!("read the package tree: {problem}"))
}
