//! Checksum files: one reader for the shapes in which digests are published.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::store::Digest;

/// Bytes of a checksum file or signature that are read at most.
pub const LENGTH_LIMIT: u64 = 4 << 20;

/// The sha256 of `file_name` in a checksum file:
///
/// - 64 digits and nothing else (`dl.k8s.io`);
/// - lines of `sha256sum`: digest, space, space or `*`, name, with or without
///   folders in front of it;
/// - BSD lines: `SHA256 (NAME) = DIGEST`.
///
/// Other lines, such as the armour of a signature, are passed over.
///
/// # Errors
/// [`crate::Class::Dependency`] when there is no digest for the name, or more
/// than one.
pub fn checksum_in(text: &[u8], file_name: &str) -> Result<Digest> {
    let text = String::from_utf8_lossy(text);
    let refused = |message: String| {
        Error::dependency(message).hint(
            "check the URL of the checksum file; or give the `sha256` yourself, from a source \
             that you trust",
        )
    };
    let bare: Vec<&str> = text.split_whitespace().collect();
    if !bare.is_empty() && bare.iter().all(|word| digest(word).is_some()) {
        let digests: BTreeSet<Digest> = bare.iter().filter_map(|word| digest(word)).collect();
        return match digests.first() {
            Some(only) if bare.len() == 1 => Ok(*only),
            _ => Err(refused(format!(
                "the checksum file has {} digests without names",
                bare.len()
            ))),
        };
    }
    let lines: Vec<(Digest, &str)> = text.lines().filter_map(line).collect();
    let found: BTreeSet<Digest> = lines
        .iter()
        .filter(|(_, name)| last_part(name) == file_name)
        .map(|(digest, _)| *digest)
        .collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(refused(format!(
            "the checksum file has several digests for '{file_name}'"
        ))),
        (None, _) if lines.is_empty() => Err(refused("the checksum file has no sha256".to_owned())),
        (None, _) => {
            let names = lines.iter().map(|(_, name)| last_part(name));
            let close = crate::profile::closest(file_name, names, 3);
            Err(refused(format!(
                "the checksum file has nothing for '{file_name}', but for {}",
                close.join(", ")
            )))
        }
    }
}

/// Digest and name of one line.
fn line(line: &str) -> Option<(Digest, &str)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, hex) = rest.rsplit_once(") = ")?;
        return Some((digest(hex)?, name));
    }
    let (hex, rest) = line.split_once([' ', '\t'])?;
    let name = rest.trim_start();
    let name = name.strip_prefix('*').unwrap_or(name);
    (!name.is_empty()).then_some((digest(hex)?, name))
}

fn digest(text: &str) -> Option<Digest> {
    Digest::from_hex(text).ok()
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn reads_every_shape() {
        for text in [
            A.to_owned(),
            format!("{A}\n"),
            format!("{}\r\n", A.to_uppercase()),
            format!("{A}  kubelet\n"),
            format!("{A} *./bin/kubelet\n"),
            format!("{B}  kubectl\n{A}  kubelet\n{A}  kubelet\n"),
            format!("SHA256 (kubectl) = {B}\nSHA256 (kubelet) = {A}\n"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{A}  kubelet\n{B} kubelet.asc\n-----BEGIN PGP SIGNATURE-----\niQ ==\n"
            ),
        ] {
            let found = checksum_in(text.as_bytes(), "kubelet").expect(&text);
            assert_eq!(found.to_string(), A, "{text}");
        }
    }

    #[test]
    fn refuses_what_does_not_say_which() {
        for (text, message) in [
            (String::new(), "no sha256"),
            ("<html>404</html>".to_owned(), "no sha256"),
            (format!("{A}\n{B}\n"), "2 digests"),
            (format!("{A}\n{A}\n"), "2 digests"),
            (format!("{A}  kubectl\n"), "but for kubectl"),
            (format!("{A}  kubelet\n{B}  kubelet\n"), "several digests"),
            (format!("{A}  xkubelet\n"), "nothing for 'kubelet'"),
            (format!("{}  kubelet\n", &A[1..]), "no sha256"),
            ("\u{0}\u{ff}".to_owned(), "no sha256"),
        ] {
            let error = checksum_in(text.as_bytes(), "kubelet").expect_err(&text);
            assert!(error.message().contains(message), "{text}: {error}");
            assert_eq!(error.class(), crate::Class::Dependency);
            assert!(error.hint_text().is_some());
        }
    }
}
