//! rpm's database, and whether the image has what a new rpm needs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::configuration::{Standing, beside, standing};
use super::{Accounts, Wishes, is_there, lay, linker, not_run, owned, reason, together};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::rpm::Database;
use crate::packages::rpm::dependency::Dependency;
use crate::packages::rpm::{Relations, Rpm, scripts};
use crate::packages::{Damage, Kind, Package};
use crate::plan::compute::Inputs;
use crate::plan::draft::Draft;
use crate::profile::model::Architecture;

/// What rpm puts behind the names of the package's own and of the image's configuration
/// when both stay.
const NEW_SUFFIX: &str = ".rpmnew";
const OLD_SUFFIX: &str = ".rpmorig";
/// `%triggerin` among the flags of a trigger.
const TRIGGER_IN: u64 = 1 << 16;
/// Features of the format that are read, or that concern only the building of packages.
const FEATURES: [&str; 18] = [
    "BuiltinLuaScripts",
    "CaretInVersions",
    "CompressedFileNames",
    "ConcurrentAccess",
    "ExplicitPackageProvide",
    "FileCaps",
    "FileDigests",
    "HeaderLoadSortsTags",
    "LargeFiles",
    "PartialHardlinkSets",
    "PayloadFilesHavePrefix",
    "PayloadIsXz",
    "PayloadIsZstd",
    "RichDependencies",
    "ScriptletExpansion",
    "ScriptletInterpreterArgs",
    "TildeInVersions",
    "VersionedDependencies",
];
/// Whose triggers on new files do nothing that an image lacks: an index of manual pages;
/// and what systemd reads or does on every boot.
const HARMLESS: [(&str, &[&str]); 3] = [
    ("man-db", &["/"]),
    (
        "systemd",
        &[
            "/etc/systemd/system",
            "/etc/systemd/user",
            "/usr/lib/binfmt.d",
            "/usr/lib/modules-load.d",
            "/usr/lib/sysctl.d",
            "/usr/lib/systemd/system",
            "/usr/lib/systemd/user",
            "/usr/lib/tmpfiles.d",
        ],
    ),
    ("systemd-udev", &["/usr/lib/udev/rules.d"]),
];
/// Whose triggers renew the cache of the dynamic linker.
const LINKER: [&str; 2] = ["glibc", "glibc-common"];

pub(super) fn plan(
    draft: &mut Draft<'_>,
    inputs: &Inputs<'_>,
    rpms: &[(&Package, &Rpm)],
) -> Result<Wishes> {
    let database = Database::read(draft)?;
    let installed = database
        .headers()?
        .iter()
        .map(Relations::of)
        .collect::<Result<Vec<_>, _>>();
    let installed = installed.map_err(|damage| database.damaged(&damage))?;
    let broken = |damage: Damage| Error::dependency(format!("read an rpm: {damage}"));
    let mut new = Vec::new();
    for (_, rpm) in rpms {
        new.push(rpm.relations().map_err(broken)?);
    }
    let mut problems = admit(rpms, &installed, inputs.profile.spec.architecture);
    problems.extend(needs(draft, &new, &installed)?);
    problems.extend(conflicts(&new, &installed));
    problems.extend(owned_files(draft, rpms, &installed)?);
    for ((package, rpm), relations) in rpms.iter().zip(&new) {
        let (mut ldconfig, matter) = scripts::judge(&rpm.header).map_err(broken)?;
        let mut runs: Vec<String> = matter
            .iter()
            .map(|(name, lines)| format!("{name}: {}", super::shown(lines)))
            .collect();
        runs.extend(triggers(package, relations, &installed, &mut ldconfig));
        if ldconfig {
            runs.extend(linker::cached_library(draft, package)?);
        }
        problems.extend(not_run(package, &runs));
    }
    together(problems)?;
    let accounts = Accounts::read(draft)?;
    let laid = super::laid_by_overlays(inputs);
    for (package, rpm) in rpms {
        let moved = configuration(draft, package, rpm, &laid)?;
        lay(draft, package, &accounts, &moved)?;
    }
    let time = u32::try_from(inputs.epoch).unwrap_or_default();
    let headers: Vec<Vec<u8>> = rpms.iter().map(|(_, rpm)| rpm.installed(time)).collect();
    let reasons: Vec<String> = rpms.iter().map(|(package, _)| reason(package)).collect();
    let recorded = database.with(&headers)?;
    let reason = reasons.join(", ");
    for (path, bytes) in recorded.files {
        draft.edit_bytes(&path, bytes, &reason)?;
    }
    for path in recorded.stale {
        draft.remove(&path, &reason)?;
    }
    Ok(Wishes::default())
}

/// What speaks against each package by itself.
fn admit(
    rpms: &[(&Package, &Rpm)],
    installed: &[Relations],
    architecture: Architecture,
) -> Vec<Error> {
    let native = match architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    };
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for (package, rpm) in rpms {
        problems.extend(super::admit(package, native, "noarch", &mut names));
        if let Some(other) = installed.iter().find(|other| other.name == rpm.name) {
            problems.push(is_there(package, &other.version));
        }
    }
    problems
}

/// What the new packages need, and nobody has.
fn needs(draft: &mut Draft<'_>, new: &[Relations], installed: &[Relations]) -> Result<Vec<Error>> {
    let all = || installed.iter().chain(new);
    let mut provided: BTreeMap<&str, Vec<&Dependency>> = BTreeMap::new();
    for dependency in all().flat_map(|other| &other.provides) {
        provided
            .entry(&dependency.name)
            .or_default()
            .push(dependency);
    }
    let paths: HashSet<&str> = all()
        .flat_map(|other| &other.paths)
        .map(String::as_str)
        .collect();
    let mut problems = Vec::new();
    for package in new {
        let doing = format!("install the package {} {}", package.name, package.version);
        let mut told = BTreeSet::new();
        for wanted in package.requires.iter().filter(|wanted| !wanted.is_weak()) {
            if wanted.is_of_rpm() || wanted.name.starts_with('(') {
                problems.extend(beyond_packages(wanted, &doing));
                continue;
            }
            let candidates = provided.get(wanted.name.as_str());
            let is_provided =
                candidates.is_some_and(|found| found.iter().any(|one| one.overlaps(wanted)));
            let is_there = is_provided
                || wanted.name.starts_with('/') && has_file(draft, &paths, &wanted.name)?;
            if !is_there && told.insert(wanted.to_string()) {
                problems.push(missing(wanted, candidates, &doing));
            }
        }
    }
    Ok(problems)
}

/// What is asked of rpm itself and does not fit what is done here, and conditions.
fn beyond_packages(wanted: &Dependency, doing: &str) -> Option<Error> {
    if !wanted.is_of_rpm() {
        let text =
            format!("{doing}: the dependency {wanted} is a condition, which is not worked out");
        return Some(Error::unsupported(text).hint("install it in a machine of the base"));
    }
    let feature = wanted.name.trim_start_matches("rpmlib(");
    if FEATURES.contains(&feature.trim_end_matches(')')) {
        return None;
    }
    Some(Error::unsupported(format!(
        "{doing}: it needs {wanted} of rpm"
    )))
}

/// That nobody provides `wanted`; `candidates` have its name.
fn missing(wanted: &Dependency, candidates: Option<&Vec<&Dependency>>, doing: &str) -> Error {
    let found = match candidates {
        Some(found) => {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            format!("there is {}", found.join(", "))
        }
        None => "neither the base nor the profile's packages have it".to_owned(),
    };
    Error::input(format!("{doing}: it requires {wanted}; {found}"))
        .hint("add the package to spec.packages, or to the base")
}

/// Whether a package has a file of this path, also through a link such as `/bin`.
fn has_file(draft: &mut Draft<'_>, paths: &HashSet<&str>, path: &str) -> Result<bool> {
    if paths.contains(path) {
        return Ok(true);
    }
    let Ok(path) = ImagePath::new(path) else {
        return Ok(false);
    };
    let spellings = super::spellings(draft, &path)?;
    Ok(spellings
        .iter()
        .filter_map(ImagePath::as_str)
        .any(|path| paths.contains(path)))
}

/// Packages that cannot be beside each other, and such that would take another away.
fn conflicts(new: &[Relations], installed: &[Relations]) -> Vec<Error> {
    let mut problems = Vec::new();
    let hits = |wanted: &Dependency, other: &Relations| {
        other
            .provides
            .iter()
            .any(|provided| provided.overlaps(wanted))
    };
    let itself = |other: &Relations| Dependency::exactly(&other.name, &other.version);
    let mut told = |package: &Relations, word: &str, wanted: &Dependency, other: &Relations| {
        problems.push(
            Error::input(format!(
                "install packages: {} {} {word} {wanted}, and {} {} is there",
                package.name, package.version, other.name, other.version
            ))
            .hint("nothing is taken out of a base for a package: leave one of the two away"),
        );
    };
    for package in new {
        let others = || {
            installed
                .iter()
                .chain(new)
                .filter(|other| other.name != package.name)
        };
        for wanted in &package.conflicts {
            for other in others().filter(|other| hits(wanted, other)) {
                told(package, "conflicts with", wanted, other);
            }
        }
        // Only names of packages are obsolete, not what they provide.
        for wanted in &package.obsoletes {
            for other in others().filter(|other| itself(other).overlaps(wanted)) {
                told(package, "obsoletes", wanted, other);
            }
        }
    }
    for package in installed {
        for wanted in &package.conflicts {
            for other in new.iter().filter(|other| hits(wanted, other)) {
                told(package, "conflicts with", wanted, other);
            }
        }
    }
    problems
}

/// Files that another package of the image, or of the profile, has.
fn owned_files(
    draft: &mut Draft<'_>,
    rpms: &[(&Package, &Rpm)],
    installed: &[Relations],
) -> Result<Vec<Error>> {
    let mut problems = Vec::new();
    let mut wanted: BTreeMap<String, (&ImagePath, &Package)> = BTreeMap::new();
    for (package, _) in rpms {
        for item in package
            .items
            .iter()
            .filter(|item| item.kind != Kind::Directory)
        {
            let mut other = None;
            for spelling in super::spellings(draft, &item.path)? {
                let before = wanted.insert(spelling.to_string(), (&item.path, package));
                other = other.or(before.filter(|(_, before)| before.name() != package.name()));
            }
            problems.extend(other.map(|(_, other)| owned(&item.path, package, other.name())));
        }
    }
    for other in installed {
        for path in &other.paths {
            // A package that is there already is told of as such.
            if let Some((path, package)) = wanted.get(path)
                && package.name() != other.name
            {
                problems.push(owned(path, package, &other.name));
            }
        }
    }
    Ok(problems)
}

/// What triggers would run: those of others because of this package, and its own.
fn triggers(
    package: &Package,
    new: &Relations,
    installed: &[Relations],
    ldconfig: &mut bool,
) -> Vec<String> {
    let itself = Dependency::exactly(&new.name, &new.version);
    let is_in = |trigger: &&Dependency| trigger.flags() & TRIGGER_IN != 0;
    let mut runs = Vec::new();
    for other in installed {
        if other
            .triggers
            .iter()
            .filter(is_in)
            .any(|trigger| trigger.overlaps(&itself))
        {
            runs.push(format!("the trigger of {} on this package", other.name));
        }
        let there = Dependency::exactly(&other.name, &other.version);
        if new
            .triggers
            .iter()
            .filter(is_in)
            .any(|trigger| trigger.overlaps(&there))
        {
            runs.push(format!("its own trigger on {}", other.name));
        }
        for prefix in other.file_triggers.iter().collect::<BTreeSet<_>>() {
            let mut paths = package.items.iter().filter_map(|item| item.path.as_str());
            if !paths.any(|path| path.starts_with(prefix.as_str())) {
                continue;
            }
            if LINKER.contains(&other.name.as_str()) {
                *ldconfig = true;
                continue;
            }
            let is_harmless = |(owner, prefixes): &(&str, &[&str])| {
                *owner == other.name && prefixes.iter().any(|known| prefix.starts_with(known))
            };
            if !HARMLESS.iter().any(is_harmless) {
                runs.push(format!(
                    "the trigger of {} on files below {}",
                    other.name,
                    prefix.escape_debug()
                ));
            }
        }
    }
    if !new.file_triggers.is_empty() {
        runs.push("its own triggers on files".to_owned());
    }
    runs
}

/// Where configuration files go: nowhere when an overlay lays the file or the image has
/// the same one; beside the image's own where that stays (`%config(noreplace)`). One that
/// does not stay is kept beside the new one.
fn configuration(
    draft: &mut Draft<'_>,
    package: &Package,
    rpm: &Rpm,
    laid: &BTreeSet<ImagePath>,
) -> Result<BTreeMap<ImagePath, Option<ImagePath>>> {
    let mut moved = BTreeMap::new();
    for item in &package.items {
        let (Some(stays), Kind::File(stored)) = (rpm.configuration.get(&item.path), &item.kind)
        else {
            continue;
        };
        match standing(draft, &item.path, stored.sha256, laid)? {
            Standing::New => {}
            Standing::Settled => {
                moved.insert(item.path.clone(), None);
            }
            Standing::Other(..) if *stays => {
                moved.insert(item.path.clone(), Some(beside(&item.path, NEW_SUFFIX)?));
            }
            Standing::Other(content, attributes) => {
                let old = beside(&item.path, OLD_SUFFIX)?;
                let node = crate::plan::Node::File { content };
                draft.put(&old, node, attributes, &reason(package))?;
            }
        }
    }
    Ok(moved)
}
