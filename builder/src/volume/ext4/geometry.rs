//! Where things lie in an ext4 of a given size.

use fs_ext4::checksum::{crc16, linux_crc32c};

const COMPAT_RESIZE_INODE: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// How group descriptors and bitmaps are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Not at all.
    None,
    /// crc16 of descriptors (`uninit_bg`).
    Crc16,
    /// crc32c of everything (`metadata_csum`).
    Crc32c {
        /// Start value, from the UUID or the superblock.
        seed: u32,
    },
}

/// See the module documentation. Block numbers and counts are in blocks.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// Block size in bytes.
    pub block_size: u32,
    /// Size of the file system.
    pub blocks: u64,
    /// `s_first_data_block`: 1 for 1 KiB blocks, else 0.
    pub first_block: u64,
    /// Blocks in a full group.
    pub blocks_per_group: u32,
    /// Inodes in every group.
    pub inodes_per_group: u32,
    /// Size of an inode in bytes.
    pub inode_size: u16,
    /// Size of a group descriptor in bytes.
    pub descriptor_size: usize,
    /// Blocks kept behind the descriptors for more of them.
    pub reserved_descriptor_blocks: u16,
    /// Whether block numbers have 64 bits.
    pub is_64bit: bool,
    /// Whether only some groups hold copies of superblock and descriptors.
    pub sparse: bool,
    /// How metadata is protected.
    pub checksums: Checksums,
    /// UUID, raw.
    pub uuid: [u8; 16],
    /// Free blocks.
    pub free_blocks: u64,
    /// Free inodes.
    pub free_inodes: u32,
    /// All inodes.
    pub inodes: u32,
    /// Blocks kept for root.
    pub root_blocks: u64,
}

pub fn get16(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

pub fn get32(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

pub fn put16(raw: &mut [u8], at: usize, value: u16) {
    raw[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub fn put32(raw: &mut [u8], at: usize, value: u32) {
    raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl Geometry {
    /// Reads a superblock that was judged fit for writing already: descriptors lie
    /// in one piece, copies where `sparse_super` has them.
    pub fn read(raw: &[u8]) -> Self {
        let (compat, incompat, ro_compat) = (get32(raw, 0x5C), get32(raw, 0x60), get32(raw, 0x64));
        let is_64bit = incompat & INCOMPAT_64BIT != 0;
        let wide = |low, high| {
            u64::from(get32(raw, low))
                | if is_64bit {
                    u64::from(get32(raw, high)) << 32
                } else {
                    0
                }
        };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[0x68..0x78]);
        let checksums = if ro_compat & RO_COMPAT_METADATA_CSUM != 0 {
            let stored = incompat & INCOMPAT_CSUM_SEED != 0;
            let seed = if stored {
                get32(raw, 0x270)
            } else {
                linux_crc32c(!0, &uuid)
            };
            Checksums::Crc32c { seed }
        } else if ro_compat & RO_COMPAT_GDT_CSUM != 0 {
            Checksums::Crc16
        } else {
            Checksums::None
        };
        let reserved = if compat & COMPAT_RESIZE_INODE != 0 {
            get16(raw, 0xCE)
        } else {
            0
        };
        Self {
            block_size: 1024 << get32(raw, 0x18),
            blocks: wide(0x4, 0x150),
            first_block: u64::from(get32(raw, 0x14)),
            blocks_per_group: get32(raw, 0x20),
            inodes_per_group: get32(raw, 0x28),
            inode_size: get16(raw, 0x58).max(128),
            descriptor_size: if is_64bit {
                usize::from(get16(raw, 0xFE))
            } else {
                32
            },
            reserved_descriptor_blocks: reserved,
            is_64bit,
            sparse: ro_compat & RO_COMPAT_SPARSE_SUPER != 0,
            checksums,
            uuid,
            free_blocks: wide(0xC, 0x158),
            free_inodes: get32(raw, 0x10),
            inodes: get32(raw, 0x0),
            root_blocks: wide(0x8, 0x154),
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// The largest number of blocks that its numbers can count.
    pub fn most_blocks(&self) -> u64 {
        let by_inodes = u64::from(u32::MAX / self.inodes_per_group.max(1));
        let by_inodes = by_inodes * u64::from(self.blocks_per_group) + self.first_block;
        by_inodes.min(if self.is_64bit {
            1 << 48
        } else {
            u64::from(u32::MAX)
        })
    }

    /// The largest size, in bytes, that the reserved descriptors allow.
    pub fn most_bytes(&self) -> u64 {
        let blocks = self.descriptor_blocks() + u64::from(self.reserved_descriptor_blocks);
        let groups = blocks * u64::from(self.block_size) / self.descriptor_size as u64;
        groups * u64::from(self.blocks_per_group) * u64::from(self.block_size)
    }

    /// Number of groups.
    pub fn groups(&self) -> u64 {
        (self.blocks - self.first_block).div_ceil(u64::from(self.blocks_per_group))
    }

    /// First block of a group.
    pub fn group_start(&self, group: u64) -> u64 {
        self.first_block + group * u64::from(self.blocks_per_group)
    }

    /// Blocks of a group; fewer in the last.
    pub fn group_blocks(&self, group: u64) -> u64 {
        u64::from(self.blocks_per_group).min(self.blocks - self.group_start(group))
    }

    /// Blocks of all descriptors together.
    pub fn descriptor_blocks(&self) -> u64 {
        (self.groups() * self.descriptor_size as u64).div_ceil(u64::from(self.block_size))
    }

    /// Blocks of a group's inode table.
    pub fn inode_table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * u64::from(self.inode_size))
            .div_ceil(u64::from(self.block_size))
    }

    /// Whether a group holds a copy of superblock and descriptors: groups 0 and
    /// 1 and the powers of 3, 5 and 7, unless all do.
    pub fn has_copy(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        !self.sparse || group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }

    /// Blocks of superblock, descriptors and reserve at the start of a group.
    pub fn group_copies(&self, group: u64) -> u64 {
        if self.has_copy(group) {
            1 + self.descriptor_blocks() + u64::from(self.reserved_descriptor_blocks)
        } else {
            0
        }
    }

    /// Blocks that a group laid by `grow/` takes for itself.
    pub fn group_overhead(&self, group: u64) -> u64 {
        self.group_copies(group) + 2 + self.inode_table_blocks()
    }

    /// Whether descriptors carry checksums, and with them the flags that tell of
    /// unused inode tables.
    pub fn has_descriptor_checksums(&self) -> bool {
        self.checksums != Checksums::None
    }

    /// Whether bitmaps, inodes, folders and maps carry checksums.
    pub fn has_bitmap_checksums(&self) -> bool {
        matches!(self.checksums, Checksums::Crc32c { .. })
    }

    /// Checksum of a block bitmap; 0 where there is none.
    pub fn block_bitmap_checksum(&self, bitmap: &[u8]) -> u32 {
        self.checksum(&bitmap[..self.blocks_per_group as usize / 8])
    }

    /// Checksum of an inode bitmap; 0 where there is none.
    pub fn inode_bitmap_checksum(&self, bitmap: &[u8]) -> u32 {
        self.checksum(&bitmap[..self.inodes_per_group as usize / 8])
    }

    fn checksum(&self, bytes: &[u8]) -> u32 {
        match self.checksums {
            Checksums::Crc32c { seed } => linux_crc32c(seed, bytes),
            Checksums::Crc16 | Checksums::None => 0,
        }
    }

    /// Checksum of a descriptor, whose own field (bytes 0x1E and 0x1F) counts as
    /// zero or is left out.
    pub fn descriptor_checksum(&self, group: u64, raw: &[u8]) -> u16 {
        let number = (group as u32).to_le_bytes();
        match self.checksums {
            Checksums::None => 0,
            Checksums::Crc16 => {
                let sum = crc16(crc16(!0, &self.uuid), &number);
                let sum = crc16(sum, &raw[..0x1E]);
                if raw.len() > 0x20 {
                    crc16(sum, &raw[0x20..])
                } else {
                    sum
                }
            }
            Checksums::Crc32c { seed } => {
                let sum = linux_crc32c(linux_crc32c(seed, &number), &raw[..0x1E]);
                linux_crc32c(linux_crc32c(sum, &[0, 0]), &raw[0x20..]) as u16
            }
        }
    }

    /// Sets the superblock's own checksum.
    pub fn seal_superblock(&self, raw: &mut [u8]) {
        if let Checksums::Crc32c { .. } = self.checksums {
            let sum = linux_crc32c(!0, &raw[..0x3FC]);
            put32(raw, 0x3FC, sum);
        }
    }
}
