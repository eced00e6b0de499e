//! Triggers of dpkg (deb-triggers(5)): what other packages would do because of a new one,
//! and what a new one wants to be told of.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::packages::Package;
use crate::packages::deb::{Deb, Trigger};
use crate::plan::draft::Draft;

/// dpkg's folder of triggers: `File` holds those of paths, any other file those of a name.
const FOLDER: &str = "/var/lib/dpkg/triggers";
/// The trigger that renews the dynamic linker's cache.
pub(super) const LDCONFIG: &str = "ldconfig";
/// Packages whose work on a trigger is nothing that an image lacks: man-db indexes manual
/// pages, once more every day; dbus has a running bus read its configuration again.
const HARMLESS: [&str; 2] = ["man-db", "dbus"];

/// Who waits for what.
pub(super) struct Triggers {
    /// Packages by path.
    paths: BTreeMap<ImagePath, BTreeSet<String>>,
    /// The file of paths, as it is.
    file: String,
}

impl Triggers {
    pub fn read(draft: &mut Draft<'_>) -> Result<Self> {
        let file = draft.read_text(&fixed(FOLDER).join("File")?)?;
        let file = file.unwrap_or_default();
        let mut paths: BTreeMap<ImagePath, BTreeSet<String>> = BTreeMap::new();
        for line in file.lines() {
            let Some((path, package)) = line.rsplit_once(' ') else {
                continue;
            };
            if let Ok(path) = ImagePath::new(path) {
                paths.entry(path).or_default().insert(package_name(package));
            }
        }
        Ok(Self { paths, file })
    }

    /// What other packages would run because of this one, in words; [`LDCONFIG`] for the
    /// work of the linker's cache.
    pub fn set_off(
        &self,
        draft: &mut Draft<'_>,
        package: &Package,
        deb: &Deb,
    ) -> Result<Vec<String>> {
        let mut set_off: BTreeMap<String, String> = BTreeMap::new();
        let mut note = |owners: &BTreeSet<String>, by: &str| {
            for owner in owners {
                let is_own = *owner == deb.name;
                if !is_own && !HARMLESS.contains(&owner.as_str()) {
                    set_off
                        .entry(owner.clone())
                        .or_insert_with(|| by.to_owned());
                }
            }
        };
        let mut seen = BTreeSet::new();
        for item in &package.items {
            for spelling in super::spellings(draft, &item.path)? {
                let mut at = Some(spelling);
                while let Some(path) = at.filter(|path| seen.insert(path.clone())) {
                    if let Some(owners) = self.paths.get(&path) {
                        note(owners, &path.to_string());
                    }
                    at = path.parent();
                }
            }
        }
        let mut ldconfig = false;
        for trigger in &deb.triggers {
            let Trigger::Activate(name) = trigger else {
                continue;
            };
            if name == LDCONFIG {
                ldconfig = true;
            } else if name.starts_with('/') {
                let path = ImagePath::new(name)?;
                note(self.paths.get(&path).unwrap_or(&BTreeSet::new()), name);
            } else if !name.contains('/') {
                let text = draft.read_text(&fixed(FOLDER).join(name)?)?;
                let owners = text.unwrap_or_default().lines().map(package_name).collect();
                note(&owners, name);
            }
        }
        let words = |(owner, by): (String, String)| format!("the trigger {by} of {owner}");
        let mut words: Vec<String> = set_off.into_iter().map(words).collect();
        words.extend(ldconfig.then(|| LDCONFIG.to_owned()));
        Ok(words)
    }

    /// Records what a new package wants to be told of. `called` is its name in this record.
    pub fn record(
        &mut self,
        draft: &mut Draft<'_>,
        deb: &Deb,
        called: &str,
        reason: &str,
    ) -> Result<()> {
        for trigger in &deb.triggers {
            let Trigger::Interest(name, is_noawait) = trigger else {
                continue;
            };
            let suffix = if *is_noawait { "/noawait" } else { "" };
            if name.starts_with('/') {
                self.file += &format!("{name} {called}{suffix}\n");
                let path = fixed(FOLDER).join("File")?;
                draft.edit_text(&path, self.file.clone(), reason)?;
            } else if !name.contains('/') {
                let path = fixed(FOLDER).join(name)?;
                let mut text = draft.read_text(&path)?.unwrap_or_default();
                text += &format!("{called}{suffix}\n");
                draft.edit_text(&path, text, reason)?;
            }
        }
        Ok(())
    }
}

/// The name in `NAME[:ARCHITECTURE][/noawait]`.
fn package_name(text: &str) -> String {
    let end = text.find([':', '/']).unwrap_or(text.len());
    text[..end].trim().to_owned()
}
