//! GUIDs as GPT stores them, and those that nodekiln knows.

use std::fmt;

/// A GUID: the first three fields little-endian on disk, the rest in order
/// (UEFI 2.10, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid([u8; 16]);

impl Guid {
    /// All zeros: the type of an entry that is not used.
    pub const UNUSED: Self = Self([0; 16]);
    /// EFI system partition.
    pub const ESP: Self = Self::from_u128(0xC12A_7328_F81F_11D2_BA4B_00A0_C93E_C93B);
    /// Linux file system data.
    pub const LINUX_FILESYSTEM: Self = Self::from_u128(0x0FC6_3DAF_8483_4772_8E79_3D69_D847_7DE4);
    /// Root of Linux on x86-64 (Discoverable Partitions Specification).
    pub const LINUX_ROOT_X86_64: Self = Self::from_u128(0x4F68_BCE3_E8CD_4DB1_96E7_FBCA_F984_B709);
    /// Root of Linux on 64-bit ARM (Discoverable Partitions Specification).
    pub const LINUX_ROOT_ARM64: Self = Self::from_u128(0xB921_B045_1DF0_41C3_AF44_4C6F_280D_3FAE);
    /// Extended boot loader partition, XBOOTLDR (Boot Loader Specification).
    pub const EXTENDED_BOOT: Self = Self::from_u128(0xBC13_C2FF_59E6_4262_A352_B275_FD6F_7172);
    /// Linux swap.
    pub const LINUX_SWAP: Self = Self::from_u128(0x0657_FD6D_A4AB_43C4_84E5_0933_C84B_4F4F);
    /// Linux LVM physical volume.
    pub const LINUX_LVM: Self = Self::from_u128(0xE6D6_D379_F507_44C2_A23C_238F_2A3D_F928);
    /// The area that GRUB boots from on BIOS machines.
    pub const BIOS_BOOT: Self = Self::from_u128(0x2168_6148_6449_6E6F_744E_6565_6445_4649);
    /// `PowerPC` PReP boot, which some images carry for other machines.
    pub const PREP_BOOT: Self = Self::from_u128(0x9E1A_2D38_C612_4316_AA26_8B49_521E_5A8B);
    /// Microsoft basic data: NTFS, exFAT, FAT.
    pub const MICROSOFT_BASIC_DATA: Self =
        Self::from_u128(0xEBD0_A0A2_B9E5_4433_87C0_68B6_B726_99C7);
    /// Microsoft reserved partition.
    pub const MICROSOFT_RESERVED: Self = Self::from_u128(0xE3C9_E316_0B5C_4DB8_817D_F92D_F002_15AE);
    /// Windows recovery environment.
    pub const WINDOWS_RECOVERY: Self = Self::from_u128(0xDE94_BBA4_06D1_4D40_A16A_BFD5_0179_D6AC);

    /// The GUID whose text has these digits, most significant first.
    pub const fn from_u128(digits: u128) -> Self {
        let b = digits.to_be_bytes();
        Self([
            b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
            b[14], b[15],
        ])
    }

    /// The GUID with these bytes on disk.
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on disk.
    pub const fn to_disk(self) -> [u8; 16] {
        self.0
    }

    /// What the type is called, for those that nodekiln knows.
    pub fn type_name(self) -> Option<&'static str> {
        Some(match self {
            Self::ESP => "EFI system",
            Self::LINUX_FILESYSTEM => "Linux filesystem",
            Self::LINUX_ROOT_X86_64 => "Linux root (x86-64)",
            Self::LINUX_ROOT_ARM64 => "Linux root (arm64)",
            Self::EXTENDED_BOOT => "extended boot",
            Self::LINUX_SWAP => "Linux swap",
            Self::LINUX_LVM => "Linux LVM",
            Self::BIOS_BOOT => "BIOS boot",
            Self::PREP_BOOT => "PReP boot",
            Self::MICROSOFT_BASIC_DATA => "Microsoft basic data",
            Self::MICROSOFT_RESERVED => "Microsoft reserved",
            Self::WINDOWS_RECOVERY => "Windows recovery",
            _ => return None,
        })
    }
}

impl fmt::Display for Guid {
    /// Lower case with hyphens, as in `PARTUUID=`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.0;
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (position, byte) in order.into_iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{:02x}", b[byte])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_little_endian_in_its_first_three_fields() {
        assert_eq!(
            Guid::ESP.to_disk()[..8],
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]
        );
        assert_eq!(
            Guid::ESP.to_string(),
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        );
    }
}
