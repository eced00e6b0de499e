//! Looks at a superblock before the driver follows it.
//!
//! Field and flag numbers: Linux, `include/uapi/linux/btrfs_tree.h`.

use fs_btrfs::Superblock;
use fs_btrfs::superblock::{SUPER_INFO_OFFSET, read_superblock, super_flags};
use fs_core::BlockRead as _;

use super::translate;
use crate::error::Result;
use crate::volume::Problem;
use crate::volume::read_device::ReadDevice;
use crate::volume::refusal::refuse;

const DOING: &str = "open the btrfs file system";

/// Makes sure that the file system can be read as Linux would show it.
///
/// # Errors
/// [`Problem::NotSupported`] with the name of what is not known; [`Problem::Damaged`] for
/// what contradicts itself or its storage, and for what was not unmounted.
pub(super) fn admit(device: &ReadDevice) -> Result<()> {
    if superblock(device)?.has_dirty_log() {
        return Err(refuse(
            Problem::Damaged,
            DOING,
            "it was not unmounted: its log holds changes that are not in its trees",
        )
        .hint("a build of it replays the log; or mount and unmount a copy on a Linux machine, which replays it too"));
    }
    Ok(())
}

/// The superblock of a file system of which the log was not looked at.
///
/// # Errors
/// As [`admit`], but for the log.
pub(super) fn superblock(device: &ReadDevice) -> Result<Superblock> {
    let (superblock, _) =
        read_superblock(device).map_err(|error| translate(DOING, error, device))?;
    let damaged = |text: String| {
        Err(refuse(Problem::Damaged, DOING, text)
            .hint("check a copy of the partition with: btrfs check --readonly"))
    };
    // The driver takes the newest copy; Linux takes the first alone.
    if superblock.bytenr != SUPER_INFO_OFFSET {
        return damaged("its first superblock is damaged, or older than a copy of it".to_owned());
    }
    if superblock.num_devices != 1 {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            format!("it lies on {} devices", superblock.num_devices),
        )
        .hint("take a base whose file system lies on one partition"));
    }
    let size = superblock.dev_item.total_bytes;
    if size > device.size_bytes() || superblock.total_bytes != size {
        return damaged(format!(
            "it says that it has {} bytes, {size} of them here, but there are only {} bytes: the image is cut off",
            superblock.total_bytes,
            device.size_bytes()
        ));
    }
    if superblock.dev_item.bytes_used > size {
        return damaged(format!(
            "it says that {} of {size} bytes are used",
            superblock.dev_item.bytes_used
        ));
    }
    if superblock.flags & super_flags::ERROR != 0 {
        return damaged("it has recorded an error".to_owned());
    }
    if superblock.flags & super_flags::SEEDING != 0 {
        return Err(refuse(
            Problem::NotSupported,
            DOING,
            "it is a seed for others, which nothing can change",
        ));
    }
    Ok(superblock)
}
