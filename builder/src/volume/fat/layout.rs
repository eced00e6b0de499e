//! The boot sector, judged before anything else is read.
//!
//! Fields and offsets: Microsoft, "FAT: General Overview of On-Disk Format",
//! version 1.03. Where it and Linux disagree, Linux decides: a volume without
//! the 16-bit table size is FAT32 however few clusters it has, which is how
//! small EFI system partitions are made.

use crate::error::Result;
use crate::volume::Problem;
use crate::volume::refusal::refuse;

const DOING: &str = "open the FAT file system";
/// Most clusters of a table that is held in memory: 64 MiB of it.
const MOST_CLUSTERS: u32 = 16 << 20;

/// Width of a table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 12 bits.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 32 bits, of which 28 count.
    Fat32,
}

/// Where everything lies; offsets and sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Width of a table entry.
    pub width: Width,
    /// Size of a cluster.
    pub cluster: u32,
    /// Number of clusters; the first has number 2.
    pub clusters: u32,
    /// Where the tables begin.
    pub tables: u64,
    /// Size of one table.
    pub table: u64,
    /// Number of tables.
    pub copies: u8,
    /// The fixed root folder of FAT12 and FAT16: where and how large.
    pub fixed_root: Option<(u64, u32)>,
    /// The first cluster of FAT32's root folder.
    pub root: u32,
    /// Where cluster 2 begins.
    pub data: u64,
    /// The FAT32 sector with the number of free clusters.
    pub information: Option<u64>,
    /// Where the state byte lies, of which bit 0 says "in use" and bit 1 "check
    /// the surface" (Linux, `fs/fat/fat.h`, `FAT_STATE_DIRTY`).
    pub state_at: u64,
    /// The state byte.
    pub state: u8,
}

fn u16_at(sector: &[u8], at: usize) -> u32 {
    u32::from(sector[at]) | u32::from(sector[at + 1]) << 8
}

fn u32_at(sector: &[u8], at: usize) -> u32 {
    u16_at(sector, at) | u16_at(sector, at + 2) << 16
}

/// Reads the first 512 bytes of a partition of `partition` bytes.
///
/// # Errors
/// [`Problem::Damaged`] for contradictions, [`Problem::NotSupported`] for what
/// is not maintained here.
pub fn judge(sector: &[u8], partition: u64) -> Result<Layout> {
    let damaged = |text: &str| refuse(Problem::Damaged, DOING, text);
    if !super::recognise(sector) {
        return Err(damaged("there is no FAT boot sector"));
    }
    let fields = Fields::read(sector);
    if u64::from(fields.total) * u64::from(fields.bytes) > partition {
        return Err(damaged("the file system is larger than its partition")
            .hint("the image is truncated; get it again"));
    }
    let sectors_before = fields.sectors_before_data();
    let clusters = u64::from(fields.total).saturating_sub(sectors_before) / fields.per_cluster;
    let clusters = u32::try_from(clusters).unwrap_or(u32::MAX);
    let width = match (fields.wide, clusters) {
        (true, _) => Width::Fat32,
        (false, 0..=4084) => Width::Fat12,
        (false, _) => Width::Fat16,
    };
    if !fields.are_sound(width, clusters) {
        return Err(damaged(
            "the numbers in its boot sector contradict each other",
        ));
    }
    if clusters > MOST_CLUSTERS {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            format!("it has {clusters} clusters, more than {MOST_CLUSTERS}"),
        ));
    }
    if fields.wide && (u16_at(sector, 40) & 0x80 != 0 || u16_at(sector, 42) != 0) {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            "its tables are not mirrored, or its version is unknown",
        ));
    }
    Ok(fields.layout(sector, width, clusters, sectors_before))
}

/// What the boot sector says, before any of it is believed ("FAT: General
/// Overview of On-Disk Format", BPB).
struct Fields {
    /// Bytes in a sector.
    bytes: u32,
    /// Sectors in a cluster.
    per_cluster: u64,
    /// Sectors before the first table.
    reserved: u32,
    /// Tables.
    copies: u8,
    /// Entries of a root folder of fixed size.
    root_entries: u32,
    /// Sectors of the whole file system.
    total: u32,
    /// Sectors of one table.
    table_sectors: u32,
    /// Whether it is written as FAT32 is.
    wide: bool,
    /// First cluster of the root folder of FAT32.
    root: u32,
    /// Sector of FAT32's count of free clusters.
    information: u32,
}

impl Fields {
    fn read(sector: &[u8]) -> Self {
        let narrow_or_wide = |narrow: usize, wide: usize| match u16_at(sector, narrow) {
            0 => u32_at(sector, wide),
            narrow => narrow,
        };
        Self {
            bytes: u16_at(sector, 11),
            per_cluster: u64::from(sector[13]),
            reserved: u16_at(sector, 14),
            copies: sector[16],
            root_entries: u16_at(sector, 17),
            total: narrow_or_wide(19, 32),
            table_sectors: narrow_or_wide(22, 36),
            wide: u16_at(sector, 22) == 0,
            root: u32_at(sector, 44),
            information: u16_at(sector, 48),
        }
    }

    fn cluster(&self) -> u64 {
        u64::from(self.bytes) * self.per_cluster
    }

    /// Bytes of one table.
    fn table(&self) -> u64 {
        u64::from(self.table_sectors) * u64::from(self.bytes)
    }

    fn root_bytes(&self) -> u32 {
        self.root_entries * 32
    }

    fn sectors_before_data(&self) -> u64 {
        u64::from(self.reserved)
            + u64::from(self.copies) * u64::from(self.table_sectors)
            + u64::from(self.root_bytes().div_ceil(self.bytes))
    }

    fn are_sound(&self, width: Width, clusters: u32) -> bool {
        let entries = u64::from(clusters) + 2;
        let needed = match width {
            Width::Fat12 => (entries * 3).div_ceil(2),
            Width::Fat16 => entries * 2,
            Width::Fat32 => entries * 4,
        };
        self.reserved > 0
            && clusters > 0
            && self.cluster() <= 256 << 10
            && needed <= self.table()
            && (width != Width::Fat16 || clusters < 65_525)
            && (self.wide == (self.root_entries == 0))
            && (!self.wide || (2..clusters.saturating_add(2)).contains(&self.root))
    }

    fn layout(&self, sector: &[u8], width: Width, clusters: u32, sectors_before: u64) -> Layout {
        let bytes = u64::from(self.bytes);
        let tables = u64::from(self.reserved) * bytes;
        let root_at = tables + u64::from(self.copies) * self.table();
        let (state_at, state) = if self.wide {
            (65, sector[65])
        } else {
            (37, sector[37])
        };
        Layout {
            width,
            cluster: self.bytes * u32::from(sector[13]),
            clusters,
            tables,
            table: self.table(),
            copies: self.copies,
            fixed_root: (!self.wide).then_some((root_at, self.root_bytes())),
            root: if self.wide { self.root } else { 0 },
            data: sectors_before * bytes,
            information: (self.wide && (1..self.reserved).contains(&self.information))
                .then(|| u64::from(self.information) * bytes),
            state_at,
            state,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::volume::problem;

    /// A FAT16 boot sector of 8 MiB.
    pub fn sound() -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
        sector[11..22].copy_from_slice(&[0, 2, 1, 1, 0, 2, 0, 2, 0, 0x40, 0xF8]);
        sector[22] = 64;
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    #[test]
    fn tells_the_widths_apart() {
        let layout = judge(&sound(), 8 << 20).expect("sound");
        assert_eq!(layout.width, Width::Fat16);
        assert_eq!(layout.data, (1 + 128 + 32) * 512);
        let mut small = sound();
        small[19..21].copy_from_slice(&2880u16.to_le_bytes());
        assert_eq!(judge(&small, 8 << 20).expect("sound").width, Width::Fat12);
    }

    #[test]
    fn refuses_contradictions() {
        for (at, value) in [(14, 0), (22, 1), (13, 0), (11, 1), (16, 0), (17, 0)] {
            let mut sector = sound();
            sector[at] = value;
            if at == 17 {
                sector[18] = 0;
            }
            let why = judge(&sector, 8 << 20).expect_err("refused");
            assert_eq!(problem(&why), Some(Problem::Damaged), "{at}");
        }
        assert!(judge(&sound(), (8 << 20) - 1).is_err());
        assert!(judge(&[], 0).is_err());
    }

    #[test]
    fn survives_any_boot_sector() {
        let mut state = 0x1234_5678_9ABC_DEF1_u64;
        for _ in 0..4000 {
            let mut sector = sound();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                sector[(state >> 33) as usize % 66] = state as u8;
            }
            let _ = judge(&sector, state >> 24);
        }
    }
}
