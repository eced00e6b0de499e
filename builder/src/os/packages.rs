//! Installed packages, as the image's own database tells.

use std::collections::BTreeMap;

use super::tree::{Tree, fixed};
use super::{PackageDatabase, rpm};
use crate::error::Result;
use crate::volume::Kind;

/// Version by package name.
pub type Versions = BTreeMap<String, String>;

/// The packages that dpkg or rpm has installed; empty without a database. Distroless-style
/// images keep one file a package in `status.d`.
///
/// # Errors
/// As [`rpm::installed`]; what the volume gives.
pub fn installed(image: &mut dyn Tree, database: PackageDatabase) -> Result<Versions> {
    if database == PackageDatabase::Rpm {
        return Ok(rpm::installed(image)?.unwrap_or_default());
    }
    let mut versions = Versions::new();
    if let Some(text) = image.read_text(&fixed("/var/lib/dpkg/status"))? {
        versions.extend(parse_status(&text));
    }
    let folder = fixed("/var/lib/dpkg/status.d");
    for entry in image.list_following(&folder)? {
        if entry.kind == Kind::File
            && let Some(text) = image.read_text(&folder.join(&entry.name)?)?
        {
            // These files have no `Status` field: their presence is the status.
            let text = format!("Status: install ok installed\n{text}");
            versions.extend(parse_status(&text));
        }
    }
    Ok(versions)
}

/// Reads dpkg's status file: paragraphs of `Field: value` lines.
pub fn parse_status(text: &str) -> Versions {
    let mut versions = Versions::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(|value| value.trim().to_owned())
            })
        };
        let is_installed = field("Status").is_some_and(|status| status.ends_with(" installed"));
        if let (true, Some(package), Some(version)) =
            (is_installed, field("Package"), field("Version"))
        {
            versions.insert(package, version);
        }
    }
    versions
}
