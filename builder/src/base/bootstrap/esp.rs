//! The EFI system partition: shim, GRUB, and the way to the root.

use std::collections::BTreeMap;

use super::files::grub_stub;
use super::identity::Uuid;
use super::packages::Platform;
use super::root::Kept;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::{Attributes, Timestamp, Volume, create_parents};

/// Writes the boot files. The path for removable media (UEFI specification 2.10,
/// section 3.5.1.1) boots without a variable in the firmware; shim looks for GRUB
/// beside itself, and Debian's GRUB for its configuration in `EFI/debian`.
///
/// # Errors
/// What the volume refuses.
pub(super) fn fill(
    volume: &mut dyn Volume,
    root_uuid: Uuid,
    platform: Platform,
    kept: &Kept,
    epoch: Timestamp,
) -> Result<()> {
    let suffix = platform.efi;
    let stub = grub_stub(&root_uuid.to_string()).into_bytes();
    let boot = format!("/EFI/BOOT/BOOT{}.EFI", suffix.to_uppercase());
    let files: [(String, &[u8]); 5] = [
        (boot, &kept.shim),
        (format!("/EFI/BOOT/grub{suffix}.efi"), &kept.grub),
        (format!("/EFI/BOOT/mm{suffix}.efi"), &kept.key_manager),
        ("/EFI/BOOT/grub.cfg".to_owned(), &stub),
        ("/EFI/debian/grub.cfg".to_owned(), &stub),
    ];
    let attributes = |mode| Attributes {
        mode,
        uid: 0,
        gid: 0,
        modified: epoch,
        xattrs: BTreeMap::new(),
    };
    for (path, content) in files {
        let path = ImagePath::new(path)?;
        create_parents(volume, &path, &attributes(0o755))?;
        volume.write_file(
            &path,
            content.len() as u64,
            &mut &*content,
            &attributes(0o644),
        )?;
    }
    Ok(())
}
