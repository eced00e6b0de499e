//! Folders: runs of 32-byte slots, read and written whole.

use super::name::{self, ENTRY, LONG};
use super::time;
use crate::volume::Timestamp;

/// Largest folder that is read, in bytes: as many slots as FAT allows.
pub const LARGEST: usize = 65_536 * ENTRY;
/// Attribute: a folder.
const FOLDER: u8 = 0x10;
/// Attribute: the label of the volume.
const VOLUME_LABEL: u8 = 0x08;
/// Attribute: changed since the last backup; set on every new file.
const ARCHIVE: u8 = 0x20;
/// First byte of a slot that is free.
const FREE: u8 = 0xE5;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The long name, or the short one when it has no other.
    pub name: String,
    /// The short name.
    pub short: [u8; 11],
    /// Whether it is a folder.
    pub folder: bool,
    /// Its first cluster; 0 for an empty file.
    pub cluster: u32,
    /// Size in bytes; 0 for folders.
    pub size: u32,
    /// Modification time.
    pub modified: Timestamp,
    /// Its slots: long pieces, then the short entry.
    pub slots: std::ops::Range<usize>,
}

/// A folder's slots.
#[derive(Debug)]
pub struct Slots(pub Vec<u8>);

impl Slots {
    /// The slots of a new folder: itself and its parent (0 for the root).
    pub fn new_folder(size: usize, itself: u32, parent: u32, stamp: &Stamp) -> Self {
        let mut slots = vec![0; size];
        for (at, (dots, cluster)) in [(b".          ", itself), (b"..         ", parent)]
            .into_iter()
            .enumerate()
        {
            stamp.write(&mut slots[at * ENTRY..][..ENTRY], dots, FOLDER, cluster, 0);
        }
        Self(slots)
    }

    /// A folder as it was read. What lies behind the first unused slot is
    /// nobody's, and must not come to light when that slot is taken.
    pub fn read(mut bytes: Vec<u8>) -> Self {
        let end = bytes
            .chunks(ENTRY)
            .position(|slot| slot[0] == 0)
            .map_or(bytes.len(), |number| number * ENTRY);
        bytes[end..].fill(0);
        Self(bytes)
    }

    fn slot(&self, number: usize) -> &[u8] {
        &self.0[number * ENTRY..(number + 1) * ENTRY]
    }

    fn count(&self) -> usize {
        self.0.len() / ENTRY
    }

    /// The entries; slots after the first unused one do not count.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut pieces: Vec<&[u8]> = Vec::new();
        for number in 0..self.count() {
            let slot = self.slot(number);
            match (slot[0], slot[11]) {
                (0, _) => break,
                (FREE, _) => pieces.clear(),
                (first, LONG) => {
                    if first & 0x40 != 0 {
                        pieces.clear();
                    }
                    // More than twenty cannot be one name.
                    if pieces.len() < 20 {
                        pieces.push(slot);
                    }
                }
                (b'.', _) => pieces.clear(),
                (_, attributes) if attributes & VOLUME_LABEL != 0 => pieces.clear(),
                (_, attributes) => {
                    let long = name::from_pieces(&pieces, slot);
                    let used = if long.is_some() { pieces.len() } else { 0 };
                    let mut short = [0; 11];
                    short.copy_from_slice(&slot[..11]);
                    entries.push(Entry {
                        name: long.unwrap_or_else(|| name::from_short(&short, slot[12])),
                        short,
                        folder: attributes & FOLDER != 0,
                        cluster: cluster_of(slot),
                        size: u32::from_le_bytes([slot[28], slot[29], slot[30], slot[31]]),
                        modified: time::shown(
                            u16::from_le_bytes([slot[24], slot[25]]),
                            u16::from_le_bytes([slot[22], slot[23]]),
                        ),
                        slots: number - used..number + 1,
                    });
                    pieces.clear();
                }
            }
        }
        entries
    }

    /// The label of the volume, from a root folder.
    pub fn label(&self) -> Option<String> {
        (0..self.count())
            .map(|number| self.slot(number))
            .take_while(|slot| slot[0] != 0)
            .find(|slot| {
                slot[0] != FREE
                    && slot[11] != LONG
                    && slot[11] & (VOLUME_LABEL | FOLDER) == VOLUME_LABEL
            })
            .map(|slot| String::from_utf8_lossy(&slot[..11]).trim_end().to_owned())
    }

    /// The first of `wanted` free slots in a row; where they would begin if the
    /// folder grew, when there are none.
    pub fn room(&self, wanted: usize) -> usize {
        let mut run = 0;
        let mut ended = false;
        for number in 0..self.count() {
            let first = self.slot(number)[0];
            ended |= first == 0;
            run = if ended || first == FREE { run + 1 } else { 0 };
            if run == wanted {
                return number + 1 - wanted;
            }
        }
        self.count() - run
    }

    /// Number of slots that `name` takes with `short`.
    pub fn wanted(name: &str, short: &[u8; 11]) -> usize {
        if name::as_short(name).as_ref() == Some(short) {
            1
        } else {
            1 + name.encode_utf16().count().div_ceil(13)
        }
    }

    /// Puts an entry at slot `at`: its long pieces, then `body`, the bytes 11 to
    /// 31 of the short entry.
    pub fn put(&mut self, at: usize, name: &str, short: &[u8; 11], body: &[u8]) {
        let mut number = at;
        if name::as_short(name).as_ref() != Some(short) {
            for piece in name::pieces(name, short) {
                self.0[number * ENTRY..(number + 1) * ENTRY].copy_from_slice(&piece);
                number += 1;
            }
        }
        let slot = &mut self.0[number * ENTRY..(number + 1) * ENTRY];
        slot[..11].copy_from_slice(short);
        slot[11..].copy_from_slice(body);
        // Lower case is in the long name; the note of it would be a second one.
        slot[12] = 0;
    }

    /// Bytes 11 to 31 of an entry's short slot.
    pub fn body(&self, entry: &Entry) -> Vec<u8> {
        self.slot(entry.slots.end - 1)[11..].to_vec()
    }

    /// Frees an entry's slots.
    pub fn remove(&mut self, entry: &Entry) {
        for number in entry.slots.clone() {
            self.0[number * ENTRY] = FREE;
        }
    }

    /// Changes size and first cluster of an entry.
    pub fn set_content(&mut self, entry: &Entry, cluster: u32, size: u32) {
        let at = (entry.slots.end - 1) * ENTRY;
        set_cluster(&mut self.0[at..at + ENTRY], cluster);
        self.0[at + 28..at + 32].copy_from_slice(&size.to_le_bytes());
    }

    /// Changes the modification time of an entry.
    pub fn set_modified(&mut self, entry: &Entry, modified: Timestamp) {
        let at = (entry.slots.end - 1) * ENTRY;
        set_modified(&mut self.0[at..at + ENTRY], modified);
    }

    /// Changes the parent that a folder names.
    pub fn set_parent(&mut self, parent: u32) {
        if self.0.len() >= 2 * ENTRY && self.0[ENTRY..].starts_with(b"..") {
            set_cluster(&mut self.0[ENTRY..2 * ENTRY], parent);
        }
    }
}

/// The times of a new entry.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Creation and last access.
    pub created: Timestamp,
    /// Last modification.
    pub modified: Timestamp,
}

impl Stamp {
    /// Bytes 11 to 31 of a short entry.
    pub fn body(&self, folder: bool, cluster: u32, size: u32) -> Vec<u8> {
        let mut slot = [0; ENTRY];
        let attributes = if folder { FOLDER } else { ARCHIVE };
        self.write(&mut slot, b"           ", attributes, cluster, size);
        slot[11..].to_vec()
    }

    fn write(&self, slot: &mut [u8], short: &[u8; 11], attributes: u8, cluster: u32, size: u32) {
        slot[..11].copy_from_slice(short);
        slot[11] = attributes;
        let (date, clock) = time::stored(self.created);
        slot[14..16].copy_from_slice(&clock.to_le_bytes());
        slot[16..18].copy_from_slice(&date.to_le_bytes());
        slot[18..20].copy_from_slice(&date.to_le_bytes());
        set_modified(slot, self.modified);
        set_cluster(slot, cluster);
        slot[28..32].copy_from_slice(&size.to_le_bytes());
    }
}

fn set_modified(slot: &mut [u8], modified: Timestamp) {
    let (date, clock) = time::stored(modified);
    slot[22..24].copy_from_slice(&clock.to_le_bytes());
    slot[24..26].copy_from_slice(&date.to_le_bytes());
}

fn set_cluster(slot: &mut [u8], cluster: u32) {
    slot[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    slot[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
}

fn cluster_of(slot: &[u8]) -> u32 {
    u32::from(u16::from_le_bytes([slot[26], slot[27]]))
        | u32::from(u16::from_le_bytes([slot[20], slot[21]])) << 16
}
