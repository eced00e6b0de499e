//! A plan while it grows: the image with what is planned so far laid over it.
//!
//! Every writer puts its changes here, so that two writers that want one path
//! are found in this one place.

use std::collections::BTreeMap;

use super::{Content, Entry, Node, Partition, Reason, Source, Target, VolumePlan};
use crate::bake::kind_name;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::{Image, Tree};
use crate::volume::{Attributes, DirectoryEntry, Kind, Metadata, Timestamp};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    image: &'a mut Image,
    modified: Timestamp,
    entries: BTreeMap<ImagePath, Entry>,
    removals: BTreeMap<ImagePath, Reason>,
}

impl<'a> Draft<'a> {
    /// Nothing planned yet; everything gets the time stamp `epoch` (seconds
    /// since 1970).
    pub fn new(image: &'a mut Image, epoch: i64) -> Self {
        Self {
            image,
            modified: Timestamp {
                seconds: epoch,
                nanoseconds: 0,
            },
            entries: BTreeMap::new(),
            removals: BTreeMap::new(),
        }
    }

    /// Owner root, the plan's time, `mode`.
    pub fn root_owned(&self, mode: u32) -> Attributes {
        self.owned(mode, 0, 0)
    }

    /// The plan's time, with owner and mode.
    pub fn owned(&self, mode: u32, uid: u32, gid: u32) -> Attributes {
        Attributes {
            mode,
            uid,
            gid,
            modified: self.modified,
            xattrs: BTreeMap::new(),
        }
    }

    /// Plans a file of root with `content`.
    pub fn put_file(
        &mut self,
        path: &ImagePath,
        mode: u32,
        content: Content,
        reason: &str,
    ) -> Result<()> {
        let attributes = self.root_owned(mode);
        self.put(path, Node::File { content }, attributes, reason)
    }

    /// Plans a file of root with the text `text`.
    pub fn put_text(
        &mut self,
        path: &ImagePath,
        mode: u32,
        text: impl Into<Vec<u8>>,
        reason: &str,
    ) -> Result<()> {
        self.put_file(path, mode, Content::inline(text), reason)
    }

    /// Plans a link.
    pub fn put_link(&mut self, path: &ImagePath, target: &str, reason: &str) -> Result<()> {
        let attributes = self.root_owned(0o777);
        let target = target.to_owned();
        self.put(path, Node::Symlink { target }, attributes, reason)
    }

    /// Plans a folder of root; one that exists stays as it is.
    pub fn put_directory(&mut self, path: &ImagePath, mode: u32, reason: &str) -> Result<()> {
        let attributes = self.root_owned(mode);
        self.put(path, Node::Directory { keep: true }, attributes, reason)
    }

    /// Plans `node` at `path`, whose folders are followed through the links of
    /// the image. Folders that are missing are planned too (0755, root).
    ///
    /// # Errors
    /// [`crate::Class::Input`] when another writer wants something else there,
    /// or the image has a folder where a file is wanted or the other way round.
    pub fn put(
        &mut self,
        path: &ImagePath,
        node: Node,
        attributes: Attributes,
        reason: &str,
    ) -> Result<()> {
        let is_directory = matches!(node, Node::Directory { .. });
        let mut real = self.resolve_parent(path)?;
        if is_directory {
            // A folder over a link to a folder means that folder.
            let end = self.resolve(&real)?;
            if self
                .metadata(&end)?
                .is_some_and(|found| found.kind == Kind::Directory)
            {
                real = end;
            }
        }
        self.plan_parents(&real, reason)?;
        let entry = Entry {
            node,
            attributes,
            reason: reason.to_owned(),
        };
        if let Some(planned) = self.entries.get(&real) {
            return match merge(planned, &entry) {
                Some(merged) => {
                    self.entries.insert(real, merged);
                    Ok(())
                }
                None => Err(Error::input(format!(
                    "plan {real}: {} and {} want different things there",
                    planned.reason, entry.reason
                ))
                .hint("keep the file in one of the two, or give it another name")),
            };
        }
        if let Some(found) = self.metadata(&real)?
            && (found.kind == Kind::Directory) != is_directory
            && found.kind != Kind::Special
        {
            return Err(Error::input(format!(
                "plan {real} for {reason}: the image has a {} there",
                kind_name(found.kind)
            ))
            .hint("give it another path: what the image has of another kind is not replaced"));
        }
        if let Some((removed, by)) = self.removal_over(&real) {
            return Err(Error::input(format!(
                "plan {real} for {reason}: {by} removes {removed}"
            )));
        }
        self.entries.insert(real, entry);
        Ok(())
    }

    /// Replaces a text that the draft or the image has, as an edit: the owner
    /// and mode stay.
    pub fn edit_text(&mut self, path: &ImagePath, text: String, reason: &str) -> Result<()> {
        self.edit_bytes(path, text.into_bytes(), reason)
    }

    /// As [`Draft::edit_text`], for what need not be text.
    pub fn edit_bytes(&mut self, path: &ImagePath, bytes: Vec<u8>, reason: &str) -> Result<()> {
        let real = self.resolve(path)?;
        let mut attributes = match self.metadata(&real)? {
            Some(found) => found.attributes,
            None => self.root_owned(0o644),
        };
        attributes.modified = self.modified;
        let node = Node::File {
            content: Content::inline(bytes),
        };
        let reason = match self.entries.remove(&real) {
            Some(planned) if planned.reason != reason => format!("{}, {reason}", planned.reason),
            _ => reason.to_owned(),
        };
        self.put(&real, node, attributes, &reason)
    }

    /// Plans the removal of what the literal `path` names, with everything below.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when something is planned there.
    pub fn remove(&mut self, path: &ImagePath, reason: &str) -> Result<()> {
        let below = self
            .entries
            .range(path.clone()..)
            .take_while(|(planned, _)| planned.as_bytes().starts_with(path.as_bytes()))
            .find(|(planned, _)| planned.starts_with(path));
        if let Some((planned, entry)) = below {
            return Err(Error::input(format!(
                "remove {path} for {reason}: {} puts {planned} there",
                entry.reason
            )));
        }
        if self.removal_over(path).is_none() {
            self.removals
                .retain(|removed, _| !removed.starts_with(path));
            self.removals.insert(path.clone(), reason.to_owned());
        }
        Ok(())
    }

    /// Takes back an entry of one's own.
    pub fn withdraw(&mut self, path: &ImagePath) {
        self.entries.remove(path);
    }

    /// The entry that is planned at the literal `path`.
    pub fn planned(&self, path: &ImagePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The links that were planned for `reason`.
    pub fn links_for(&self, reason: &str) -> Vec<ImagePath> {
        let is_it =
            |entry: &Entry| entry.reason == reason && matches!(entry.node, Node::Symlink { .. });
        let links = self.entries.iter().filter(|(_, entry)| is_it(entry));
        links.map(|(path, _)| path.clone()).collect()
    }

    /// Gives each entry the extended attribute `name` with what `value` says for it;
    /// where it says nothing, an entry keeps what it has.
    pub fn set_attribute(
        &mut self,
        name: &str,
        value: impl Fn(&ImagePath, &Entry) -> Option<Vec<u8>>,
    ) {
        for (path, entry) in &mut self.entries {
            if let Some(value) = value(path, entry) {
                entry.attributes.xattrs.insert(name.to_owned(), value);
            }
        }
    }

    /// Everything, by volume, with literal paths inside each.
    pub fn into_volumes(
        self,
        partitions: &BTreeMap<Target, Partition>,
    ) -> BTreeMap<Target, VolumePlan> {
        let mut volumes: BTreeMap<Target, VolumePlan> = partitions
            .iter()
            .map(|(target, partition)| {
                let empty = VolumePlan {
                    file_system: partition.file_system,
                    partition: partition.number,
                    removals: BTreeMap::new(),
                    entries: BTreeMap::new(),
                    first_mount: partition.first_mount.clone(),
                };
                (*target, empty)
            })
            .collect();
        let mounted = |target: Target| partitions.contains_key(&target);
        for (path, reason) in self.removals {
            let (target, inside) = crate::os::place(&path, mounted);
            if let Some(volume) = volumes.get_mut(&target) {
                volume.removals.insert(inside, reason);
            }
        }
        for (path, entry) in self.entries {
            let (target, inside) = crate::os::place(&path, mounted);
            // A mount point is the root of its volume, which is always there.
            if let Some(volume) = volumes.get_mut(&target)
                && !inside.is_root()
            {
                volume.entries.insert(inside, entry);
            }
        }
        volumes.retain(|target, volume| {
            *target == Target::Root
                || !(volume.removals.is_empty()
                    && volume.entries.is_empty()
                    && volume.first_mount.is_empty())
        });
        volumes
    }

    fn plan_parents(&mut self, path: &ImagePath, reason: &str) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        match self.metadata(&parent)? {
            Some(found) if found.kind == Kind::Directory => Ok(()),
            Some(found) => Err(Error::input(format!(
                "plan {path} for {reason}: {parent} is a {}, not a folder",
                kind_name(found.kind)
            ))
            .hint("give it a path whose folders are folders")),
            None => {
                self.plan_parents(&parent, reason)?;
                let entry = Entry {
                    node: Node::Directory { keep: true },
                    attributes: self.root_owned(0o755),
                    reason: reason.to_owned(),
                };
                self.entries.insert(parent, entry);
                Ok(())
            }
        }
    }

    fn removal_over(&self, path: &ImagePath) -> Option<(&ImagePath, &Reason)> {
        self.removals
            .iter()
            .find(|(removed, _)| path.starts_with(removed))
    }
}

/// Two writers at one path: folders share it, and identical wishes are one.
fn merge(planned: &Entry, wanted: &Entry) -> Option<Entry> {
    match (&planned.node, &wanted.node) {
        (Node::Directory { keep: true }, Node::Directory { keep: false }) => Some(wanted.clone()),
        (Node::Directory { .. }, Node::Directory { keep: true }) => Some(planned.clone()),
        (Node::File { content: one }, Node::File { content: other })
            if one.sha256 == other.sha256 && planned.attributes == wanted.attributes =>
        {
            Some(planned.clone())
        }
        (one, other) if one == other && planned.attributes == wanted.attributes => {
            Some(planned.clone())
        }
        _ => None,
    }
}

impl Tree for Draft<'_> {
    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        if let Some(entry) = self.entries.get(path) {
            let (kind, size) = match &entry.node {
                Node::Directory { .. } => (Kind::Directory, 0),
                Node::File { content } => (Kind::File, content.size),
                Node::Symlink { target } => (Kind::Symlink, target.len() as u64),
            };
            return Ok(Some(Metadata {
                kind,
                size,
                links: 1,
                inode: 0,
                attributes: entry.attributes.clone(),
            }));
        }
        if self.removal_over(path).is_some() {
            return Ok(None);
        }
        self.image.metadata(path)
    }

    fn list(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let mut names: BTreeMap<Vec<u8>, Kind> = BTreeMap::new();
        if self.removal_over(path).is_none() {
            for entry in self.image.list(path)? {
                if !self.removals.contains_key(&path.join(&entry.name)?) {
                    names.insert(entry.name, entry.kind);
                }
            }
        }
        for (planned, entry) in &self.entries {
            if planned.parent().as_ref() == Some(path)
                && let Some(name) = planned.file_name()
            {
                let kind = match &entry.node {
                    Node::Directory { .. } => Kind::Directory,
                    Node::File { .. } => Kind::File,
                    Node::Symlink { .. } => Kind::Symlink,
                };
                names.insert(name.to_vec(), kind);
            }
        }
        Ok(names
            .into_iter()
            .map(|(name, kind)| DirectoryEntry { name, kind })
            .collect())
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        match self.entries.get(path).map(|entry| &entry.node) {
            Some(Node::Symlink { target }) => Ok(target.clone().into_bytes()),
            _ => self.image.read_link(path),
        }
    }

    fn read_head(&mut self, path: &ImagePath, limit: u64) -> Result<Vec<u8>> {
        let Some(entry) = self.entries.get(path) else {
            return self.image.read_head(path, limit);
        };
        match &entry.node {
            Node::File {
                content:
                    Content {
                        source: Source::Inline(bytes),
                        ..
                    },
            } => {
                let end = bytes
                    .len()
                    .min(usize::try_from(limit).unwrap_or(usize::MAX));
                Ok(bytes[..end].to_vec())
            }
            // Planning is pure: what lies in the store or on this machine is not
            // looked into.
            _ => Ok(Vec::new()),
        }
    }
}
