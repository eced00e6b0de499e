//! Makes a mounted XFS or btrfs larger.

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

/// `struct btrfs_ioctl_vol_args` (Linux, `include/uapi/linux/btrfs.h`).
#[repr(C)]
struct Resize {
    /// Of no meaning here.
    fd: i64,
    /// What to do, a string that ends with a zero.
    name: [u8; 4088],
}

/// `BTRFS_IOC_RESIZE`: `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)`.
const RESIZE: rustix::ioctl::Opcode = opcode::write::<Resize>(0x94, 3);

/// Gives the btrfs that is mounted at `root` all of its device.
pub fn btrfs(root: &OwnedFd) -> Result<(), Errno> {
    let mut name = [0; 4088];
    name[..3].copy_from_slice(b"max");
    // SAFETY: the kernel reads one `struct btrfs_ioctl_vol_args`, which `Resize` is field by
    // field, and keeps no pointer to it. The number of the ioctl holds its size. Another
    // file system refuses the number with ENOTTY.
    unsafe { ioctl(root, Setter::<RESIZE, Resize>::new(Resize { fd: 0, name })) }
}
