//! Whether what would run for a package may be left out of an image.

use crate::error::Error;
use crate::error::Result;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::packages::deb::{Deb, INSTALL_SCRIPTS, scripts};
use crate::packages::{Kind, Package};
use crate::plan::draft::Draft;

use super::Wishes;

/// Lines of one script that an error names.
const LINES_SHOWN: usize = 8;
/// Folders in which the dynamic linker looks without its cache, below `/` and `/usr`.
const LINKER_FOLDERS: [&str; 4] = [
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];
/// Where its configuration names more.
const LINKER_CONFIGURATION: &str = "/etc/ld.so.conf.d";

/// What would run for a package, in words; what is accepted goes into `wishes`.
pub(super) fn would_run(
    draft: &mut Draft<'_>,
    package: &Package,
    deb: &Deb,
    triggered: Vec<String>,
    wishes: &mut Wishes,
) -> Result<Option<Error>> {
    let mut runs = Vec::new();
    let mut ldconfig = false;
    for name in INSTALL_SCRIPTS {
        let Some(file) = deb.files.get(name) else {
            continue;
        };
        let text = String::from_utf8_lossy(&file.content);
        match scripts::judge(&text) {
            Ok(effects) => {
                ldconfig |= effects.ldconfig;
                wishes.enable.extend(effects.enable);
            }
            Err(lines) => runs.push(format!("{name}: {}", shown(&lines))),
        }
    }
    for trigger in triggered {
        if trigger == super::triggers::LDCONFIG {
            ldconfig = true;
        } else {
            runs.push(trigger);
        }
    }
    if ldconfig && let Some(library) = cached_library(draft, package)? {
        runs.push(format!("ldconfig: {library} is found by its cache only"));
    }
    if runs.is_empty() || package.ignore_scripts.is_some() {
        return Ok(None);
    }
    Ok(Some(
        Error::unsupported(format!(
            "install the package {} {}: nothing of a package is run, and this would matter: {}",
            deb.name,
            deb.version,
            runs.join("; ")
        ))
        .hint(
            "when the image can do without it, or the profile does it (users, services, overlays), \
             say why with ignoreScripts",
        ),
    ))
}

fn shown(lines: &[String]) -> String {
    let more = lines.len().saturating_sub(LINES_SHOWN);
    let mut text = lines[..lines.len() - more]
        .iter()
        .map(|line| format!("`{}`", line.escape_debug()))
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text += &format!(" and {more} more lines");
    }
    text
}

/// A library of the package that the dynamic linker finds by its cache alone, or a file
/// that changes where it looks.
fn cached_library(draft: &mut Draft<'_>, package: &Package) -> Result<Option<String>> {
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
        (is_cached || folder == LINKER_CONFIGURATION).then(|| path.to_owned())
    }))
}
