//! FAT12, FAT16 and FAT32.

/// Whether `sector`, the first 512 bytes of a partition, begins a FAT file
/// system (Microsoft, "FAT: General Overview of On-Disk Format", BPB).
pub fn recognise(sector: &[u8]) -> bool {
    let Some(sector) = sector.get(..512) else {
        return false;
    };
    let bytes = u16::from_le_bytes([sector[11], sector[12]]);
    let jump = sector[0] == 0xEB && sector[2] == 0x90 || sector[0] == 0xE9;
    jump && sector[510..] == [0x55, 0xAA]
        && (512..=4096).contains(&bytes)
        && bytes.is_power_of_two()
        && sector[13].is_power_of_two()
        && matches!(sector[16], 1 | 2)
        && (sector[21] == 0xF0 || sector[21] >= 0xF8)
}
