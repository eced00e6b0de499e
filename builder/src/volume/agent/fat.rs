//! FAT that a guest kernel edits.
//!
//! What the tree will be, and what is refused, is found by making each change with the
//! code that edits FAT in this process, on a layer that is thrown away. The guest kernel
//! makes the same changes on the image. Both take names without regard to case, but not
//! for the same letters, and short names of their own: so what is there is named to the
//! kernel as it is spelled, and what gets another spelling is removed or moved away first.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use nodekiln_agent::Operation;

use super::spool::Spool;
use super::{Place, header, partition, raw, run, sent};
use crate::disk::{CowDisk, Storage};
use crate::error::{Class, Context as _, Error, Result};
use crate::image_path::ImagePath;
use crate::progress::{Progress, Silent};
use crate::volume::fat::{Fat, Listing};
use crate::volume::{
    Access, Attributes, DirectoryEntry, FileSystem, Identity, Kind, Metadata, Space, Timestamp,
    Volume,
};

/// The layer on which the changes are foreseen: a name in the folder of the payload.
const FORESEEN: &str = "foreseen";

/// See the module documentation.
#[derive(Debug)]
pub struct FatAgent {
    place: Place,
    epoch: Timestamp,
    foreseen: Fat,
    spool: Spool,
}

impl FatAgent {
    /// Edits the FAT on `storage`, which is the one at `place`. `epoch` is the present.
    ///
    /// # Errors
    /// As [`Fat::open`] for writing; [`Class::Environment`] when there is no room for the
    /// payload.
    pub fn new(storage: &Arc<dyn Storage>, place: Place, epoch: Timestamp) -> Result<Self> {
        let spool = Spool::new(&place.work)?;
        let layer = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(spool.folder().join(FORESEEN))
            .doing(|| format!("create a file in {}", place.work.display()))?;
        let layer = CowDisk::new(Arc::clone(storage), storage.size(), layer)?;
        Ok(Self {
            foreseen: Fat::open(Arc::new(layer), Access::Write, epoch)?,
            place,
            epoch,
            spool,
        })
    }

    /// What is at `path`, and where by the spelling that is stored: a last name that is
    /// not there, as it is given.
    fn look(&mut self, path: &ImagePath, doing: &str) -> Result<(Option<Metadata>, ImagePath)> {
        let found = self.foreseen.metadata(path)?;
        Ok((found, self.foreseen.spelled(path, doing)?))
    }

    /// `path` in its folder as that is spelled, with the last name as it is given.
    fn named(&self, path: &ImagePath, doing: &str) -> Result<ImagePath> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.foreseen.spelled(&parent, doing)?.join(name),
            _ => Ok(ImagePath::root()),
        }
    }

    /// A name that is free in the folder of `path`.
    fn free_beside(&mut self, path: &ImagePath) -> Result<ImagePath> {
        let folder = path.parent().unwrap_or_else(ImagePath::root);
        let mut number = 0_u64;
        loop {
            let name = folder.join(format!("MOVED{number}.TMP"))?;
            if self.foreseen.metadata(&name)?.is_none() {
                return Ok(name);
            }
            number += 1;
        }
    }
}

/// What a move finds at its target.
enum Over {
    Nothing,
    /// A file, by its spelling.
    File(ImagePath),
    /// A folder, by its spelling.
    Folder(ImagePath),
    /// What is moved, with a name that it can have in between.
    Itself(ImagePath),
}

impl Over {
    /// The changes that move `from` to `to`.
    fn changes(&self, from: &ImagePath, to: &ImagePath) -> Vec<Operation> {
        let rename = |from, to| Operation::Rename(raw(from), raw(to));
        match self {
            Self::Nothing => vec![rename(from, to)],
            Self::File(path) => vec![Operation::RemoveFile(raw(path)), rename(from, to)],
            Self::Folder(path) => vec![Operation::RemoveDirectory(raw(path)), rename(from, to)],
            Self::Itself(_) if from == to => Vec::new(),
            // Linux takes both spellings for one name, and does nothing.
            Self::Itself(between) => vec![rename(from, between), rename(between, to)],
        }
    }
}

/// Refuses a tree that is not the one that was foreseen.
fn compare(foreseen: &Listing, found: &Listing) -> Result<()> {
    let paths = foreseen.keys().chain(found.keys());
    let Some(path) = paths
        .filter(|path| foreseen.get(*path) != found.get(*path))
        .min()
    else {
        return Ok(());
    };
    Err(Error::new(
        Class::Environment,
        format!("edit the FAT file system: the guest kernel left {path} other than foreseen"),
    )
    .hint("--engine in-process edits it without that kernel"))
}

impl Volume for FatAgent {
    fn identity(&self) -> Identity {
        self.foreseen.identity()
    }

    fn space(&mut self) -> Result<Space> {
        self.foreseen.space()
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        self.foreseen.metadata(path)
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        self.foreseen.read_directory(path)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        self.foreseen.read_file(path, sink)
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        self.foreseen.read_link(path)
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let named = self.named(path, &format!("create the folder {path}"))?;
        self.foreseen.create_directory(path, attributes)?;
        let operation = Operation::CreateDirectory(raw(&named), sent(attributes));
        self.spool.push(&operation)
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let doing = format!("write {path}");
        let (old, spelled) = self.look(path, &doing)?;
        let named = self.named(path, &doing)?;
        let content = self.spool.take(size, content, &doing)?;
        let mut again = self.spool.reader(&content);
        let foreseen = &mut self.foreseen;
        foreseen.write_file(path, size, &mut again, attributes)?;
        drop(again);
        if old.is_some() && spelled != named {
            self.spool.push(&Operation::RemoveFile(raw(&spelled)))?;
        }
        let operation = Operation::WriteFile(raw(&named), content, sent(attributes));
        self.spool.push(&operation)
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        let spelled = self.foreseen.spelled(path, &doing)?;
        self.foreseen.append_file(path, content)?;
        let size = content.len() as u64;
        let content = self.spool.take(size, &mut Cursor::new(content), &doing)?;
        let operation = Operation::AppendFile(raw(&spelled), content);
        self.spool.push(&operation)
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.foreseen.create_symlink(path, target, attributes)
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        self.foreseen.create_hard_link(existing, path)
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        let spelled = self.foreseen.spelled(path, &doing)?;
        self.foreseen.set_attributes(path, attributes)?;
        if path.is_root() {
            // The root has no entry to keep them in.
            return Ok(());
        }
        let operation = Operation::SetAttributes(raw(&spelled), sent(attributes));
        self.spool.push(&operation)
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        let spelled = self.foreseen.spelled(path, &format!("remove {path}"))?;
        self.foreseen.remove_file(path)?;
        self.spool.push(&Operation::RemoveFile(raw(&spelled)))
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        let spelled = self.foreseen.spelled(path, &doing)?;
        self.foreseen.remove_directory(path)?;
        self.spool.push(&Operation::RemoveDirectory(raw(&spelled)))
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        let doing = format!("rename {from} to {to}");
        let (_, source) = self.look(from, &doing)?;
        let (replaced, target) = self.look(to, &doing)?;
        let named = self.named(to, &doing)?;
        let over = match replaced.map(|replaced| replaced.kind) {
            None => Over::Nothing,
            Some(_) if target == source => Over::Itself(self.free_beside(&source)?),
            Some(Kind::Directory) => Over::Folder(target),
            Some(_) => Over::File(target),
        };
        self.foreseen.rename(from, to)?;
        for operation in over.changes(&source, &named) {
            self.spool.push(&operation)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.finish_stoppable(&Silent)
    }

    fn finish_stoppable(mut self: Box<Self>, progress: &dyn Progress) -> Result<()> {
        let foreseen = self.foreseen.listing()?;
        if !self.spool.is_empty() {
            let header = header(&self.place, FileSystem::Fat, self.epoch);
            run(&self.place, &mut self.spool, header, progress)?;
        }
        // The kernel leaves the mark of a volume that was in use, and the note of its free
        // clusters, as it found them. Opening it looks at every chain.
        let part = partition(&self.place, "finish the FAT file system")?;
        let volume = Fat::open(part, Access::Write, self.epoch)
            .map_err(|error| error.context("read back what the guest kernel wrote"))?;
        compare(&foreseen, &volume.listing()?)?;
        Box::new(volume).finish()
    }
}

#[cfg(test)]
mod tests;
