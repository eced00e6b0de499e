//! systemd units switched on, off and out of reach, as `systemctl --root` does
//! (systemd 252, `src/shared/install.c`): by links below `/etc/systemd/system`.
//!
//! The profile's word goes over presets: a unit that nodekiln lays is enabled when
//! the profile asks for it, and [`PRESET`] says the same, since systemd applies all
//! presets on the first boot of an image without a machine-id.

mod preset;
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::draft::Draft;
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::profile::model::Services;
use crate::profile::nearest;
use crate::volume::Kind;
use unit::{Install, UnitName};

/// Where the administrator's units and all links are.
const CONFIGURATION: &str = "/etc/systemd/system";
/// The folders of units, the first one wins. systemd knows others below `/run`,
/// which no image has.
pub const UNIT_FOLDERS: [&str; 4] = [
    CONFIGURATION,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The preset of the profile's wish: no other sorts before it.
pub const PRESET: &str = "/etc/systemd/system-preset/00-nodekiln.preset";
/// Units that one `Also=` chain may reach.
const MAX_UNITS: usize = 256;
/// Folders in each other below `/etc/systemd/system` that are looked into.
const MAX_DEPTH: usize = 4;

pub(super) fn plan(draft: &mut Draft<'_>, wish: &Services) -> Result<()> {
    let mut units = Units::new(draft)?;
    let mut problems = Vec::new();
    for name in &wish.disable {
        problems.extend(units.disable(name).err());
    }
    // Before enable, so that enabling what is masked is found.
    for name in &wish.mask {
        problems.extend(units.mask(name).err());
    }
    for name in &wish.enable {
        problems.extend(units.enable(name).err());
    }
    problems.extend(units.remove_empty_folders().err());
    let mut problems = problems.into_iter();
    match problems.next() {
        None => draft.put_text(&fixed(PRESET), 0o644, preset::text(wish)?, "services"),
        Some(first) => Err(first.and(problems.collect())),
    }
}

/// What a unit name leads to.
#[derive(Debug, Clone)]
enum Found {
    /// A unit file: where links to it lead, and its real path.
    File { link: ImagePath, real: ImagePath },
    /// Another name of this unit.
    Alias(UnitName),
    /// `/dev/null` or an empty file.
    Masked,
}

struct Units<'d, 'a> {
    draft: &'d mut Draft<'a>,
    folders: Vec<ImagePath>,
    configuration: ImagePath,
    /// Folders that lost a link, with the reason.
    emptied: BTreeMap<ImagePath, String>,
}

impl<'d, 'a> Units<'d, 'a> {
    fn new(draft: &'d mut Draft<'a>) -> Result<Self> {
        let configuration = draft.resolve(&fixed(CONFIGURATION))?;
        let mut folders: Vec<ImagePath> = UNIT_FOLDERS.iter().map(|path| fixed(path)).collect();
        // Both spellings of the vendor's folder are one folder where /usr is
        // merged. Which one systemd was built with shows in the links that the
        // image has.
        let mut spellings = [0_usize; 2];
        for link in links_below(draft, &configuration, 0)? {
            for (count, folder) in spellings.iter_mut().zip(&folders[2..]) {
                if link.target.starts_with(&[folder.as_bytes(), b"/"].concat()) {
                    *count += 1;
                }
            }
        }
        if spellings[1] > spellings[0] {
            folders.swap(2, 3);
        }
        Ok(Self {
            draft,
            folders,
            configuration,
            emptied: BTreeMap::new(),
        })
    }

    fn find(&mut self, name: &UnitName) -> Result<Option<Found>> {
        for candidate in [Some(name.clone()), name.template()].into_iter().flatten() {
            for folder in self.folders.clone() {
                let link = folder.join(candidate.as_str())?;
                let place = self.draft.resolve_parent(&link)?;
                let Some(metadata) = self.draft.metadata(&place)? else {
                    continue;
                };
                let real = self.draft.resolve(&place)?;
                if real == fixed("/dev/null") {
                    return Ok(Some(Found::Masked));
                }
                if metadata.kind == Kind::Symlink {
                    let target = real
                        .file_name()
                        .and_then(|name| std::str::from_utf8(name).ok())
                        .and_then(|name| UnitName::parse(name).ok());
                    if let Some(target) = target
                        && target != candidate
                    {
                        return Ok(Some(Found::Alias(target)));
                    }
                }
                match self.draft.metadata(&real)? {
                    Some(found) if found.kind == Kind::File && found.size == 0 => {
                        return Ok(Some(Found::Masked));
                    }
                    Some(found) if found.kind == Kind::File => {
                        return Ok(Some(Found::File { link, real }));
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// The unit that `name` means, through its aliases.
    fn follow(&mut self, name: &UnitName) -> Result<Option<(UnitName, Found)>> {
        let mut name = name.clone();
        for _ in 0..MAX_DEPTH {
            match self.find(&name)? {
                Some(Found::Alias(other)) => {
                    // An instance of an alias is an instance of what it names.
                    name = match (other.is_template(), name.instance()) {
                        (true, Some(instance)) => other.with_instance(instance),
                        _ => other,
                    };
                }
                Some(found) => return Ok(Some((name, found))),
                None => return Ok(None),
            }
        }
        Err(Error::input(format!(
            "look for the unit {}: its aliases lead in a circle",
            name.as_str()
        )))
    }

    fn unknown(&mut self, verb: &str, name: &UnitName) -> Result<Error> {
        let mut names = BTreeSet::new();
        for folder in self.folders.clone() {
            for entry in self.draft.list_following(&folder)? {
                let name = String::from_utf8_lossy(&entry.name).into_owned();
                if UnitName::parse(&name).is_ok() {
                    names.insert(name);
                }
            }
        }
        let error = Error::input(format!(
            "{verb} {}: the image has no such unit",
            name.as_str()
        ));
        Ok(
            match nearest(name.as_str(), names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("add its package to the base, or lay the unit with an overlay"),
            },
        )
    }

    fn install(&mut self, name: &UnitName, real: &ImagePath) -> Result<Install> {
        let text = self.draft.read_text(real)?.unwrap_or_default();
        let mut install = Install::default();
        install.read(&text);
        let mut drop_ins: BTreeMap<Vec<u8>, ImagePath> = BTreeMap::new();
        let names = [name.template(), Some(name.clone())];
        for unit in names.into_iter().flatten() {
            for folder in self.folders.iter().rev().cloned().collect::<Vec<_>>() {
                let folder = folder.join(format!("{}.d", unit.as_str()))?;
                for entry in self.draft.list_following(&folder)? {
                    if entry.name.ends_with(b".conf") {
                        let path = folder.join(&entry.name)?;
                        drop_ins.insert(entry.name, path);
                    }
                }
            }
        }
        for path in drop_ins.values() {
            let text = self.draft.read_text(path)?.unwrap_or_default();
            install.read(&text);
        }
        Ok(install)
    }

    fn enable(&mut self, wanted: &str) -> Result<()> {
        let first = UnitName::parse(wanted)?;
        let mut waiting = vec![first.clone()];
        let mut seen = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if seen.len() > MAX_UNITS {
                return Err(Error::input(format!(
                    "enable {}: Also= leads to more than {MAX_UNITS} units",
                    first.as_str()
                )));
            }
            let is_first = name == first;
            let Some((name, found)) = self.follow(&name)? else {
                // A unit that is only named by Also= may be absent.
                if is_first {
                    return Err(self.unknown("enable", &name)?);
                }
                continue;
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            match found {
                Found::File { link, real } => {
                    let install = self.install(&name, &real)?;
                    if is_first && install.is_empty() {
                        return Err(Error::input(format!(
                            "enable {}: its unit file says nothing of when to start it ([Install] is empty)",
                            name.as_str()
                        ))
                        .hint("other units start it; enable one of those, or add a drop-in with WantedBy="));
                    }
                    for also in &install.also {
                        waiting.extend(UnitName::parse(&name.expand(also)).ok());
                    }
                    let reason = format!("service {}", name.as_str());
                    self.link(&name, &link, &install, &reason)?;
                }
                Found::Masked if is_first => {
                    return Err(Error::input(format!(
                        "enable {}: the unit is masked",
                        name.as_str()
                    ))
                    .hint("take it out of spec.services.mask, or out of the overlay or base that masks it"));
                }
                Found::Masked | Found::Alias(_) => {}
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        name: &UnitName,
        unit: &ImagePath,
        install: &Install,
        reason: &str,
    ) -> Result<()> {
        for alias in &install.alias {
            let alias = UnitName::parse(&name.expand(alias))?;
            if alias.kind() != name.kind() || alias == *name {
                continue;
            }
            let path = self.configuration.join(alias.as_str())?;
            self.put(&path, unit, reason)?;
        }
        // A template is wanted by its default instance.
        let instance = match (name.is_template(), &install.default_instance) {
            (true, Some(instance)) => name.with_instance(instance),
            _ => name.clone(),
        };
        let lists = [
            (&install.wanted_by, "wants"),
            (&install.required_by, "requires"),
            (&install.upheld_by, "upholds"),
        ];
        for (others, folder) in lists {
            for other in others {
                if instance.is_template() {
                    return Err(Error::input(format!(
                        "enable {}: it is a template without a default instance",
                        name.as_str()
                    ))
                    .hint(format!(
                        "name the instance: {}",
                        name.with_instance("INSTANCE").as_str()
                    )));
                }
                let other = UnitName::parse(&instance.expand(other))?;
                let path = self
                    .configuration
                    .join(format!("{}.{folder}", other.as_str()))?
                    .join(instance.as_str())?;
                self.put(&path, unit, reason)?;
            }
        }
        Ok(())
    }

    /// Lays a link to `unit`, unless one that means the same is there.
    fn put(&mut self, path: &ImagePath, unit: &ImagePath, reason: &str) -> Result<()> {
        if let Some(found) = self.draft.metadata(path)? {
            let means_the_same = self.draft.resolve(path)? == self.draft.resolve(unit)?;
            if found.kind == Kind::Symlink && means_the_same {
                return Ok(());
            }
            return Err(Error::input(format!(
                "plan {reason}: {path} exists and is no link to {unit}"
            )));
        }
        self.draft.put_link(path, &unit.to_string(), reason)
    }

    fn disable(&mut self, wanted: &str) -> Result<()> {
        let first = UnitName::parse(wanted)?;
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut waiting = vec![first.clone()];
        while let Some(asked) = waiting.pop() {
            if names.len() > MAX_UNITS {
                break;
            }
            let followed = self.follow(&asked)?;
            if followed.is_none() && asked == first {
                return Err(self.unknown("disable", &asked)?);
            }
            let (name, found) = followed.unwrap_or((asked.clone(), Found::Masked));
            names.insert(asked.as_str().to_owned());
            let is_new = names.insert(name.as_str().to_owned()) || name == asked;
            if let (true, Found::File { real, .. }) = (is_new, found) {
                let install = self.install(&name, &real)?;
                for also in &install.also {
                    let also = UnitName::parse(&name.expand(also)).ok();
                    waiting.extend(also.filter(|also| !names.contains(also.as_str())));
                }
            }
        }
        self.remove_links(&names, &format!("service {} disabled", first.as_str()))
    }

    /// Removes every link in `/etc` that carries one of the names, is an
    /// instance of one, or leads to one.
    fn remove_links(&mut self, names: &BTreeSet<String>, reason: &str) -> Result<()> {
        let links = links_below(self.draft, &self.configuration.clone(), 0)?;
        let means = |name: &[u8]| {
            std::str::from_utf8(name).is_ok_and(|name| {
                names.contains(name)
                    || UnitName::parse(name)
                        .ok()
                        .and_then(|name| name.template())
                        .is_some_and(|template| names.contains(template.as_str()))
            })
        };
        for link in &links {
            let real = self.draft.resolve(&link.path)?;
            let is_mask = link.target == b"/dev/null";
            let leads_to = real
                .file_name()
                .is_some_and(|name| names.iter().any(|wanted| wanted.as_bytes() == name));
            let carries = link.path.file_name().is_some_and(&means);
            if is_mask || !(carries || leads_to) {
                continue;
            }
            self.remove_link(&link.path, reason)?;
            if let Some(parent) = link.path.parent() {
                self.emptied.insert(parent, reason.to_owned());
            }
        }
        Ok(())
    }

    /// Removes folders that disabling emptied. At the end: enabling may have
    /// filled them again.
    fn remove_empty_folders(&mut self) -> Result<()> {
        for (folder, reason) in std::mem::take(&mut self.emptied) {
            if folder != self.configuration && self.draft.list(&folder)?.is_empty() {
                self.remove_link(&folder, &reason)?;
            }
        }
        Ok(())
    }

    /// Removes something of the base, or takes back what an overlay laid: the
    /// user's word on a unit is the last one.
    fn remove_link(&mut self, path: &ImagePath, reason: &str) -> Result<()> {
        if let Some(entry) = self.draft.planned(path)
            && matches!(entry.node, Node::Symlink { .. } | Node::Directory { .. })
        {
            self.draft.withdraw(path);
        }
        match self.draft.metadata(path)? {
            Some(_) => self.draft.remove(path, reason),
            None => Ok(()),
        }
    }

    /// As systemctl, a unit may be masked that does not exist (yet).
    fn mask(&mut self, wanted: &str) -> Result<()> {
        let name = UnitName::parse(wanted)?;
        let path = self.configuration.join(name.as_str())?;
        if let Some(found) = self.draft.metadata(&path)? {
            if found.kind == Kind::Symlink && self.draft.read_link(&path)? == b"/dev/null" {
                return Ok(());
            }
            return Err(
                Error::input(format!("mask {}: {path} exists already", name.as_str()))
                    .hint("disable it instead, or mask the unit that it is another name of"),
            );
        }
        let reason = format!("service {} masked", name.as_str());
        self.draft.put_link(&path, "/dev/null", &reason)
    }
}

struct Link {
    path: ImagePath,
    target: Vec<u8>,
}

fn links_below(draft: &mut Draft<'_>, folder: &ImagePath, depth: usize) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for entry in draft.list(folder)? {
        let path = folder.join(&entry.name)?;
        match entry.kind {
            Kind::Symlink => {
                let target = draft.read_link(&path)?;
                links.push(Link { path, target });
            }
            Kind::Directory if depth < MAX_DEPTH => {
                links.extend(links_below(draft, &path, depth + 1)?);
            }
            _ => {}
        }
    }
    Ok(links)
}

/// Reads a unit file as enabling does and expands its names, for fuzzing.
pub(crate) fn read_unit(text: &str) {
    let mut install = Install::default();
    install.read(text);
    let unit = UnitName::parse("getty@tty1.service").expect("a valid name");
    for name in install.alias.iter().chain(&install.wanted_by) {
        UnitName::parse(&unit.expand(name)).ok();
    }
}

#[cfg(test)]
mod tests;
