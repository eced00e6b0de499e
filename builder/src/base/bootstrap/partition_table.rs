//! A new GUID partition table (UEFI specification 2.10, section 5).

use std::io;

use super::identity::Uuid;
use crate::disk::Storage;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
const ENTRIES: u32 = 128;
const ENTRY_SIZE: u32 = 128;
/// Sectors of the array of entries.
const ARRAY: u64 = (ENTRIES as u64 * ENTRY_SIZE as u64) / SECTOR;
const HEADER_SIZE: usize = 92;

/// EFI system partition: C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
pub(super) const ESP: Uuid = Uuid::from_bytes([
    0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
]);
/// BIOS boot partition (GRUB manual, "BIOS installation"):
/// 21686148-6449-6E6F-744E-656564454649.
pub(super) const BIOS_BOOT: Uuid = Uuid::from_bytes([
    0x21, 0x68, 0x61, 0x48, 0x64, 0x49, 0x6e, 0x6f, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49,
]);
/// Linux file system data: 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
pub(super) const LINUX: Uuid = Uuid::from_bytes([
    0x0f, 0xc6, 0x3d, 0xaf, 0x84, 0x83, 0x47, 0x72, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
]);

/// A partition to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partition {
    /// From 1 to 128.
    pub(super) number: u32,
    /// What it is for.
    pub(super) kind: Uuid,
    /// Which one it is.
    pub(super) guid: Uuid,
    /// First sector.
    pub(super) first: u64,
    /// Last sector.
    pub(super) last: u64,
}

/// The last sector that a partition may use on a disk of `size` bytes.
pub(super) fn last_usable(size: u64) -> u64 {
    size / SECTOR - ARRAY - 2
}

/// Writes the protective MBR and both copies of the table to an empty disk.
///
/// # Errors
/// What the storage gives.
pub(super) fn write(disk: &dyn Storage, guid: Uuid, partitions: &[Partition]) -> io::Result<()> {
    let sectors = disk.size() / SECTOR;
    let last = sectors - 1;
    let mut array = vec![0; (ENTRIES * ENTRY_SIZE) as usize];
    for partition in partitions {
        let start = ((partition.number - 1) * ENTRY_SIZE) as usize;
        let entry = &mut array[start..start + ENTRY_SIZE as usize];
        entry[0..16].copy_from_slice(&partition.kind.guid_bytes());
        entry[16..32].copy_from_slice(&partition.guid.guid_bytes());
        entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
    }
    let array_crc = crc32fast::hash(&array);
    let header = |own: u64, other: u64, array_at: u64| {
        let mut header = [0; SECTOR as usize];
        header[0..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
        header[12..16].copy_from_slice(&(HEADER_SIZE as u32).to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&(2 + ARRAY).to_le_bytes());
        header[48..56].copy_from_slice(&last_usable(disk.size()).to_le_bytes());
        header[56..72].copy_from_slice(&guid.guid_bytes());
        header[72..80].copy_from_slice(&array_at.to_le_bytes());
        header[80..84].copy_from_slice(&ENTRIES.to_le_bytes());
        header[84..88].copy_from_slice(&ENTRY_SIZE.to_le_bytes());
        header[88..92].copy_from_slice(&array_crc.to_le_bytes());
        let crc = crc32fast::hash(&header[..HEADER_SIZE]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header
    };
    disk.write_at(&protective_mbr(last), 0)?;
    disk.write_at(&header(1, last, 2), SECTOR)?;
    disk.write_at(&array, 2 * SECTOR)?;
    disk.write_at(&array, (last - ARRAY) * SECTOR)?;
    disk.write_at(&header(last, 1, last - ARRAY), last * SECTOR)
}

/// One entry of type 0xEE over the whole disk, so that old programs leave it
/// alone.
fn protective_mbr(last: u64) -> [u8; SECTOR as usize] {
    let mut mbr = [0; SECTOR as usize];
    let entry = &mut mbr[446..462];
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    let covered = u32::try_from(last).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&covered.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
