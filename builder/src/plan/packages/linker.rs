//! The cache of the dynamic linker, which `ldconfig` renews.

use crate::error::Result;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::packages::{Kind, Package};
use crate::plan::draft::Draft;

/// Folders in which the dynamic linker looks without its cache, below `/` and `/usr`.
const LINKER_FOLDERS: [&str; 4] = [
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];
/// Where its configuration names more.
const LINKER_CONFIGURATION: &str = "/etc/ld.so.conf.d";

/// Why the cache would have to be renewed, in words: a library of the package that the
/// dynamic linker finds by it alone, or a file that changes where it looks.
pub(super) fn cached_library(draft: &mut Draft<'_>, package: &Package) -> Result<Option<String>> {
    let mut folders = Vec::new();
    let configuration = fixed(LINKER_CONFIGURATION);
    for entry in draft.list_following(&configuration)? {
        let text = draft.read_text(&configuration.join(&entry.name)?)?;
        let lines = text.unwrap_or_default();
        folders.extend(
            lines
                .lines()
                .map(|line| line.trim().trim_end_matches('/').to_owned()),
        );
    }
    let is_default = |folder: &str| {
        let below = folder
            .strip_prefix("/usr")
            .unwrap_or(folder)
            .trim_start_matches('/');
        LINKER_FOLDERS.contains(&below)
    };
    Ok(package.items.iter().find_map(|item| {
        let path = item.path.as_str()?;
        if item.kind == Kind::Directory {
            return None;
        }
        let (folder, name) = path.rsplit_once('/')?;
        let is_library = name.ends_with(".so") || name.contains(".so.");
        let is_cached =
            is_library && !is_default(folder) && folders.iter().any(|known| known == folder);
        (is_cached || folder == LINKER_CONFIGURATION)
            .then(|| format!("ldconfig: {path} is found by its cache only"))
    }))
}
