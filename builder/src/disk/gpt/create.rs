//! A new table on an empty disk.

use super::table::{Header, USUAL_ENTRIES};
use super::{Gpt, Guid, Origin, mbr};
use crate::disk::Storage;
use crate::error::{Error, Result};

/// Size of a sector in bytes.
const SECTOR: u64 = 512;
/// Size of an entry in bytes.
const ENTRY: u64 = 128;

/// A partition to be; sectors of 512 bytes.
#[derive(Debug, Clone, Copy)]
pub struct NewPartition {
    /// From 1 to 128.
    pub number: u32,
    /// What it is for.
    pub type_guid: Guid,
    /// Which one it is.
    pub unique_guid: Guid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector.
    pub last_lba: u64,
}

/// The last sector that a partition may use on a disk of `size` bytes, with a new
/// table.
pub fn last_usable(size: u64) -> u64 {
    (size / SECTOR).saturating_sub(USUAL_ENTRIES * ENTRY / SECTOR + 2)
}

/// Writes the protective MBR and both copies of a table with `partitions` to an
/// empty disk, and gives the table as it is read back.
///
/// # Errors
/// [`crate::Class::Input`] for numbers that a table does not have; as [`super::read`]
/// when the partitions do not fit; else what the storage gives.
pub fn create(storage: &dyn Storage, disk_guid: Guid, partitions: &[NewPartition]) -> Result<Gpt> {
    let mut entries = vec![0; (USUAL_ENTRIES * ENTRY) as usize];
    for partition in partitions {
        let start = u64::from(partition.number)
            .wrapping_sub(1)
            .saturating_mul(ENTRY);
        let entry = usize::try_from(start)
            .ok()
            .and_then(|start| entries.get_mut(start..start.checked_add(ENTRY as usize)?))
            .ok_or_else(|| {
                Error::input(format!(
                    "make partition {}: there are 1 to 128",
                    partition.number
                ))
            })?;
        entry[0..16].copy_from_slice(&partition.type_guid.to_disk());
        entry[16..32].copy_from_slice(&partition.unique_guid.to_disk());
        entry[32..40].copy_from_slice(&partition.first_lba.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last_lba.to_le_bytes());
    }
    let table = Gpt {
        header: Header::new(disk_guid, last_usable(storage.size())),
        entries,
        partitions: Vec::new(),
        sector_size: SECTOR,
        origin: Origin::Both,
        found: Vec::new(),
    };
    mbr::create(storage).map_err(|error| Error::io("write the protective MBR", error))?;
    table.write(storage)?;
    super::read(storage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::Memory;

    fn partition(number: u32, first_lba: u64, last_lba: u64) -> NewPartition {
        NewPartition {
            number,
            type_guid: Guid::LINUX_FILESYSTEM,
            unique_guid: Guid::from_u128(u128::from(number)),
            first_lba,
            last_lba,
        }
    }

    #[test]
    fn a_new_table_is_read_back_and_sound_by_sgdisk() {
        let disk = Memory::new(vec![0; 8 << 20]);
        let last = last_usable(8 << 20);
        let wanted = [partition(1, 4096, last), partition(15, 2048, 4095)];
        let table = create(&disk, Guid::from_u128(7), &wanted).expect("made");
        assert_eq!(table.partitions().len(), 2);
        assert_eq!(table.partition(1).expect("there").last_lba, last);
        assert_eq!(table.usable(), (34, last));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, disk.content()).expect("writes");
        let said = crate::task::Task::new("sgdisk")
            .arg("-v")
            .arg(&path)
            .output();
        let said = String::from_utf8(said.expect("sgdisk agrees")).expect("text");
        assert!(said.contains("No problems found"), "{said}");
    }

    #[test]
    fn numbers_and_places_that_are_none_are_refused() {
        for wrong in [
            partition(0, 2048, 4095),
            partition(129, 2048, 4095),
            partition(1, 2, 4095),
            partition(1, 2048, 1 << 40),
        ] {
            let disk = Memory::new(vec![0; 8 << 20]);
            assert!(
                create(&disk, Guid::from_u128(7), &[wrong]).is_err(),
                "{wrong:?}"
            );
        }
    }
}
