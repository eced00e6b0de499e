//! From a wish to pins.
//!
//! What the profile still asks for keeps its pin; only what is new, changed or to
//! be upgraded goes through [`Sources`]. A profile that asks for the same as
//! before touches nothing at all but its local files: these are looked at anew
//! where they are present, for their content may have changed.

mod base;
mod component;
mod package;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use super::inputs::{base_inputs_digest, inputs_digest};
use super::model::{LockedProfile, Origin};
use super::sources::{Sources, Stored};
use super::upgrade::{Input, Upgrade};
use crate::catalog;
use crate::error::{Class, Error, Result};
use crate::profile::model::Profile;
use crate::store::Digest;

const TRUST_PROFILE: &str = "sha256 in the profile";
const TRUST_CATALOGUE: &str = "sha256 in the catalogue";
const TRUST_LOCAL: &str = "local file";
const TRUST_BOOTSTRAP: &str = "bootstrapped";

/// What resolving works with.
struct Resolver<'a> {
    profile: &'a Profile,
    folder: &'a Path,
    previous: Option<&'a LockedProfile>,
    upgrade: &'a Upgrade,
    sources: &'a dyn Sources,
}

/// The pins of `profile`, whose relative paths start from `folder`.
///
/// # Errors
/// [`Class::Dependency`] when something is gone, lacks a checksum or does not
/// have the one that it should; [`Class::Input`] when the profile asks for what
/// nobody publishes; otherwise as the methods of [`Sources`]. Problems of several
/// inputs are reported together.
pub fn resolve(
    profile: &Profile,
    folder: &Path,
    previous: Option<&LockedProfile>,
    upgrade: &Upgrade,
    sources: &dyn Sources,
) -> Result<LockedProfile> {
    let inputs = inputs_digest(profile);
    let resolver = Resolver {
        profile,
        folder,
        previous,
        upgrade,
        sources,
    };
    resolver.check_names()?;
    for part in catalog::omitted(profile) {
        sources.note(&format!("left out {}: {}", part.label, part.without));
    }
    if let Some(previous) = previous
        && previous.inputs == inputs
        && *upgrade == Upgrade::Nothing
        && !resolver.has_local_files()
    {
        return Ok(previous.clone());
    }

    // Components first: they are small, and a base can take long to make.
    let mut components = BTreeMap::new();
    let mut problems = Vec::new();
    for (part, source) in catalog::wanted(profile) {
        if source.is_some_and(|source| source.from_base) {
            continue;
        }
        match resolver.component(part, source) {
            Ok(locked) => {
                components.insert(part.name, locked);
            }
            Err(error) if concerns_one_input(&error) => problems.push(error),
            Err(error) => return Err(error),
        }
    }
    let mut packages = Vec::new();
    for source in &profile.spec.packages {
        match resolver.package(source) {
            Ok(locked) => packages.push(locked),
            Err(error) if concerns_one_input(&error) => problems.push(error),
            Err(error) => return Err(error),
        }
    }
    if !problems.is_empty() {
        let first = problems.remove(0);
        return Err(first.and(problems));
    }
    let base_inputs = base_inputs_digest(profile);
    Ok(LockedProfile {
        inputs,
        base_inputs,
        architecture: profile.spec.architecture,
        base: resolver.base(base_inputs)?,
        components,
        packages,
    })
}

/// Whether the other inputs are still worth a try.
fn concerns_one_input(error: &Error) -> bool {
    matches!(error.class(), Class::Input | Class::Dependency)
}

impl Resolver<'_> {
    /// Whether any input is a local file that is there to be looked at.
    fn has_local_files(&self) -> bool {
        let components = catalog::wanted(self.profile).into_iter();
        let packages = self.profile.spec.packages.iter();
        components
            .filter_map(|(_, source)| source?.path.as_deref())
            .chain(self.profile.spec.base.path.as_deref())
            .chain(packages.filter_map(|package| package.path.as_deref()))
            .any(|path| self.sources.is_present(path))
    }

    /// An upgrade of what the profile does not pin is a mistake.
    fn check_names(&self) -> Result<()> {
        let Upgrade::Only(inputs) = self.upgrade else {
            return Ok(());
        };
        let has_packages = !self.profile.spec.packages.is_empty();
        let pinned: Vec<&str> = std::iter::once(Input::Base.label())
            .chain(
                catalog::wanted(self.profile)
                    .into_iter()
                    .filter(|(_, source)| source.is_none_or(|source| !source.from_base))
                    .map(|(part, _)| part.label),
            )
            .chain(has_packages.then(|| Input::Packages.label()))
            .collect();
        match inputs.iter().find(|input| !pinned.contains(&input.label())) {
            None => Ok(()),
            Some(input) => Err(Error::input(format!(
                "upgrade '{}': the profile '{}' does not pin it",
                input.label(),
                self.profile.metadata.name
            ))
            .hint(format!("it pins: {}", pinned.join(", ")))),
        }
    }

    fn download(&self, url: &str, expected: Digest) -> Result<Stored> {
        require_https(url)?;
        let stored = self.sources.download(url, Some(expected))?;
        same(url, expected, stored)
    }

    /// A checksum file, a list or a signature.
    fn text(&self, url: &str) -> Result<Vec<u8>> {
        require_https(url)?;
        self.sources.text(url, super::checksum_file::LENGTH_LIMIT)
    }

    fn local(&self, path: &Path, expected: Option<Digest>) -> Result<Stored> {
        let stored = self.sources.local(path, expected)?;
        match expected {
            Some(expected) => same(&path.display().to_string(), expected, stored),
            None => Ok(stored),
        }
    }

    /// As a lock names a local file: relative to its own folder where it can be.
    fn path_origin(&self, path: &Path) -> Origin {
        let path = path.strip_prefix(self.folder).unwrap_or(path);
        Origin::Path(path.to_string_lossy().into_owned())
    }
}

/// Whoever implements [`Sources`] has compared the digests; what is pinned is
/// worth a second look.
fn same(what: &str, expected: Digest, stored: Stored) -> Result<Stored> {
    if stored.sha256 == expected {
        Ok(stored)
    } else {
        Err(Error::dependency(format!(
            "verify {what}: its sha256 is {}, not {expected}",
            stored.sha256
        ))
        .hint("it changed since the checksum was published, or somebody changed it"))
    }
}

fn require_https(url: &str) -> Result<()> {
    if url.starts_with("https://") {
        Ok(())
    } else {
        Err(Error::input(format!("fetch '{url}': it is no https URL"))
            .hint("use https, or download the file and give its path"))
    }
}
