//! FAT12, FAT16 and FAT32.

pub mod check;

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

/// Label and serial number (`ABCD-1234`) of a boot sector.
pub(super) fn identity(sector: &[u8]) -> (String, String) {
    // FAT32 has 28 more bytes before the same fields.
    let wide = sector[22] == 0 && sector[23] == 0;
    let at = if wide { 67 } else { 39 };
    let serial = format!(
        "{:02X}{:02X}-{:02X}{:02X}",
        sector[at + 3],
        sector[at + 2],
        sector[at + 1],
        sector[at]
    );
    let label = String::from_utf8_lossy(&sector[at + 4..at + 15])
        .trim_end()
        .to_owned();
    (
        if label == "NO NAME" {
            String::new()
        } else {
            label
        },
        serial,
    )
}
