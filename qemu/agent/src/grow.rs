//! Makes a mounted XFS larger.

#![allow(
    unsafe_code,
    reason = "the kernel takes this wish by an ioctl alone, which no library wraps"
)]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

/// `struct xfs_growfs_data` (Linux, `fs/xfs/libxfs/xfs_fs.h`).
#[repr(C)]
struct GrowData {
    /// New size of the data section, in blocks of the file system.
    blocks: u64,
    /// Largest part of it that inodes may take, in percent.
    percent: u32,
    /// C fills the structure up to a multiple of eight bytes.
    padding: u32,
}

/// `XFS_IOC_FSGROWFSDATA`: `_IOW('X', 110, struct xfs_growfs_data)`.
const GROW: rustix::ioctl::Opcode = opcode::write::<GrowData>(b'X', 110);

/// Gives the XFS that is mounted at `root` a size of `blocks`.
pub fn xfs(root: &OwnedFd, blocks: u64, percent: u32) -> Result<(), Errno> {
    let data = GrowData {
        blocks,
        percent,
        padding: 0,
    };
    // SAFETY: the kernel reads one `struct xfs_growfs_data`, which `GrowData` is field by
    // field, and keeps no pointer to it. The number of the ioctl holds its size. A file
    // system other than XFS refuses the number with ENOTTY.
    unsafe { ioctl(root, Setter::<GROW, GrowData>::new(data)) }
}
