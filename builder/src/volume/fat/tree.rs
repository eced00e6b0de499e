//! Paths, folders and the names in them.

use std::collections::BTreeMap;

use super::directory::{Entry, LARGEST, Slots};
use super::{Fat, name};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::refusal::{refuse, storage_failed};
use crate::volume::{Kind, Problem};

/// Most bytes of paths that a listing holds.
const LONGEST_LISTING: usize = 64 << 20;

/// Everything in a volume: kind, and size in bytes.
pub(in crate::volume) type Listing = BTreeMap<ImagePath, (Kind, u32)>;

/// A folder and where it lies.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// Its first cluster; 0 for the fixed root of FAT12 and FAT16.
    pub(super) first: u32,
    /// Its clusters; none for the fixed root.
    pub(super) chain: Vec<u32>,
    root: bool,
}

impl Folder {
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// The number by which subfolders name it: the root is 0 on every width.
    pub(super) fn number_for_children(&self) -> u32 {
        if self.root { 0 } else { self.first }
    }
}

/// A name looked up in its folder.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) folder: Folder,
    pub(super) slots: Slots,
    pub(super) name: &'a str,
    pub(super) entry: Option<Entry>,
}

impl Found<'_> {
    /// The entry, which must be there.
    pub(super) fn take_entry(&mut self, doing: &str) -> Result<Entry> {
        self.entry
            .take()
            .ok_or_else(|| refuse(Problem::NotFound, doing, "it does not exist"))
    }
}

/// Room for a name, made before anything else is written.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: Folder,
    slots: Slots,
    name: String,
    short: [u8; 11],
    at: usize,
}

impl Fat {
    /// Where a cluster begins, in bytes.
    pub(super) fn offset_of(&self, cluster: u32) -> u64 {
        self.layout.data + u64::from(cluster.saturating_sub(2)) * u64::from(self.layout.cluster)
    }

    pub(super) fn root(&self) -> Folder {
        let first = self.layout.root;
        Folder {
            first,
            // A broken chain shows when the folder is read.
            chain: self.table.chain(first).unwrap_or_default(),
            root: true,
        }
    }

    /// The folder that `entry` is.
    pub(super) fn enter(&self, entry: &Entry, doing: &str) -> Result<Folder> {
        let chain = self
            .table
            .chain(entry.cluster)
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| {
                refuse(
                    Problem::Damaged,
                    doing,
                    format!("the clusters of the folder {} are wrong", entry.name),
                )
            })?;
        Ok(Folder {
            first: entry.cluster,
            chain,
            root: false,
        })
    }

    pub(super) fn chain_of(&self, entry: &Entry, doing: &str) -> Result<Vec<u32>> {
        self.table.chain(entry.cluster).ok_or_else(|| {
            refuse(
                Problem::Damaged,
                doing,
                format!("the clusters of {} are wrong", entry.name),
            )
        })
    }

    pub(super) fn read_folder(&self, folder: &Folder, doing: &str) -> Result<Slots> {
        let failed = |error| storage_failed(doing, &error);
        if let (true, Some((at, size))) = (folder.root, self.layout.fixed_root) {
            let mut slots = vec![0; size as usize];
            self.storage.read_at(&mut slots, at).map_err(failed)?;
            return Ok(Slots::read(slots));
        }
        let cluster = self.layout.cluster as usize;
        let size = folder.chain.len().saturating_mul(cluster);
        if folder.chain.is_empty() || size > LARGEST.max(cluster) {
            return Err(refuse(
                Problem::Damaged,
                doing,
                "a folder is broken, or larger than FAT allows",
            ));
        }
        let mut slots = vec![0; size];
        for (number, bytes) in folder.chain.iter().zip(slots.chunks_mut(cluster)) {
            self.storage
                .read_at(bytes, self.offset_of(*number))
                .map_err(failed)?;
        }
        Ok(Slots::read(slots))
    }

    pub(super) fn write_folder(&self, folder: &Folder, slots: &Slots, doing: &str) -> Result<()> {
        let failed = |error| storage_failed(doing, &error);
        if let (true, Some((at, _))) = (folder.root, self.layout.fixed_root) {
            return self.storage.write_at(&slots.0, at).map_err(failed);
        }
        let cluster = self.layout.cluster as usize;
        for (number, bytes) in folder.chain.iter().zip(slots.0.chunks(cluster)) {
            self.storage
                .write_at(bytes, self.offset_of(*number))
                .map_err(failed)?;
        }
        Ok(())
    }

    fn look_up(slots: &Slots, name: &[u8]) -> Option<Entry> {
        let wanted = name::folded(std::str::from_utf8(name).ok()?);
        slots.entries().into_iter().find(|entry| {
            name::folded(&entry.name) == wanted
                || name::folded(&name::from_short(&entry.short, 0)) == wanted
        })
    }

    /// The folder at `path`.
    pub(super) fn folder(&self, path: &ImagePath, doing: &str) -> Result<Folder> {
        let mut folder = self.root();
        for component in path.components() {
            let slots = self.read_folder(&folder, doing)?;
            let entry = Self::look_up(&slots, component)
                .ok_or_else(|| refuse(Problem::NotFound, doing, "it does not exist"))?;
            if !entry.folder {
                return Err(refuse(
                    Problem::NotADirectory,
                    doing,
                    format!("{} is no folder", entry.name),
                ));
            }
            folder = self.enter(&entry, doing)?;
        }
        Ok(folder)
    }

    /// Kind and size of everything below the root.
    ///
    /// # Errors
    /// [`Problem::Damaged`]; [`Problem::NotSupported`] when the paths are too many or too
    /// long to be kept.
    pub(in crate::volume) fn listing(&self) -> Result<Listing> {
        let doing = "list the FAT file system";
        let mut found = Listing::new();
        let mut bytes = 0;
        let mut left = vec![(ImagePath::root(), self.root())];
        while let Some((path, folder)) = left.pop() {
            for entry in self.read_folder(&folder, doing)?.entries() {
                let path = path.join(&entry.name)?;
                bytes += path.as_bytes().len();
                if bytes > LONGEST_LISTING {
                    let text = format!("its paths have more than {LONGEST_LISTING} bytes");
                    return Err(refuse(Problem::NotSupported, doing, text));
                }
                let kind = if entry.folder {
                    left.push((path.clone(), self.enter(&entry, doing)?));
                    Kind::Directory
                } else {
                    Kind::File
                };
                // Linux and others differ on what a folder's size is.
                let size = if entry.folder { 0 } else { entry.size };
                found.insert(path, (kind, size));
            }
        }
        Ok(found)
    }

    /// `path` with each name as its folder has it: without regard to case, and by short
    /// names, more than one path leads to a place. What is not there stays as it is given.
    pub(in crate::volume) fn spelled(&self, path: &ImagePath, doing: &str) -> Result<ImagePath> {
        let mut folder = Some(self.root());
        let mut spelled = ImagePath::root();
        for component in path.components() {
            let entry = match folder.take() {
                Some(folder) => Self::look_up(&self.read_folder(&folder, doing)?, component),
                None => None,
            };
            match entry {
                Some(entry) => {
                    spelled = spelled.join(&entry.name)?;
                    if entry.folder {
                        folder = Some(self.enter(&entry, doing)?);
                    }
                }
                None => spelled = spelled.join(component)?,
            }
        }
        Ok(spelled)
    }

    /// Looks `path` up; its folder must exist, and its name must be one that FAT
    /// can hold.
    pub(super) fn find<'a>(&self, path: &'a ImagePath, doing: &str) -> Result<Found<'a>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse(Problem::IsADirectory, doing, "it is the root"));
        };
        let folder = self.folder(&parent, doing)?;
        let slots = self.read_folder(&folder, doing)?;
        let name = name::accept(name).map_err(|why| refuse(Problem::NotSupported, doing, why))?;
        let entry = Self::look_up(&slots, name.as_bytes());
        Ok(Found {
            folder,
            slots,
            name,
            entry,
        })
    }

    /// A file that must be there.
    pub(super) fn existing_file<'a>(
        &self,
        path: &'a ImagePath,
        doing: &str,
    ) -> Result<(Found<'a>, Entry)> {
        let mut found = self.find(path, doing)?;
        let entry = found.take_entry(doing)?;
        if entry.folder {
            return Err(refuse(
                Problem::IsADirectory,
                doing,
                format!("{path} is a folder"),
            ));
        }
        Ok((found, entry))
    }

    /// The clusters of a folder that must be empty.
    pub(super) fn empty_folder(&self, entry: &Entry, doing: &str) -> Result<Vec<u32>> {
        if !entry.folder {
            return Err(refuse(Problem::NotADirectory, doing, "it is no folder"));
        }
        let folder = self.enter(entry, doing)?;
        if !self.read_folder(&folder, doing)?.entries().is_empty() {
            return Err(refuse(Problem::NotEmpty, doing, "the folder is not empty"));
        }
        Ok(folder.chain)
    }

    /// Refuses when `wanted` clusters are more than are free, once `freed` more
    /// are.
    pub(super) fn room_for(&self, wanted: u64, freed: u64, doing: &str) -> Result<()> {
        let free = u64::from(self.table.free()) + freed;
        if wanted <= free {
            return Ok(());
        }
        let missing = (wanted - free) * u64::from(self.layout.cluster);
        Err(refuse(
            Problem::NoSpace,
            doing,
            format!("{missing} bytes are missing"),
        ))
    }

    pub(super) fn take(&mut self, count: u64, doing: &str) -> Result<Vec<u32>> {
        u32::try_from(count)
            .ok()
            .and_then(|count| self.table.take(count))
            .ok_or_else(|| refuse(Problem::NoSpace, doing, "too few clusters are free"))
    }

    /// Finds slots for `name` in `folder` and lets it grow if it must; `besides`
    /// clusters must then still be free.
    pub(super) fn prepare(
        &mut self,
        mut folder: Folder,
        mut slots: Slots,
        name: &str,
        besides: u64,
        doing: &str,
    ) -> Result<Place> {
        let taken: Vec<[u8; 11]> = slots.entries().iter().map(|entry| entry.short).collect();
        let short = name::as_short(name)
            .filter(|short| !taken.contains(short))
            .or_else(|| name::alias(name, &|short| taken.contains(short)))
            .ok_or_else(|| refuse(Problem::NoSpace, doing, "no short name is left for it"))?;
        let wanted = Slots::wanted(name, &short);
        let at = slots.room(wanted);
        let needed = ((at + wanted) * name::ENTRY).saturating_sub(slots.0.len());
        let clusters = self.clusters_for(needed as u64);
        if needed > 0 && folder.root && self.layout.fixed_root.is_some() {
            return Err(refuse(
                Problem::NoSpace,
                doing,
                "the root folder of this FAT has a fixed size and is full",
            ));
        }
        if slots.0.len() + needed > LARGEST {
            return Err(refuse(Problem::NoSpace, doing, "the folder is full"));
        }
        self.room_for(clusters + besides, 0, doing)?;
        if clusters > 0 {
            let added = self.take(clusters, doing)?;
            self.table.join(&folder.chain, &added);
            folder.chain.extend(added);
            slots
                .0
                .resize(folder.chain.len() * self.layout.cluster as usize, 0);
            self.write_folder(&folder, &slots, doing)?;
        }
        Ok(Place {
            folder,
            slots,
            name: name.to_owned(),
            short,
            at,
        })
    }

    /// Writes a name with `body`, bytes 11 to 31 of its short entry.
    pub(super) fn enter_name(&mut self, mut place: Place, body: &[u8], doing: &str) -> Result<()> {
        place.slots.put(place.at, &place.name, &place.short, body);
        self.write_folder(&place.folder, &place.slots, doing)
    }

    /// Renames, with `rename(2)`'s rules for what is at the target.
    pub(super) fn move_entry(
        &mut self,
        from: &ImagePath,
        to: &ImagePath,
        doing: &str,
    ) -> Result<()> {
        refuse_move(from, to, doing)?;
        let mut source = self.find(from, doing)?;
        let mut target = self.find(to, doing)?;
        let entry = source.take_entry(doing)?;
        if from.starts_with(to) && from != to {
            return Err(refuse(
                Problem::NotEmpty,
                doing,
                format!("{to} holds what is moved there"),
            ));
        }
        if entry.folder {
            self.refuse_own_subtree(&entry, to, doing)?;
        }
        let same_folder = source.folder.first == target.folder.first;
        let same = |other: &Entry| same_folder && other.slots == entry.slots;
        match target.entry.take() {
            Some(other) if same(&other) && entry.name == target.name => return Ok(()),
            // Only the spelling changes.
            Some(other) if same(&other) => {}
            Some(other) => {
                let chain = self.replaceable(&other, &entry, to, doing)?;
                target.slots.remove(&other);
                self.write_folder(&target.folder, &target.slots, doing)?;
                self.table.cut(&chain, 0);
            }
            None => {}
        }
        let body = source.slots.body(&entry);
        if same_folder {
            // One folder, one copy of its slots: the old name goes first.
            target.slots.remove(&entry);
        }
        let moved_from = source.folder.clone();
        let place = self.prepare(target.folder, target.slots, target.name, 0, doing)?;
        let parent = place.folder.number_for_children();
        self.enter_name(place, &body, doing)?;
        if same_folder {
            return Ok(());
        }
        // The target's slots were another folder's: the source is as it was read.
        source.slots.remove(&entry);
        self.write_folder(&moved_from, &source.slots, doing)?;
        if entry.folder {
            let folder = self.enter(&entry, doing)?;
            let mut slots = self.read_folder(&folder, doing)?;
            slots.set_parent(parent);
            self.write_folder(&folder, &slots, doing)?;
        }
        Ok(())
    }

    /// The clusters of `other` at `to`, if `entry` may take its place: files
    /// replace files, folders replace empty folders.
    fn replaceable(
        &self,
        other: &Entry,
        entry: &Entry,
        to: &ImagePath,
        doing: &str,
    ) -> Result<Vec<u32>> {
        match (entry.folder, other.folder) {
            (true, true) => self.empty_folder(other, doing),
            (false, false) => self.chain_of(other, doing),
            (true, false) => Err(refuse(
                Problem::NotADirectory,
                doing,
                format!("{to} is no folder"),
            )),
            (false, true) => Err(refuse(
                Problem::IsADirectory,
                doing,
                format!("{to} is a folder"),
            )),
        }
    }

    /// Paths that differ only in case are one: the folders on the way tell.
    fn refuse_own_subtree(&self, entry: &Entry, to: &ImagePath, doing: &str) -> Result<()> {
        let mut folder = to.parent();
        while let Some(path) = folder {
            if !path.is_root() && self.folder(&path, doing)?.first == entry.cluster {
                return Err(refuse(
                    Problem::NotSupported,
                    doing,
                    "a folder cannot move into itself",
                ));
            }
            folder = path.parent();
        }
        Ok(())
    }
}

/// Moves that no file system knows, by the paths alone.
fn refuse_move(from: &ImagePath, to: &ImagePath, doing: &str) -> Result<()> {
    let why = if from.is_root() || to.is_root() {
        "the root cannot move"
    } else if to.starts_with(from) && to != from {
        "a folder cannot move into itself"
    } else {
        return Ok(());
    };
    Err(refuse(Problem::NotSupported, doing, why))
}
