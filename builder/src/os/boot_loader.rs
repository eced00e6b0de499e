//! What starts the kernel: GRUB's configuration, and entries by the Boot Loader
//! Specification (<https://uapi-group.org/specifications/specs/boot_loader_specification/>),
//! which Red Hat's GRUB reads (`blscfg`).

use super::tree::{Tree, fixed};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::Kind;

/// What GRUB reads: Debian's and Ubuntu's place, Red Hat's and Amazon's.
pub const CONFIGURATIONS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
/// Boot entries, one file each.
pub const ENTRIES: &str = "/boot/loader/entries";
/// GRUB's variables: 1024 bytes, of which `#` fills the rest. On machines that boot by UEFI
/// it is a link into the EFI system partition.
pub const ENVIRONMENT: &str = "/boot/grub2/grubenv";
/// The variable in which Red Hat Enterprise Linux 8 keeps the arguments of all entries.
pub const KERNEL_OPTIONS: &str = "kernelopts";
/// How entries name it.
pub const KERNEL_OPTIONS_IN_ENTRY: &str = "$kernelopts";

/// Files of boot entries, but for those of a rescue system, sorted.
///
/// # Errors
/// What the volume gives.
pub fn entries(image: &mut dyn Tree) -> Result<Vec<ImagePath>> {
    let folder = fixed(ENTRIES);
    let mut found = Vec::new();
    for entry in image.list_following(&folder)? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if entry.kind == Kind::File && name.ends_with(".conf") && !name.contains("-rescue") {
            found.push(folder.join(&entry.name)?);
        }
    }
    Ok(found)
}

/// Arguments that the kernel is started with, of all entries together.
///
/// # Errors
/// What the volume gives.
pub fn arguments(image: &mut dyn Tree) -> Result<String> {
    let mut found = String::new();
    for path in CONFIGURATIONS {
        let text = image.read_text(&fixed(path))?.unwrap_or_default();
        for line in text.lines().map(str::trim_start) {
            if let Some(rest) = line.strip_prefix("linux") {
                found = found + " " + rest;
            }
        }
    }
    let environment = image.read_text(&fixed(ENVIRONMENT))?.unwrap_or_default();
    for path in entries(image)? {
        let text = image.read_text(&path)?.unwrap_or_default();
        for options in text.lines().filter_map(options) {
            found = found + " " + options;
            if options.contains(KERNEL_OPTIONS_IN_ENTRY) {
                found = found + " " + kernel_options(&environment).unwrap_or_default();
            }
        }
    }
    Ok(found)
}

/// The value of a line `options` of an entry.
pub fn options(line: &str) -> Option<&str> {
    let value = line.trim_start().strip_prefix("options")?;
    value.starts_with([' ', '\t']).then(|| value.trim())
}

/// The arguments in GRUB's variables.
pub fn kernel_options(environment: &str) -> Option<&str> {
    environment
        .lines()
        .find_map(|line| line.strip_prefix(KERNEL_OPTIONS)?.strip_prefix('='))
}
