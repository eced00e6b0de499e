//! Checks images that are there: of a build, or of anybody.
//!
//! A registry of checks, each with a name and one of three outcomes: that a
//! check could not run is not the same as that it failed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::layout::{self, Layout};
use crate::disk::{OpenOptions, Storage, open_base};
use crate::error::{Context as _, Error, Result};
use crate::os::Image;
use crate::output;
use crate::plan::hygiene;
use crate::progress::{Progress, Step};
use crate::report::Manifest;
use crate::volume::{self, Access, Timestamp};

/// Largest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// A check that ran, or not.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "why")]
pub enum Outcome {
    /// All is well.
    Passed,
    /// Something is wrong.
    Failed(String),
    /// It is not known.
    CouldNotRun(String),
}

/// Checks the folder of a build: the checksum of every file, then every image.
///
/// # Errors
/// [`crate::Class::Input`] when it is no such folder; [`crate::Class::Interrupted`]
/// on request.
pub fn folder(folder: &Path, progress: &dyn Progress) -> Result<Vec<Check>> {
    let path = folder.join("manifest.json");
    let doing = || format!("read {}", path.display());
    let size = std::fs::metadata(&path).doing(doing).map_err(|error| {
        error.hint("name the folder that `nodekiln build` printed, or an image file")
    })?;
    if size.len() > MANIFEST_LIMIT {
        return Err(Error::input(format!(
            "{}: {} bytes are too many",
            doing(),
            size.len()
        )));
    }
    let text = std::fs::read(&path).doing(doing)?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| Error::input(doing()).caused_by(error))?;
    let mut checks = checksums(folder, progress)?;
    for file in &manifest.images {
        let path = folder.join(plain_name(&file.name)?);
        if let Some(wanted) = &file.linear_sha256 {
            let name = format!("{}: linear checksum", file.name);
            let found = open_base(&path, &OpenOptions::default())
                .and_then(|image| output::linear(image.storage.as_ref(), progress));
            checks.push(judged(name, found, wanted)?);
        }
        checks.extend(image(&path, progress)?);
    }
    Ok(checks)
}

/// A name that a manifest or a list gave, as one of its own folder only.
fn plain_name(name: &str) -> Result<&str> {
    if name.is_empty() || name == ".." || name.contains('/') {
        return Err(Error::input(format!(
            "'{name}' is no name of a file of this build"
        )));
    }
    Ok(name)
}

fn checksums(folder: &Path, progress: &dyn Progress) -> Result<Vec<Check>> {
    let path = folder.join("SHA256SUMS");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    let mut checks = Vec::new();
    for line in text.lines() {
        let (wanted, name) = line.split_once("  ").ok_or_else(|| {
            Error::input(format!(
                "read {}: a line is not as sha256sum writes it",
                path.display()
            ))
        })?;
        let found = output::file_sha256(&folder.join(plain_name(name)?), progress);
        checks.push(judged(format!("{name}: checksum"), found, wanted)?);
    }
    Ok(checks)
}

fn judged(name: String, found: Result<crate::store::Digest>, wanted: &str) -> Result<Check> {
    let outcome = match found {
        Ok(found) if found.to_string() == wanted => Outcome::Passed,
        Ok(found) => Outcome::Failed(format!("it is {found}, not {wanted}")),
        Err(error) if error.class() == crate::Class::Interrupted => return Err(error),
        Err(error) => Outcome::CouldNotRun(flat(&error)),
    };
    Ok(Check { name, outcome })
}

/// Checks one image: partition table, file systems, hygiene.
///
/// # Errors
/// When it cannot be opened as an image at all.
pub fn image(path: &Path, progress: &dyn Progress) -> Result<Vec<Check>> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    progress.begin(Step::Verify, &name, None);
    let result = check_image(path, &name, progress);
    progress.end(Step::Verify);
    result
}

fn check_image(path: &Path, name: &str, progress: &dyn Progress) -> Result<Vec<Check>> {
    let storage = open_base(path, &OpenOptions::default())?.storage;
    let found = layout::find(&storage, progress);
    let mut checks = vec![Check {
        name: format!("{name}: partition table and root"),
        outcome: match &found {
            Ok(_) => Outcome::Passed,
            Err(error) => Outcome::Failed(flat(error)),
        },
    }];
    let Ok(layout) = found else {
        return Ok(checks);
    };
    for target in layout.partitions().keys() {
        progress.check()?;
        let slice = layout.slice(&storage, *target)?;
        let outcome = match volume::check(&slice) {
            Ok(findings) if findings.is_empty() => Outcome::Passed,
            Ok(findings) => Outcome::Failed(findings.join("; ")),
            Err(error) => Outcome::CouldNotRun(flat(&error)),
        };
        checks.push(Check {
            name: format!("{name}: {} file system", target.name()),
            outcome,
        });
    }
    checks.extend(clean(&storage, &layout, name)?);
    Ok(checks)
}

/// The hygiene checks.
fn clean(storage: &Arc<dyn Storage>, layout: &Layout, name: &str) -> Result<Vec<Check>> {
    let volumes: BTreeMap<_, _> = layout.open(storage, Access::Read, Timestamp::default())?;
    let mut image = Image::new(volumes)?;
    let checks = hygiene::inspect(&mut image)
        .into_iter()
        .map(|(check, outcome)| Check {
            name: format!("{name}: hygiene: {}", check.name),
            outcome: match outcome {
                hygiene::Outcome::Found(findings) if findings.is_empty() => Outcome::Passed,
                hygiene::Outcome::Found(findings) => {
                    let paths: Vec<String> = findings
                        .iter()
                        .map(|finding| finding.path.to_string())
                        .collect();
                    Outcome::Failed(format!("{} {}", paths.join(", "), check.about))
                }
                hygiene::Outcome::CouldNotRun(error) => Outcome::CouldNotRun(flat(&error)),
            },
        });
    Ok(checks.collect())
}

/// An error with its causes on one line.
fn flat(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text = format!("{text}: {current}");
        cause = current.source();
    }
    text
}
