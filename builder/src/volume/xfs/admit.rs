//! Looks at a superblock before the driver follows it.
//!
//! Field and feature numbers: Linux, `fs/xfs/libxfs/xfs_format.h`.

use fs_core::BlockRead as _;
use fs_xfs::Superblock;
use fs_xfs::log::{self, LogState};

use super::translate;
use crate::error::Result;
use crate::volume::Problem;
use crate::volume::read_device::ReadDevice;
use crate::volume::refusal::refuse;

const DOING: &str = "open the XFS file system";

/// Incompatible features by number; those that are read rightly are marked.
const INCOMPATIBLE: [(&str, bool); 11] = [
    ("ftype", true),
    ("spinodes", true),
    ("meta_uuid", true),
    ("bigtime", true),
    ("needsrepair", false),
    ("nrext64", true),
    ("exchange", true),
    ("parent", true),
    ("metadir", false),
    ("zoned", false),
    ("zone_gaps", false),
];
/// Fewest blocks of an allocation group (`XFS_MIN_AG_BLOCKS`).
const SMALLEST_GROUP: u32 = 64;

/// The superblock of a file system that can be read.
///
/// # Errors
/// [`Problem::NotSupported`] with the name of what is not known; [`Problem::Damaged`] for
/// what contradicts itself or its storage, and for what was not unmounted.
pub(super) fn admit(device: &ReadDevice) -> Result<Superblock> {
    let superblock = superblock(device)?;
    if is_dirty(device, &superblock)? {
        return Err(refuse(
            Problem::Damaged,
            DOING,
            "it was not unmounted: its log holds changes that are not in their places",
        )
        .hint("a build of it replays the log; or mount and unmount a copy on a Linux machine, which replays it too"));
    }
    Ok(superblock)
}

/// Whether the log holds changes that are not in their places.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn is_dirty(device: &ReadDevice, superblock: &Superblock) -> Result<bool> {
    let state =
        log::inspect(device, superblock).map_err(|error| translate(DOING, error, device))?;
    Ok(state == LogState::NeedsReplay)
}

/// The superblock of a file system of which the log was not looked at.
///
/// # Errors
/// As [`admit`], but for the log.
pub(super) fn superblock(device: &ReadDevice) -> Result<Superblock> {
    let mut start = vec![0; 4096];
    device
        .read_at(0, &mut start)
        .map_err(|error| translate(DOING, fs_xfs::Error::from(error), device))?;
    judge(&start)?;
    let superblock = Superblock::parse(&start).map_err(|error| translate(DOING, error, device))?;
    geometry(&superblock, device.size_bytes())?;
    Ok(superblock)
}

/// Version and features.
fn judge(start: &[u8]) -> Result<()> {
    let refused = |text: String| Err(refuse(Problem::NotSupported, DOING, text));
    let be16 = |at: usize| u16::from_be_bytes([start[at], start[at + 1]]);
    let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
    let version = be16(100) & 0x000F;
    if version != 5 {
        return refused(format!(
            "it is of version {version}; only version 5 is known"
        ));
    }
    // XFS_SB_VERSION_BORGBIT: names without regard to case.
    if be16(100) & 0x4000 != 0 {
        return refused("it has the feature asciici".to_owned());
    }
    let incompatible = be32(216);
    if incompatible & 0x10 != 0 {
        return Err(refuse(
            Problem::Damaged,
            DOING,
            "it is marked as one that needs repair",
        )
        .hint("check a copy of the partition with: xfs_repair"));
    }
    let unknown: Vec<String> = (0..32)
        .filter(|bit| incompatible >> bit & 1 == 1)
        .filter_map(|bit| match INCOMPATIBLE.get(bit) {
            Some((_, true)) => None,
            Some((name, false)) => Some((*name).to_owned()),
            None => Some(format!("bit {bit}")),
        })
        .collect();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        return refused(format!("it has features that are not known: {names}"));
    }
    if be32(212) & !0xF != 0 {
        return refused(format!(
            "it has features that are not known: {:#x}, compatible for reading alone",
            be32(212) & !0xF
        ));
    }
    Ok(())
}

/// Whether what the superblock says of sizes is so, for a storage of `size` bytes.
fn geometry(superblock: &Superblock, size: u64) -> Result<()> {
    let damaged = |text: String| Err(refuse(Problem::Damaged, DOING, text));
    let bytes = superblock
        .dblocks
        .checked_mul(u64::from(superblock.blocksize));
    match bytes {
        Some(bytes) if bytes <= size => {}
        _ => {
            return damaged(format!(
                "it has {} blocks of {} bytes, but there are only {size} bytes: the image is cut off",
                superblock.dblocks, superblock.blocksize
            ));
        }
    }
    let groups = superblock
        .dblocks
        .div_ceil(u64::from(superblock.agblocks.max(1)));
    if superblock.agblocks < SMALLEST_GROUP || u64::from(superblock.agcount) != groups {
        return damaged(format!(
            "it says that it has {} groups of {} blocks, and {} blocks",
            superblock.agcount, superblock.agblocks, superblock.dblocks
        ));
    }
    if superblock.fdblocks > superblock.dblocks {
        return damaged(format!(
            "it says that {} of {} blocks are free",
            superblock.fdblocks, superblock.dblocks
        ));
    }
    if superblock.rblocks != 0 || superblock.logstart == 0 {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            "a part of it lies on another disk: its log, or a realtime section",
        ));
    }
    Ok(())
}
