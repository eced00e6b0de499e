//! Writing a table back, and growing a disk.

use std::io;
use std::ops::Range;

use super::{Gpt, Origin, mbr};
use crate::disk::Storage;
use crate::error::{Class, Error, Result};

/// Partitions end on a multiple of this many bytes, as they begin on one.
const ALIGNMENT: u64 = 1 << 20;

/// Grows the table of `storage` to a disk of `new_size` bytes and partition
/// `number` to its end: the backup moves to the last sectors, the partition
/// takes what became free up to the last whole MiB, the protective MBR follows.
/// The new table is written and given back.
///
/// # Errors
/// As [`super::read`], [`Gpt::resize_disk`], [`Gpt::extend`] and [`Gpt::write`].
pub fn grow(storage: &dyn Storage, new_size: u64, number: u32) -> Result<Gpt> {
    let mut gpt = super::read(storage)?;
    gpt.resize_disk(new_size)?;
    gpt.extend(number)?;
    gpt.write(storage)?;
    super::read(storage)
}

impl Gpt {
    /// Lays the table out for a disk of `new_size` bytes; nothing is written
    /// yet.
    ///
    /// # Errors
    /// [`Class::Input`] when the size is no whole number of sectors, or a
    /// partition would not fit.
    pub fn resize_disk(&mut self, new_size: u64) -> Result<()> {
        let doing = || format!("resize the partition table to a disk of {new_size} bytes");
        if !new_size.is_multiple_of(self.sector_size) {
            return Err(Error::input(doing()).hint(format!(
                "the size must be a multiple of the sector size, {} bytes",
                self.sector_size
            )));
        }
        let sectors = new_size / self.sector_size;
        let used = self
            .last_on_disk()
            .map_or(self.header.first_usable(), |partition| partition.last_lba);
        let entry_sectors = self.entry_sectors();
        // Behind the usable sectors: the backup's entries, then its header.
        match sectors.checked_sub(entry_sectors + 2) {
            Some(last_usable) if last_usable >= used => {
                self.header.set_last_usable(last_usable);
                Ok(())
            }
            _ => Err(Error::input(doing()).hint(format!(
                "partitions and table take {} bytes",
                used.saturating_add(entry_sectors + 2)
                    .saturating_mul(self.sector_size)
            ))),
        }
    }

    /// Extends a partition to the end of the usable sectors, rounded down to a
    /// MiB; nothing is written yet. A partition that reaches further already
    /// stays as it is. Gives its place in bytes.
    ///
    /// # Errors
    /// [`Class::Input`] when there is no such partition, or another follows it.
    pub fn extend(&mut self, number: u32) -> Result<Range<u64>> {
        let doing = || format!("extend partition {number}");
        let last_usable = self.header.last_usable();
        let sector_size = self.sector_size;
        let last_number = self.last_on_disk().map(|partition| partition.number);
        let partition = self
            .partitions
            .iter_mut()
            .find(|partition| partition.number == number)
            .ok_or_else(|| Error::input(doing()).caused_by("there is no such partition"))?;
        if let Some(last) = last_number.filter(|last| *last != number) {
            return Err(Error::input(doing())
                .caused_by(format!("partition {last} lies behind it"))
                .hint("only the last partition of a disk can grow"));
        }
        let alignment = ALIGNMENT / sector_size;
        let aligned = (last_usable + 1) / alignment * alignment;
        if aligned > partition.last_lba + 1 {
            partition.last_lba = aligned - 1;
            let entry_size = self.header.entry_size() as usize;
            let at = (number as usize - 1) * entry_size + 40;
            self.entries[at..at + 8].copy_from_slice(&partition.last_lba.to_le_bytes());
        }
        Ok(partition.bytes())
    }

    fn entry_sectors(&self) -> u64 {
        self.header.entries_bytes().div_ceil(self.sector_size)
    }

    fn primary_entries(&self) -> u64 {
        match self.origin {
            // A backup does not know where the primary had its entries.
            Origin::Backup(_) => 2,
            _ => self.header.entries_lba(),
        }
    }

    /// Writes both copies and adjusts the protective MBR. Everything that is not
    /// the table, the boot code above all, stays as it is.
    ///
    /// # Errors
    /// [`Class::Internal`] when the table was not laid out for the size of
    /// `storage`; [`Class::Unsupported`] when only the backup was valid and the
    /// usual place of the other copy is taken; else what writing gives.
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        let sectors = storage.size() / self.sector_size;
        if self.header.last_usable() + self.entry_sectors() + 2 > sectors {
            return Err(Error::new(
                Class::Internal,
                format!(
                    "write a partition table that ends in sector {} to a disk of {sectors} sectors",
                    self.header.last_usable()
                ),
            ));
        }
        if self.primary_entries() + self.entry_sectors() > self.header.first_usable()
            && self.primary_entries() <= self.header.last_usable()
        {
            return Err(Error::unsupported(
                "write the partition table: a partition may lie where its first copy belongs",
            )
            .hint("mend the table first: `gdisk IMAGE`, then its commands r, b and w"));
        }
        self.write_copies(storage, sectors)
            .map_err(|error| Error::io("write the partition table", error))
    }

    fn write_copies(&self, storage: &dyn Storage, sectors: u64) -> io::Result<()> {
        let backup_lba = sectors - 1;
        let backup_entries = backup_lba - self.entry_sectors();
        let primary_entries = self.primary_entries();
        let written = [
            1..2,
            primary_entries..primary_entries + self.entry_sectors(),
            backup_entries..sectors,
        ];
        // What is left of the old backup would lie inside the grown partition.
        for old in &self.found {
            for lba in old.clone() {
                if !written.iter().any(|new| new.contains(&lba)) {
                    let zeros = vec![0; self.sector_size as usize];
                    storage.write_at(&zeros, lba * self.sector_size)?;
                }
            }
        }
        // The backup first: at every moment one of the two is valid.
        for (my_lba, alternate_lba, entries_lba) in [
            (backup_lba, 1, backup_entries),
            (1, backup_lba, primary_entries),
        ] {
            storage.write_at(&self.entries, entries_lba * self.sector_size)?;
            let sector = self
                .header
                .sealed(my_lba, alternate_lba, entries_lba, &self.entries);
            storage.write_at(&sector, my_lba * self.sector_size)?;
        }
        mbr::resize(storage, sectors)?;
        storage.flush()
    }
}
