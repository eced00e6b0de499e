//! Label, UUID and last write, read from the superblock alone.

use std::io;

use super::ext4::gate;
use super::{FileSystem, Timestamp};
use crate::disk::Storage;

/// Sixteen bytes in the usual form, 8-4-4-4-12 hexadecimal digits.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(*uuid));
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|range| &digits[range])
        .join("-")
}

/// Label, UUID and, where it is recorded, the last write.
pub(super) fn read(
    storage: &dyn Storage,
    kind: FileSystem,
) -> io::Result<(String, String, Option<Timestamp>)> {
    let mut start = vec![0; 2048];
    storage.read_at(&mut start, 0)?;
    Ok(match kind {
        FileSystem::Ext4 => {
            let (label, uuid, written) = gate::identity(&start[1024..]);
            (label, uuid_text(&uuid), Some(written))
        }
        // fs/xfs/libxfs/xfs_format.h, struct xfs_dsb: sb_uuid, sb_fname.
        FileSystem::Xfs => {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(&start[32..48]);
            let label = &start[108..120];
            let end = label.iter().position(|byte| *byte == 0).unwrap_or(12);
            (
                String::from_utf8_lossy(&label[..end]).into_owned(),
                uuid_text(&uuid),
                None,
            )
        }
        FileSystem::Fat => {
            let (label, serial) = super::fat::identity(&start);
            (label, serial, None)
        }
    })
}
