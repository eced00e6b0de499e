//! The directory tree, in its two flavours.

use std::collections::BTreeSet;

use super::record::{self, Stamp, directory_record, ucs2};
use super::{File, SECTOR, Unwritable};

/// Longest name, in characters: what fits an ISO 9660 identifier of level 2
/// with its version number, and with that a Joliet name and a Rock Ridge entry
/// in one directory record.
const NAME_LIMIT: usize = 28;
/// Deepest path (ECMA-119 6.8.2.1 allows eight levels with the root).
const DEPTH_LIMIT: usize = 7;
/// Files and folders hold secrets: for root only.
const FILE_MODE: u32 = 0o100_400;
const FOLDER_MODE: u32 = 0o040_500;

/// Which of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// ISO 9660 identifiers, with Rock Ridge entries beside them.
    RockRidge,
    /// Joliet names.
    Joliet,
}

#[derive(Debug, Default)]
struct Folder {
    parent: usize,
    name: String,
    depth: usize,
    folders: Vec<usize>,
    files: Vec<usize>,
    /// First sector and bytes, by flavour.
    place: [(u32, u32); 2],
}

#[derive(Debug)]
struct Leaf<'a> {
    name: String,
    content: &'a [u8],
    sector: usize,
}

/// Folders (the root is the first) and files of an image.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    folders: Vec<Folder>,
    files: Vec<Leaf<'a>>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(files: &'a [File]) -> Result<Self, Unwritable> {
        let mut tree = Self {
            folders: vec![Folder::default()],
            files: Vec::new(),
        };
        // Sorted, so that the order of the caller does not show in the image.
        let mut sorted: Vec<&File> = files.iter().collect();
        sorted.sort_by(|one, two| one.path.cmp(&two.path));
        for file in sorted {
            let parts: Vec<&str> = file.path.split('/').collect();
            let (name, parents) = parts.split_last().expect("split gives at least one part");
            if parts.len() > DEPTH_LIMIT || !parts.iter().all(|part| is_name(part)) {
                return Err(Unwritable::Path(file.path.clone()));
            }
            let mut folder = 0;
            for parent in parents {
                folder = tree.folder(folder, parent);
            }
            tree.folders[folder].files.push(tree.files.len());
            tree.files.push(Leaf {
                name: (*name).to_owned(),
                content: &file.content,
                sector: 0,
            });
        }
        tree.refuse_collisions()?;
        Ok(tree)
    }

    fn folder(&mut self, parent: usize, name: &str) -> usize {
        let known = self.folders[parent]
            .folders
            .iter()
            .copied()
            .find(|folder| self.folders[*folder].name == name);
        known.unwrap_or_else(|| {
            let folder = self.folders.len();
            self.folders.push(Folder {
                parent,
                name: name.to_owned(),
                depth: self.folders[parent].depth + 1,
                ..Folder::default()
            });
            self.folders[parent].folders.push(folder);
            folder
        })
    }

    fn refuse_collisions(&self) -> Result<(), Unwritable> {
        for folder in &self.folders {
            let mut seen = BTreeSet::new();
            let folders = folder
                .folders
                .iter()
                .map(|index| &self.folders[*index].name);
            let files = folder.files.iter().map(|index| &self.files[*index].name);
            for name in folders.chain(files) {
                // Without the dot of a file without extension, so that a file
                // and a folder of one name meet.
                let key = identifier(name, true, Flavour::RockRidge);
                if !seen.insert(key) {
                    return Err(Unwritable::Collision(name.clone()));
                }
            }
        }
        Ok(())
    }

    /// The folders in the order of a path table (ECMA-119 6.9.1): by level,
    /// then by the number of the parent, then by identifier.
    fn ordered_folders(&self, flavour: Flavour) -> Vec<usize> {
        let mut order = vec![0];
        let mut next = 0;
        while next < order.len() {
            let mut children = self.folders[order[next]].folders.clone();
            children.sort_by_key(|child| identifier(&self.folders[*child].name, true, flavour));
            order.extend(children);
            next += 1;
        }
        order
    }

    pub(super) fn path_table(&self, flavour: Flavour, big: bool) -> Vec<u8> {
        let order = self.ordered_folders(flavour);
        let mut bytes = Vec::new();
        for folder in &order {
            let Folder {
                parent,
                name,
                place,
                ..
            } = &self.folders[*folder];
            let identifier = if *folder == 0 {
                vec![0]
            } else {
                identifier(name, true, flavour)
            };
            let number = 1 + order
                .iter()
                .position(|other| other == parent)
                .expect("every parent is in the order");
            bytes.extend([identifier.len() as u8, 0]);
            let extent = place[flavour as usize].0;
            if big {
                bytes.extend(extent.to_be_bytes());
                bytes.extend((number as u16).to_be_bytes());
            } else {
                bytes.extend(extent.to_le_bytes());
                bytes.extend((number as u16).to_le_bytes());
            }
            bytes.extend(&identifier);
            if identifier.len() % 2 == 1 {
                bytes.push(0);
            }
        }
        bytes
    }

    /// Gives every folder its sectors from `next` on; returns the first sector
    /// behind them.
    pub(super) fn place_folders(
        &mut self,
        flavour: Flavour,
        mut next: usize,
        stamp: &Stamp,
    ) -> usize {
        for folder in self.ordered_folders(flavour) {
            let length = self.folder_bytes(folder, flavour, 0, stamp).len();
            self.folders[folder].place[flavour as usize] = (next as u32, length as u32);
            next += length / SECTOR;
        }
        next
    }

    /// Gives every file its sectors from `next` on; returns the first sector
    /// behind them.
    pub(super) fn place_files(&mut self, mut next: usize) -> usize {
        for file in self
            .files
            .iter_mut()
            .filter(|file| !file.content.is_empty())
        {
            file.sector = next;
            next += file.content.len().div_ceil(SECTOR);
        }
        next
    }

    pub(super) fn root_record(&self, flavour: Flavour, stamp: &Stamp) -> Vec<u8> {
        let (extent, length) = self.folders[0].place[flavour as usize];
        directory_record(&[0], extent, length, true, stamp, &[])
    }

    /// First sector and bytes of every folder.
    pub(super) fn folders(
        &self,
        flavour: Flavour,
        continuation: u32,
        stamp: &Stamp,
    ) -> Vec<(usize, Vec<u8>)> {
        (0..self.folders.len())
            .map(|folder| {
                let sector = self.folders[folder].place[flavour as usize].0 as usize;
                (
                    sector,
                    self.folder_bytes(folder, flavour, continuation, stamp),
                )
            })
            .collect()
    }

    /// First sector and bytes of every file.
    pub(super) fn contents(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.files
            .iter()
            .filter(|file| !file.content.is_empty())
            .map(|file| (file.sector, file.content))
    }

    fn folder_bytes(
        &self,
        index: usize,
        flavour: Flavour,
        continuation: u32,
        stamp: &Stamp,
    ) -> Vec<u8> {
        let rock_ridge = flavour == Flavour::RockRidge;
        let place = |folder: usize| self.folders[folder].place[flavour as usize];
        let folder_use = |folder: usize, name: Option<&str>| {
            let mut system_use = Vec::new();
            if rock_ridge {
                if let Some(name) = name {
                    system_use.extend(record::alternate_name(name));
                }
                let links = 2 + self.folders[folder].folders.len() as u32;
                system_use.extend(record::posix_attributes(FOLDER_MODE, links));
                system_use.extend(record::time_stamps(stamp));
            }
            system_use
        };
        let folder = &self.folders[index];

        let mut records = Vec::new();
        let mut own_use = folder_use(index, None);
        if rock_ridge && index == 0 {
            own_use.splice(0..0, record::sharing_protocol());
            own_use.extend(record::continuation(continuation));
        }
        for (identifier, other, system_use) in [
            (0, index, own_use),
            (1, folder.parent, folder_use(folder.parent, None)),
        ] {
            let (extent, length) = place(other);
            records.push((
                vec![identifier],
                directory_record(&[identifier], extent, length, true, stamp, &system_use),
            ));
        }
        for child in &folder.folders {
            let name = &self.folders[*child].name;
            let identifier = identifier(name, true, flavour);
            let (extent, length) = place(*child);
            let system_use = folder_use(*child, Some(name));
            let record = directory_record(&identifier, extent, length, true, stamp, &system_use);
            records.push((identifier, record));
        }
        for child in &folder.files {
            let Leaf {
                name,
                content,
                sector,
            } = &self.files[*child];
            let identifier = identifier(name, false, flavour);
            let mut system_use = Vec::new();
            if rock_ridge {
                system_use.extend(record::alternate_name(name));
                system_use.extend(record::posix_attributes(FILE_MODE, 1));
                system_use.extend(record::time_stamps(stamp));
            }
            let length = content.len() as u32;
            let record = directory_record(
                &identifier,
                *sector as u32,
                length,
                false,
                stamp,
                &system_use,
            );
            records.push((identifier, record));
        }
        records.sort_by(|one, two| one.0.cmp(&two.0));
        pack(records.into_iter().map(|(_, record)| record))
    }
}

/// Puts records one after the other; none crosses the end of a sector
/// (ECMA-119 6.8.1.1).
fn pack(records: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for record in records {
        if bytes.len() % SECTOR + record.len() > SECTOR {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(record);
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= NAME_LIMIT
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// The identifier of a name in its tree. In the primary one that is capital
/// letters, digits and `_`, with one dot and a version for files (ECMA-119 7.5
/// and 7.6).
fn identifier(name: &str, folder: bool, flavour: Flavour) -> Vec<u8> {
    if flavour == Flavour::Joliet {
        return ucs2(name, 2 * name.len());
    }
    let capital = |text: &str| -> String {
        text.chars()
            .map(|character| match character {
                '.' | '-' => '_',
                other => other.to_ascii_uppercase(),
            })
            .collect()
    };
    if folder {
        return capital(name).into_bytes();
    }
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    format!("{}.{};1", capital(stem), capital(extension)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_identifiers_that_the_standard_allows() {
        let text = |name: &str, folder| {
            String::from_utf8(identifier(name, folder, Flavour::RockRidge)).expect("ASCII")
        };
        assert_eq!(text("meta_data.json", false), "META_DATA.JSON;1");
        assert_eq!(text("user-data", false), "USER_DATA.;1");
        assert_eq!(text("openstack", true), "OPENSTACK");
        assert_eq!(identifier("ab", false, Flavour::Joliet), b"\0a\0b");
    }

    #[test]
    fn no_record_crosses_a_sector() {
        let packed = pack(std::iter::repeat_n(vec![1_u8; 200], 11));
        assert_eq!(packed.len(), 2 * SECTOR);
        assert_eq!(&packed[2000..2048], [0; 48]);
        assert_eq!(packed[2048], 1);
    }
}
