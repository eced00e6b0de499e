//! What may be opened: the superblock is read and judged before any driver
//! touches the file system.
//!
//! A pure function over the 1,024 bytes at offset 1,024. Fields and their
//! offsets: Linux, `Documentation/filesystems/ext4/super.rst`.

use fs_ext4::checksum::linux_crc32c;

use crate::error::{Error, Result};
use crate::volume::refusal::refuse;
use crate::volume::{Access, Problem, Timestamp};

/// Where the superblock lies, in bytes from the start of the file system.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its size in bytes.
pub const SUPERBLOCK_SIZE: usize = 1024;
const MAGIC: u16 = 0xEF53;
/// `s_state`: unmounted in order.
const STATE_VALID: u16 = 1;
/// `s_state`: the kernel found errors.
const STATE_ERRORS: u16 = 2;
/// `EXT4_MIN_BLOCKS_PER_GROUP` of mke2fs; keeps the number of groups, and with
/// it the memory for their descriptors, in proportion to the partition.
const MIN_BLOCKS_PER_GROUP: u32 = 256;
/// Largest number of groups: 32 TiB in usual ones of 128 MiB. Their descriptors
/// are all kept in memory, and every allocation may look at each.
const MOST_GROUPS: u64 = 1 << 18;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_BIGALLOC: u32 = 0x200;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x10000;
const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_FAST_COMMIT: u32 = 0x400;
/// Copies of the superblock in two groups that it names: neither grown nor
/// checked.
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

/// Incompatible features: bit, name, readable, writable.
///
/// Not writable here: `inline_data` (the driver writes wrong content when a
/// file grows out of its inode), `ea_inode` (values in inodes of their own are
/// not released), `encrypt`, `casefold` and `mmp` (not maintained), `meta_bg`
/// (neither grown nor checked).
const INCOMPAT: &[(u32, &str, bool, bool)] = &[
    (0x1, "compression", false, false),
    (0x2, "filetype", true, true),
    (INCOMPAT_RECOVER, "needs_recovery", true, true),
    (0x8, "journal_dev", false, false),
    (0x10, "meta_bg", true, false),
    (INCOMPAT_EXTENTS, "extent", true, true),
    (INCOMPAT_64BIT, "64bit", true, true),
    (0x100, "mmp", true, false),
    (0x200, "flex_bg", true, true),
    (0x400, "ea_inode", true, false),
    (0x1000, "dirdata", false, false),
    (INCOMPAT_CSUM_SEED, "metadata_csum_seed", true, true),
    (0x4000, "large_dir", true, true),
    (0x8000, "inline_data", true, false),
    (0x10000, "encrypt", true, false),
    (0x20000, "casefold", true, false),
];

/// Features that forbid writing to who does not know them: bit, name, writable.
const RO_COMPAT: &[(u32, &str, bool)] = &[
    (0x1, "sparse_super", true),
    (0x2, "large_file", true),
    (0x4, "btree_dir", false),
    (0x8, "huge_file", true),
    (0x10, "uninit_bg", true),
    (0x20, "dir_nlink", true),
    (0x40, "extra_isize", true),
    (0x80, "has_snapshot", false),
    (0x100, "quota", false),
    (RO_COMPAT_BIGALLOC, "bigalloc", false),
    (RO_COMPAT_METADATA_CSUM, "metadata_csum", true),
    (0x800, "replica", false),
    (0x1000, "read-only", false),
    (0x2000, "project", false),
    (0x4000, "shared_blocks", false),
    (0x8000, "verity", false),
    (RO_COMPAT_ORPHAN_PRESENT, "orphan_present", false),
];

/// What the superblock says, as far as nodekiln needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Block size in bytes.
    pub block_size: u32,
    /// Size of the file system in blocks.
    pub blocks: u64,
    /// Free blocks, those reserved for root included.
    pub free_blocks: u64,
    /// Number of inodes.
    pub inodes: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Size of an inode in bytes.
    pub inode_size: u16,
    /// Blocks in a full group.
    pub blocks_per_group: u32,
    /// UUID, raw.
    pub uuid: [u8; 16],
    /// Label without padding.
    pub label: String,
    /// Last write, by `s_wtime`.
    pub last_written: Timestamp,
    state: u16,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    error_count: u32,
}

fn u16_at(raw: &[u8], at: usize) -> u16 {
    raw.get(at..at + 2)
        .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from(u16_at(raw, at)) | u32::from(u16_at(raw, at + 2)) << 16
}

/// Whether `raw` (the 1,024 bytes at offset 1,024) claims to be ext2, ext3 or
/// ext4.
pub fn recognise(raw: &[u8]) -> bool {
    raw.len() >= SUPERBLOCK_SIZE && u16_at(raw, 0x38) == MAGIC
}

/// Reads and judges a superblock: geometry against the partition, checksum,
/// features, state.
///
/// # Errors
/// [`Problem::Damaged`] for contradictions and recorded errors,
/// [`Problem::NotSupported`] for features.
pub fn judge(raw: &[u8], partition: u64, access: Access) -> Result<Superblock> {
    let superblock = parse(raw, partition, access)?;
    if access == Access::Write {
        superblock.judge_state()?;
    }
    Ok(superblock)
}

/// Label, UUID and last write of a superblock that [`recognise`] took.
pub(in crate::volume) fn identity(raw: &[u8]) -> (String, [u8; 16], Timestamp) {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&raw[0x68..0x78]);
    let label = &raw[0x78..0x88];
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(16);
    let last_written = Timestamp {
        // `s_wtime`, and its high byte.
        seconds: i64::from(u32_at(raw, 0x30)) | i64::from(raw[0x274]) << 32,
        nanoseconds: 0,
    };
    (
        String::from_utf8_lossy(&label[..end]).into_owned(),
        uuid,
        last_written,
    )
}

const DOING: &str = "open the ext4 file system";

fn damaged(text: impl Into<String>) -> Error {
    refuse(Problem::Damaged, DOING, text)
}

fn parse(raw: &[u8], partition: u64, access: Access) -> Result<Superblock> {
    if !recognise(raw) {
        return Err(damaged("there is no ext4 superblock"));
    }
    let raw = &raw[..SUPERBLOCK_SIZE];
    let incompat = u32_at(raw, 0x60);
    let ro_compat = u32_at(raw, 0x64);
    if ro_compat & RO_COMPAT_METADATA_CSUM != 0
        && linux_crc32c(!0, &raw[..0x3FC]) != u32_at(raw, 0x3FC)
    {
        return Err(damaged("the checksum of the superblock is wrong"));
    }
    // First: an unknown feature may give every other number another meaning.
    judge_features(u32_at(raw, 0x5C), incompat, ro_compat, access)?;
    let block_size = block_size(raw)?;
    let join = |low: usize, high: usize| {
        let high = match incompat & INCOMPAT_64BIT {
            0 => 0,
            _ => u64::from(u32_at(raw, high)) << 32,
        };
        u64::from(u32_at(raw, low)) | high
    };
    let (label, uuid, last_written) = identity(raw);
    let found = Superblock {
        block_size,
        blocks: join(0x4, 0x150),
        free_blocks: join(0xC, 0x158),
        inodes: u32_at(raw, 0x0),
        free_inodes: u32_at(raw, 0x10),
        inode_size: match u32_at(raw, 0x4C) {
            0 => 128,
            _ => u16_at(raw, 0x58),
        },
        blocks_per_group: u32_at(raw, 0x20),
        uuid,
        label,
        last_written,
        state: u16_at(raw, 0x3A),
        compat: u32_at(raw, 0x5C),
        incompat,
        ro_compat,
        error_count: u32_at(raw, 0x194),
    };
    judge_size(&found, partition)?;
    judge_numbers(&found, raw)?;
    Ok(found)
}

/// Size of a block in bytes.
fn block_size(raw: &[u8]) -> Result<u32> {
    match u32_at(raw, 0x18) {
        log @ 0..=6 => Ok(1024 << log),
        log => Err(damaged(format!(
            "the superblock names a block size of 2^{} bytes",
            u64::from(log) + 10
        ))),
    }
}

fn judge_size(found: &Superblock, partition: u64) -> Result<()> {
    match found.blocks.checked_mul(u64::from(found.block_size)) {
        Some(0) | None => Err(damaged("the superblock gives no usable size")),
        Some(size) if size > partition => Err(damaged(format!(
            "the file system has {size} bytes, its partition only {partition}"
        ))
        .hint("the image is truncated; get it again")),
        Some(_) => Ok(()),
    }
}

/// Refuses numbers that contradict each other, and more groups than are read.
fn judge_numbers(found: &Superblock, raw: &[u8]) -> Result<()> {
    let block_size = found.block_size;
    let inodes_per_group = u32_at(raw, 0x28);
    let first_data_block = u32_at(raw, 0x14);
    let descriptor_size = u16_at(raw, 0xFE);
    let wide = found.incompat & INCOMPAT_64BIT != 0;
    let groups = found
        .blocks
        .saturating_sub(u64::from(first_data_block))
        .div_ceil(u64::from(found.blocks_per_group.max(1)));
    // One bitmap block a group: a bit is a block or, with bigalloc, a cluster.
    let clusters = u32_at(raw, 0x1C).saturating_sub(u32_at(raw, 0x18)).min(12);
    let most_blocks = match found.ro_compat & RO_COMPAT_BIGALLOC {
        0 => block_size * 8,
        _ => (block_size * 8).saturating_mul(1 << clusters),
    };
    let sound = u32_at(raw, 0x4C) <= 1
        && (MIN_BLOCKS_PER_GROUP..=most_blocks).contains(&found.blocks_per_group)
        && (1..=block_size * 8).contains(&inodes_per_group)
        && found.inode_size.is_power_of_two()
        && (128..=block_size).contains(&u32::from(found.inode_size))
        && first_data_block == u32::from(block_size == 1024)
        && groups.checked_mul(u64::from(inodes_per_group)) == Some(u64::from(found.inodes))
        && (!wide || (64..=1024).contains(&descriptor_size) && descriptor_size.is_power_of_two())
        && found.free_blocks <= found.blocks
        && found.free_inodes <= found.inodes;
    if !sound {
        return Err(damaged(
            "the numbers in the superblock contradict each other",
        ));
    }
    if groups > MOST_GROUPS {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            format!("it has {groups} block groups; at most {MOST_GROUPS} are read"),
        ));
    }
    Ok(())
}

fn judge_features(compat: u32, incompat: u32, ro_compat: u32, access: Access) -> Result<()> {
    let writing = access == Access::Write;
    let mut refused = Vec::new();
    if writing && compat & COMPAT_SPARSE_SUPER2 != 0 {
        refused.push("sparse_super2".to_owned());
    }
    for bit in (0..32).map(|shift| 1u32 << shift) {
        if incompat & bit != 0 {
            match INCOMPAT.iter().find(|feature| feature.0 == bit) {
                Some((_, name, readable, writable)) => {
                    if !(if writing { *writable } else { *readable }) {
                        refused.push((*name).to_owned());
                    }
                }
                None => refused.push(format!("incompatible feature {bit:#x}")),
            }
        }
        if writing && ro_compat & bit != 0 && bit != RO_COMPAT_ORPHAN_PRESENT {
            match RO_COMPAT.iter().find(|feature| feature.0 == bit) {
                Some((_, _, true)) => {}
                Some((_, name, false)) => refused.push((*name).to_owned()),
                None => refused.push(format!("read-only compatible feature {bit:#x}")),
            }
        }
    }
    if incompat & INCOMPAT_EXTENTS == 0 {
        refused.push("no extents (ext2 or ext3)".to_owned());
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(refuse(
        Problem::NotSupported,
        DOING,
        format!(
            "it has features that nodekiln does not {}: {}",
            if writing { "edit" } else { "read" },
            refused.join(", ")
        ),
    )
    .hint("use another base, or edit it through the kernel with: --engine mount"))
}

impl Superblock {
    fn judge_state(&self) -> Result<()> {
        let cleaning = "check a copy of the partition, and put it back: \
            dd it to a file, e2fsck -fy FILE, dd it back";
        if self.state & STATE_ERRORS != 0 || self.error_count != 0 {
            // The state alone says that there were some.
            let number = match self.error_count {
                0 => String::new(),
                count => format!(" ({count} of them)"),
            };
            return Err(damaged(format!("the kernel recorded errors in it{number}")).hint(cleaning));
        }
        let dirty = self.needs_recovery();
        if dirty && self.compat & COMPAT_FAST_COMMIT != 0 {
            return Err(refuse(
                Problem::NotSupported,
                DOING,
                "its journal is not replayed and may hold fast commits",
            )
            .hint(cleaning));
        }
        if dirty && self.compat & COMPAT_HAS_JOURNAL == 0 {
            return Err(damaged("it needs recovery but has no journal").hint(cleaning));
        }
        if self.ro_compat & RO_COMPAT_ORPHAN_PRESENT != 0 {
            return Err(refuse(
                Problem::NotSupported,
                DOING,
                "it was not unmounted, and its orphan file is in use",
            )
            .hint(cleaning));
        }
        if self.state & STATE_VALID == 0 && !dirty {
            return Err(damaged(
                "it was not unmounted, and there is no journal to recover it from",
            )
            .hint(cleaning));
        }
        Ok(())
    }

    /// Whether the journal holds what is not yet in its place.
    pub fn needs_recovery(&self) -> bool {
        self.incompat & INCOMPAT_RECOVER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::problem;

    fn sound() -> Vec<u8> {
        let mut raw = vec![0u8; SUPERBLOCK_SIZE];
        let mut put = |at: usize, value: u32| raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0x0, 1024); // inodes
        put(0x4, 4096); // blocks
        put(0xC, 4000);
        put(0x10, 1000);
        put(0x14, 1); // first data block
        put(0x18, 0); // 1 KiB
        put(0x20, 8192);
        put(0x28, 1024);
        put(0x38, 0x1_EF53);
        put(0x4C, 1);
        put(0x58, 256);
        put(0x60, 0x42);
        put(0x64, 0x3);
        raw
    }

    fn with(at: usize, value: u32) -> Vec<u8> {
        let mut raw = sound();
        raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
        raw
    }

    fn why(raw: &[u8]) -> (Option<Problem>, String) {
        let error = judge(raw, 4096 * 1024, Access::Write).expect_err("refused");
        let text = std::error::Error::source(&error)
            .expect("cause")
            .to_string();
        (problem(&error), text)
    }

    #[test]
    fn takes_a_sound_one() {
        let superblock = judge(&sound(), 4096 * 1024, Access::Write).expect("sound");
        assert_eq!(superblock.block_size, 1024);
        assert_eq!(superblock.free_inodes, 1000);
    }

    #[test]
    fn names_what_it_does_not_support() {
        let (kind, text) = why(&with(0x60, 0x42 | 0x8000 | 0x8000_0000));
        assert_eq!(kind, Some(Problem::NotSupported));
        assert!(text.contains("inline_data"), "{text}");
        assert!(text.contains("0x80000000"), "{text}");
        assert!(why(&with(0x64, 0x300)).1.contains("quota, bigalloc"));
        assert!(why(&with(0x60, 0x2)).1.contains("ext2"));
        judge(&with(0x60, 0x8042), 4096 * 1024, Access::Read).expect("readable");
    }

    #[test]
    fn refuses_errors_and_dirt() {
        assert!(why(&with(0x38, 0x3_EF53)).1.contains("recorded errors"));
        assert!(why(&with(0x194, 3)).1.contains("3 of them"));
        assert!(why(&with(0x38, 0x0_EF53)).1.contains("not unmounted"));
        assert!(why(&with(0x64, 0x10003)).1.contains("orphan file"));
        assert!(why(&with(0x60, 0x46)).1.contains("no journal"));
    }

    #[test]
    fn refuses_contradictions() {
        assert!(why(&with(0x4, 4097)).1.contains("only"));
        for (at, value) in [
            (0x18, 7),
            (0x20, 0),
            (0x28, 0),
            (0x58, 96),
            (0x0, 1025),
            (0xC, 5000),
            (0x10, 1025),
            (0x14, 0),
            (0x64, 0x400),
        ] {
            assert_eq!(
                why(&with(at, value)).0,
                Some(Problem::Damaged),
                "{at:#x}={value}"
            );
        }
        assert!(judge(&[], 0, Access::Read).is_err());
    }

    #[test]
    fn survives_any_superblock() {
        // What the fuzz target does, on a fixed walk.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..2000 {
            let mut raw = sound();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                raw[(state >> 20) as usize % SUPERBLOCK_SIZE] = state as u8;
            }
            let _ = judge(&raw, 4096 * 1024, Access::Write);
            let _ = judge(&raw, 4096 * 1024, Access::Read);
        }
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        crate::seeds::replay("ext4_gate", 300, |bytes| {
            for partition in [0, 1 << 20, 1 << 40] {
                let _ = judge(bytes, partition, Access::Read);
                let _ = judge(bytes, partition, Access::Write);
            }
        });
    }

    #[test]
    fn judges_the_seeds_of_the_fuzz_target() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/ext4_gate");
        let read = |name: &str| std::fs::read(folder.join(name)).expect("the seed is there");
        judge(&read("mkfs"), 16 << 20, Access::Write).expect("what mkfs makes is sound");
        let text = format!(
            "{:?}",
            judge(&read("features"), 16 << 20, Access::Write).expect_err("refused")
        );
        assert!(text.contains("bigalloc"), "{text}");
    }
}
