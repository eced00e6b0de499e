//! The partitions of a disk that a build works on.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::gpt::{self, Gpt};
use crate::disk::{Slice, Storage};
use crate::error::{Context as _, Error, Result};
use crate::os::Image;
use crate::os::partitions::{self, Candidate, Look};
use crate::plan::{self, Target};
use crate::progress::Progress;
use crate::report::PartitionEntry;
use crate::volume::mount::Mount;
use crate::volume::{self, Access, FileSystem, Timestamp, Volume};

/// A partition with what is in it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Number, from 1.
    pub number: u32,
    /// Its bytes on the disk.
    pub bytes: std::ops::Range<u64>,
    /// Its file system.
    pub file_system: FileSystem,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Layout {
    gpt: Gpt,
    parts: BTreeMap<Target, Part>,
}

/// Looks into every partition and finds those that matter.
///
/// # Errors
/// As [`gpt::read`] and [`partitions::choose`]; when there is no root, what kept
/// a partition from being opened.
pub fn find(storage: &Arc<dyn Storage>, progress: &dyn Progress) -> Result<Layout> {
    let gpt = gpt::read(storage.as_ref())?;
    if let Some(note) = gpt.origin().note() {
        progress.warn(&note);
    }
    let mut candidates = Vec::new();
    let mut problems = Vec::new();
    for partition in gpt.partitions() {
        let mut candidate = Candidate {
            number: partition.number,
            type_guid: partition.type_guid.to_string(),
            name: partition.name.clone(),
            size: partition.size(),
            file_system: None,
            label: String::new(),
            content: Look::Other,
        };
        if let Err(error) = examine(storage, partition, &mut candidate) {
            problems.push(error.context(format!("look into partition {}", partition.number)));
        }
        candidates.push(candidate);
    }
    let found = match partitions::choose(&candidates) {
        Ok(found) => found,
        // A partition that could not be opened is the likelier reason.
        Err(error) => return Err(problems.into_iter().next().unwrap_or(error)),
    };
    let mut parts = BTreeMap::new();
    for (target, number) in found.by_target() {
        let file_system = candidates
            .iter()
            .find(|candidate| candidate.number == number)
            .and_then(|candidate| candidate.file_system);
        if let (Some(partition), Some(file_system)) = (gpt.partition(number), file_system) {
            parts.insert(target, Part { number, bytes: partition.bytes(), file_system });
        }
    }
    Ok(Layout { gpt, parts })
}

fn examine(
    storage: &Arc<dyn Storage>,
    partition: &gpt::Partition,
    candidate: &mut Candidate,
) -> Result<()> {
    let doing = || format!("read partition {}", partition.number);
    let slice = Slice::new(Arc::clone(storage), partition.bytes()).doing(doing)?;
    let slice: Arc<dyn Storage> = Arc::new(slice);
    candidate.file_system = volume::detect(slice.as_ref()).doing(doing)?;
    if matches!(candidate.file_system, None | Some(FileSystem::Xfs)) {
        return Ok(());
    }
    let volume = volume::open(slice, Access::Read, Timestamp::default())?;
    candidate.label = volume.label();
    let mut tree = Image::new(BTreeMap::from([(Target::Root, volume)]))?;
    candidate.content = partitions::look(&mut tree)?;
    Ok(())
}

impl Layout {
    /// The partition with the root file system.
    pub fn root(&self) -> &Part {
        &self.parts[&Target::Root]
    }

    /// Number of the last partition on the disk.
    pub fn last(&self) -> u32 {
        self.gpt.last_on_disk().map_or(0, |partition| partition.number)
    }

    /// The partitions as a plan names them.
    pub fn partitions(&self) -> BTreeMap<Target, plan::Partition> {
        let name = |part: &Part| plan::Partition { number: part.number, file_system: part.file_system };
        self.parts.iter().map(|(target, part)| (*target, name(part))).collect()
    }

    /// The whole partition table, for the manifest.
    pub fn entries(&self) -> Vec<PartitionEntry> {
        let entry = |partition: &gpt::Partition| PartitionEntry {
            number: partition.number,
            type_guid: partition.type_guid.to_string(),
            guid: partition.unique_guid.to_string(),
            name: partition.name.clone(),
            start: partition.bytes().start,
            size: partition.size(),
        };
        self.gpt.partitions().iter().map(entry).collect()
    }

    /// The same partitions by another table of the disk: after it grew.
    pub fn with_table(mut self, gpt: &Gpt) -> Result<Self> {
        for part in self.parts.values_mut() {
            let partition = gpt.partition(part.number).ok_or_else(|| {
                let text = format!("partition {} is gone from the table", part.number);
                Error::new(crate::Class::Internal, text)
            })?;
            part.bytes = partition.bytes();
        }
        self.gpt = gpt.clone();
        Ok(self)
    }

    /// The bytes of a target's partition.
    pub fn slice(&self, storage: &Arc<dyn Storage>, target: Target) -> Result<Slice> {
        let part = self.parts.get(&target).ok_or_else(|| {
            Error::new(crate::Class::Internal, format!("there is no {} partition", target.name()))
        })?;
        Slice::new(Arc::clone(storage), part.bytes.clone())
            .doing(|| format!("read partition {}", part.number))
    }

    /// Opens every volume in this process.
    pub fn open(
        &self,
        storage: &Arc<dyn Storage>,
        access: Access,
        epoch: Timestamp,
    ) -> Result<BTreeMap<Target, Box<dyn Volume>>> {
        let open = |target: &Target| {
            let slice: Arc<dyn Storage> = Arc::new(self.slice(storage, *target)?);
            let volume = volume::open(slice, access, epoch)
                .doing(|| format!("open the {} partition", target.name()))?;
            Ok((*target, volume))
        };
        self.parts.keys().map(open).collect()
    }

    /// Opens every volume through the kernel. `disk` is the whole disk.
    pub fn mount(&self, disk: &File, epoch: Timestamp) -> Result<BTreeMap<Target, Box<dyn Volume>>> {
        // losetup wants a name; this one lasts as long as the file is open.
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), disk.as_raw_fd()));
        let open = |(target, part): (&Target, &Part)| {
            let mount = Mount::open(&path, part.bytes.clone(), Access::Write, epoch)
                .doing(|| format!("mount the {} partition", target.name()))?;
            Ok((*target, Box::new(mount) as Box<dyn Volume>))
        };
        self.parts.iter().map(open).collect()
    }
}
