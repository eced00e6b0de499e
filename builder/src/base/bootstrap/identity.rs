//! Identifiers that are derived from the content: the same packages give the
//! same disk, another content another identity.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::store::Digest;

/// A UUID, RFC 9562; its bytes in the order of the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uuid([u8; 16]);

impl Uuid {
    /// The UUID for `purpose` of what has the digest `seed` (version 8, "custom").
    pub(super) fn derive(seed: &Digest, purpose: &str) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&derived(seed, purpose)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// The bytes as a GUID on disk: the first three fields little-endian (UEFI
    /// specification 2.10, appendix A).
    pub(super) fn guid_bytes(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The serial number of a FAT file system, as 8 hexadecimal digits.
pub(super) fn fat_serial(seed: &Digest) -> String {
    let [a, b, c, d, ..] = derived(seed, "fat serial");
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

fn derived(seed: &Digest, purpose: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(seed.as_bytes())
        .chain_update(purpose.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_well_formed_uuids() {
        let seed = Digest::from_bytes([7; 32]);
        let uuid = Uuid::derive(&seed, "root");
        assert_eq!(uuid, Uuid::derive(&seed, "root"));
        assert_ne!(uuid, Uuid::derive(&seed, "disk"));
        let text = uuid.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "8");
        assert!("89ab".contains(&text[19..20]));
        assert_eq!(fat_serial(&seed).len(), 8);
    }

    #[test]
    fn stores_guids_in_mixed_order() {
        let uuid = Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(
            uuid.guid_bytes(),
            [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        );
    }
}
