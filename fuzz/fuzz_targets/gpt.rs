//! Any bytes as a disk with a GPT: reading, growing and writing must not panic,
//! and what was written must be readable. The checksums are mended first, or
//! hardly any input would come past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::disk::Storage;
use nodekiln::disk::gpt;
use nodekiln::disk::memory::Memory;

const SECTOR: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for lba in [1, (bytes.len() / SECTOR).saturating_sub(1)] {
        seal(&mut bytes, lba);
    }
    bytes.resize(bytes.len() + (1 << 20), 0);
    let disk = Memory::new(bytes);
    let Ok(mut table) = gpt::read(&disk) else {
        return;
    };
    for partition in table.partitions() {
        assert!(partition.bytes().end <= disk.size());
    }
    if table.resize_disk(disk.size() / 4096 * 4096).is_err() {
        return;
    }
    if let Some(number) = table.last_on_disk().map(|partition| partition.number) {
        table.extend(number).ok();
    }
    if table.write(&disk).is_ok() {
        gpt::read(&disk).expect("what was written can be read");
    }
});

/// Makes the checksums of the header in sector `lba` right.
fn seal(bytes: &mut [u8], lba: usize) {
    let Some(mut header) = bytes
        .get(lba * SECTOR..(lba + 1) * SECTOR)
        .map(<[u8]>::to_vec)
    else {
        return;
    };
    let field = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    };
    let start = field(72).saturating_mul(SECTOR);
    let end = start.saturating_add(field(80).saturating_mul(field(84)));
    let entries = crc32fast::hash(bytes.get(start..end).unwrap_or_default());
    let size = field(12).min(SECTOR);
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    header[16..20].fill(0);
    let checksum = crc32fast::hash(&header[..size]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes[lba * SECTOR..(lba + 1) * SECTOR].copy_from_slice(&header);
}
