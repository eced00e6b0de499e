//! What the file system will be: the tree that is there, with the changes that wait.
//!
//! The rules are those of Linux, so that what is refused at once is what the guest kernel
//! would refuse later. Nodes are named by number and not by path: a folder that is renamed
//! takes what is below it along, and the names of one file share their node.

use std::collections::{BTreeMap, HashMap};

use nodekiln_agent::Content;

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::refusal::refuse;
use crate::volume::{Attributes, DirectoryEntry, FileSystem, Kind, Metadata, Problem, Volume};

/// Numbers of new nodes begin here: no file system has inodes of such numbers.
const NEW: u64 = 1 << 63;

/// A file, folder, link or special file.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub size: u64,
    pub links: u32,
    pub attributes: Attributes,
    /// Where it lies in the tree that is there; `None` for what is new.
    pub origin: Option<ImagePath>,
    pub body: Body,
}

/// What differs from the origin.
#[derive(Debug)]
pub(super) enum Body {
    /// Names that are known: of a node, or gone. Others are as in the origin.
    Directory(BTreeMap<Vec<u8>, Option<u64>>),
    /// What follows the origin's content.
    File(Vec<Content>),
    /// The target, unless it is the origin's.
    Symlink(Option<Vec<u8>>),
    /// Nothing.
    Special,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Pending {
    base: Box<dyn Volume>,
    nodes: HashMap<u64, Node>,
    root: u64,
    next: u64,
    /// Which part of the file system new nodes are in ([`Volume::part`]).
    parts: HashMap<u64, u64>,
    /// Whether a folder counts the folders in it among its names; on btrfs each has one.
    counts_folders: bool,
}

impl Pending {
    /// The tree of `base`, unchanged.
    pub(super) fn new(mut base: Box<dyn Volume>) -> Result<Self> {
        let doing = "open the file system";
        let metadata = base
            .metadata(&ImagePath::root())?
            .ok_or_else(|| refuse(Problem::Damaged, doing, "it has no root"))?;
        let root = metadata.inode;
        let nodes = HashMap::from([(root, known(metadata, ImagePath::root()))]);
        Ok(Self {
            counts_folders: base.identity().file_system != FileSystem::Btrfs,
            base,
            nodes,
            root,
            next: NEW,
            parts: HashMap::new(),
        })
    }

    /// The tree that is there.
    pub(super) fn base(&mut self) -> &mut dyn Volume {
        self.base.as_mut()
    }

    /// A node that [`Pending::find`] gave.
    pub(super) fn node(&self, number: u64) -> &Node {
        &self.nodes[&number]
    }

    /// A node that [`Pending::find`] gave, to change it.
    pub(super) fn node_mut(&mut self, number: u64) -> &mut Node {
        self.nodes
            .get_mut(&number)
            .expect("numbers are given out for nodes that are there")
    }

    /// The node `name` in the folder `number`.
    fn child(&mut self, number: u64, name: &[u8]) -> Result<Option<u64>> {
        let folder = self.node(number);
        let Body::Directory(names) = &folder.body else {
            return Ok(None);
        };
        if let Some(known) = names.get(name) {
            return Ok(*known);
        }
        let Some(origin) = &folder.origin else {
            return Ok(None);
        };
        let path = origin.join(name)?;
        let Some(metadata) = self.base.metadata(&path)? else {
            return Ok(None);
        };
        let child = metadata.inode;
        self.nodes
            .entry(child)
            .or_insert_with(|| known(metadata, path));
        self.name(number, name, Some(child));
        Ok(Some(child))
    }

    fn name(&mut self, folder: u64, name: &[u8], node: Option<u64>) {
        if let Body::Directory(names) = &mut self.node_mut(folder).body {
            names.insert(name.to_vec(), node);
        }
    }

    /// The folder `path`.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::NotADirectory`] when it, or something on the way,
    /// is something else.
    pub(super) fn folder(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        let mut number = self.root;
        for component in path.components() {
            number = self.child(number, component)?.ok_or_else(|| {
                refuse(Problem::NotFound, doing, format!("{path} does not exist"))
            })?;
            if self.node(number).kind != Kind::Directory {
                let text = format!("a component of {path} is no folder");
                return Err(refuse(Problem::NotADirectory, doing, text));
            }
        }
        Ok(number)
    }

    /// What is at `path`; its folder must be there.
    pub(super) fn find(&mut self, path: &ImagePath, doing: &str) -> Result<Option<u64>> {
        let Some((folder, name)) = self.place(path, doing)? else {
            return Ok(Some(self.root));
        };
        self.child(folder, &name)
    }

    /// What is at `path`, which must be there.
    pub(super) fn existing(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        self.find(path, doing)?
            .ok_or_else(|| refuse(Problem::NotFound, doing, format!("{path} does not exist")))
    }

    /// The folder of `path` and the name in it; `None` for the root.
    fn place(&mut self, path: &ImagePath, doing: &str) -> Result<Option<(u64, Vec<u8>)>> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(Some((self.folder(&parent, doing)?, name.to_vec()))),
            _ => Ok(None),
        }
    }

    /// The folder of `path` and the name in it; the root is refused with `problem`.
    fn place_below(
        &mut self,
        path: &ImagePath,
        problem: Problem,
        doing: &str,
    ) -> Result<(u64, Vec<u8>)> {
        self.place(path, doing)?
            .ok_or_else(|| refuse(problem, doing, "it is the root"))
    }

    /// Whether something can be created at `path`, where nothing may be.
    pub(super) fn absent(&mut self, path: &ImagePath, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::Exists, doing)?;
        match self.child(folder, &name)? {
            None => Ok(()),
            Some(_) => Err(refuse(Problem::Exists, doing, format!("{path} exists"))),
        }
    }

    /// Whether the node `number` can have one more name, `path`, where nothing may be.
    pub(super) fn linkable(&mut self, number: u64, path: &ImagePath, doing: &str) -> Result<()> {
        self.absent(path, doing)?;
        let (folder, _) = self.place_below(path, Problem::Exists, doing)?;
        self.one_part(number, folder, doing)
    }

    /// Which part of the file system the node `number` is in.
    fn part(&self, number: u64) -> u64 {
        let new = self.parts.get(&number).copied();
        new.unwrap_or_else(|| self.base.part(number))
    }

    fn one_part(&self, one: u64, other: u64, doing: &str) -> Result<()> {
        if self.part(one) == self.part(other) {
            return Ok(());
        }
        let text = "it would be in another subvolume";
        Err(refuse(Problem::NotSupported, doing, text)
            .hint("write it anew there, and remove it here"))
    }

    /// Whether a file or link can be created at `path`, where no folder may be.
    pub(super) fn replaceable(&mut self, path: &ImagePath, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::IsADirectory, doing)?;
        match self.child(folder, &name)? {
            Some(found) if self.node(found).kind == Kind::Directory => {
                let text = format!("{path} is a folder");
                Err(refuse(Problem::IsADirectory, doing, text))
            }
            _ => Ok(()),
        }
    }

    /// A new node at `path`, in place of a file or link that is there.
    pub(super) fn create(&mut self, path: &ImagePath, node: Node, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::Exists, doing)?;
        if let Some(old) = self.child(folder, &name)? {
            self.fewer(old);
        }
        if node.kind == Kind::Directory {
            self.more(folder);
        }
        let number = self.next;
        self.next += 1;
        self.parts.insert(number, self.part(folder));
        self.nodes.insert(number, node);
        self.name(folder, &name, Some(number));
        Ok(())
    }

    /// One more name for the node `number`.
    pub(super) fn link(&mut self, number: u64, path: &ImagePath, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::Exists, doing)?;
        self.more(number);
        self.name(folder, &name, Some(number));
        Ok(())
    }

    /// Names of a new folder.
    pub(super) fn names_of_new_folder(&self) -> u32 {
        1 + u32::from(self.counts_folders)
    }

    /// One name more.
    fn more(&mut self, number: u64) {
        let counts_folders = self.counts_folders;
        let node = self.node_mut(number);
        if node.kind != Kind::Directory || counts_folders {
            node.links = node.links.saturating_add(1);
        }
    }

    /// One name less.
    fn fewer(&mut self, number: u64) {
        // The node stays: a damaged file system may have more names for it than it says.
        let counts_folders = self.counts_folders;
        let node = self.node_mut(number);
        if node.kind != Kind::Directory || counts_folders {
            node.links = node.links.saturating_sub(1);
        }
    }

    /// Removes a file, link or special file.
    pub(super) fn remove_file(&mut self, path: &ImagePath, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::IsADirectory, doing)?;
        let number = self.existing(path, doing)?;
        if self.node(number).kind == Kind::Directory {
            let text = format!("{path} is a folder");
            return Err(refuse(Problem::IsADirectory, doing, text));
        }
        self.fewer(number);
        self.name(folder, &name, None);
        Ok(())
    }

    /// Removes an empty folder.
    pub(super) fn remove_directory(&mut self, path: &ImagePath, doing: &str) -> Result<()> {
        let (folder, name) = self.place_below(path, Problem::NotSupported, doing)?;
        let number = self.existing(path, doing)?;
        if self.node(number).kind != Kind::Directory {
            let text = format!("{path} is no folder");
            return Err(refuse(Problem::NotADirectory, doing, text));
        }
        self.empty(number, path, doing)?;
        self.fewer(folder);
        self.name(folder, &name, None);
        Ok(())
    }

    fn empty(&mut self, number: u64, path: &ImagePath, doing: &str) -> Result<()> {
        if self.list(number)?.is_empty() {
            return Ok(());
        }
        let text = format!("{path} is not empty");
        Err(refuse(Problem::NotEmpty, doing, text))
    }

    /// Moves `from` to `to`. `false` when both are names of one file: Linux then does
    /// nothing.
    pub(super) fn rename(&mut self, from: &ImagePath, to: &ImagePath, doing: &str) -> Result<bool> {
        if to.starts_with(from) && to != from {
            let text = "a folder cannot move into itself";
            return Err(refuse(Problem::NotSupported, doing, text));
        }
        let (old_folder, old_name) = self.place_below(from, Problem::NotSupported, doing)?;
        let (new_folder, new_name) = self.place_below(to, Problem::NotSupported, doing)?;
        let moved = self.existing(from, doing)?;
        if from.starts_with(to) && to != from {
            return Err(refuse(
                Problem::NotEmpty,
                doing,
                format!("{to} is not empty"),
            ));
        }
        let replaced = self.child(new_folder, &new_name)?;
        if replaced == Some(moved) {
            return Ok(false);
        }
        self.one_part(old_folder, new_folder, doing)?;
        let is_folder = |pending: &Self, number| pending.node(number).kind == Kind::Directory;
        let moves_folder = is_folder(self, moved);
        if let Some(replaced) = replaced {
            match (moves_folder, is_folder(self, replaced)) {
                (true, false) => {
                    let text = format!("{to} is no folder");
                    return Err(refuse(Problem::NotADirectory, doing, text));
                }
                (false, true) => {
                    let text = format!("{to} is a folder");
                    return Err(refuse(Problem::IsADirectory, doing, text));
                }
                (true, true) => {
                    self.empty(replaced, to, doing)?;
                    self.fewer(new_folder);
                }
                (false, false) => self.fewer(replaced),
            }
        }
        if moves_folder {
            self.fewer(old_folder);
            self.more(new_folder);
        }
        self.name(old_folder, &old_name, None);
        self.name(new_folder, &new_name, Some(moved));
        Ok(true)
    }

    /// The names in the folder `number`, sorted by bytes.
    pub(super) fn list(&mut self, number: u64) -> Result<Vec<DirectoryEntry>> {
        let folder = &self.nodes[&number];
        let Body::Directory(names) = &folder.body else {
            return Ok(Vec::new());
        };
        let mut found: BTreeMap<Vec<u8>, Kind> = BTreeMap::new();
        if let Some(origin) = &folder.origin {
            let there = self.base.read_directory(origin)?;
            found.extend(there.into_iter().map(|entry| (entry.name, entry.kind)));
        }
        for (name, node) in names {
            match node {
                Some(node) => found.insert(name.clone(), self.nodes[node].kind),
                None => found.remove(name),
            };
        }
        let entry = |(name, kind)| DirectoryEntry { name, kind };
        Ok(found.into_iter().map(entry).collect())
    }

    /// What `lstat` would tell of the node `number`.
    pub(super) fn metadata(&self, number: u64) -> Metadata {
        let node = self.node(number);
        Metadata {
            kind: node.kind,
            size: node.size,
            links: node.links,
            inode: number,
            attributes: node.attributes.clone(),
        }
    }
}

/// The node of what is there.
fn known(metadata: Metadata, path: ImagePath) -> Node {
    Node {
        kind: metadata.kind,
        size: metadata.size,
        links: metadata.links,
        attributes: metadata.attributes,
        origin: Some(path),
        body: match metadata.kind {
            Kind::Directory => Body::Directory(BTreeMap::new()),
            Kind::File => Body::File(Vec::new()),
            Kind::Symlink => Body::Symlink(None),
            Kind::Special => Body::Special,
        },
    }
}
