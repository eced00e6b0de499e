//! A volume in memory: the model that the planners are tested against.
//!
//! It behaves as the trait says and has no format below it, so a test states a
//! small image in a few lines and runs in microseconds.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::{
    Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space, Timestamp,
    Volume, VolumeError,
};
use crate::error::{Class, Error, Result};
use crate::image_path::ImagePath;

#[derive(Debug, Clone)]
enum Body {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Special,
}

#[derive(Debug, Clone)]
struct Node {
    body: Body,
    attributes: Attributes,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct MemoryVolume {
    names: BTreeMap<ImagePath, u64>,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Free bytes that [`Volume::space`] tells.
    pub free: u64,
    /// Free inodes that [`Volume::space`] tells.
    pub free_inodes: Option<u64>,
}

impl Default for MemoryVolume {
    fn default() -> Self {
        Self::new()
    }
}

/// Owner root, time zero, `mode`.
fn plain(mode: u32) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        modified: Timestamp::default(),
        xattrs: BTreeMap::new(),
    }
}

fn refuse<T>(problem: Problem, what: &str, path: &ImagePath) -> Result<T> {
    let class = match problem {
        Problem::NoSpace => Class::Environment,
        Problem::Damaged => Class::Input,
        _ => Class::Internal,
    };
    Err(
        Error::new(class, format!("{what} {path}")).caused_by(VolumeError {
            problem,
            text: format!("{path}: {problem:?}"),
        }),
    )
}

impl MemoryVolume {
    /// An empty file system.
    pub fn new() -> Self {
        let root = Node {
            body: Body::Directory,
            attributes: plain(0o755),
        };
        Self {
            names: BTreeMap::from([(ImagePath::root(), 2)]),
            nodes: BTreeMap::from([(2, root)]),
            next: 11,
            free: 1 << 30,
            free_inodes: Some(1 << 16),
        }
    }

    /// With the file `path` (mode 0644, owner root) and its parents.
    ///
    /// # Errors
    /// As the calls of [`Volume`].
    pub fn with_file(mut self, path: &str, content: impl AsRef<[u8]>) -> Result<Self> {
        let path = self.parents_of(path)?;
        let mut content = content.as_ref();
        self.write_file(&path, content.len() as u64, &mut content, &plain(0o644))?;
        Ok(self)
    }

    /// With the link `path` and its parents.
    ///
    /// # Errors
    /// As the calls of [`Volume`].
    pub fn with_link(mut self, path: &str, target: &str) -> Result<Self> {
        let path = self.parents_of(path)?;
        self.create_symlink(&path, target.as_bytes(), &plain(0o777))?;
        Ok(self)
    }

    /// With the folder `path` and its parents.
    ///
    /// # Errors
    /// As the calls of [`Volume`].
    pub fn with_directory(mut self, path: &str) -> Result<Self> {
        let path = self.parents_of(path)?;
        self.create_directory(&path, &plain(0o755))?;
        Ok(self)
    }

    /// With a device, pipe or socket at `path`.
    ///
    /// # Errors
    /// As the calls of [`Volume`].
    pub fn with_special(mut self, path: &str) -> Result<Self> {
        let path = self.parents_of(path)?;
        self.insert(path, Body::Special, &plain(0o600));
        Ok(self)
    }

    fn parents_of(&mut self, path: &str) -> Result<ImagePath> {
        let path = ImagePath::new(path)?;
        let mut folder = ImagePath::root();
        let parent = path.parent().unwrap_or_else(ImagePath::root);
        for component in parent.components() {
            folder = folder.join(component)?;
            if !self.names.contains_key(&folder) {
                self.create_directory(&folder, &plain(0o755))?;
            }
        }
        Ok(path)
    }

    fn insert(&mut self, path: ImagePath, body: Body, attributes: &Attributes) {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(
            number,
            Node {
                body,
                attributes: attributes.clone(),
            },
        );
        self.names.insert(path, number);
    }

    fn node(&self, path: &ImagePath) -> Option<&Node> {
        self.nodes.get(self.names.get(path)?)
    }

    fn node_mut(&mut self, path: &ImagePath) -> Option<&mut Node> {
        self.nodes.get_mut(self.names.get(path)?)
    }

    fn drop_name(&mut self, path: &ImagePath) {
        if let Some(number) = self.names.remove(path)
            && !self.names.values().any(|other| *other == number)
        {
            self.nodes.remove(&number);
        }
    }

    fn require_folder(&self, path: &ImagePath, what: &str) -> Result<()> {
        match self.node(path).map(|node| &node.body) {
            None => refuse(Problem::NotFound, what, path),
            Some(Body::Directory) => Ok(()),
            Some(_) => refuse(Problem::NotADirectory, what, path),
        }
    }

    fn require_parent(&self, path: &ImagePath, what: &str) -> Result<()> {
        match path.parent() {
            Some(parent) => self.require_folder(&parent, what),
            None => refuse(Problem::Exists, what, path),
        }
    }

    fn is_folder(&self, path: &ImagePath) -> bool {
        matches!(
            self.node(path).map(|node| &node.body),
            Some(Body::Directory)
        )
    }

    fn has_children(&self, path: &ImagePath) -> bool {
        self.names
            .keys()
            .any(|name| name != path && name.starts_with(path))
    }
}

impl Volume for MemoryVolume {
    fn identity(&self) -> Identity {
        Identity {
            file_system: FileSystem::Ext4,
            label: "memory".to_owned(),
            uuid: "00000000-0000-0000-0000-000000000000".to_owned(),
            last_written: Timestamp::default(),
        }
    }

    fn space(&mut self) -> Result<Space> {
        Ok(Space {
            block_size: 4096,
            total: 2 << 30,
            free: self.free,
            free_inodes: self.free_inodes,
        })
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let Some(inode) = self.names.get(path).copied() else {
            return Ok(None);
        };
        Ok(self.nodes.get(&inode).map(|node| {
            let (kind, size) = match &node.body {
                Body::Directory => (Kind::Directory, 4096),
                Body::File(content) => (Kind::File, content.len() as u64),
                Body::Symlink(target) => (Kind::Symlink, target.len() as u64),
                Body::Special => (Kind::Special, 0),
            };
            Metadata {
                kind,
                size,
                links: self.names.values().filter(|other| **other == inode).count() as u32,
                inode,
                attributes: node.attributes.clone(),
            }
        }))
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        self.require_folder(path, "list")?;
        let children: Vec<ImagePath> = self
            .names
            .keys()
            .filter(|name| name.parent().as_ref() == Some(path))
            .cloned()
            .collect();
        let mut entries = Vec::new();
        for child in children {
            if let (Some(metadata), Some(name)) = (self.metadata(&child)?, child.file_name()) {
                entries.push(DirectoryEntry {
                    name: name.to_vec(),
                    kind: metadata.kind,
                });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        match self.node(path).map(|node| &node.body) {
            Some(Body::File(content)) => {
                sink.write_all(content)
                    .map_err(|error| Error::io(format!("copy {path}"), error))?;
                Ok(content.len() as u64)
            }
            Some(Body::Directory) => refuse(Problem::IsADirectory, "read", path),
            Some(_) => refuse(Problem::NotSupported, "read", path),
            None => refuse(Problem::NotFound, "read", path),
        }
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        match self.node(path).map(|node| &node.body) {
            Some(Body::Symlink(target)) => Ok(target.clone()),
            Some(_) => refuse(Problem::NotSupported, "read the link", path),
            None => refuse(Problem::NotFound, "read the link", path),
        }
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        self.require_parent(path, "create folder")?;
        if self.names.contains_key(path) {
            return refuse(Problem::Exists, "create folder", path);
        }
        self.insert(path.clone(), Body::Directory, attributes);
        Ok(())
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        self.require_parent(path, "write")?;
        if self.is_folder(path) {
            return refuse(Problem::IsADirectory, "write", path);
        }
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(format!("read the content of {path}"), error))?;
        if bytes.len() as u64 != size {
            return refuse(Problem::Io, "write", path);
        }
        self.drop_name(path);
        self.insert(path.clone(), Body::File(bytes), attributes);
        Ok(())
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        match self.node_mut(path).map(|node| &mut node.body) {
            Some(Body::File(bytes)) => {
                bytes.extend_from_slice(content);
                Ok(())
            }
            Some(Body::Directory) => refuse(Problem::IsADirectory, "append to", path),
            Some(_) => refuse(Problem::NotSupported, "append to", path),
            None => refuse(Problem::NotFound, "append to", path),
        }
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.require_parent(path, "link")?;
        if self.is_folder(path) {
            return refuse(Problem::IsADirectory, "link", path);
        }
        self.drop_name(path);
        self.insert(path.clone(), Body::Symlink(target.to_vec()), attributes);
        Ok(())
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        self.require_parent(path, "link")?;
        if self.names.contains_key(path) {
            return refuse(Problem::Exists, "link", path);
        }
        if self.is_folder(existing) {
            return refuse(Problem::IsADirectory, "link", existing);
        }
        match self.names.get(existing).copied() {
            Some(number) => {
                self.names.insert(path.clone(), number);
                Ok(())
            }
            None => refuse(Problem::NotFound, "link", existing),
        }
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        match self.node_mut(path) {
            Some(node) => {
                node.attributes = attributes.clone();
                Ok(())
            }
            None => refuse(Problem::NotFound, "set the attributes of", path),
        }
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        if self.is_folder(path) {
            return refuse(Problem::IsADirectory, "remove", path);
        }
        if !self.names.contains_key(path) {
            return refuse(Problem::NotFound, "remove", path);
        }
        self.drop_name(path);
        Ok(())
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        self.require_folder(path, "remove folder")?;
        if self.has_children(path) || path.is_root() {
            return refuse(Problem::NotEmpty, "remove folder", path);
        }
        self.drop_name(path);
        Ok(())
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        self.require_parent(to, "rename")?;
        if !self.names.contains_key(from) {
            return refuse(Problem::NotFound, "rename", from);
        }
        if to != from && to.starts_with(from) {
            return refuse(Problem::NotSupported, "rename into itself", from);
        }
        if self.is_folder(to) {
            if !self.is_folder(from) {
                return refuse(Problem::IsADirectory, "rename to", to);
            }
            if self.has_children(to) {
                return refuse(Problem::NotEmpty, "rename to", to);
            }
        } else if self.names.contains_key(to) && self.is_folder(from) {
            return refuse(Problem::NotADirectory, "rename to", to);
        }
        self.drop_name(to);
        let moved: Vec<(ImagePath, u64)> = self
            .names
            .iter()
            .filter(|(name, _)| name.starts_with(from))
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        for (name, number) in moved {
            self.names.remove(&name);
            let tail = &name.as_bytes()[from.as_bytes().len()..];
            let target = ImagePath::new([to.as_bytes(), tail].concat())?;
            self.names.insert(target, number);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
