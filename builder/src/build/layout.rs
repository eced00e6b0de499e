//! The partitions of a disk that a build works on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::gpt::{self, Gpt};
use crate::disk::{Slice, Storage};
use crate::error::{Context as _, Error, Result};
use crate::os::{mount_point, partitions};
use crate::plan::{self, Target};
use crate::progress::Progress;
use crate::report::PartitionEntry;
use crate::volume::mount::Mount;
use crate::volume::{self, Access, FileSystem, FirstMount, Timestamp, Volume, first_mount};

/// A partition with what is in it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Number, from 1.
    pub number: u32,
    /// Its bytes on the disk.
    pub bytes: std::ops::Range<u64>,
    /// Its file system.
    pub file_system: FileSystem,
    /// What that leaves to its first mount, as far as it was looked at.
    pub first_mount: BTreeSet<FirstMount>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Layout {
    gpt: Gpt,
    parts: BTreeMap<Target, Part>,
    unusable_esp: Option<String>,
}

/// Looks into every partition and finds those that matter.
///
/// # Errors
/// As [`gpt::read`] and [`partitions::choose`].
pub fn find(storage: &Arc<dyn Storage>, progress: &dyn Progress) -> Result<Layout> {
    let gpt = gpt::read(storage.as_ref())?;
    if let Some(note) = gpt.origin().note() {
        progress.warn(&note);
    }
    let candidates = partitions::probe(storage, &gpt)?;
    let kinds: BTreeMap<u32, FileSystem> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate.number, candidate.file_system?)))
        .collect();
    let unusable_esp = partitions::unusable_esp(&candidates);
    let found = partitions::choose(candidates)?;
    if let Some(problem) = &unusable_esp {
        progress.warn(&format!(
            "the EFI system partition is left alone: {problem}"
        ));
    }
    let mut parts = BTreeMap::new();
    for (target, number) in found.by_target() {
        if let (Some(partition), Some(kind)) = (gpt.partition(number), kinds.get(&number)) {
            let part = Part {
                number,
                bytes: partition.bytes(),
                file_system: *kind,
                first_mount: BTreeSet::new(),
            };
            parts.insert(target, part);
        }
    }
    Ok(Layout {
        gpt,
        parts,
        unusable_esp,
    })
}

impl Layout {
    /// Writes the partition table anew when only one of its copies was good:
    /// Linux does not boot from a disk of which only the backup is.
    ///
    /// # Errors
    /// As [`Gpt::write`].
    pub fn mend_table(self, storage: &dyn Storage) -> Result<Self> {
        if *self.gpt.origin() == gpt::Origin::Both {
            return Ok(self);
        }
        self.gpt.write(storage)?;
        let gpt = gpt::read(storage)?;
        self.with_table(&gpt)
    }

    /// Looks what each file system leaves to its first mount.
    ///
    /// # Errors
    /// As [`first_mount::find`].
    pub fn with_first_mount(mut self, storage: &Arc<dyn Storage>) -> Result<Self> {
        let targets: Vec<Target> = self.parts.keys().copied().collect();
        for target in targets {
            let found = self.first_mount(storage, target)?;
            if let Some(part) = self.parts.get_mut(&target) {
                part.first_mount = found;
            }
        }
        Ok(self)
    }

    /// What the file system of a target leaves to its first mount, on `storage`.
    ///
    /// # Errors
    /// As [`first_mount::find`].
    pub fn first_mount(
        &self,
        storage: &Arc<dyn Storage>,
        target: Target,
    ) -> Result<BTreeSet<FirstMount>> {
        let slice = self.slice(storage, target)?;
        first_mount::find(&slice, self.parts[&target].file_system)
            .doing(|| format!("look at the {} partition", target.name()))
    }

    /// The partition with the root file system.
    pub fn root(&self) -> &Part {
        &self.parts[&Target::Root]
    }

    /// The partitions with what they are for.
    pub fn parts(&self) -> impl Iterator<Item = (Target, &Part)> {
        self.parts.iter().map(|(target, part)| (*target, part))
    }

    /// Refuses a plan that means the EFI system partition when that cannot be
    /// used: on the root below it the machine would never see what is laid.
    ///
    /// # Errors
    /// [`crate::Class::Input`] with why it cannot be used.
    pub fn check_esp(&self, plan: &plan::Plan) -> Result<()> {
        let Some(problem) = &self.unusable_esp else {
            return Ok(());
        };
        let point = mount_point(Target::Esp);
        let root = plan.volumes.get(&Target::Root);
        let hidden = root
            .iter()
            .flat_map(|volume| volume.entries.keys())
            .find(|path| **path != point && path.starts_with(&point));
        match hidden {
            None => Ok(()),
            Some(path) => Err(Error::input(format!(
                "lay {path}: the EFI system partition cannot be used"
            ))
            .caused_by(problem.clone())
            .hint("check a copy of the partition with: fsck.vfat -a")),
        }
    }

    /// Number of the last partition on the disk.
    pub fn last(&self) -> u32 {
        self.gpt
            .last_on_disk()
            .map_or(0, |partition| partition.number)
    }

    /// The partitions as a plan names them.
    pub fn partitions(&self) -> BTreeMap<Target, plan::Partition> {
        let name = |part: &Part| plan::Partition {
            number: part.number,
            file_system: part.file_system,
            first_mount: part.first_mount.clone(),
        };
        self.parts
            .iter()
            .map(|(target, part)| (*target, name(part)))
            .collect()
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
            Error::new(
                crate::Class::Internal,
                format!("there is no {} partition", target.name()),
            )
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

    /// Opens the volumes of `wanted` through the kernel: one that stays as it is
    /// need not be known to it. `disk` is the whole disk.
    pub fn mount(
        &self,
        disk: &File,
        wanted: impl Fn(Target) -> bool,
        epoch: Timestamp,
    ) -> Result<BTreeMap<Target, Box<dyn Volume>>> {
        // losetup wants a name; this one lasts as long as the file is open.
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            disk.as_raw_fd()
        ));
        let open = |(target, part): (&Target, &Part)| {
            let mount = Mount::open(&path, part.bytes.clone(), Access::Write, epoch)
                .doing(|| format!("mount the {} partition", target.name()))?;
            Ok((*target, Box::new(mount) as Box<dyn Volume>))
        };
        let wanted = self.parts.iter().filter(|(target, _)| wanted(**target));
        wanted.map(open).collect()
    }
}
