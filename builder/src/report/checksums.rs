//! `SHA256SUMS`, as `sha256sum -c` takes it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::store::Digest;

/// The text of a `SHA256SUMS` file, sorted by name.
///
/// # Errors
/// [`crate::Class::Internal`] for a name with a line break or backslash, which
/// would need the escaped form of the format.
pub fn sha256sums(files: &BTreeMap<String, Digest>) -> Result<String> {
    let mut text = String::new();
    for (name, digest) in files {
        if name.contains(['\n', '\r', '\\']) {
            return Err(Error::new(
                crate::Class::Internal,
                format!("list the checksum of '{}'", name.escape_debug()),
            ));
        }
        // Two spaces: the file is read as it is (text and binary are the same).
        text = text + &digest.to_string() + "  " + name + "\n";
    }
    Ok(text)
}

/// Reads the text of a `SHA256SUMS` file that [`sha256sums`] wrote: digests by
/// name.
///
/// # Errors
/// [`crate::Class::Input`] with the number of the line that is not as
/// `sha256sum` writes it, names a file of another folder, or names one twice.
pub fn parse_sha256sums(text: &str) -> Result<BTreeMap<String, Digest>> {
    let mut files = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: &str| Error::input(format!("line {}: {why}", index + 1));
        let (digest, name) = line
            .split_once("  ")
            .ok_or_else(|| wrong("it is not as sha256sum writes it"))?;
        let digest = Digest::from_hex(digest).map_err(|error| wrong(error.message()))?;
        if !is_plain_name(name) {
            return Err(wrong(&format!(
                "'{}' is no name of a file of this folder",
                name.escape_debug()
            )));
        }
        if files.insert(name.to_owned(), digest).is_some() {
            return Err(wrong(&format!("'{name}' is there twice")));
        }
    }
    Ok(files)
}

/// Whether `name` is that of a file in the folder itself.
pub fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest as _;

    #[test]
    fn is_what_sha256sum_checks() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a b.raw"), b"content").expect("writes");
        let digest = Digest::from_bytes(sha2::Sha256::digest(b"content").into());
        let text = sha256sums(&[("a b.raw".to_owned(), digest)].into()).expect("plain name");
        std::fs::write(folder.path().join("SHA256SUMS"), text).expect("writes");
        crate::task::Task::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .in_folder(folder.path())
            .output()
            .expect("sha256sum agrees");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let digest = Digest::from_bytes([7; 32]);
        let files = BTreeMap::from([("a b.raw".to_owned(), digest), ("c".to_owned(), digest)]);
        let text = sha256sums(&files).expect("plain names");
        assert_eq!(parse_sha256sums(&text).expect("reads"), files);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let digest = Digest::from_bytes([7; 32]);
        for (line, why) in [
            (format!("{digest} a"), "line 2: it is not as"),
            (format!("{}  a", &digest.to_string()[1..]), "line 2"),
            (format!("{digest}  ../a"), "'../a' is no name"),
            (format!("{digest}  /etc/passwd"), "is no name"),
            (format!("{digest}  .."), "is no name"),
            (format!("{digest}  first"), "'first' is there twice"),
            (String::new(), "line 2"),
        ] {
            let text = format!("{digest}  first\n{line}\n");
            let error = parse_sha256sums(&text).expect_err(&line);
            assert!(error.to_string().contains(why), "{line}: {error}");
        }
    }

    /// What the fuzz target does with an input, too.
    fn survive(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(files) = parse_sha256sums(&text) {
            assert!(files.keys().all(|name| is_plain_name(name)));
            if let Ok(text) = sha256sums(&files) {
                assert_eq!(parse_sha256sums(&text).expect("reads back"), files);
            }
        }
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        crate::seeds::replay("sha256sums", 300, survive);
    }

    #[test]
    fn refuses_names_that_break_the_format() {
        let digest = Digest::from_bytes([0; 32]);
        assert!(sha256sums(&[("a\nb".to_owned(), digest)].into()).is_err());
    }
}
