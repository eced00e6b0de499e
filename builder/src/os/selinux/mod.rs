//! The labels that the SELinux policy of an image gives to files.
//!
//! A policy names the label of each path in the text files below
//! `/etc/selinux/TYPE/contexts/files` (file_contexts(5), selabel_file(5)). They
//! are read out of the image and searched as libselinux 3.4 to 3.7 does
//! (`libselinux/src/label_file.c`), so that a file gets the label that
//! `matchpathcon` tells and `restorecon` would set. The compiled form beside
//! them (`file_contexts.bin`) holds PCRE's own byte code and is not read.

mod configuration;
mod file_contexts;
mod pattern;
mod substitutions;

pub use configuration::Configuration;
pub use file_contexts::{FileContexts, FileType};
pub use substitutions::Substitutions;

use super::Selinux;
use super::tree::{Tree, fixed};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// The extended attribute that holds a label.
pub const ATTRIBUTE: &str = "security.selinux";
/// Most bytes of one of the policy's text files. The largest that is known has
/// about 600 KiB (Fedora's `targeted`).
const FILE_LIMIT: u64 = 8 << 20;

/// What a policy says about the labels of files.
#[derive(Debug)]
pub struct Policy {
    name: String,
    contexts: FileContexts,
    substitutions: Substitutions,
}

impl Policy {
    /// Reads the policy that the image's own configuration names: `None` for an
    /// image that does not use SELinux, or that would start without a policy.
    ///
    /// # Errors
    /// [`crate::Class::Input`] for a policy that is absent although
    /// `SELINUX=enforcing`, or damaged, with file and line;
    /// [`crate::Class::Unsupported`] for one in compiled form alone.
    pub fn read(image: &mut dyn Tree) -> Result<Option<Self>> {
        let configuration = Configuration::read(image)?;
        if matches!(configuration.mode, Selinux::Absent | Selinux::Disabled) {
            return Ok(None);
        }
        let files = Files::of(&configuration.policy)?;
        let Some(base) = read(image, &files.base)? else {
            return absent(image, &configuration, &files);
        };
        let mut contexts = FileContexts::new();
        contexts.add(&files.base.to_string(), &base)?;
        // This order decides which of two lines counts: the last one does.
        for path in [&files.homedirs, &files.local] {
            if let Some(text) = read(image, path)? {
                contexts.add(&path.to_string(), &text)?;
            }
        }
        if contexts.is_empty() {
            return absent(image, &configuration, &files);
        }
        let mut substitutions = Substitutions::default();
        if let Some(text) = read(image, &files.subs)? {
            substitutions.local(&text);
        }
        if let Some(text) = read(image, &files.subs_dist)? {
            substitutions.distribution(&text);
        }
        contexts.sort();
        Ok(Some(Self {
            name: configuration.policy,
            contexts,
            substitutions,
        }))
    }

    /// Its name, as in `SELINUXTYPE`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label of what lies at `path`, as `matchpathcon` tells it; `None` for
    /// what the policy leaves without one (`<<none>>`, or no line for it).
    pub fn label(&self, path: &ImagePath, kind: FileType) -> Option<&str> {
        let path = self.substitutions.apply(path.as_bytes());
        self.contexts.label(&path, kind)
    }

    /// The value of [`ATTRIBUTE`] for `path`: the label and a NUL, as setfiles
    /// writes it.
    pub fn attribute(&self, path: &ImagePath, kind: FileType) -> Option<Vec<u8>> {
        self.label(path, kind)
            .map(|label| [label.as_bytes(), b"\0"].concat())
    }
}

/// The files that [`Policy::read`] looks at, for those who have to know whether
/// they change.
///
/// # Errors
/// What the volume gives.
pub fn sources(image: &mut dyn Tree) -> Result<Vec<ImagePath>> {
    let configuration = Configuration::read(image)?;
    let mut paths = vec![fixed(configuration::PATH)];
    if let Ok(files) = Files::of(&configuration.policy) {
        paths.extend([
            files.base,
            files.homedirs,
            files.local,
            files.subs,
            files.subs_dist,
        ]);
    }
    Ok(paths)
}

/// Where a policy keeps what it says about files.
struct Files {
    base: ImagePath,
    homedirs: ImagePath,
    local: ImagePath,
    subs: ImagePath,
    subs_dist: ImagePath,
}

impl Files {
    fn of(policy: &str) -> Result<Self> {
        let folder = fixed("/etc/selinux")
            .join(policy)
            .and_then(|folder| folder.join("contexts")?.join("files"))
            .map_err(|error| {
                error
                    .context(format!("read {}", configuration::PATH))
                    .hint("SELINUXTYPE must be the name of a folder in /etc/selinux")
            })?;
        Ok(Self {
            base: folder.join("file_contexts")?,
            homedirs: folder.join("file_contexts.homedirs")?,
            local: folder.join("file_contexts.local")?,
            subs: folder.join("file_contexts.subs")?,
            subs_dist: folder.join("file_contexts.subs_dist")?,
        })
    }
}

/// The text of a file of the policy, or `None` when it is not there.
fn read(image: &mut dyn Tree, path: &ImagePath) -> Result<Option<Vec<u8>>> {
    match image.stat(path)? {
        Some((_, found)) if found.size > FILE_LIMIT => Err(Error::input(format!(
            "read {path} of the image: {} bytes are more than a policy says about files",
            found.size
        ))),
        _ => image.read(path),
    }
}

/// A system that refuses what has no label would not start.
fn absent(
    image: &mut dyn Tree,
    configuration: &Configuration,
    files: &Files,
) -> Result<Option<Policy>> {
    let compiled = fixed(&format!("{}.bin", files.base));
    if image.is_file(&compiled)? {
        return Err(Error::unsupported(format!(
            "read the labels of the image: it has {compiled}, but not the text that this is made of"
        ))
        .hint(format!("put {} into the base", files.base)));
    }
    if configuration.mode != Selinux::Enforcing {
        return Ok(None);
    }
    Err(Error::input(format!(
        "read the labels of the image: {} says enforcing, and {} is not there, or empty",
        configuration::PATH,
        files.base
    ))
    .hint("install the policy in the base, or take a base that has it"))
}

/// Takes any bytes as the files of a policy, for fuzzing: a line `---` ends one,
/// and the last one is a list of paths that are looked up.
#[doc(hidden)]
pub fn replay(bytes: &[u8]) {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(5).position(|five| five == b"\n---\n") {
        parts.push(&rest[..=at]);
        rest = &rest[at + 5..];
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let mut substitutions = Substitutions::default();
    substitutions.local(part(2));
    substitutions.distribution(part(2));
    let mut contexts = FileContexts::new();
    for (name, text) in [("base", part(0)), ("local", part(1))] {
        if let Err(error) = contexts.add(name, text) {
            assert!(error.to_string().contains(name), "names the file: {error}");
            return;
        }
    }
    contexts.sort();
    for line in rest.split(|byte| *byte == b'\n').take(64) {
        if let Ok(path) = ImagePath::new(line) {
            let path = substitutions.apply(path.as_bytes());
            for kind in FileType::ALL {
                if let Some(label) = contexts.label(&path, kind) {
                    assert!(label.is_ascii() && label.matches(':').count() >= 2);
                }
            }
        }
    }
    drop(Configuration::parse(&String::from_utf8_lossy(rest)));
}

#[cfg(test)]
mod tests;
