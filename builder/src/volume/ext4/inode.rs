//! Fields of a raw inode that the engine sets itself, so that a new file gets
//! its final owner, mode, times and attributes in one write.
//!
//! Offsets: Linux, `Documentation/filesystems/ext4/inodes.rst`.

use crate::volume::{Attributes, Kind, Timestamp};

/// The part of an inode that every ext file system has, in bytes.
pub const BASE_SIZE: usize = 128;
/// `i_extra_isize` of new inodes: up to and with `i_projid`.
const EXTRA_SIZE: u16 = 32;
/// Length added to an extent that is allocated but not yet initialised.
const UNINITIALISED: u16 = 0x8000;

const MODE: usize = 0x00;
const UID: (usize, usize) = (0x02, 0x78);
const SIZE: (usize, usize) = (0x04, 0x6C);
const CHANGED: (usize, usize) = (0x0C, 0x84);
const MODIFIED: (usize, usize) = (0x10, 0x88);
const GID: (usize, usize) = (0x18, 0x7A);
const SECTORS: (usize, usize) = (0x1C, 0x74);
const BLOCK: usize = 0x28;
const FILE_ACL: (usize, usize) = (0x68, 0x76);
const EXTRA: usize = 0x80;

/// One inode as it lies on disk.
#[derive(Debug)]
pub struct RawInode<'a>(pub &'a mut [u8]);

impl RawInode<'_> {
    fn get16(&self, at: usize) -> u16 {
        self.0
            .get(at..at + 2)
            .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn put16(&mut self, at: usize, value: u16) {
        if let Some(bytes) = self.0.get_mut(at..at + 2) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn get32(&self, at: usize) -> u32 {
        u32::from(self.get16(at)) | u32::from(self.get16(at + 2)) << 16
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put16(at, value as u16);
        self.put16(at + 2, (value >> 16) as u16);
    }

    /// Bytes of the inode beyond the first 128 that are fields; what follows
    /// them holds extended attributes.
    pub fn extra_size(&self) -> usize {
        usize::from(self.get16(EXTRA))
    }

    /// Gives an inode of an older system, which uses only the first 128 of its
    /// bytes, the fields behind them.
    pub fn widen(&mut self) {
        let end = BASE_SIZE + usize::from(EXTRA_SIZE);
        if self.0.len() > end && self.extra_size() == 0 {
            self.0[BASE_SIZE..end].fill(0);
            self.put16(EXTRA, EXTRA_SIZE);
        }
    }

    /// Where extended attributes lie in the inode; empty when there is no room.
    pub fn attribute_area(&self) -> std::ops::Range<usize> {
        let start = BASE_SIZE + self.extra_size();
        if self.extra_size() == 0 || start + 8 > self.0.len() {
            return self.0.len()..self.0.len();
        }
        start..self.0.len()
    }

    /// Owner, permission bits and modification time. Where the inode has no room
    /// for it, the time loses its nanoseconds and is held within 1901 to 2038,
    /// as the kernel does.
    pub fn set_attributes(&mut self, attributes: &Attributes) {
        let kind = self.get16(MODE) & 0xF000;
        // A link's mode means nothing, and is the same everywhere.
        let mode = if kind == 0xA000 {
            0o777
        } else {
            attributes.mode & 0o7777
        };
        self.put16(MODE, kind | mode as u16);
        self.put16(UID.0, attributes.uid as u16);
        self.put16(UID.1, (attributes.uid >> 16) as u16);
        self.put16(GID.0, attributes.gid as u16);
        self.put16(GID.1, (attributes.gid >> 16) as u16);
        self.set_time(MODIFIED, attributes.modified);
    }

    /// The time of the last change of the inode.
    pub fn set_changed(&mut self, time: Timestamp) {
        self.set_time(CHANGED, time);
    }

    fn set_time(&mut self, (base, extra): (usize, usize), time: Timestamp) {
        let fits = extra + 4 <= BASE_SIZE + self.extra_size() && extra + 4 <= self.0.len();
        let low = i64::from(i32::MIN);
        let high = i64::from(i32::MAX);
        if fits {
            // Two more bits count whole 2^32 seconds: until the year 2446.
            let seconds = time.seconds.clamp(low, high + (3 << 32));
            let era = ((seconds - i64::from(seconds as i32)) >> 32) as u32;
            self.put32(base, seconds as u32);
            self.put32(extra, time.nanoseconds << 2 | era & 3);
        } else {
            self.put32(base, time.seconds.clamp(low, high) as u32);
        }
    }

    /// Number of 512-byte sectors that the inode occupies.
    pub fn sectors(&self) -> u64 {
        u64::from(self.get32(SECTORS.0)) | u64::from(self.get16(SECTORS.1)) << 32
    }

    /// Sets [`RawInode::sectors`].
    pub fn set_sectors(&mut self, sectors: u64) {
        self.put32(SECTORS.0, sectors as u32);
        self.put16(SECTORS.1, (sectors >> 32) as u16);
    }

    /// Sets the size in bytes.
    pub fn set_size(&mut self, size: u64) {
        self.put32(SIZE.0, size as u32);
        self.put32(SIZE.1, (size >> 32) as u32);
    }

    /// The block of extended attributes; 0 when there is none.
    pub fn attribute_block(&self) -> u64 {
        u64::from(self.get32(FILE_ACL.0)) | u64::from(self.get16(FILE_ACL.1)) << 32
    }

    /// Sets [`RawInode::attribute_block`].
    pub fn set_attribute_block(&mut self, block: u64) {
        self.put32(FILE_ACL.0, block as u32);
        self.put16(FILE_ACL.1, (block >> 32) as u16);
    }

    /// Empties the extent tree. What it mapped is then nobody's: only for blocks
    /// that move to another owner.
    pub fn clear_extents(&mut self) {
        self.put16(BLOCK + 2, 0);
        self.put16(BLOCK + 6, 0);
        self.0[BLOCK + 12..BLOCK + 60].fill(0);
    }

    /// Whether one more extent fits into the inode itself.
    pub fn takes_extent(&self) -> bool {
        self.get16(BLOCK) == 0xF30A && self.get16(BLOCK + 6) == 0 && self.get16(BLOCK + 2) < 4
    }

    /// Marks the one extent that is allocated but not initialised as
    /// initialised; gives its first physical block and its length in blocks.
    pub fn initialise_extent(&mut self) -> Option<(u64, u32)> {
        let entries = usize::from(self.get16(BLOCK + 2)).min(4);
        for at in (0..entries).map(|index| BLOCK + 12 + index * 12) {
            let length = self.get16(at + 4);
            if length > UNINITIALISED {
                self.put16(at + 4, length - UNINITIALISED);
                let first = u64::from(self.get32(at + 8)) | u64::from(self.get16(at + 6)) << 32;
                return Some((first, u32::from(length - UNINITIALISED)));
            }
        }
        None
    }
}

/// What an inode's mode makes it.
pub fn kind_of(mode: u16) -> Kind {
    match mode & 0xF000 {
        0x8000 => Kind::File,
        0x4000 => Kind::Directory,
        0xA000 => Kind::Symlink,
        _ => Kind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn attributes(seconds: i64) -> Attributes {
        Attributes {
            mode: 0o4755,
            uid: 0x1_2345,
            gid: 0x6_789A,
            modified: Timestamp {
                seconds,
                nanoseconds: 999_999_999,
            },
            xattrs: BTreeMap::new(),
        }
    }

    #[test]
    fn agrees_with_the_driver_on_what_it_wrote() {
        for seconds in [
            0,
            -1,
            1 << 31,
            5_000_000_000,
            i64::from(i32::MIN),
            15_032_385_535,
        ] {
            let mut raw = vec![0u8; 256];
            raw[1] = 0x80;
            let mut inode = RawInode(&mut raw);
            inode.widen();
            inode.set_attributes(&attributes(seconds));
            inode.set_size(5 << 32 | 7);
            let parsed = fs_ext4::inode::Inode::parse(&raw).expect("parsed");
            assert_eq!(parsed.mtime, seconds);
            assert_eq!(parsed.mtime_nsec, 999_999_999);
            assert_eq!((parsed.uid, parsed.gid), (0x1_2345, 0x6_789A));
            assert_eq!(parsed.mode, 0o104_755);
            assert_eq!(parsed.size, 5 << 32 | 7);
        }
    }

    #[test]
    fn short_inodes_hold_seconds_until_2038() {
        let mut raw = vec![0u8; 128];
        RawInode(&mut raw).set_attributes(&attributes(1 << 40));
        let parsed = fs_ext4::inode::Inode::parse(&raw).expect("parsed");
        assert_eq!(parsed.mtime, i64::from(i32::MAX));
    }
}
