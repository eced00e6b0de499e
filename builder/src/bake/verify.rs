//! Reads a baked plan back and compares.
//!
//! Nothing before this has hashed what was written: a content that differs from
//! its pin is looked for in its source, which tells a source that changed from a
//! bake that went wrong.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use sha2::{Digest as _, Sha256};

use super::{Contents, PIECE, kind_name};
use crate::error::{Context as _, Error, Result};
use crate::image_path::ImagePath;
use crate::os::Image;
use crate::plan::hygiene::{self, Outcome};
use crate::plan::{Content, Entry, Node, Plan, Target};
use crate::progress::{Progress, Step};
use crate::store::Digest;
use crate::volume::{Attributes, FileSystem, Kind, Volume};

/// Reads back everything that `plan` wrote and removed, byte by byte, and runs
/// the hygiene checks on the result.
///
/// # Errors
/// [`crate::Class::Dependency`] when a content is not what the plan pins, and
/// neither is its source; [`crate::Class::CheckFailed`] with every difference as
/// one of the error's others; else what the volume gives.
pub fn verify(
    plan: &Plan,
    image: &mut Image,
    contents: &dyn Contents,
    progress: &dyn Progress,
) -> Result<()> {
    progress.begin(Step::Verify, &plan.profile, Some(super::total_bytes(plan)));
    let mut differences = Vec::new();
    let reader = Reader { contents, progress };
    let result = reader
        .read_back(plan, image.volumes_mut(), &mut differences)
        .and_then(|()| check_hygiene(plan, image, &mut differences));
    progress.end(Step::Verify);
    result?;
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    Err(Error::check_failed(format!(
        "verify the image: {count} {} not as planned",
        if count == 1 { "thing is" } else { "things are" }
    ))
    .and(differences.into_iter().map(Error::check_failed).collect()))
}

struct Reader<'a> {
    contents: &'a dyn Contents,
    progress: &'a dyn Progress,
}

impl Reader<'_> {
    fn read_back(
        &self,
        plan: &Plan,
        volumes: &mut BTreeMap<Target, Box<dyn Volume>>,
        differences: &mut Vec<String>,
    ) -> Result<()> {
        for (target, changes) in &plan.volumes {
            let volume = super::open(volumes, *target)?;
            for path in changes.removals.keys() {
                self.progress.check()?;
                if !changes.entries.contains_key(path) && volume.metadata(path)?.is_some() {
                    differences.push(format!("{path} is still there"));
                }
            }
            for (path, entry) in &changes.entries {
                self.progress.check()?;
                if let Some(difference) = self.compare(path, entry, volume)? {
                    differences.push(format!("{path} {difference}"));
                }
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        path: &ImagePath,
        entry: &Entry,
        volume: &mut dyn Volume,
    ) -> Result<Option<String>> {
        let Some(metadata) = volume.metadata(path)? else {
            return Ok(Some("is not there".to_owned()));
        };
        let wanted = match &entry.node {
            Node::Directory { .. } => Kind::Directory,
            Node::File { .. } => Kind::File,
            Node::Symlink { .. } => Kind::Symlink,
        };
        if metadata.kind != wanted {
            return Ok(Some(format!(
                "is a {}, not a {}",
                kind_name(metadata.kind),
                kind_name(wanted)
            )));
        }
        let keeps_its_own = matches!(entry.node, Node::Directory { keep: true });
        let file_system = volume.identity().file_system;
        let (planned, found) = (&entry.attributes, &metadata.attributes);
        if !keeps_its_own
            && let Some(difference) = compare_attributes(planned, found, wanted, file_system)
        {
            return Ok(Some(difference));
        }
        match &entry.node {
            Node::Directory { .. } => Ok(None),
            Node::Symlink { target } => {
                let found = volume.read_link(path)?;
                Ok((found != target.as_bytes()).then(|| {
                    format!(
                        "leads to '{}', not to '{target}'",
                        String::from_utf8_lossy(&found)
                    )
                }))
            }
            Node::File { content } if metadata.size != content.size => Ok(Some(format!(
                "has {} bytes, not {}",
                metadata.size, content.size
            ))),
            Node::File { content } => self.compare_content(path, content, volume),
        }
    }

    fn compare_content(
        &self,
        path: &ImagePath,
        content: &Content,
        volume: &mut dyn Volume,
    ) -> Result<Option<String>> {
        let mut sink = Hashing {
            hash: Sha256::new(),
            progress: self.progress,
        };
        volume.read_file(path, &mut sink)?;
        let found = Digest::from_bytes(sink.hash.finalize().into());
        if found == content.sha256 {
            return Ok(None);
        }
        self.check_source(path, content)?;
        Ok(Some(format!("has sha256 {found}, not {}", content.sha256)))
    }

    /// Whether the source of `content` still is what was pinned.
    fn check_source(&self, path: &ImagePath, content: &Content) -> Result<()> {
        let doing = || format!("read the source of {path}");
        let mut hash = Sha256::new();
        let mut source = self.contents.open(content)?;
        let mut piece = vec![0; PIECE];
        loop {
            self.progress.check()?;
            match source.read(&mut piece).doing(doing)? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found == content.sha256 {
            return Ok(());
        }
        Err(Error::dependency(format!(
            "write {path}: its content has sha256 {found}, the plan pins {}",
            content.sha256
        ))
        .hint(
            "the source changed since it was planned, or the store is damaged; run the build again",
        ))
    }
}

fn compare_attributes(
    wanted: &Attributes,
    found: &Attributes,
    kind: Kind,
    file_system: FileSystem,
) -> Option<String> {
    if file_system == FileSystem::Fat {
        // FAT keeps neither owner nor mode, and time only to two seconds from
        // 1980 on; its content is compared.
        return None;
    }
    // The mode of a link means nothing and is 0777 wherever the kernel wrote it.
    if kind != Kind::Symlink && wanted.mode != found.mode {
        return Some(format!(
            "has mode {:04o}, not {:04o}",
            found.mode, wanted.mode
        ));
    }
    if (wanted.uid, wanted.gid) != (found.uid, found.gid) {
        return Some(format!(
            "belongs to {}:{}, not to {}:{}",
            found.uid, found.gid, wanted.uid, wanted.gid
        ));
    }
    if wanted.modified != found.modified {
        return Some(format!(
            "was modified at {}.{:09}, not at {}.{:09}",
            found.modified.seconds,
            found.modified.nanoseconds,
            wanted.modified.seconds,
            wanted.modified.nanoseconds
        ));
    }
    (wanted.xattrs != found.xattrs).then(|| {
        format!(
            "has the extended attributes {:?}, not {:?}",
            found.xattrs.keys().collect::<Vec<_>>(),
            wanted.xattrs.keys().collect::<Vec<_>>()
        )
    })
}

struct Hashing<'a> {
    hash: Sha256,
    progress: &'a dyn Progress,
}

impl Write for Hashing<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // Carried whole, so that its class reaches the exit code.
        self.progress.check().map_err(io::Error::other)?;
        self.hash.update(buffer);
        self.progress.advance(Step::Verify, buffer.len() as u64);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Identity that the plan itself laid on purpose (a user's keys) was compared
/// above; anything else that a check finds is a failure.
fn check_hygiene(plan: &Plan, image: &mut Image, differences: &mut Vec<String>) -> Result<()> {
    for (check, outcome) in hygiene::inspect(image) {
        match outcome {
            Outcome::CouldNotRun(error) => {
                return Err(error.context(format!("run the hygiene check '{}'", check.name)));
            }
            Outcome::Found(findings) => {
                for finding in findings {
                    let (target, path) = image.place(&finding.path);
                    let planned = plan
                        .volumes
                        .get(&target)
                        .is_some_and(|changes| changes.entries.contains_key(&path));
                    if !planned {
                        differences.push(format!("{}: {}", finding.path, check.about));
                    }
                }
            }
        }
    }
    Ok(())
}
