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
    fn refuses_names_that_break_the_format() {
        let digest = Digest::from_bytes([0; 32]);
        assert!(sha256sums(&[("a\nb".to_owned(), digest)].into()).is_err());
    }
}
