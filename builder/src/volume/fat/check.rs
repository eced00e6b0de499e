//! Checks a FAT file system: what `fsck.vfat -n` would look at, as far as damage
//! done by a writer goes.
//!
//! It shares no code with what writes. Structures: Microsoft, "FAT: General
//! Overview of On-Disk Format" 1.03. Bounded: five bytes for each of at most
//! [`MOST_CLUSTERS`] clusters, findings [`MOST`], folders of [`FOLDER_SIZE`] whose
//! paths have at most [`MOST_PATH`] bytes, each visited once.

use std::io;

use crate::disk::Storage;
use crate::error::{Error, Result};

/// Findings that are kept.
const MOST: usize = 100;
/// Largest number of clusters that is checked: 64 GiB of 4 KiB clusters.
const MOST_CLUSTERS: u64 = 1 << 24;
/// Longest folder in bytes: 65,536 entries.
const FOLDER_SIZE: u64 = 65_536 * ENTRY as u64;
/// Longest path of a folder that is entered, in bytes (`PATH_MAX` of Linux).
const MOST_PATH: usize = 4096;
/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;
const ENTRY: usize = 32;
const ATTRIBUTE_LONG_NAME: u8 = 0x0F;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_FOLDER: u8 = 0x10;

/// Checks the file system on `storage`; an empty list means that it is sound.
///
/// # Errors
/// When the check could not run: the storage fails, or it is no FAT.
pub fn check(storage: &dyn Storage) -> Result<Vec<String>> {
    let doing = |error: io::Error| {
        if error.kind() == io::ErrorKind::Unsupported {
            return Error::unsupported("check the FAT file system: the check could not run")
                .caused_by(error)
                .hint("check a copy of the partition with: fsck.vfat -n");
        }
        Error::io("check the FAT file system", error)
    };
    let mut check = Check::open(storage).map_err(doing)?;
    check.run().map_err(doing)?;
    Ok(check.findings)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

struct Check<'a> {
    storage: &'a dyn Storage,
    width: Width,
    cluster_size: u64,
    /// Byte of cluster 2.
    data: u64,
    /// Number of clusters; they count from 2.
    clusters: u64,
    table: Vec<u8>,
    /// FAT12 and FAT16: bytes of the root folder. FAT32: its cluster.
    root: Root,
    fs_info: Option<u64>,
    claimed: Vec<bool>,
    findings: Vec<String>,
}

/// A folder that waits for its check.
struct Folder {
    path: String,
    content: Extent,
    /// Its first cluster and its parent's; none for the root.
    own: Option<(u32, u32)>,
}

/// Where a folder lies.
enum Extent {
    Bytes(std::ops::Range<u64>),
    Clusters(Vec<u32>),
}

#[derive(Debug, Clone)]
enum Root {
    Fixed(std::ops::Range<u64>),
    Cluster(u32),
}

fn get16(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

fn get32(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

fn no_fat(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// What the boot sector says; sizes and places in bytes.
struct Layout {
    width: Width,
    cluster_size: u64,
    clusters: u64,
    root: Root,
    /// Where the clusters begin.
    data: u64,
    fs_info: Option<u64>,
    copies: u64,
    table: u64,
    table_size: u64,
}

impl Layout {
    /// Reads the boot sector of a partition of `size` bytes.
    fn read(boot: &[u8; 512], size: u64) -> io::Result<Self> {
        let sector = u64::from(get16(boot, 11));
        let per_cluster = u64::from(boot[13]);
        if !matches!(sector, 512 | 1024 | 2048 | 4096) || !per_cluster.is_power_of_two() {
            return Err(no_fat("the boot sector makes no sense"));
        }
        let reserved = u64::from(get16(boot, 14));
        let copies = u64::from(boot[16]);
        let root_entries = u64::from(get16(boot, 17));
        let either =
            |short: u16, long: u32| u64::from(if short == 0 { long } else { short.into() });
        let sectors = either(get16(boot, 19), get32(boot, 32));
        let table_sectors = either(get16(boot, 22), get32(boot, 36));
        let root_start = (reserved + copies * table_sectors) * sector;
        let root_sectors = (root_entries * ENTRY as u64).div_ceil(sector);
        let data = root_start + root_sectors * sector;
        let end = sectors * sector;
        if copies == 0 || table_sectors == 0 || data >= end || end > size {
            return Err(no_fat(
                "the boot sector contradicts itself or the partition",
            ));
        }
        let cluster_size = per_cluster * sector;
        let clusters = (end - data) / cluster_size;
        // 12 or 16 bits are told by the number of clusters; 32 also by the place
        // of the table's size, since small FAT32 exist.
        let width = if get16(boot, 22) == 0 {
            Width::Fat32
        } else if clusters < 4085 {
            Width::Fat12
        } else {
            Width::Fat16
        };
        Ok(Self {
            width,
            cluster_size,
            clusters,
            root: if width == Width::Fat32 {
                Root::Cluster(get32(boot, 44))
            } else {
                Root::Fixed(root_start..data)
            },
            data,
            fs_info: (width == Width::Fat32).then(|| u64::from(get16(boot, 48)) * sector),
            copies,
            table: reserved * sector,
            table_size: table_sectors * sector,
        })
    }
}

impl<'a> Check<'a> {
    fn open(storage: &'a dyn Storage) -> io::Result<Self> {
        let mut boot = [0; 512];
        storage.read_at(&mut boot, 0)?;
        let layout = Layout::read(&boot, storage.size())?;
        let clusters = layout.clusters;
        if clusters > MOST_CLUSTERS {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it has {clusters} clusters, which is more than is checked here"),
            ));
        }
        let bits = match layout.width {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        };
        let used = ((clusters + 2) * bits).div_ceil(8);
        if used > layout.table_size {
            return Err(no_fat("the table is too small for the clusters"));
        }
        // What is behind the last cluster's entry means nothing.
        let mut table = vec![0; used as usize];
        storage.read_at(&mut table, layout.table)?;
        let mut check = Self {
            storage,
            width: layout.width,
            cluster_size: layout.cluster_size,
            data: layout.data,
            clusters,
            root: layout.root,
            fs_info: layout.fs_info,
            claimed: vec![false; clusters as usize + 2],
            findings: Vec::new(),
            table,
        };
        check.compare_copies(layout.table, layout.copies, layout.table_size)?;
        Ok(check)
    }

    fn find(&mut self, text: impl Into<String>) {
        if self.findings.len() < MOST {
            self.findings.push(text.into());
        }
    }

    /// Compares the copies, each of `length` bytes, with the first.
    fn compare_copies(&mut self, start: u64, copies: u64, length: u64) -> io::Result<()> {
        let mut other = vec![0; PIECE.min(self.table.len())];
        for copy in 1..copies {
            let mut place = start + copy * length;
            let mut differs = false;
            for piece in self.table.chunks(PIECE) {
                let other = &mut other[..piece.len()];
                self.storage.read_at(other, place)?;
                differs |= other != piece;
                place += piece.len() as u64;
            }
            if differs {
                self.find(format!("copy {copy} of the table differs from the first"));
            }
        }
        Ok(())
    }

    /// What the table says of a cluster.
    fn next(&self, cluster: u32) -> u32 {
        let at = cluster as usize;
        match self.width {
            Width::Fat32 => get32(&self.table, at * 4) & 0x0FFF_FFFF,
            Width::Fat16 => match get16(&self.table, at * 2) {
                high @ 0xFFF7.. => 0x0FFF_0000 | u32::from(high),
                low => low.into(),
            },
            Width::Fat12 => {
                let pair = get16(&self.table, at * 3 / 2);
                match if at.is_multiple_of(2) {
                    pair & 0xFFF
                } else {
                    pair >> 4
                } {
                    high @ 0xFF7.. => 0x0FFF_F000 | u32::from(high),
                    low => low.into(),
                }
            }
        }
    }

    /// Claims a chain; gives its clusters as far as they make sense.
    fn chain(&mut self, first: u32, name: &str) -> Vec<u32> {
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            if u64::from(cluster) < 2 || u64::from(cluster) >= self.clusters + 2 {
                self.find(format!("{name} leads to cluster {cluster}, which is none"));
                return chain;
            }
            if std::mem::replace(&mut self.claimed[cluster as usize], true) {
                self.find(format!(
                    "cluster {cluster} of {name} belongs to something else too"
                ));
                return chain;
            }
            chain.push(cluster);
            cluster = self.next(cluster);
            if cluster >= 0x0FFF_FFF8 {
                return chain;
            }
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut waiting: Vec<Folder> = Vec::new();
        let content = match self.root.clone() {
            Root::Fixed(bytes) => Extent::Bytes(bytes),
            Root::Cluster(first) => Extent::Clusters(self.chain(first, "/")),
        };
        waiting.push(Folder {
            path: "/".to_owned(),
            content,
            own: None,
        });
        while let Some(folder) = waiting.pop() {
            self.check_folder(&folder, &mut waiting)?;
        }
        let lost = (2..self.clusters as u32 + 2)
            .filter(|cluster| self.next(*cluster) != 0 && !self.claimed[*cluster as usize])
            // 0x0FFF_FFF7 marks a bad cluster.
            .filter(|cluster| self.next(*cluster) != 0x0FFF_FFF7)
            .count();
        if lost > 0 {
            self.find(format!("{lost} clusters are marked taken, but nobody's"));
        }
        self.check_count()
    }

    fn check_count(&mut self) -> io::Result<()> {
        let Some(place) = self.fs_info else {
            return Ok(());
        };
        let mut raw = [0; 512];
        self.storage.read_at(&mut raw, place)?;
        let said = get32(&raw, 488);
        let free = (2..self.clusters as u32 + 2)
            .filter(|cluster| self.next(*cluster) == 0)
            .count();
        if get32(&raw, 0) != 0x4161_5252 || get32(&raw, 484) != 0x6141_7272 {
            self.find("the information sector makes no sense");
        } else if said != u32::MAX && said as usize != free {
            self.find(format!(
                "the information sector counts {said} free clusters of {free}"
            ));
        }
        Ok(())
    }

    fn read_folder(&mut self, folder: &Folder) -> io::Result<Vec<u8>> {
        let chain = match &folder.content {
            Extent::Bytes(bytes) => {
                let mut raw = vec![0; (bytes.end - bytes.start) as usize];
                self.storage.read_at(&mut raw, bytes.start)?;
                return Ok(raw);
            }
            Extent::Clusters(chain) => chain,
        };
        let most = (FOLDER_SIZE / self.cluster_size) as usize;
        if chain.len() > most {
            self.find(format!(
                "the folder {} has more than 65,536 entries",
                folder.path
            ));
        }
        let chain = &chain[..chain.len().min(most)];
        let size = self.cluster_size as usize;
        let mut raw = vec![0; chain.len() * size];
        for (piece, cluster) in raw.chunks_mut(size).zip(chain) {
            let place = self.data + u64::from(cluster - 2) * self.cluster_size;
            self.storage.read_at(piece, place)?;
        }
        Ok(raw)
    }

    fn check_folder(&mut self, folder: &Folder, waiting: &mut Vec<Folder>) -> io::Result<()> {
        let raw = self.read_folder(folder)?;
        let Folder { path, own, .. } = folder;
        let mut names = std::collections::HashSet::new();
        for (index, entry) in raw.chunks(ENTRY).enumerate() {
            if entry[0] == 0 {
                break;
            }
            let attributes = entry[11];
            if entry[0] == 0xE5
                || attributes & 0x3F == ATTRIBUTE_LONG_NAME
                || attributes & ATTRIBUTE_LABEL != 0
            {
                continue;
            }
            let short = String::from_utf8_lossy(&entry[..11]).trim_end().to_owned();
            if let (Some((here, parent)), true) = (own, index < 2) {
                let wanted = if index == 0 {
                    (".", *here)
                } else {
                    ("..", *parent)
                };
                let found = (short.as_str(), self.first(entry));
                if found != wanted || attributes & ATTRIBUTE_FOLDER == 0 {
                    self.find(format!("{path} does not begin with '.' and '..'"));
                }
                continue;
            }
            let name = format!("{}/{short}", path.trim_end_matches('/'));
            if !names.insert(entry[..11].to_vec()) {
                self.find(format!("the name {name} is there twice"));
            }
            if attributes & ATTRIBUTE_FOLDER == 0 {
                self.check_file(entry, &name);
            } else {
                waiting.extend(self.folder_within(folder, entry, name));
            }
        }
        Ok(())
    }

    /// The first cluster of what an entry is about.
    fn first(&self, entry: &[u8]) -> u32 {
        let low = u32::from(get16(entry, 26));
        if self.width == Width::Fat32 {
            u32::from(get16(entry, 20)) << 16 | low
        } else {
            low
        }
    }

    fn check_file(&mut self, entry: &[u8], name: &str) {
        let size = u64::from(get32(entry, 28));
        let first = self.first(entry);
        if first == 0 {
            if size != 0 {
                self.find(format!("{name} has a size but no content"));
            }
            return;
        }
        let clusters = self.chain(first, name).len() as u64;
        if size.div_ceil(self.cluster_size) != clusters {
            self.find(format!("{name} has {size} bytes in {clusters} clusters"));
        }
    }

    /// A folder that an entry of another one leads to; none that nobody could name.
    fn folder_within(&mut self, folder: &Folder, entry: &[u8], name: String) -> Option<Folder> {
        let first = self.first(entry);
        let chain = self.chain(first, &name);
        if get32(entry, 28) != 0 {
            self.find(format!("the folder {name} has a size"));
        }
        if name.len() > MOST_PATH {
            self.find("there are folders deeper than any path reaches");
            return None;
        }
        // In one of the root, '..' is 0 whatever the root's cluster.
        let parent = folder.own.map_or(0, |(here, _)| here);
        Some(Folder {
            path: name,
            content: Extent::Clusters(chain),
            own: Some((first, parent)),
        })
    }
}
