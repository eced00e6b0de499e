//! Which partition is what: by type GUID, label and content together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Image;
use crate::disk::gpt::{Gpt, Guid};
use crate::disk::{Slice, Storage};
use crate::error::{Error, Result};
use crate::plan::Target;
use crate::volume::{self, Access, FileSystem, Timestamp};

/// What is known of one partition after a look into it.
#[derive(Debug)]
pub struct Candidate {
    /// Partition number, from 1.
    pub number: u32,
    /// What the table says that it is for.
    pub type_guid: Guid,
    /// Name in the partition table.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// File system by its superblock, if one is known.
    pub file_system: Option<FileSystem>,
    /// What it is if it is none that is looked into: LVM, LUKS.
    pub foreign: Option<&'static str>,
    /// Label of the file system.
    pub label: String,
    /// What its top folder looks like.
    pub content: Look,
    /// Why its file system, which is one that nodekiln edits, cannot be read.
    pub problem: Option<Error>,
}

/// What the top folder of a file system looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// Nothing that is known, or not readable.
    #[default]
    Other,
    /// An installed system: it has an os-release.
    System,
    /// Kernels and a boot loader's folder, but no system.
    Boot,
    /// A folder `EFI`.
    Efi,
}

/// The partitions that a bake works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The root file system.
    pub root: u32,
    /// A separate `/boot`.
    pub boot: Option<u32>,
    /// The EFI system partition.
    pub esp: Option<u32>,
}

impl Found {
    /// The partition number by target.
    pub fn by_target(&self) -> impl Iterator<Item = (Target, u32)> {
        let root = Some((Target::Root, self.root));
        let boot = self.boot.map(|number| (Target::Boot, number));
        let esp = self.esp.map(|number| (Target::Esp, number));
        [root, boot, esp].into_iter().flatten()
    }
}

/// Looks into every partition of a disk.
///
/// # Errors
/// What the storage gives; a file system that cannot be read is no error yet
/// (see [`Candidate::problem`]), it may not be needed.
pub fn probe(disk: &Arc<dyn Storage>, table: &Gpt) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for partition in table.partitions() {
        let doing = || format!("look into partition {}", partition.number);
        let slice = Slice::new(Arc::clone(disk), partition.bytes())
            .map_err(|error| Error::io(doing(), error))?;
        let file_system = volume::detect(&slice).map_err(|error| Error::io(doing(), error))?;
        let foreign = match file_system {
            Some(_) => None,
            None => volume::detect_foreign(&slice).map_err(|error| Error::io(doing(), error))?,
        };
        let mut candidate = Candidate {
            number: partition.number,
            type_guid: partition.type_guid,
            name: partition.name.clone(),
            size: partition.size(),
            file_system,
            foreign,
            label: String::new(),
            content: Look::Other,
            problem: None,
        };
        if file_system.is_some() {
            match look_into(Arc::new(slice)) {
                Ok((label, content)) => {
                    candidate.label = label;
                    candidate.content = content;
                }
                Err(error) => candidate.problem = Some(error.context(doing())),
            }
        }
        candidates.push(candidate);
    }
    Ok(candidates)
}

fn look_into(slice: Arc<dyn Storage>) -> Result<(String, Look)> {
    let volume = volume::open(slice, Access::Read, Timestamp::default())?;
    let label = volume.identity().label;
    let mut image = Image::new(BTreeMap::from([(Target::Root, volume)]))?;
    Ok((label, look(&mut image)?))
}

/// Why no EFI system partition can be used although the disk has one; `None`
/// when it has none, or exactly one that can be read.
pub fn unusable_esp(candidates: &[Candidate]) -> Option<String> {
    let esps: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.type_guid == Guid::ESP)
        .collect();
    match esps.as_slice() {
        [] => None,
        [one] => match (&one.problem, one.file_system) {
            (Some(problem), _) => Some(chain(problem)),
            (None, Some(FileSystem::Fat)) => None,
            (None, _) => Some(format!("partition {} holds no FAT", one.number)),
        },
        several => Some(format!("the disk has {} of them", several.len())),
    }
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}

/// Says what a top folder is by the names in it.
pub fn look(image: &mut dyn super::Tree) -> Result<Look> {
    use super::tree::fixed;
    if super::OsRelease::read(image)?.is_some() {
        return Ok(Look::System);
    }
    let names: Vec<Vec<u8>> = image
        .list(&fixed("/"))?
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let has = |wanted: &[u8]| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    let has_kernel = names.iter().any(|name| name.starts_with(b"vmlinuz"));
    Ok(if has_kernel || has(b"grub") || has(b"grub2") {
        Look::Boot
    } else if has(b"EFI") {
        Look::Efi
    } else {
        Look::Other
    })
}

/// Chooses among the partitions of a disk.
///
/// # Errors
/// [`crate::Class::Input`] when there is no root, or more than one; the error
/// lists what was seen. What hinders reading the only partition that can be the root, or a
/// separate `/boot`, when that is the reason. [`crate::Class::Unsupported`] when the only
/// thing that can be the root is LVM or LUKS.
pub fn choose(candidates: Vec<Candidate>) -> Result<Found> {
    let roots: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.content == Look::System)
        .collect();
    let root = match roots.as_slice() {
        [root] => root.number,
        [] => return Err(no_root(candidates)),
        several => {
            return Err(Error::input(format!(
                "find the root partition: {} partitions hold an installed system:\n{}",
                several.len(),
                describe(several.iter().copied())
            ))
            .hint("nodekiln cannot choose between them: give a base with one installed system, or delete the other partition from a copy (sgdisk --delete=NUMBER)"));
        }
    };
    let only = |fits: &dyn Fn(&Candidate) -> bool| {
        let mut fitting = candidates
            .iter()
            .filter(|candidate| candidate.number != root && fits(candidate));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(one.number),
            _ => None,
        }
    };
    let of_linux =
        |candidate: &Candidate| candidate.file_system.is_some_and(FileSystem::is_of_linux);
    let boot = only(&|candidate| candidate.type_guid == Guid::EXTENDED_BOOT && of_linux(candidate))
        .or_else(|| only(&|candidate| candidate.content == Look::Boot && of_linux(candidate)));
    // An EFI system partition that cannot be read is left alone: whoever wants
    // to write there asks `unusable_esp`.
    let esp = only(&|candidate| {
        candidate.type_guid == Guid::ESP
            && candidate.file_system == Some(FileSystem::Fat)
            && candidate.problem.is_none()
    });
    let unreadable_boot = candidates
        .into_iter()
        .filter(|candidate| Some(candidate.number) == boot)
        .find_map(|candidate| candidate.problem);
    match unreadable_boot {
        Some(problem) => Err(problem.context("use the separate boot partition")),
        None => Ok(Found { root, boot, esp }),
    }
}

fn no_root(candidates: Vec<Candidate>) -> Error {
    let seen = describe(candidates.iter());
    let has_btrfs = candidates
        .iter()
        .any(|candidate| candidate.file_system == Some(FileSystem::Btrfs));
    let foreign = candidates
        .iter()
        .find_map(|candidate| Some((candidate.number, candidate.foreign?)));
    if let Some((number, name)) = foreign {
        return Error::unsupported(format!(
            "find the root partition: partition {number} is {name}, which nodekiln does not look into:\n{seen}"
        ))
        .hint("take a base whose root is ext4, XFS or btrfs in a partition of its own");
    }
    if let Some(problem) = candidates
        .into_iter()
        .filter(|candidate| candidate.file_system.is_some_and(FileSystem::is_of_linux))
        .find_map(|candidate| candidate.problem)
    {
        return problem.context("find the root partition");
    }
    let hint = if has_btrfs {
        "of a btrfs the subvolume that is mounted by default is looked into: make that of the system the default (btrfs subvolume set-default)"
    } else {
        "the base must be the disk of an installed system with an ext4, XFS or btrfs root; encrypted disks and LVM are not looked into"
    };
    Error::input(format!(
        "find the root partition: no partition holds an installed system:\n{seen}"
    ))
    .hint(hint)
}

fn describe<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> String {
    let lines: Vec<String> = candidates
        .map(|candidate| {
            let file_system = match candidate.file_system {
                Some(found) => found.name(),
                None => candidate.foreign.unwrap_or("no known file system"),
            };
            format!(
                "  partition {}: {file_system}, {} MiB, name '{}', label '{}', type {}",
                candidate.number,
                candidate.size >> 20,
                candidate.name.escape_debug(),
                candidate.label.escape_debug(),
                candidate.type_guid
            )
        })
        .collect();
    if lines.is_empty() {
        "  no partitions at all".to_owned()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn candidate(number: u32, file_system: Option<FileSystem>, content: Look) -> Candidate {
        Candidate {
            number,
            type_guid: Guid::LINUX_FILESYSTEM,
            name: String::new(),
            size: 1 << 30,
            file_system,
            foreign: None,
            label: format!("volume-{number}"),
            content,
            problem: None,
        }
    }

    #[test]
    fn finds_the_layout_of_ubuntu() {
        let mut esp = candidate(15, Some(FileSystem::Fat), Look::Efi);
        esp.type_guid = Guid::ESP;
        let mut boot = candidate(16, Some(FileSystem::Ext4), Look::Other);
        boot.type_guid = Guid::EXTENDED_BOOT;
        let all = vec![
            candidate(14, None, Look::Other),
            esp,
            boot,
            candidate(1, Some(FileSystem::Ext4), Look::System),
        ];
        let found = choose(all).expect("one root");
        assert_eq!(
            found,
            Found {
                root: 1,
                boot: Some(16),
                esp: Some(15)
            }
        );
    }

    #[test]
    fn a_btrfs_without_a_system_may_have_it_in_another_subvolume() {
        let error = choose(vec![candidate(3, Some(FileSystem::Btrfs), Look::Other)]);
        let error = error.expect_err("no root");
        assert!(error.to_string().contains("partition 3: btrfs"), "{error}");
        let hint = error.hint_text().expect("it tells what to do");
        assert!(hint.contains("set-default"), "{hint}");
    }

    #[test]
    fn lists_what_it_saw() {
        let error = choose(vec![candidate(3, None, Look::Other)]).expect_err("no root");
        assert_eq!(error.class(), Class::Input);
        assert!(
            error.to_string().contains("partition 3: no known"),
            "{error}"
        );
        assert!(
            choose(Vec::new())
                .expect_err("nothing")
                .to_string()
                .contains("no partitions")
        );

        let system = |number| candidate(number, Some(FileSystem::Ext4), Look::System);
        let error = choose(vec![system(1), system(2)]).expect_err("two roots");
        assert!(error.to_string().contains("label 'volume-1'"), "{error}");
        assert!(error.to_string().contains("label 'volume-2'"), "{error}");
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn says_why_the_only_ext4_cannot_be_read() {
        let mut dirty = candidate(1, Some(FileSystem::Ext4), Look::Other);
        dirty.problem = Some(Error::input("the journal is dirty"));
        let error = choose(vec![dirty]).expect_err("not readable");
        let cause = std::error::Error::source(&error).expect("has a cause");
        assert!(cause.to_string().contains("journal"), "{cause}");
    }

    #[test]
    fn says_what_it_does_not_look_into() {
        for name in ["LVM", "LUKS (encrypted)"] {
            let mut root = candidate(4, None, Look::Other);
            root.foreign = Some(name);
            let error = choose(vec![candidate(2, Some(FileSystem::Xfs), Look::Boot), root])
                .expect_err("no root that is looked into");
            assert_eq!(error.class(), Class::Unsupported);
            let said = error.to_string();
            assert!(
                said.contains(&format!("partition 4 is {name}, which")),
                "{said}"
            );
        }
    }

    #[test]
    fn finds_the_layout_of_rhel() {
        let all = vec![
            candidate(3, Some(FileSystem::Xfs), Look::Boot),
            candidate(4, Some(FileSystem::Xfs), Look::System),
        ];
        let found = choose(all).expect("one root");
        assert_eq!((found.root, found.boot), (4, Some(3)));
    }
}
