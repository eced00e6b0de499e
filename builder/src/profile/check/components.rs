//! The version, and where the components come from.

use super::super::model::{ComponentSource, Profile};
use super::super::tree::shortened;
use super::{Problems, names};
use crate::catalog::{self, Component, Shape};

pub(super) fn check(profile: &Profile, problems: &mut Problems) {
    let kubernetes = &profile.spec.kubernetes;
    let version = &kubernetes.version;
    if !names::is_version(version) {
        let hint = match version.strip_prefix('v') {
            Some(rest) if names::is_version(rest) => format!("write it without the v: {rest}"),
            _ => match catalog::defaults(version) {
                Some(row) => format!("write a full version, such as {}", row.kubernetes),
                None => "write a full version, such as 1.34.9".to_owned(),
            },
        };
        problems.add(
            &["spec", "kubernetes", "version"],
            format!("'{}' is no Kubernetes version", shortened(version)),
            hint,
        );
    }
    if let Some(date) = &kubernetes.eks_build
        && !names::is_date(date)
    {
        problems.add(
            &["spec", "kubernetes", "eksBuild"],
            format!("'{}' is no date of a build", shortened(date)),
            "write it as YYYY-MM-DD, such as 2026-07-05",
        );
    }
    for (name, source) in &kubernetes.components {
        let part = catalog::component(*name);
        one_source(part, source, problems);
        fitting(part, source, profile, problems);
        verified(part, source, problems);
        archive(part, source, problems);
    }
}

fn path<'a>(part: &Component, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["spec", "kubernetes", "components", part.label];
    path.extend(rest);
    path
}

fn one_source(part: &Component, source: &ComponentSource, problems: &mut Problems) {
    let given: Vec<&str> = [
        ("url", source.url.is_some()),
        ("path", source.path.is_some()),
        ("fromBase", source.from_base),
        ("omit", source.omit),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    match given.len() {
        1 => {}
        0 => problems.add(
            &path(part, &[]),
            format!("{} says neither url, path, fromBase nor omit", part.label),
            format!(
                "give exactly one of them, or remove `{}:` to take it from the catalogue",
                part.label
            ),
        ),
        _ => problems.add(
            &path(part, &[]),
            format!("{} says {}", part.label, given.join(" and ")),
            "keep exactly one of `url`, `path`, `fromBase: true` and `omit: true`",
        ),
    }
}

fn fitting(part: &Component, source: &ComponentSource, profile: &Profile, problems: &mut Problems) {
    let other = part
        .provider
        .is_some_and(|provider| provider != profile.spec.credential_provider);
    if other && !source.omit {
        problems.add(
            &path(part, &[]),
            format!("{} is not for this credential provider", part.label),
            format!(
                "remove `{}:`, or change spec.credentialProvider",
                part.label
            ),
        );
    }
}

fn verified(part: &Component, source: &ComponentSource, problems: &mut Problems) {
    if let Some(url) = &source.url {
        problems.https(&path(part, &["url"]), url);
    }
    if let Some(file) = &source.path {
        problems.not_empty(&path(part, &["path"]), &file.to_string_lossy());
    }
    if let Some(text) = &source.sha256 {
        problems.sha256(&path(part, &["sha256"]), text);
        if source.url.is_none() && source.path.is_none() {
            problems.add(
                &path(part, &["sha256"]),
                "a sha256 is for a component with `url` or `path`",
                "remove `sha256`, or add the `url` that it belongs to",
            );
        }
    }
    if let Some(url) = &source.checksum_url {
        problems.https(&path(part, &["checksumUrl"]), url);
        if source.url.is_none() || source.sha256.is_some() {
            problems.add(
                &path(part, &["checksumUrl"]),
                "a checksumUrl is for a component with `url` and without `sha256`",
                "remove `checksumUrl`, or the `sha256` beside it",
            );
        }
    }
}

fn archive(part: &Component, source: &ComponentSource, problems: &mut Problems) {
    let file = match (&source.url, &source.path) {
        (Some(url), _) => crate::lock::file_name_of_url(url).to_owned(),
        (None, Some(path)) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        (None, None) => {
            if source.member.is_some() {
                problems.add(
                    &path(part, &["member"]),
                    "a member is for a component with `url` or `path`",
                    "remove `member`",
                );
            }
            return;
        }
    };
    let is_archive = catalog::is_archive(&file);
    match &source.member {
        Some(member) if is_archive => inside(part, member, problems),
        Some(_) => problems.add(
            &path(part, &["member"]),
            format!("'{}' is no archive, so it has no members", shortened(&file)),
            format!("remove `member`, or give an archive ({})", endings()),
        ),
        None => {
            let key = if source.url.is_some() { "url" } else { "path" };
            without_member(part, &path(part, &[key]), &file, is_archive, problems);
        }
    }
}

fn endings() -> String {
    catalog::ARCHIVE_ENDINGS.join(", ")
}

/// A member is named as a path within its archive.
fn inside(part: &Component, member: &str, problems: &mut Problems) {
    let clean = member.trim_start_matches("./").trim_end_matches('/');
    let inside = !member.starts_with('/')
        && clean
            .split('/')
            .all(|step| !matches!(step, "" | "." | "..") && !step.contains('\0'));
    if !inside {
        problems.add(
            &path(part, &["member"]),
            format!("'{}' is no path in an archive", shortened(member)),
            "write it as `tar -t` prints it, such as bin/kubelet",
        );
    }
}

/// A file is what the component needs, as far as its name tells.
fn without_member(
    part: &Component,
    at: &[&str],
    file: &str,
    is_archive: bool,
    problems: &mut Problems,
) {
    let is_compressed = || {
        let file = file.to_ascii_lowercase();
        let mut endings = [".gz", ".xz", ".zst", ".bz2", ".zip"].iter();
        endings.any(|ending| file.ends_with(ending))
    };
    match part.shape {
        Shape::Program { .. } if is_archive => problems.add(
            at,
            format!(
                "'{}' is an archive, and nothing says which member is {}",
                shortened(file),
                part.label
            ),
            "add `member` with the path of the program in the archive",
        ),
        Shape::Programs { .. } if !is_archive => problems.add(
            at,
            format!(
                "{} is several programs, and '{}' is no archive",
                part.label,
                shortened(file)
            ),
            format!("give an archive ({})", endings()),
        ),
        _ if !is_archive && is_compressed() => problems.add(
            at,
            format!("'{}' is compressed, but no archive", shortened(file)),
            format!("unpack it first, or give an archive ({})", endings()),
        ),
        _ => {}
    }
}
