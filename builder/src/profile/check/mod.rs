//! What a well-formed profile must also be: the checks that no schema says.

mod components;
pub(crate) mod names;
mod packages;
mod system;

use super::model::{Base, Bootstrap, Profile, SignedChecksums};
use super::size;
use crate::base::bootstrap;

/// One problem, by the path of keys and indices to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub path: Vec<String>,
    pub message: String,
    pub hint: String,
}

/// Collects problems.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem {
            path: path.iter().map(|&step| step.to_owned()).collect(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Adds the message and hint of an error.
    fn add_error(&mut self, path: &[&str], error: &crate::Error) {
        let hint = error.hint_text().unwrap_or_default().to_owned();
        self.add(path, error.message(), hint);
    }

    fn https(&mut self, path: &[&str], url: &str) {
        if let Err(hint) = names::https(url) {
            let shown = super::tree::shortened(url);
            self.add(path, format!("'{shown}' is no https URL of a file"), hint);
        }
    }

    fn sha256(&mut self, path: &[&str], text: &str) {
        if let Err(error) = crate::store::Digest::from_hex(text) {
            self.add_error(path, &error);
        }
    }

    fn not_empty(&mut self, path: &[&str], text: &str) {
        if text.trim().is_empty() || text.contains('\0') {
            let key = path.last().copied().unwrap_or_default();
            self.add(
                path,
                format!("{key} is empty"),
                "give it a value, or remove the key",
            );
        }
    }
}

/// Every problem of the profile, in the order of its sections.
pub(super) fn problems(profile: &Profile) -> Vec<Problem> {
    let mut problems = Problems::default();
    metadata(profile, &mut problems);
    base(&profile.spec.base, &mut problems);
    if let Some(text) = &profile.spec.disk_size {
        disk_size(&["spec", "diskSize"], text, &mut problems);
    }
    components::check(profile, &mut problems);
    packages::check(profile, &mut problems);
    system::check(profile, &mut problems);
    outputs(profile, &mut problems);
    problems.0
}

fn metadata(profile: &Profile, problems: &mut Problems) {
    let name = &profile.metadata.name;
    if !names::is_profile_name(name) {
        problems.add(
            &["metadata", "name"],
            format!("'{}' is no profile name", super::tree::shortened(name)),
            "use lower-case letters, digits, '.' and '-', at most 63, beginning and ending with \
             a letter or digit",
        );
    }
    for variable in profile.metadata.variables.keys() {
        if !names::is_identifier(variable) {
            problems.add(
                &["metadata", "variables", variable],
                format!(
                    "'{}' is no name of a variable",
                    super::tree::shortened(variable)
                ),
                "use letters, digits and '_', beginning with a letter: templates name it",
            );
        }
    }
}

fn base(base: &Base, problems: &mut Problems) {
    let at = |key: &'static str| ["spec", "base", key];
    let given: Vec<&str> = [
        ("path", base.path.is_some()),
        ("url", base.url.is_some()),
        ("bootstrap", base.bootstrap.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    match given.len() {
        1 => {}
        0 => problems.add(
            &["spec", "base"],
            "the base says neither path, url nor bootstrap",
            "give exactly one of `path`, `url` and `bootstrap`",
        ),
        _ => problems.add(
            &["spec", "base"],
            format!("the base says {}", given.join(" and ")),
            "keep exactly one of `path`, `url` and `bootstrap`",
        ),
    }
    if let Some(path) = &base.path {
        problems.not_empty(&at("path"), &path.to_string_lossy());
    }
    if let Some(url) = &base.url {
        problems.https(&at("url"), url);
    }
    if let Some(text) = &base.sha256 {
        problems.sha256(&at("sha256"), text);
        if base.bootstrap.is_some() {
            problems.add(
                &at("sha256"),
                "a bootstrapped base has no sha256 to compare with",
                "remove the key: the lock pins the result",
            );
        }
    }
    if let Some(checksums) = &base.checksums {
        if base.url.is_none() || base.sha256.is_some() {
            problems.add(
                &at("checksums"),
                "checksums are for a base with `url` and without `sha256`",
                "remove `checksums`, or the `sha256` beside it",
            );
        }
        base_checksums(checksums, problems);
    }
    if base.allow_backing_file && base.path.is_none() {
        problems.add(
            &at("allowBackingFile"),
            "a backing file can only belong to a base with `path`",
            "remove `allowBackingFile`",
        );
    }
    if let Some(bootstrap) = &base.bootstrap {
        base_bootstrap(bootstrap, problems);
    }
}

fn base_checksums(checksums: &SignedChecksums, problems: &mut Problems) {
    let at = |key: &'static str| ["spec", "base", "checksums", key];
    problems.https(&at("url"), &checksums.url);
    if let Some(signature) = &checksums.signature {
        problems.https(&at("signature"), signature);
    }
    problems.not_empty(&at("keyring"), &checksums.keyring.to_string_lossy());
    for (index, text) in checksums.fingerprints.iter().enumerate() {
        if !names::is_fingerprint(text) {
            let index = index.to_string();
            problems.add(
                &["spec", "base", "checksums", "fingerprints", &index],
                format!("'{}' is no fingerprint", super::tree::shortened(text)),
                "a fingerprint has 40 (or 64) hexadecimal digits: `gpg --show-keys FILE` \
                 prints it; a short key id is not enough",
            );
        }
    }
}

fn base_bootstrap(bootstrap: &Bootstrap, problems: &mut Problems) {
    let at = |key: &'static str| ["spec", "base", "bootstrap", key];
    if !names::is_suite(&bootstrap.suite) {
        problems.add(
            &at("suite"),
            format!(
                "'{}' is no name of a Debian release",
                super::tree::shortened(&bootstrap.suite)
            ),
            "use a release's name in lower case, such as bookworm",
        );
    }
    for (index, package) in bootstrap.packages.iter().enumerate() {
        if !names::is_package(package) {
            problems.add(
                &["spec", "base", "bootstrap", "packages", &index.to_string()],
                format!("'{}' is no package", super::tree::shortened(package)),
                "name a Debian package, such as containerd or containerd=1.6.20~ds1-1+b1",
            );
        }
    }
    bootstrap_size(&at("size"), &bootstrap.size, problems);
}

/// Bytes of the smallest disk that any partition layout fits.
const SMALLEST_DISK: u64 = 512 << 20;
/// Bytes of the largest disk that is plausible.
const LARGEST_DISK: u64 = 64 << 40;

fn bootstrap_size(path: &[&str], text: &str, problems: &mut Problems) {
    match size::parse(text) {
        Ok(bytes) if bytes <= LARGEST_DISK && !bootstrap::is_size(bytes) => problems.add(
            path,
            format!("'{text}' is no size for a bootstrapped disk"),
            "use whole MiB, and 2GiB at least, such as 4GiB",
        ),
        _ => disk_size(path, text, problems),
    }
}

fn disk_size(path: &[&str], text: &str, problems: &mut Problems) {
    match size::parse(text) {
        Err(error) => problems.add_error(path, &error),
        Ok(bytes) if bytes % size::SECTOR != 0 => problems.add(
            path,
            format!("'{text}' is no whole number of sectors"),
            "use a multiple of 512 bytes, such as 8GiB",
        ),
        Ok(bytes) if !(SMALLEST_DISK..=LARGEST_DISK).contains(&bytes) => problems.add(
            path,
            format!("'{text}' is no size for a disk"),
            "use a size from 512MiB to 64TiB",
        ),
        Ok(_) => {}
    }
}

fn outputs(profile: &Profile, problems: &mut Problems) {
    let outputs = &profile.spec.outputs;
    if outputs.is_empty() {
        problems.add(
            &["spec", "outputs"],
            "there is no output",
            "add `- format: qcow2` or `- format: raw`, or remove the key",
        );
    }
    for (index, output) in outputs.iter().enumerate() {
        if outputs[..index]
            .iter()
            .any(|earlier| earlier.format == output.format)
        {
            problems.add(
                &["spec", "outputs", &index.to_string()],
                "this format is written twice",
                "keep one output of each format",
            );
        }
    }
}
