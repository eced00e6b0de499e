//! A group descriptor as its raw bytes, of 32 or 64 and more.

use super::geometry::{Geometry, get16, get32, put16, put32};

/// The inode table was never used.
const INODE_UNINIT: u16 = 1;
/// The block bitmap is not written; it follows from the layout.
const BLOCK_UNINIT: u16 = 2;
/// The inode table is zeros.
const INODE_ZEROED: u16 = 4;

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Descriptor(Vec<u8>);

impl Descriptor {
    /// A descriptor of at least 32 bytes.
    pub fn new(raw: Vec<u8>) -> Self {
        Self(raw)
    }

    /// Its bytes.
    pub fn raw(&self) -> &[u8] {
        &self.0
    }

    fn is_wide(&self) -> bool {
        self.0.len() >= 64
    }

    fn place(&self, low: usize, high: usize) -> u64 {
        let high = if self.is_wide() {
            get32(&self.0, high)
        } else {
            0
        };
        u64::from(get32(&self.0, low)) | u64::from(high) << 32
    }

    fn set_place(&mut self, low: usize, high: usize, block: u64) {
        put32(&mut self.0, low, block as u32);
        if self.is_wide() {
            put32(&mut self.0, high, (block >> 32) as u32);
        }
    }

    fn halves(&self, low: usize, high: usize) -> u32 {
        let high = if self.is_wide() {
            get16(&self.0, high)
        } else {
            0
        };
        u32::from(get16(&self.0, low)) | u32::from(high) << 16
    }

    fn set_halves(&mut self, low: usize, high: usize, value: u32) {
        put16(&mut self.0, low, value as u16);
        if self.is_wide() {
            put16(&mut self.0, high, (value >> 16) as u16);
        }
    }

    /// Block of the block bitmap.
    pub fn block_bitmap(&self) -> u64 {
        self.place(0x0, 0x20)
    }

    /// Block of the inode bitmap.
    pub fn inode_bitmap(&self) -> u64 {
        self.place(0x4, 0x24)
    }

    /// First block of the inode table.
    pub fn inode_table(&self) -> u64 {
        self.place(0x8, 0x28)
    }

    /// Sets the blocks of both bitmaps and of the inode table.
    pub fn set_places(&mut self, block_bitmap: u64, inode_bitmap: u64, inode_table: u64) {
        self.set_place(0x0, 0x20, block_bitmap);
        self.set_place(0x4, 0x24, inode_bitmap);
        self.set_place(0x8, 0x28, inode_table);
    }

    /// Free blocks of the group.
    pub fn free_blocks(&self) -> u32 {
        self.halves(0xC, 0x2C)
    }

    /// Free inodes of the group.
    pub fn free_inodes(&self) -> u32 {
        self.halves(0xE, 0x2E)
    }

    /// Folders whose inodes lie in the group.
    pub fn folders(&self) -> u32 {
        self.halves(0x10, 0x30)
    }

    /// Inodes at the end of the table that were never used.
    pub fn unused_inodes(&self) -> u32 {
        self.halves(0x1C, 0x32)
    }

    /// Whether no inode of the group was ever used, so that the bitmap is not
    /// written.
    pub fn inodes_uninitialised(&self) -> bool {
        get16(&self.0, 0x12) & INODE_UNINIT != 0
    }

    /// Checksum of the block bitmap; of its lower half in short descriptors.
    pub fn block_bitmap_checksum(&self) -> u32 {
        self.halves(0x18, 0x38)
    }

    /// Checksum of the inode bitmap; of its lower half in short descriptors.
    pub fn inode_bitmap_checksum(&self) -> u32 {
        self.halves(0x1A, 0x3A)
    }

    /// `sum` cut to what this descriptor can hold of a bitmap's checksum.
    pub fn cut(&self, sum: u32) -> u32 {
        if self.is_wide() { sum } else { sum & 0xFFFF }
    }

    /// The descriptor's own checksum.
    pub fn checksum(&self) -> u16 {
        get16(&self.0, 0x1E)
    }

    /// Sets the free blocks of the group.
    pub fn set_free_blocks(&mut self, count: u32) {
        self.set_halves(0xC, 0x2C, count);
    }

    /// Sets the free inodes of the group.
    pub fn set_free_inodes(&mut self, count: u32) {
        self.set_halves(0xE, 0x2E, count);
    }

    /// Whether the block bitmap follows from the layout instead of being there.
    pub fn blocks_uninitialised(&self) -> bool {
        get16(&self.0, 0x12) & BLOCK_UNINIT != 0
    }

    /// Whether the part of the inode table that was never used is known to be zeros.
    pub fn table_is_zeroed(&self) -> bool {
        get16(&self.0, 0x12) & INODE_ZEROED != 0
    }

    /// Says so.
    pub fn mark_table_zeroed(&mut self) {
        let flags = get16(&self.0, 0x12);
        put16(&mut self.0, 0x12, flags | INODE_ZEROED);
    }

    /// Says that all `inodes` of the group are unused and its table is zeros.
    pub fn mark_inodes_unused(&mut self, inodes: u32) {
        put16(&mut self.0, 0x12, INODE_UNINIT | INODE_ZEROED);
        self.set_halves(0x1C, 0x32, inodes);
    }

    /// Sets the checksum of the block bitmap.
    pub fn set_block_bitmap_checksum(&mut self, checksum: u32) {
        self.set_halves(0x18, 0x38, checksum);
    }

    /// Sets the checksum of the inode bitmap.
    pub fn set_inode_bitmap_checksum(&mut self, checksum: u32) {
        self.set_halves(0x1A, 0x3A, checksum);
    }

    /// Sets the descriptor's own checksum: after everything else.
    pub fn seal(&mut self, geometry: &Geometry, group: u64) {
        let checksum = geometry.descriptor_checksum(group, &self.0);
        put16(&mut self.0, 0x1E, checksum);
    }
}
