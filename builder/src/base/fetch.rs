//! Makes sure that everything that a lock names lies in the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::sources::StoreSources;
use crate::error::{Error, Result};
use crate::lock::model::{LockedComponent, LockedFile, LockedProfile, Origin};
use crate::lock::{MemberSelection, Sources as _, Stored};
use crate::profile::model::Base;
use crate::store::Digest;

/// Brings every object that `locked` names into the store, so that a build needs
/// no network: by download, by a copy of a local file, by unpacking again, by
/// bootstrapping `base` again. What is there already costs nothing.
///
/// # Errors
/// As the [`crate::lock::Sources`] below; [`crate::Class::Dependency`] when a
/// base that is made again is no longer the locked one, or an archive lacks a
/// locked member. Everything else is still brought; the errors come together.
pub fn fetch(locked: &LockedProfile, base: &Base, sources: &StoreSources<'_>) -> Result<()> {
    let mut errors = Vec::new();
    if let Err(error) = fetch_base(locked, base, sources) {
        errors.push(error.context("fetch the base image"));
    }
    for (name, component) in &locked.components {
        if errors.last().is_some_and(stops_all) {
            break;
        }
        if let Err(error) = fetch_component(component, sources) {
            let name = serde_json::to_value(name)
                .ok()
                .and_then(|name| name.as_str().map(ToOwned::to_owned))
                .unwrap_or_default();
            errors.push(error.context(format!("fetch {name}")));
        }
    }
    for package in &locked.packages {
        if errors.last().is_some_and(stops_all) {
            break;
        }
        if let Err(error) = fetch_file(package, sources) {
            errors.push(error.context("fetch a package"));
        }
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(first.and(errors.collect())),
    }
}

fn stops_all(error: &Error) -> bool {
    error.class() == crate::Class::Interrupted
}

fn fetch_base(locked: &LockedProfile, base: &Base, sources: &StoreSources<'_>) -> Result<()> {
    if sources.store().contains(&locked.base.sha256) {
        return Ok(());
    }
    let packages = match &locked.base.origin {
        Origin::Url(_) => return fetch_file(&locked.base, sources),
        Origin::Path(path) => return fetch_local_base(path, &locked.base, base, sources),
        Origin::Bootstrap { packages, .. } => packages,
    };
    let wish = base.bootstrap.as_ref().ok_or_else(|| {
        Error::input("the lock has a bootstrapped base, the profile another one")
            .hint("run `nodekiln lock`")
    })?;
    let made = sources.bootstrap(wish, locked.architecture)?;
    if made.image.sha256 == locked.base.sha256 {
        return Ok(());
    }
    Err(Error::dependency(format!(
        "the base that was made again is {}, not {}",
        made.image.sha256, locked.base.sha256
    ))
    .caused_by(changes(packages, &made.packages))
    .hint("the package archive has moved on: run `nodekiln lock --upgrade`, or copy the store from where the lock was made"))
}

fn fetch_local_base(
    path: &str,
    locked: &LockedFile,
    base: &Base,
    sources: &StoreSources<'_>,
) -> Result<()> {
    let found = sources.local_base(Path::new(path), None, base.allow_backing_file)?;
    if found.image.sha256 == locked.sha256 {
        return Ok(());
    }
    Err(
        Error::input(format!("read {path}: it is not the file that was locked"))
            .caused_by(format!(
                "its pin would be {}, not {}",
                found.image.sha256, locked.sha256
            ))
            .hint("run `nodekiln lock` when it was changed on purpose"),
    )
}

/// The packages that differ, in words.
fn changes(locked: &BTreeMap<String, String>, made: &BTreeMap<String, String>) -> String {
    const SHOWN: usize = 8;
    let names: std::collections::BTreeSet<&String> = locked.keys().chain(made.keys()).collect();
    let version = |packages: &BTreeMap<String, String>, name: &str| {
        packages.get(name).map_or("none".to_owned(), Clone::clone)
    };
    let changed: Vec<String> = names
        .into_iter()
        .filter(|name| locked.get(*name) != made.get(*name))
        .map(|name| {
            format!(
                "{name} {} is now {}",
                version(locked, name),
                version(made, name)
            )
        })
        .collect();
    if changed.is_empty() {
        return "the packages are the same; the tools or the time stamp differ".to_owned();
    }
    let more = changed.len().saturating_sub(SHOWN);
    let mut text = changed[..changed.len().min(SHOWN)].join(", ");
    if more > 0 {
        write!(text, ", and {more} more").ok();
    }
    text
}

fn fetch_file(file: &LockedFile, sources: &StoreSources<'_>) -> Result<()> {
    if sources.store().contains(&file.sha256) {
        return Ok(());
    }
    match &file.origin {
        Origin::Url(url) => sources.download(url, Some(file.sha256)).map(drop),
        Origin::Path(path) => sources.local(Path::new(path), Some(file.sha256)).map(drop),
        Origin::Bootstrap { .. } => Err(Error::input(
            "a component cannot be bootstrapped: the lock is damaged",
        )),
    }
}

fn fetch_component(component: &LockedComponent, sources: &StoreSources<'_>) -> Result<()> {
    let missing = |digest: &Digest| !sources.store().contains(digest);
    if !component
        .members
        .values()
        .any(|member| missing(&member.sha256))
    {
        return Ok(());
    }
    fetch_file(&component.file, sources)?;
    for (path, member) in &component.members {
        if !missing(&member.sha256) {
            continue;
        }
        let selection = MemberSelection::File(path.clone());
        let unpacked = sources.members(&component.file.sha256, &selection)?;
        let found: Option<Stored> = unpacked.members.get(path).map(|found| found.content);
        match found {
            Some(found) if found.sha256 == member.sha256 => {}
            Some(found) => {
                return Err(Error::dependency(format!(
                    "unpack {path}: its sha256 is {}, not {}",
                    found.sha256, member.sha256
                )));
            }
            None => {
                return Err(Error::dependency(format!(
                    "unpack {path}: the archive does not hold it"
                ))
                .hint("run `nodekiln lock --upgrade`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
