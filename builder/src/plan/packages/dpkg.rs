//! dpkg's database (dpkg(1), FILES): `status`, and `info` with a few files a package.

use std::collections::{BTreeMap, BTreeSet};

use super::configuration::{Standing, beside, standing};
use super::relations::{self, Present};
use super::triggers::Triggers;
use super::{
    Accounts, Wishes, admit, installing, is_there, laid_by_overlays, lay, owned, reason, scripts,
    spellings, together,
};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::packages::deb::control::Paragraph;
use crate::packages::deb::{Deb, Relations};
use crate::packages::{Kind, Package};
use crate::plan::compute::Inputs;
use crate::plan::draft::Draft;
use crate::profile::model::Architecture;

const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";
const DIVERSIONS: &str = "/var/lib/dpkg/diversions";
const OVERRIDES: &str = "/var/lib/dpkg/statoverride";
const UPDATES: &str = "/var/lib/dpkg/updates";
/// What dpkg puts behind the name of a new configuration file beside the user's own.
const KEPT_SUFFIX: &str = ".dpkg-dist";

pub(super) fn plan(
    draft: &mut Draft<'_>,
    inputs: &Inputs<'_>,
    debs: &[(&Package, &Deb)],
) -> Result<Wishes> {
    let mut database = Database::read(draft, inputs.profile.spec.architecture)?;
    let mut problems = database.admit(debs);
    problems.extend(relations::problems(
        &debs.iter().map(|(_, deb)| present(deb)).collect::<Vec<_>>(),
        &database.installed,
        database.native,
    ));
    problems.extend(conflicts(draft, debs)?);
    let mut triggers = Triggers::read(draft)?;
    let mut wishes = Wishes::default();
    for (package, deb) in debs {
        let set_off = triggers.set_off(draft, package, deb)?;
        problems.extend(scripts::would_run(
            draft,
            package,
            deb,
            set_off,
            &mut wishes,
        )?);
    }
    together(problems)?;
    let accounts = Accounts::read(draft)?;
    let laid = laid_by_overlays(inputs);
    for (package, deb) in debs {
        let moved = configuration(draft, package, deb, &laid)?;
        lay(draft, package, &accounts, &moved)?;
        record(draft, package, deb)?;
        let reason = reason(package);
        triggers.record(draft, deb, &called(deb), &reason)?;
        database.insert(deb);
        draft.edit_bytes(&fixed(STATUS), database.text.concat(), &reason)?;
    }
    Ok(wishes)
}

fn present(deb: &Deb) -> Present {
    Present {
        name: deb.name.clone(),
        version: deb.version.clone(),
        architecture: deb.architecture.clone(),
        multi_arch: multi_arch(&deb.control),
        relations: deb.relations.clone(),
    }
}

fn multi_arch(paragraph: &Paragraph) -> String {
    paragraph.get("Multi-Arch").unwrap_or_default().to_owned()
}

/// As the database calls a package where a name alone may mean several.
fn called(deb: &Deb) -> String {
    if multi_arch(&deb.control) == "same" {
        format!("{}:{}", deb.name, deb.architecture)
    } else {
        deb.name.clone()
    }
}

/// `status`, as it is and as it was understood.
struct Database {
    native: &'static str,
    /// The paragraphs, each with the blank line that ends it.
    text: Vec<Vec<u8>>,
    /// Every package that has a paragraph: name, architecture, and its state.
    known: Vec<(String, String, String)>,
    installed: Vec<Present>,
}

impl Database {
    fn read(draft: &mut Draft<'_>, architecture: Architecture) -> Result<Self> {
        let doing = "record packages in dpkg's database of the image";
        let Some(bytes) = draft.read(&fixed(STATUS))? else {
            return Err(Error::unsupported(format!("{doing}: it has no {STATUS}"))
                .hint("unpack the package's files with an overlay"));
        };
        if !draft.list_following(&fixed(UPDATES))?.is_empty() {
            return Err(Error::check_failed(format!(
                "{doing}: {UPDATES} is not empty, dpkg was interrupted"
            ))
            .hint("in a machine of the base: dpkg --configure -a"));
        }
        let format = draft.read_text(&fixed(INFO).join("format")?)?;
        if let Some(format) = format.filter(|format| format.trim() != "1") {
            return Err(Error::unsupported(format!(
                "{doing}: {INFO} is in the format '{}', not 1",
                format.trim().escape_debug()
            )));
        }
        let mut database = Self {
            native: match architecture {
                Architecture::X86_64 => "amd64",
                Architecture::Arm64 => "arm64",
            },
            text: Vec::new(),
            known: Vec::new(),
            installed: Vec::new(),
        };
        for paragraph in paragraphs(&bytes) {
            database.take(paragraph).map_err(|name| {
                Error::check_failed(format!(
                    "{doing}: the paragraph of '{}' in {STATUS} is damaged",
                    name.escape_debug()
                ))
                .hint("is the base whole? In a machine of the base: dpkg --audit")
            })?;
            database.text.push(paragraph.to_vec());
        }
        Ok(database)
    }

    /// Takes in a paragraph; its name when it is damaged.
    fn take(&mut self, paragraph: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(paragraph);
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        let first = || text.lines().next().unwrap_or_default().to_owned();
        let fields = Paragraph::parse(text).ok_or_else(first)?;
        let field = |name: &str| fields.get(name).unwrap_or_default().to_owned();
        let (name, architecture) = (field("Package"), field("Architecture"));
        if name.is_empty() {
            return Err(first());
        }
        let status = field("Status");
        let state = status.rsplit(' ').next().unwrap_or_default();
        if matches!(state, "installed" | "triggers-pending" | "triggers-awaited") {
            self.installed.push(Present {
                name: name.clone(),
                version: field("Version"),
                architecture: architecture.clone(),
                multi_arch: multi_arch(&fields),
                relations: Relations::of(&fields).map_err(|_| name.clone())?,
            });
        }
        self.known.push((name, architecture, state.to_owned()));
        Ok(())
    }

    /// What speaks against each package by itself.
    fn admit(&self, debs: &[(&Package, &Deb)]) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for (package, deb) in debs {
            problems.extend(admit(package, self.native, "all", &mut names));
            let other = self.known.iter().find(|(name, architecture, _)| {
                let is_beside =
                    multi_arch(&deb.control) == "same" && *architecture != deb.architecture;
                *name == deb.name && !is_beside
            });
            let Some((_, _, state)) = other else {
                continue;
            };
            let installed = self.installed.iter().find(|other| other.name == deb.name);
            problems.push(match installed {
                Some(other) => is_there(package, &other.version),
                None => Error::unsupported(format!(
                    "{}: the base knows it as '{state}'",
                    installing(package)
                ))
                .hint(format!(
                    "in a machine of the base: dpkg --purge {}",
                    deb.name
                )),
            });
        }
        problems
    }

    /// Puts the paragraph of a package to its place by name.
    fn insert(&mut self, deb: &Deb) {
        let paragraph = status_paragraph(deb).into_bytes();
        if let Some(last) = self.text.last_mut() {
            while !last.ends_with(b"\n\n") {
                last.push(b'\n');
            }
        }
        let name = |paragraph: &Vec<u8>| {
            let line = paragraph.split(|byte| *byte == b'\n').next();
            line.and_then(|line| line.strip_prefix(b"Package: "))
                .unwrap_or_default()
                .to_vec()
        };
        let at = self
            .text
            .iter()
            .position(|other| name(other) > deb.name.clone().into_bytes());
        self.text.insert(at.unwrap_or(self.text.len()), paragraph);
    }
}

/// The paragraphs of a text, each with what separates it from the next.
fn paragraphs(text: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\n\n");
        let end = end.map_or(rest.len(), |end| end + 2);
        let (paragraph, after) = rest.split_at(end);
        found.push(paragraph);
        rest = after;
    }
    found
}

/// What dpkg writes for a package that it installed.
fn status_paragraph(deb: &Deb) -> String {
    let mut text = format!("Package: {}\nStatus: install ok installed\n", deb.name);
    let mut conffiles = String::new();
    for path in &deb.conffiles {
        if let Some(sum) = deb.sums.get(path) {
            conffiles += &format!(" {path} {sum}\n");
        }
    }
    let mut put_conffiles = |text: &mut String| {
        if !conffiles.is_empty() {
            *text += "Conffiles:\n";
            *text += &std::mem::take(&mut conffiles);
        }
    };
    for (name, value) in deb.control.fields() {
        if ["Package", "Status", "Conffiles"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
            || value.is_empty()
        {
            continue;
        }
        if name == "Description" {
            put_conffiles(&mut text);
        }
        // The first line of a folded value may be empty.
        let space = if value.starts_with('\n') { "" } else { " " };
        text += &format!("{name}:{space}{value}\n");
    }
    put_conffiles(&mut text);
    text + "\n"
}

/// Files that another package of the image, or of the profile, has; what is diverted, or
/// has its owner overridden.
fn conflicts(draft: &mut Draft<'_>, debs: &[(&Package, &Deb)]) -> Result<Vec<Error>> {
    let mut problems = Vec::new();
    let mut wanted: BTreeMap<Vec<u8>, &Package> = BTreeMap::new();
    for (package, _) in debs {
        for item in package
            .items
            .iter()
            .filter(|item| item.kind != Kind::Directory)
        {
            let mut other = None;
            for spelling in spellings(draft, &item.path)? {
                let before = wanted.insert(spelling.as_bytes().to_vec(), package);
                other = other.or(before.filter(|before| before.name() != package.name()));
            }
            problems.extend(other.map(|other| owned(&item.path, package, other.name())));
        }
    }
    let info = fixed(INFO);
    for entry in draft.list_following(&info)? {
        let Some(owner) = entry.name.strip_suffix(b".list") else {
            continue;
        };
        let list = draft.read(&info.join(&entry.name)?)?.unwrap_or_default();
        for line in list.split(|byte| *byte == b'\n') {
            let owner = String::from_utf8_lossy(owner);
            // A package that is there already is told of as such.
            let is_other = |package: &&&Package| owner.split(':').next() != Some(package.name());
            if let Some(package) = wanted.get(line).filter(is_other) {
                problems.push(owned(&ImagePath::new(line)?, package, &owner));
            }
        }
    }
    for path in [DIVERSIONS, OVERRIDES] {
        let text = draft.read(&fixed(path))?.unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n') {
            // An override stands at the end of its line, a diversion on a line of its own.
            let start = line
                .windows(2)
                .position(|pair| pair == b" /")
                .map_or(0, |at| at + 1);
            if let Some(package) = wanted.get(&line[start..]) {
                problems.push(Error::unsupported(format!(
                    "{}: {path} of the image treats {} in its own way",
                    installing(package),
                    String::from_utf8_lossy(&line[start..]).escape_debug()
                )));
            }
        }
    }
    Ok(problems)
}

/// Where configuration files go: nowhere when an overlay lays the file or the image has
/// the same one; beside the image's own when that is another.
fn configuration(
    draft: &mut Draft<'_>,
    package: &Package,
    deb: &Deb,
    laid: &BTreeSet<ImagePath>,
) -> Result<BTreeMap<ImagePath, Option<ImagePath>>> {
    let mut moved = BTreeMap::new();
    for item in package
        .items
        .iter()
        .filter(|item| deb.conffiles.contains(&item.path))
    {
        let Kind::File(stored) = &item.kind else {
            continue;
        };
        let beside = match standing(draft, &item.path, stored.sha256, laid)? {
            Standing::New => continue,
            Standing::Settled => None,
            Standing::Other(..) => Some(beside(&item.path, KEPT_SUFFIX)?),
        };
        moved.insert(item.path.clone(), beside);
    }
    Ok(moved)
}

/// Writes the files of `info`.
fn record(draft: &mut Draft<'_>, package: &Package, deb: &Deb) -> Result<()> {
    let reason = reason(package);
    let path = |kind: &str| fixed(INFO).join(format!("{}.{kind}", called(deb)));
    let mut list = String::from("/.\n");
    for item in package.items.iter().filter(|item| !item.path.is_root()) {
        list += &format!("{}\n", item.path);
    }
    draft.put_text(&path("list")?, 0o644, list, &reason)?;
    if !deb.files.contains_key("md5sums") {
        // dpkg makes them too where a package brings none.
        let mut sums = String::new();
        for (path, sum) in &deb.sums {
            sums += &format!("{sum}  {}\n", path.to_string().trim_start_matches('/'));
        }
        draft.put_text(&path("md5sums")?, 0o644, sums, &reason)?;
    }
    for (name, file) in &deb.files {
        let mode = if file.mode & 0o111 == 0 { 0o644 } else { 0o755 };
        draft.put_text(&path(name)?, mode, file.content.clone(), &reason)?;
    }
    Ok(())
}
