//! A file system that a guest kernel edits: user-mode Linux or one in a machine that QEMU
//! emulates, with our agent as its only program. Needs no root.
//!
//! Changes wait in memory ([`pending`]), contents in a file, until
//! [`Volume::finish`]: then one kernel makes them all, in their order. What the tree will
//! be is told from what is there, read in this process, and the changes; so a bake sees
//! what it did, and reads the result back by other code than that which wrote it.

mod cpio;
mod fat;
mod kernel;
mod kernel_file;
mod machine;
mod modules;
mod pending;
mod program;
mod spool;

pub use fat::FatAgent;
pub use kernel::{Kernel, installed, is_fit};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_agent::{BLOCK, Content, Header, MAX_VALUE, MAX_XATTRS, Operation, Outcome, Stage};
use rustix::io::Errno;

use self::kernel::Disks;
use self::pending::{Body, Node, Pending};
use self::spool::Spool;
use super::mount::translate;
use super::refusal::{refuse, regular_file};
use super::xfs::Xfs;
use super::{
    Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Problem, Space, Timestamp,
    Volume, guard,
};
use crate::disk::raw::RawFile;
use crate::disk::{Slice, Storage};
use crate::error::{Class, Context as _, Error, Result};
use crate::image_path::ImagePath;
use crate::progress::{Progress, Silent};

/// Longest target of a link on XFS, in bytes (`XFS_SYMLINK_MAXLEN`).
const LONGEST_TARGET: usize = 1024;

/// Where the file system lies, and what runs the agent.
#[derive(Debug, Clone)]
pub struct Place {
    /// The raw image.
    pub image: PathBuf,
    /// The bytes of the partition.
    pub range: Range<u64>,
    /// A folder with room for all that is written.
    pub work: PathBuf,
    /// The kernel.
    pub kernel: Kernel,
}

/// How large an XFS or btrfs is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Size of a block, in bytes.
    pub block_size: u32,
    /// Its present size, in blocks.
    pub from: u64,
    /// Its new size, in blocks.
    pub to: u64,
    /// Largest part of it that inodes may take, in percent; of no meaning for btrfs.
    pub inode_percent: u32,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Agent {
    place: Place,
    identity: Identity,
    epoch: Timestamp,
    growth: Option<Growth>,
    pending: Pending,
    spool: Spool,
    /// Bytes and inodes that the changes take, at most.
    taken: (u64, u64),
}

impl Agent {
    /// Edits the file system that `base` reads. `epoch` is the present inside the guest.
    /// With `growth` the file system takes that size first.
    ///
    /// # Errors
    /// What `base` gives for its root; [`Class::Environment`] when there is no room for
    /// the payload.
    pub fn new(
        base: Box<dyn Volume>,
        place: Place,
        epoch: Timestamp,
        growth: Option<Growth>,
    ) -> Result<Self> {
        Ok(Self {
            identity: base.identity(),
            epoch,
            growth,
            spool: Spool::new(&place.work)?,
            place,
            pending: Pending::new(base)?,
            taken: (0, 0),
        })
    }

    fn push(&mut self, operation: &Operation, bytes: u64, inodes: u64) -> Result<()> {
        self.spool.push(operation)?;
        self.taken.0 += bytes.next_multiple_of(BLOCK as u64);
        self.taken.1 += inodes;
        Ok(())
    }

    fn file(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        if path.is_root() {
            return Err(refuse(Problem::IsADirectory, doing, "it is a folder"));
        }
        let number = self.pending.existing(path, doing)?;
        regular_file(self.pending.node(number).kind, doing)?;
        Ok(number)
    }

    fn run(&mut self, progress: &dyn Progress) -> Result<()> {
        let mut header = header(&self.place, self.identity.file_system, self.epoch);
        header.grow = self.growth.map(|growth| (growth.to, growth.inode_percent));
        run(&self.place, &mut self.spool, header, progress)
    }
}

/// Mounts the file system in a guest kernel and unmounts it: what a running system left in
/// its log goes to its place.
///
/// # Errors
/// As [`Volume::finish`] of an [`Agent`].
pub fn replay(
    place: &Place,
    file_system: FileSystem,
    epoch: Timestamp,
    progress: &dyn Progress,
) -> Result<()> {
    let mut spool = Spool::new(&place.work)?;
    run(
        place,
        &mut spool,
        header(place, file_system, epoch),
        progress,
    )
}

/// What the agent is told, but for the list of changes.
fn header(place: &Place, file_system: FileSystem, epoch: Timestamp) -> Header {
    Header {
        identity: [0; 32],
        file_system: match file_system {
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
            FileSystem::Ext4 => "ext4",
            FileSystem::Fat => "vfat",
        }
        .to_owned(),
        start: place.range.start,
        size: place.range.end - place.range.start,
        clock: epoch.seconds,
        grow: None,
        operations: 0,
        list: 0,
        length: 0,
    }
}

fn run(place: &Place, spool: &mut Spool, header: Header, progress: &dyn Progress) -> Result<()> {
    let (clock, file_system) = (header.clock, header.file_system.clone());
    let payload = spool.finish(header)?;
    let disks = Disks {
        image: &place.image,
        payload: payload.name,
        work: (payload.contents, payload.operations),
        clock,
        file_system: &file_system,
    };
    let outcome = place.kernel.run(&disks, spool.folder(), progress)?;
    judge(&outcome, payload.identity, payload.operations)?;
    if file_system == "xfs" {
        settle_log(place)?;
    }
    Ok(())
}

/// Has nothing left in the log of an XFS that was unmounted.
fn settle_log(place: &Place) -> Result<()> {
    let doing = "empty the log of the file system";
    let part = partition(place, doing)?;
    guard::catch(doing, || Xfs::settle_log(&part)).map(drop)
}

/// The partition, to be changed by this process.
fn partition(place: &Place, doing: &str) -> Result<Arc<dyn Storage>> {
    let doing = || doing.to_owned();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&place.image)
        .doing(doing)?;
    let whole = Arc::new(RawFile::writable(file).doing(doing)?);
    Ok(Arc::new(
        Slice::new(whole, place.range.clone()).doing(doing)?,
    ))
}

/// Attributes as the kernel will have them.
fn dressed(kind: Kind, attributes: &Attributes, doing: &str) -> Result<Attributes> {
    let refused = |text: String| Err(refuse(Problem::NotSupported, doing, text));
    if attributes.xattrs.len() > MAX_XATTRS {
        return refused(format!("it has more than {MAX_XATTRS} extended attributes"));
    }
    for (name, value) in &attributes.xattrs {
        let (space, rest) = name.split_once('.').unwrap_or((name, ""));
        let is_known = match space {
            "security" | "trusted" | "system" | "btrfs" => true,
            "user" => matches!(kind, Kind::File | Kind::Directory),
            _ => false,
        };
        if !is_known || rest.is_empty() || name.len() > 255 || name.contains('\0') {
            let name = name.escape_default();
            return refused(format!("it cannot have the attribute '{name}'"));
        }
        if value.len() > MAX_VALUE {
            let name = name.escape_default();
            return refused(format!("the value of '{name}' has {} bytes", value.len()));
        }
    }
    let mut dressed = attributes.clone();
    // The kernel gives every link this mode.
    dressed.mode = match kind {
        Kind::Symlink => 0o777,
        _ => attributes.mode & 0o7777,
    };
    Ok(dressed)
}

/// Whether the answer says that all of this list was done.
fn judge(outcome: &Outcome, identity: [u8; 32], operations: u64) -> Result<()> {
    let is_unread = outcome.stage == Stage::Mount && outcome.identity == [0; 32];
    if outcome.identity != identity && !is_unread {
        return Err(Error::new(
            Class::Environment,
            "edit the file system: the guest kernel answers to another list of changes",
        ));
    }
    let doing = match outcome.stage {
        Stage::Done if outcome.done == operations => return Ok(()),
        Stage::Done => {
            return Err(Error::new(
                Class::Environment,
                format!(
                    "edit the file system: the guest kernel made {} of {operations} changes",
                    outcome.done
                ),
            ));
        }
        Stage::Mount => format!("open the file system in the guest kernel: {}", outcome.text),
        Stage::Grow | Stage::Operation | Stage::Finish => outcome.text.clone(),
    };
    let errno = Errno::from_raw_os_error(outcome.errno);
    if outcome.errno == 0 {
        return Err(Error::new(Class::Environment, doing));
    }
    Err(match (outcome.stage, errno) {
        (Stage::Mount, Errno::NODEV) => Error::new(
            Class::Environment,
            format!("{doing}: the guest kernel has no driver for it, built in or as a module"),
        )
        .hint("take another: scripts/build-guest-kernel makes one, and the package user-mode-linux brings its modules"),
        // What XFS says of features and geometry that it does not take.
        (Stage::Mount, Errno::INVAL) => refuse(
            Problem::NotSupported,
            doing,
            "the guest kernel does not take it: a newer one may",
        ),
        _ => translate(&doing, errno),
    })
}

/// The same attributes, for the agent.
fn sent(attributes: &Attributes) -> nodekiln_agent::Attributes {
    let xattrs = attributes.xattrs.iter();
    nodekiln_agent::Attributes {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        seconds: attributes.modified.seconds,
        nanoseconds: attributes.modified.nanoseconds,
        xattrs: xattrs
            .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
            .collect(),
    }
}

fn raw(path: &ImagePath) -> Vec<u8> {
    path.as_bytes().to_vec()
}

impl Volume for Agent {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn space(&mut self) -> Result<Space> {
        let mut space = self.pending.base().space()?;
        if let Some(growth) = self.growth {
            let more = (growth.to - growth.from).saturating_mul(u64::from(growth.block_size));
            // New allocation groups keep some blocks for themselves.
            space.free = space.free.saturating_add(more - more / 50);
            space.total = space.total.saturating_add(more);
            space.free_inodes = None;
        }
        space.free = space.free.saturating_sub(self.taken.0);
        space.free_inodes = space
            .free_inodes
            .map(|free| free.saturating_sub(self.taken.1));
        Ok(space)
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        match self.pending.find(path, &doing) {
            Ok(found) => Ok(found.map(|number| self.pending.metadata(number))),
            Err(error) => match super::problem(&error) {
                Some(Problem::NotFound | Problem::NotADirectory) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let number = self.pending.folder(path, &format!("list {path}"))?;
        self.pending.list(number)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let number = self.file(path, &doing)?;
        let node = self.pending.node(number);
        let (size, origin) = (node.size, node.origin.clone());
        if let Some(origin) = origin {
            self.pending.base().read_file(&origin, sink)?;
        }
        if let Body::File(contents) = &self.pending.node(number).body {
            for content in contents {
                self.spool.copy(content, sink, &doing)?;
            }
        }
        Ok(size)
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        let number = self.pending.existing(path, &doing)?;
        let node = self.pending.node(number);
        match (&node.body, node.origin.clone()) {
            (Body::Symlink(Some(target)), _) => Ok(target.clone()),
            (Body::Symlink(None), Some(origin)) => self.pending.base().read_link(&origin),
            _ => Err(refuse(Problem::NotSupported, doing, "it is no link")),
        }
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("create the folder {path}");
        self.pending.absent(path, &doing)?;
        let attributes = dressed(Kind::Directory, attributes, &doing)?;
        let operation = Operation::CreateDirectory(raw(path), sent(&attributes));
        self.push(&operation, BLOCK as u64, 1)?;
        let node = Node {
            kind: Kind::Directory,
            size: 0,
            links: self.pending.names_of_new_folder(),
            attributes,
            origin: None,
            body: Body::Directory(BTreeMap::new()),
        };
        self.pending.create(path, node, &doing)
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("write {path}");
        self.pending.replaceable(path, &doing)?;
        let attributes = dressed(Kind::File, attributes, &doing)?;
        let content = self.spool.take(size, content, &doing)?;
        let operation = Operation::WriteFile(raw(path), content.clone(), sent(&attributes));
        self.push(&operation, size, 1)?;
        let node = Node {
            kind: Kind::File,
            size,
            links: 1,
            attributes,
            origin: None,
            body: Body::File(vec![content]),
        };
        self.pending.create(path, node, &doing)
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        let number = self.file(path, &doing)?;
        let size = content.len() as u64;
        let content: Content = self
            .spool
            .take(size, &mut io::Cursor::new(content), &doing)?;
        let operation = Operation::AppendFile(raw(path), content.clone());
        self.push(&operation, size, 0)?;
        let node = self.pending.node_mut(number);
        node.size += size;
        if let Body::File(contents) = &mut node.body {
            contents.push(content);
        }
        Ok(())
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("create the link {path}");
        self.pending.replaceable(path, &doing)?;
        if target.is_empty() {
            return Err(refuse(Problem::NotFound, doing, "it leads nowhere"));
        }
        if target.len() > LONGEST_TARGET || target.contains(&0) {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                "its target is too long, or holds a NUL byte",
            ));
        }
        let attributes = dressed(Kind::Symlink, attributes, &doing)?;
        let operation = Operation::CreateSymlink(raw(path), target.to_vec(), sent(&attributes));
        self.push(&operation, BLOCK as u64, 1)?;
        let node = Node {
            kind: Kind::Symlink,
            size: target.len() as u64,
            links: 1,
            attributes,
            origin: None,
            body: Body::Symlink(Some(target.to_vec())),
        };
        self.pending.create(path, node, &doing)
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        let doing = format!("link {path} to {existing}");
        let number = self.pending.existing(existing, &doing)?;
        if self.pending.node(number).kind == Kind::Directory {
            return Err(refuse(
                Problem::IsADirectory,
                doing,
                "folders have one name",
            ));
        }
        self.pending.linkable(number, path, &doing)?;
        self.push(&Operation::CreateHardLink(raw(existing), raw(path)), 0, 0)?;
        self.pending.link(number, path, &doing)
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        let number = self.pending.existing(path, &doing)?;
        let kind = self.pending.node(number).kind;
        let attributes = dressed(kind, attributes, &doing)?;
        self.push(
            &Operation::SetAttributes(raw(path), sent(&attributes)),
            0,
            0,
        )?;
        self.pending.node_mut(number).attributes = attributes;
        Ok(())
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        self.pending.remove_file(path, &format!("remove {path}"))?;
        self.push(&Operation::RemoveFile(raw(path)), 0, 0)
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        self.pending.remove_directory(path, &doing)?;
        self.push(&Operation::RemoveDirectory(raw(path)), 0, 0)
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        if self
            .pending
            .rename(from, to, &format!("rename {from} to {to}"))?
        {
            self.push(&Operation::Rename(raw(from), raw(to)), 0, 0)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.finish_stoppable(&Silent)
    }

    fn finish_stoppable(mut self: Box<Self>, progress: &dyn Progress) -> Result<()> {
        if self.spool.is_empty() && self.growth.is_none() {
            return Ok(());
        }
        self.run(progress)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_told_survives_the_fuzz_corpus_and_its_mutations() {
        crate::seeds::replay("agent", 200, nodekiln_agent::fuzz);
    }
}
