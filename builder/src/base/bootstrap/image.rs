//! The disk: Ubuntu's layout of partitions with empty file systems.

use std::path::Path;

use super::files::{ESP_LABEL, ROOT_LABEL};
use super::identity::{Uuid, fat_serial};
use crate::disk::Storage;
use crate::disk::gpt::{self, Guid, NewPartition};
use crate::error::{Error, Result};
use crate::store::Digest;
use crate::task::Task;

/// Size of a sector in bytes.
const SECTOR: u64 = 512;
/// Partition 14, BIOS boot: sectors 2,048 to 10,239, 4 MiB. It stays empty: the
/// base boots by UEFI only.
const BIOS_BOOT_SECTORS: (u64, u64) = (2_048, 10_239);
/// Partition 15, EFI system: 106 MiB.
const ESP_SECTORS: (u64, u64) = (10_240, 227_327);
/// First sector of partition 1, the root; it takes the rest.
const ROOT_FIRST: u64 = 227_328;
/// Bytes of a block of the root file system.
const BLOCK: u64 = 4096;
/// Smallest disk: less does not hold the packages that every base has.
const SMALLEST: u64 = 2 << 30;

/// Whether a disk of `size` bytes can be made: whole MiB, and enough of them.
pub(crate) fn is_size(size: u64) -> bool {
    size >= SMALLEST && size.is_multiple_of(1 << 20)
}

/// Where things lie on the disk, and who they are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Size of the disk in bytes.
    pub(super) size: u64,
    /// Identity of the root file system.
    pub(super) root_uuid: Uuid,
    seed: Digest,
}

impl Layout {
    /// The layout of a disk of `size` bytes; identifiers are derived from `seed`.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when the size is too small or no whole number of
    /// MiB.
    pub(super) fn new(size: u64, seed: Digest) -> Result<Self> {
        if !is_size(size) {
            return Err(Error::input(format!(
                "make a base of {size} bytes: it must be whole MiB, and 2GiB at least"
            ))
            .hint("set spec.base.bootstrap.size, for instance to 4GiB"));
        }
        Ok(Self {
            size,
            root_uuid: Uuid::derive(&seed, "root file system"),
            seed,
        })
    }

    /// Bytes of the disk that the root file system takes.
    pub(super) fn root_range(&self) -> std::ops::Range<u64> {
        let end = gpt::last_usable(self.size) + 1;
        let length = (end - ROOT_FIRST) * SECTOR / BLOCK * BLOCK;
        ROOT_FIRST * SECTOR..ROOT_FIRST * SECTOR + length
    }

    /// Bytes of the disk that the EFI system partition takes.
    pub(super) fn esp_range() -> std::ops::Range<u64> {
        ESP_SECTORS.0 * SECTOR..(ESP_SECTORS.1 + 1) * SECTOR
    }

    /// Writes the partition table.
    ///
    /// # Errors
    /// What the storage gives.
    pub(super) fn partition(&self, disk: &dyn Storage) -> Result<()> {
        let guid = |purpose| Guid::from_disk(Uuid::derive(&self.seed, purpose).guid_bytes());
        let partition = |number, type_guid, (first_lba, last_lba), purpose| NewPartition {
            number,
            type_guid,
            unique_guid: guid(purpose),
            first_lba,
            last_lba,
        };
        let root = (ROOT_FIRST, gpt::last_usable(self.size));
        let partitions = [
            partition(1, Guid::LINUX_FILESYSTEM, root, "root partition"),
            partition(
                14,
                Guid::BIOS_BOOT,
                BIOS_BOOT_SECTORS,
                "BIOS boot partition",
            ),
            partition(15, Guid::ESP, ESP_SECTORS, "EFI system partition"),
        ];
        gpt::create(disk, guid("disk"), &partitions)
            .map(drop)
            .map_err(|error| error.context("write the partition table of the base image"))
    }

    /// Makes both file systems in the image file. The features are those of
    /// Ubuntu 24.04 but for `orphan_file`; the machine's own `mke2fs.conf` is not asked.
    ///
    /// The kernel marks it as in use in the copies of the superblock that it writes while
    /// it grows the root, and e2fsck before 1.47.1 takes that for damage: it would check
    /// the whole disk at the second boot, and have the machine restart once more.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when a tool is missing or fails.
    pub(super) fn make_file_systems(&self, image: &Path, epoch: i64) -> Result<()> {
        let root = self.root_range();
        let hash_seed = Uuid::derive(&self.seed, "hash seed");
        Task::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384"])
            .args(["-m", "1", "-J", "size=64", "-L", ROOT_LABEL, "-M", "/"])
            .arg("-O")
            .arg(
                "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
                 flex_bg,metadata_csum_seed,sparse_super,large_file,huge_file,dir_nlink,extra_isize,\
                 metadata_csum",
            )
            .args(["-U", &self.root_uuid.to_string()])
            .arg("-E")
            .arg(format!(
                "offset={},hash_seed={hash_seed},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
                root.start
            ))
            .arg(image)
            .arg(((root.end - root.start) / BLOCK).to_string())
            .env("E2FSPROGS_FAKE_TIME", epoch.to_string())
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .env("MKE2FS_CONFIG", "/dev/null")
            .output()
            .map_err(|error| error.context("make the root file system"))?;
        let esp = Self::esp_range();
        Task::new("mkfs.vfat")
            .args([
                "--invariant",
                "--mbr=n",
                "-F",
                "32",
                "-s",
                "1",
                "-n",
                ESP_LABEL,
            ])
            .args(["-i", &fat_serial(&self.seed)])
            .args(["-h", &ESP_SECTORS.0.to_string()])
            .args(["--offset", &ESP_SECTORS.0.to_string()])
            .arg(image)
            .arg(((esp.end - esp.start) / 1024).to_string())
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .output()
            .map_err(|error| error.context("make the EFI system partition"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_the_root_last_and_in_whole_blocks() {
        let layout = Layout::new(4 << 30, Digest::from_bytes([1; 32])).expect("good size");
        let root = layout.root_range();
        assert_eq!(root.start, 116_391_936);
        assert_eq!((root.end - root.start) % BLOCK, 0);
        assert!(root.end <= (4 << 30) - 33 * SECTOR);
        assert!(Layout::new(1 << 30, Digest::from_bytes([1; 32])).is_err());
        assert!(Layout::new((4 << 30) + 1, Digest::from_bytes([1; 32])).is_err());
    }
}
