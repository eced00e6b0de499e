//! The packages.

use super::super::model::{PackageSource, Profile};
use super::Problems;

pub(super) fn check(profile: &Profile, problems: &mut Problems) {
    for (index, package) in profile.spec.packages.iter().enumerate() {
        let index = index.to_string();
        let at = |key: &'static str| vec!["spec", "packages", index.as_str(), key];
        one_source(&["spec", "packages", &index], package, problems);
        if let Some(url) = &package.url {
            problems.https(&at("url"), url);
        }
        if let Some(path) = &package.path {
            problems.not_empty(&at("path"), &path.to_string_lossy());
        }
        if let Some(text) = &package.sha256 {
            problems.sha256(&at("sha256"), text);
        }
        if let Some(url) = &package.checksum_url {
            problems.https(&at("checksumUrl"), url);
            if package.url.is_none() || package.sha256.is_some() {
                problems.add(
                    &at("checksumUrl"),
                    "a checksumUrl is for a package with `url` and without `sha256`",
                    "remove `checksumUrl`, or the `sha256` beside it",
                );
            }
        }
        if package.url.is_some() && package.sha256.is_none() && package.checksum_url.is_none() {
            problems.add(
                &at("url"),
                "nothing says what the package at this URL has to be",
                "add its `sha256`, or a `checksumUrl`",
            );
        }
        for (number, path) in package.keys.iter().enumerate() {
            let number = number.to_string();
            let at = ["spec", "packages", &index, "keys", &number];
            problems.not_empty(&at, &path.to_string_lossy());
        }
        if package.allow_unsigned && !package.keys.is_empty() {
            problems.add(
                &at("allowUnsigned"),
                "the package names keys, and need not be signed",
                "keep one of `keys` and `allowUnsigned`",
            );
        }
        if let Some(reason) = &package.ignore_scripts {
            problems.not_empty(&at("ignoreScripts"), reason);
        }
    }
}

fn one_source(at: &[&str], package: &PackageSource, problems: &mut Problems) {
    match (&package.url, &package.path) {
        (Some(_), Some(_)) => problems.add(
            at,
            "the package says url and path",
            "keep exactly one of `url` and `path`",
        ),
        (None, None) => problems.add(
            at,
            "the package says neither url nor path",
            "give exactly one of them",
        ),
        _ => {}
    }
}
