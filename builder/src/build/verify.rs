//! Checks images that are there: of a build, or of anybody.
//!
//! A registry of checks, each with a name and one of three outcomes: that a
//! check could not run is not the same as that it failed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::labels;
use super::layout::{self, Layout};
use super::place::{MANIFEST, read_manifest};
use crate::disk::{OpenOptions, Storage, open_base};
use crate::error::{Context as _, Error, Result};
use crate::os::tree::fixed;
use crate::os::{Image, Tree as _};
use crate::output;
use crate::plan::{Content, hygiene, release};
use crate::progress::{Progress, Step};
use crate::report::{ImageFile, Manifest, is_plain_name, parse_sha256sums};
use crate::store::Digest;
use crate::volume::{self, Access, Timestamp};

/// The list of checksums of a build, and the most bytes of it that are read.
const SUMS: &str = "SHA256SUMS";
const SUMS_LIMIT: u64 = 1 << 20;
/// Documents that a build may have beside its manifest, each with a checksum.
const DOCUMENTS: [&str; 3] = ["sbom.spdx.json", "sbom.cdx.json", "provenance.intoto.json"];
/// Files of a build that have none.
const UNLISTED: [&str; 2] = [SUMS, "build.log"];

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

/// Checks the folder of a build: that manifest, `SHA256SUMS` and the files which
/// are there agree, then every image.
///
/// # Errors
/// [`crate::Class::Input`] when its manifest cannot be read;
/// [`crate::Class::Interrupted`] on request.
pub fn folder(folder: &Path, progress: &dyn Progress) -> Result<Vec<Check>> {
    let manifest = read_manifest(folder).map_err(|error| {
        error.hint("name the folder that `nodekiln build` printed, or an image file")
    })?;
    let mut checks = Vec::new();
    let sums = match read_sums(folder) {
        Ok(sums) => sums,
        Err(error) => {
            checks.push(failed(SUMS, flat(&error)));
            BTreeMap::new()
        }
    };
    checks.extend(strangers(folder, &manifest, &sums)?);
    for (name, wanted) in &sums {
        if is_file(&folder.join(name)) {
            let found = output::file_sha256(&folder.join(name), progress);
            checks.push(judged(
                format!("{name}: checksum"),
                found,
                &wanted.to_string(),
            )?);
        } else {
            checks.push(failed(name, "it is missing, or no file".to_owned()));
        }
    }
    if !sums.contains_key(MANIFEST) {
        checks.push(failed(MANIFEST, format!("{SUMS} has no line for it")));
    }
    for file in &manifest.images {
        checks.extend(listed_image(folder, file, &sums, progress)?);
    }
    Ok(checks)
}

/// Reads `SHA256SUMS`.
fn read_sums(folder: &Path) -> Result<BTreeMap<String, Digest>> {
    let doing = || format!("read {SUMS}");
    let mut text = String::new();
    File::open(folder.join(SUMS))
        .and_then(|file| file.take(SUMS_LIMIT + 1).read_to_string(&mut text))
        .doing(doing)?;
    if text.len() as u64 > SUMS_LIMIT {
        return Err(Error::input(format!(
            "{}: it has more than {SUMS_LIMIT} bytes",
            doing()
        )));
    }
    parse_sha256sums(&text).map_err(|error| error.context(doing()))
}

/// What is in the folder or in the list of checksums, and in nothing else.
fn strangers(
    folder: &Path,
    manifest: &Manifest,
    sums: &BTreeMap<String, Digest>,
) -> Result<Vec<Check>> {
    let known = |name: &str| {
        name == MANIFEST
            || DOCUMENTS.contains(&name)
            || manifest.images.iter().any(|image| image.name == name)
    };
    let mut checks = Vec::new();
    for name in sums.keys().filter(|name| !known(name)) {
        checks.push(failed(
            name,
            format!("{SUMS} lists it, the manifest does not"),
        ));
    }
    let doing = || format!("list {}", folder.display());
    let mut there = Vec::new();
    for entry in std::fs::read_dir(folder).doing(doing)? {
        there.push(
            entry
                .doing(doing)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    there.sort();
    for name in there {
        let listed =
            known(&name) && (!DOCUMENTS.contains(&name.as_str()) || sums.contains_key(&name));
        if !listed && !UNLISTED.contains(&name.as_str()) && !sums.contains_key(&name) {
            checks.push(failed(&name, "it is no file of this build".to_owned()));
        }
    }
    Ok(checks)
}

/// Checks an image that the manifest lists.
fn listed_image(
    folder: &Path,
    file: &ImageFile,
    sums: &BTreeMap<String, Digest>,
    progress: &dyn Progress,
) -> Result<Vec<Check>> {
    let name = &file.name;
    if !is_plain_name(name) {
        let why = "the manifest lists it, and it is no name of a file of this folder";
        return Ok(vec![failed(
            &name.escape_debug().to_string(),
            why.to_owned(),
        )]);
    }
    let path = folder.join(name);
    if !is_file(&path) {
        return Ok(vec![failed(
            name,
            "the manifest lists it; it is missing, or no file".to_owned(),
        )]);
    }
    let mut checks = Vec::new();
    let size = std::fs::metadata(&path)
        .doing(|| format!("look at {}", path.display()))?
        .len();
    if size != file.size {
        checks.push(failed(
            name,
            format!("it has {size} bytes, the manifest says {}", file.size),
        ));
    }
    let listed = sums.get(name).map(ToString::to_string);
    match (&file.sha256, listed) {
        (Some(said), Some(listed)) if *said != listed => checks.push(failed(
            name,
            format!("the manifest says {said}, {SUMS} says {listed}"),
        )),
        (Some(_), None) => checks.push(failed(name, format!("{SUMS} has no line for it"))),
        (None, None) if file.linear_sha256.is_none() => {
            checks.push(failed(name, "it has no checksum".to_owned()));
        }
        _ => {}
    }
    if let Some(wanted) = &file.linear_sha256 {
        let found = open_base(&path, &OpenOptions::default())
            .and_then(|image| output::linear(image.storage.as_ref(), progress));
        checks.push(judged(format!("{name}: linear checksum"), found, wanted)?);
    }
    match image(&path, progress) {
        Ok(found) => checks.extend(found),
        Err(error) if error.class() == crate::Class::Interrupted => return Err(error),
        Err(error) => checks.push(failed(name, flat(&error))),
    }
    Ok(checks)
}

/// Whether a file is there: no link, which may lead elsewhere.
fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

fn failed(name: &str, why: String) -> Check {
    Check {
        name: name.to_owned(),
        outcome: Outcome::Failed(why),
    }
}

fn judged(name: String, found: Result<Digest>, wanted: &str) -> Result<Check> {
    let outcome = match found {
        Ok(found) if found.to_string() == wanted => Outcome::Passed,
        Ok(found) => Outcome::Failed(format!("it is {found}, not {wanted}")),
        Err(error) if error.class() == crate::Class::Interrupted => return Err(error),
        Err(error) => Outcome::CouldNotRun(flat(&error)),
    };
    Ok(Check { name, outcome })
}

/// Checks one image: partition table, file systems, hygiene, SELinux labels.
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
        let outcome = match volume::check_partition(Arc::new(slice)) {
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

/// The hygiene checks, and that of the labels.
fn clean(storage: &Arc<dyn Storage>, layout: &Layout, name: &str) -> Result<Vec<Check>> {
    let volumes: BTreeMap<_, _> = layout.open(storage, Access::Read, Timestamp::default())?;
    let mut image = Image::new(volumes)?;
    let manifest = manifest(&mut image)?;
    let exceptions = manifest
        .as_ref()
        .map(|manifest| manifest.exceptions.clone())
        .unwrap_or_default();
    let mut checks = Vec::new();
    for (check, outcome) in hygiene::inspect(&mut image) {
        let outcome = match outcome {
            hygiene::Outcome::Found(mut findings) => {
                findings.retain(|finding| {
                    !(check.has_exceptions() && is_exception(&mut image, finding, &exceptions))
                });
                told(check, &findings)
            }
            hygiene::Outcome::CouldNotRun(error) => Outcome::CouldNotRun(flat(&error)),
        };
        checks.push(Check {
            name: format!("{name}: hygiene: {}", check.name),
            outcome,
        });
    }
    if let Some(outcome) = labels::check(&mut image, manifest.as_ref()) {
        checks.push(Check {
            name: format!("{name}: SELinux labels"),
            outcome,
        });
    }
    Ok(checks)
}

fn told(check: &hygiene::Check, findings: &[hygiene::Finding]) -> Outcome {
    if findings.is_empty() {
        return Outcome::Passed;
    }
    let paths: Vec<String> = findings
        .iter()
        .map(|finding| finding.path.to_string())
        .collect();
    Outcome::Failed(format!("{} {}", paths.join(", "), check.about))
}

/// The image's own manifest. The image is judged, and not its manifest: one that cannot
/// be understood says nothing.
fn manifest(image: &mut Image) -> Result<Option<Manifest>> {
    let text = image.read(&fixed(release::MANIFEST_PATH))?;
    Ok(text.and_then(|text| Manifest::parse(&text).ok()))
}

/// Whether the profile asked for what was found, and it is as it was then.
fn is_exception(
    image: &mut Image,
    finding: &hygiene::Finding,
    exceptions: &BTreeMap<String, String>,
) -> bool {
    let Some(wanted) = exceptions.get(&finding.path.to_string()) else {
        return false;
    };
    // What cannot be read is nothing that was asked for.
    let found = image.read(&finding.path).ok().flatten();
    found.is_some_and(|bytes| Content::inline(bytes).sha256.to_string() == *wanted)
}

/// An error with its causes on one line.
pub(super) fn flat(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text = format!("{text}: {current}");
        cause = current.source();
    }
    text
}
