//! Reads overlays: from folders, and those that come with nodekiln.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::contents::open_file;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::plan::overlay::{Overlay, OverlayEntry, OverlayNode, TEMPLATE_SUFFIX};
use crate::plan::{Content, Source};
use crate::profile::model::Profile;
use crate::store::Digest;

/// Files up to this size are kept in memory, where the planner can read them
/// (units, templates); larger ones are read again when they are baked.
const KEPT: u64 = 64 << 10;
/// Largest template.
const TEMPLATE_LIMIT: u64 = 1 << 20;
/// Files, folders and links in one overlay, at most.
const MAX_ENTRIES: usize = 200_000;
/// Threads that read an overlay, at most.
const THREADS: usize = 8;
/// Overlays that every image gets, first ones first.
const ALWAYS: [&str; 2] = ["common", "linux"];

// Rendered by the build script from the folder `overlays`: SHIPPED.
include!(concat!(env!("OUT_DIR"), "/overlays.rs"));

/// One file of an overlay that comes with nodekiln.
struct Shipped {
    overlay: &'static str,
    path: &'static str,
    executable: bool,
    bytes: &'static [u8],
}

/// The overlays of a profile, in the order in which they are laid: those that
/// every image gets, then those that the profile names. `folder` is the
/// profile's.
///
/// # Errors
/// [`crate::Class::Input`] when there is no such overlay, or what is in it
/// cannot be laid.
pub fn collect(profile: &Profile, folder: &Path) -> Result<Vec<Overlay>> {
    let mut overlays: Vec<Overlay> = ALWAYS.iter().filter_map(|name| shipped(name)).collect();
    for wanted in &profile.spec.overlays {
        let name = wanted.to_string_lossy().into_owned();
        if ALWAYS.contains(&name.as_str()) {
            continue;
        }
        let path = folder.join(wanted);
        let is_plain_name = !name.contains('/');
        let overlay = if is_plain_name && !path.is_dir() {
            shipped(&name).ok_or_else(|| {
                Error::input(format!(
                    "read the overlay {name}: it is no folder beside the profile and none of those that come with nodekiln"
                ))
                .hint(format!("nodekiln brings: {}", shipped_names().join(", ")))
            })?
        } else {
            read(&name, &path)?
        };
        overlays.push(overlay);
    }
    Ok(overlays)
}

/// Names of the overlays that come with nodekiln, sorted.
pub fn shipped_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SHIPPED.iter().map(|file| file.overlay).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// An overlay that comes with nodekiln.
pub fn shipped(name: &str) -> Option<Overlay> {
    let mut entries = BTreeMap::new();
    for file in SHIPPED.iter().filter(|file| file.overlay == name) {
        let path =
            ImagePath::new(file.path).expect("the build script makes absolute and normal paths");
        let node = if file.path.ends_with(TEMPLATE_SUFFIX) {
            OverlayNode::Template {
                text: String::from_utf8_lossy(file.bytes).into_owned(),
                executable: file.executable,
            }
        } else {
            OverlayNode::File {
                content: Content::inline(file.bytes),
                executable: file.executable,
            }
        };
        let origin = format!("overlays/{name}{}", file.path);
        entries.insert(path, OverlayEntry { node, origin });
    }
    (!entries.is_empty()).then(|| Overlay {
        name: name.to_owned(),
        entries,
    })
}

/// Reads the folder `folder` as the overlay `name`. Links are taken as links and
/// never followed.
///
/// # Errors
/// [`crate::Class::Input`] for devices, pipes and sockets, for set-uid and
/// set-gid files (a checkout does not keep them: they are an accident or an
/// attack), and for names that no image can hold.
pub fn read(name: &str, folder: &Path) -> Result<Overlay> {
    let metadata = std::fs::metadata(folder).map_err(|error| {
        Error::io(format!("read the overlay {}", folder.display()), error)
            .hint("spec.overlays names folders relative to the profile")
    })?;
    if !metadata.is_dir() {
        return Err(Error::input(format!(
            "read the overlay {}: it is no folder",
            folder.display()
        )));
    }
    let mut found = Vec::new();
    let walk = walkdir::WalkDir::new(folder)
        .min_depth(1)
        .follow_links(false)
        .follow_root_links(true)
        .sort_by_file_name();
    for entry in walk {
        let entry = entry.map_err(|error| {
            let doing = format!("read the overlay {}", folder.display());
            match error.into_io_error() {
                Some(error) => Error::io(doing, error),
                None => Error::input(format!("{doing}: links lead in a circle")),
            }
        })?;
        if found.len() >= MAX_ENTRIES {
            return Err(Error::input(format!(
                "read the overlay {}: more than {MAX_ENTRIES} files",
                folder.display()
            )));
        }
        found.push(entry);
    }
    let mut entries = BTreeMap::new();
    for (found, node) in found.iter().zip(read_nodes(&found)) {
        let relative = found
            .path()
            .strip_prefix(folder)
            .expect("a walk stays below its root");
        let path = ImagePath::new([b"/", relative.as_os_str().as_bytes()].concat())?;
        let entry = OverlayEntry {
            node: node?,
            origin: found.path().display().to_string(),
        };
        entries.insert(path, entry);
    }
    Ok(Overlay {
        name: name.to_owned(),
        entries,
    })
}

/// Reads every entry; what came of each, in their order. Hashing is all of the
/// work, so every processor takes a part of it.
fn read_nodes(found: &[walkdir::DirEntry]) -> Vec<Result<OverlayNode>> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut read = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = found.get(index) else {
                return read;
            };
            read.push((index, read_node(entry)));
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut nodes: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors.min(THREADS))
            .map(|_| scope.spawn(take))
            .collect();
        let mut nodes = take();
        for other in others {
            // A panic in a thread goes on in this one.
            nodes.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        nodes
    });
    nodes.sort_by_key(|(index, _)| *index);
    nodes.into_iter().map(|(_, node)| node).collect()
}

fn read_node(found: &walkdir::DirEntry) -> Result<OverlayNode> {
    let path = found.path();
    let kind = found.file_type();
    if kind.is_dir() {
        return Ok(OverlayNode::Directory);
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path)
            .map_err(|error| Error::io(format!("read the link {}", path.display()), error))?;
        let target = target.into_os_string().into_string().map_err(|_| {
            Error::input(format!(
                "read the link {}: its target is not UTF-8",
                path.display()
            ))
        })?;
        return Ok(OverlayNode::Symlink { target });
    }
    if !kind.is_file() {
        return Err(Error::input(format!(
            "lay {}: a device, pipe or socket cannot be in an overlay",
            path.display()
        ))
        .hint("remove it: overlays hold files, folders and links"));
    }
    read_file(path)
}

fn read_file(path: &Path) -> Result<OverlayNode> {
    let doing = || format!("read {}", path.display());
    let mut file = open_file(path)?;
    let mode = file
        .metadata()
        .map_err(|error| Error::io(doing(), error))?
        .permissions()
        .mode();
    if mode & 0o6000 != 0 {
        return Err(Error::input(format!(
            "lay {}: a set-uid or set-gid file cannot be in an overlay",
            path.display()
        ))
        .hint("take the bit away: chmod ug-s FILE"));
    }
    let executable = mode & 0o111 != 0;
    let is_template = path
        .as_os_str()
        .as_bytes()
        .ends_with(TEMPLATE_SUFFIX.as_bytes());
    let limit = if is_template { TEMPLATE_LIMIT } else { KEPT };
    let mut bytes = Vec::new();
    (&mut file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(doing(), error))?;
    if is_template {
        if bytes.len() as u64 > limit {
            return Err(Error::input(format!(
                "{}: a template has {limit} bytes at most",
                doing()
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::input(format!("{}: a template must be UTF-8", doing())))?;
        return Ok(OverlayNode::Template { text, executable });
    }
    if bytes.len() as u64 <= limit {
        let content = Content::inline(bytes);
        return Ok(OverlayNode::File {
            content,
            executable,
        });
    }
    let mut hash = Sha256::new();
    let mut size = bytes.len() as u64;
    hash.update(&bytes);
    let mut piece = vec![0; super::PIECE];
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| Error::io(doing(), error))?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        size += count as u64;
    }
    let content = Content {
        sha256: Digest::from_bytes(hash.finalize().into()),
        size,
        source: Source::File(path.to_owned()),
    };
    Ok(OverlayNode::File {
        content,
        executable,
    })
}
