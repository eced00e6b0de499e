//! What a file system says of itself: its kind, label, UUID and last write.

use std::io;

use super::ext4::gate;
use super::{FileSystem, Timestamp};
use crate::disk::Storage;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub file_system: FileSystem,
    /// Label, without padding; empty when there is none.
    pub label: String,
    /// UUID in its usual text form (ext4, XFS, btrfs: 8-4-4-4-12 hexadecimal; FAT: `ABCD-1234`).
    pub uuid: String,
    /// When the file system was last written, by its own records.
    pub last_written: Timestamp,
}

/// Sixteen bytes in the usual form, 8-4-4-4-12 hexadecimal digits.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(*uuid));
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|range| &digits[range])
        .join("-")
}

/// A label, which ends at its first zero.
fn label_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// What stands in the superblock; `epoch` where it does not record the last write.
pub(super) fn read(
    storage: &dyn Storage,
    file_system: FileSystem,
    epoch: Timestamp,
) -> io::Result<Identity> {
    let mut start = vec![0; 2048];
    storage.read_at(&mut start, 0)?;
    let (label, uuid, last_written) = match file_system {
        FileSystem::Ext4 => {
            let (label, uuid, written) = gate::identity(&start[1024..]);
            (label, uuid_text(&uuid), written)
        }
        // fs/xfs/libxfs/xfs_format.h, struct xfs_dsb: sb_uuid, sb_fname.
        FileSystem::Xfs => {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(&start[32..48]);
            (label_text(&start[108..120]), uuid_text(&uuid), epoch)
        }
        // include/uapi/linux/btrfs_tree.h, struct btrfs_super_block: fsid, label.
        FileSystem::Btrfs => {
            let mut found = vec![0; 1024];
            storage.read_at(&mut found, 64 << 10)?;
            let mut uuid = [0; 16];
            uuid.copy_from_slice(&found[32..48]);
            (label_text(&found[299..299 + 256]), uuid_text(&uuid), epoch)
        }
        FileSystem::Fat => {
            let (label, serial) = super::fat::identity(&start);
            (label, serial, epoch)
        }
    };
    Ok(Identity {
        file_system,
        label,
        uuid,
        last_written,
    })
}
