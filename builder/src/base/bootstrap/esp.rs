//! The EFI system partition: shim, GRUB, and the way to the root.

use std::path::Path;

use super::files::grub_stub;
use super::image::Layout;
use super::packages::Platform;
use super::root::Kept;
use crate::error::{Context as _, Result};
use crate::task::Task;

/// Writes the boot files with mtools. The removable-media path (UEFI
/// specification 2.10, section 3.5.1.1) boots without a variable in the firmware;
/// shim looks for GRUB beside itself, and Debian's GRUB for its configuration in
/// `EFI/debian`.
///
/// # Errors
/// [`crate::Class::Environment`] when mtools is missing or fails.
pub(super) fn fill(
    image: &Path,
    work: &Path,
    layout: &Layout,
    platform: Platform,
    kept: &Kept,
    epoch: i64,
) -> Result<()> {
    let suffix = platform.efi;
    let stub = grub_stub(&layout.root_uuid.to_string()).into_bytes();
    let boot = format!("EFI/BOOT/BOOT{}.EFI", suffix.to_uppercase());
    let files: [(String, &[u8]); 5] = [
        (boot, &kept.shim),
        (format!("EFI/BOOT/grub{suffix}.efi"), &kept.grub),
        (format!("EFI/BOOT/mm{suffix}.efi"), &kept.key_manager),
        ("EFI/BOOT/grub.cfg".to_owned(), &stub),
        ("EFI/debian/grub.cfg".to_owned(), &stub),
    ];
    let drive = format!("{}@@{}", image.display(), Layout::esp_range().start);
    let tool = |name: &str| {
        Task::new(name)
            .args(["-i", &drive])
            // The machine's own mtools.conf must not matter.
            .env("MTOOLSRC", "/dev/null")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
    };
    tool("mmd")
        .args(["::EFI", "::EFI/BOOT", "::EFI/debian"])
        .output()
        .map_err(|error| error.context("make the folders of the EFI system partition"))?;
    for (path, content) in files {
        let source = work.join("esp-file");
        std::fs::write(&source, content).doing(|| format!("write {}", source.display()))?;
        tool("mcopy")
            .arg(&source)
            .arg(format!("::{path}"))
            .output()
            .map_err(|error| error.context(format!("write {path}")))?;
    }
    Ok(())
}
