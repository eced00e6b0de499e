//! Several `#cloud-config` files in one seed: cloud-init merges them by key, and
//! of a key that two of them have it keeps one value and drops the other without
//! a word. Source: cloud-init's documentation, "Merging user data sections".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln::{Error, Result};
use serde::de::IgnoredAny;

/// The first line of such a file.
const FIRST_LINE: &[u8] = b"#cloud-config";
/// Keys with which a file says how it is to be merged: then it is meant.
const MERGING: [&str; 2] = ["merge_how", "merge_type"];

/// Refuses files of which cloud-init would drop a part. Anything but
/// `#cloud-config` is left alone.
///
/// # Errors
/// [`nodekiln::Class::Input`] for a key in two files, and for a file that is no
/// YAML mapping.
pub fn check(files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for (path, bytes) in files {
        if !bytes.starts_with(FIRST_LINE) {
            continue;
        }
        let keys = keys(path, bytes)?;
        let says_how = MERGING.iter().any(|key| keys.contains_key(*key));
        for key in keys.into_keys() {
            let Some(other) = seen.insert(key.clone(), path) else {
                continue;
            };
            if !says_how {
                return Err(Error::input(format!(
                    "join {} and {}: both have the key '{key}', and cloud-init would keep \
                     only one of the two",
                    other.display(),
                    path.display()
                ))
                .hint("put them into one file, or say in the later one how to merge: merge_how"));
            }
        }
    }
    Ok(())
}

/// The top keys of a file.
// A set would be read from a list, and a mapping is what the file has to be.
#[allow(clippy::zero_sized_map_values)]
fn keys(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, IgnoredAny>> {
    let doing = || format!("read {}", path.display());
    let text =
        std::str::from_utf8(bytes).map_err(|error| Error::input(doing()).caused_by(error))?;
    let keys: Option<BTreeMap<String, IgnoredAny>> =
        serde_saphyr::from_str(text).map_err(|error| {
            // The error may quote the text, which may hold secrets.
            let place = error.location().map_or_else(String::new, |location| {
                format!(" (line {}, column {})", location.line(), location.column())
            });
            Error::input(format!("{}: it is no YAML mapping{place}", doing()))
                .hint("`cloud-init schema --config-file FILE` tells more")
        })?;
    Ok(keys.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(files: &[&str]) -> Option<String> {
        let files: Vec<(PathBuf, Vec<u8>)> = files
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{number}.yaml").into(), text.as_bytes().to_vec()))
            .collect();
        check(&files).err().map(|error| error.to_string())
    }

    #[test]
    fn a_key_in_two_files_is_refused_unless_the_later_one_says_how_to_merge() {
        let one = "#cloud-config\npackages: [htop]\nruncmd: [[ls]]\n";
        assert_eq!(error(&[one, "#cloud-config\nusers: []\n"]), None);
        assert_eq!(error(&[one, "#!/bin/sh\npackages: [jq]\n"]), None);
        assert_eq!(error(&["#cloud-config\n", one]), None);
        let refused = error(&[one, "#cloud-config\npackages: [jq]\n"]).expect("refused");
        assert!(refused.starts_with("join 0.yaml and 1.yaml: both have the key 'packages'"));
        let merged = "#cloud-config\npackages: [jq]\nmerge_how: 'list(append)+dict()'\n";
        assert_eq!(error(&[one, merged]), None);
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused_without_its_text() {
        let refused = error(&["#cloud-config\n- secret\n"]).expect("refused");
        assert!(
            refused.contains("0.yaml") && !refused.contains("secret"),
            "{refused}"
        );
        let refused = error(&["#cloud-config\nsecret: [\n"]).expect("refused");
        assert!(
            refused.contains("line") && !refused.contains("secret"),
            "{refused}"
        );
    }
}
