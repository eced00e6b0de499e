//! The protective MBR in front of a GPT, and what a disk without GPT is.

use crate::disk::Storage;
use crate::error::{Error, Result};

/// Size of an MBR in bytes, whatever the sector size.
const MBR: usize = 512;
/// Offset of the four entries of 16 bytes each, in bytes; boot code and disk
/// signature lie before.
const ENTRIES: usize = 446;
/// The partition type that guards a GPT.
const PROTECTIVE: u8 = 0xEE;

fn entry_offset(index: usize) -> usize {
    ENTRIES + 16 * index
}

fn is_mbr(sector: &[u8; MBR]) -> bool {
    sector[510..] == [0x55, 0xAA]
}

fn read(storage: &dyn Storage) -> Result<[u8; MBR]> {
    let mut sector = [0; MBR];
    storage
        .read_at(&mut sector, 0)
        .map_err(|error| Error::io("read the master boot record", error))?;
    Ok(sector)
}

/// Refuses a GPT that no MBR announces: firmware and kernels ignore it.
pub(super) fn check(storage: &dyn Storage) -> Result<()> {
    let sector = read(storage)?;
    let types: Vec<u8> = (0..4)
        .map(|index| sector[entry_offset(index) + 4])
        .collect();
    if is_mbr(&sector) && types.contains(&PROTECTIVE) {
        return Ok(());
    }
    Err(
        Error::input("read the partition table: no protective MBR stands in front of it").hint(
            "firmware ignores such a table: it may be left over from an earlier use of the disk; \
             if it is meant, `gdisk IMAGE` and its command w write the MBR",
        ),
    )
}

/// Says what a disk without any GPT seems to be.
///
/// # Errors
/// What reading the disk gives; the explanation is the value.
pub(super) fn explain_absence(storage: &dyn Storage) -> std::io::Result<Error> {
    const DOING: &str = "read the partition table";
    let peek = |offset: u64, length: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        if offset + length as u64 <= storage.size() {
            storage.read_at(&mut bytes, offset)?;
        }
        Ok(bytes)
    };
    let sector: [u8; MBR] = peek(0, MBR)?.try_into().unwrap_or([0; MBR]);
    let file_system = if peek(1024 + 56, 2)? == [0x53, 0xEF] {
        Some("an ext2, ext3 or ext4 file system")
    } else if &sector[..4] == b"XFSB" {
        Some("an XFS file system")
    } else if &sector[3..11] == b"NTFS    " {
        Some("an NTFS file system")
    } else if &sector[54..57] == b"FAT" || &sector[82..87] == b"FAT32" {
        Some("a FAT file system")
    } else if peek(0x10040, 8)? == b"_BHRfS_M" {
        Some("a Btrfs file system")
    } else if &sector[..6] == b"LUKS\xba\xbe" {
        Some("an encrypted volume (LUKS)")
    } else {
        None
    };
    Ok(if let Some(what) = file_system {
        Error::unsupported(DOING)
            .caused_by(format!(
                "there is none: the image is {what} without partitions"
            ))
            .hint("nodekiln bakes whole disks: use the disk image that the publisher boots")
    } else if is_mbr(&sector) && (0..4).any(|index| sector[entry_offset(index) + 4] != 0) {
        Error::unsupported(DOING)
            .caused_by("the disk has MBR partitions, not a GPT")
            .hint("use the UEFI variant of the image, or convert a copy: sgdisk --mbrtogpt IMAGE")
    } else {
        Error::input(DOING)
            .caused_by("there is no partition table")
            .hint("is this a disk image, and unpacked? `file IMAGE` tells what it is")
    })
}

/// Makes the protective entry cover `sectors` sectors; boot code, disk signature
/// and other entries stay as they are. Nothing is written when nothing changes.
pub(super) fn resize(storage: &dyn Storage, sectors: u64) -> std::io::Result<()> {
    let mut sector = [0; MBR];
    storage.read_at(&mut sector, 0)?;
    let before = sector;
    for index in 0..4 {
        let entry = &mut sector[entry_offset(index)..entry_offset(index + 1)];
        let first = u32::from_le_bytes(entry[8..12].try_into().expect("four bytes"));
        // In a hybrid MBR the protective entry may guard only a part of the disk.
        if entry[4] == PROTECTIVE && first == 1 {
            let last = sectors - 1;
            let length = u32::try_from(last).unwrap_or(u32::MAX);
            entry[12..16].copy_from_slice(&length.to_le_bytes());
            entry[5..8].copy_from_slice(&cylinder_head_sector(last));
        }
    }
    if sector == before {
        return Ok(());
    }
    storage.write_at(&sector[ENTRIES..], ENTRIES as u64)
}

/// Writes a protective MBR over the whole disk, so that old programs leave it
/// alone, to where none is.
pub(super) fn create(storage: &dyn Storage) -> std::io::Result<()> {
    let mut sector = [0; MBR];
    let entry = &mut sector[entry_offset(0)..entry_offset(1)];
    entry[1..4].copy_from_slice(&cylinder_head_sector(1));
    entry[4] = PROTECTIVE;
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    storage.write_at(&sector, 0)
    // Its end is that of the table, which is written next.
}

/// A sector number as cylinder, head and sector, with the 255 heads and 63
/// sectors that firmware has assumed since large disks exist; all ones where
/// that cannot tell it (UEFI 2.10, 5.2.3).
fn cylinder_head_sector(lba: u64) -> [u8; 3] {
    let (cylinder, head, sector) = (lba / (255 * 63), lba / 63 % 255, lba % 63 + 1);
    if cylinder > 1023 {
        return [0xFF; 3];
    }
    [
        head as u8,
        sector as u8 | ((cylinder >> 2) as u8 & 0xC0),
        cylinder as u8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_sector_as_old_firmware_counts() {
        assert_eq!(cylinder_head_sector(0), [0, 1, 0]);
        assert_eq!(cylinder_head_sector(63 * 255 * 1023), [0, 0xC1, 0xFF]);
        assert_eq!(cylinder_head_sector(63 * 255 * 1024), [0xFF; 3]);
    }
}
