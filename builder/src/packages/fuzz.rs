//! Reads bytes as packages, for fuzzing.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::{Damage, Keep, deb, read_one, rpm};
use crate::error::{Error, Result};
use crate::lock::Stored;
use crate::store::Digest;

/// Hashes contents, and keeps none.
pub(super) struct Hash;

impl Keep for Hash {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn keep(&mut self, content: &mut dyn Read, _: u64) -> Result<Stored> {
        let mut bytes = Vec::new();
        // No seed is larger; what a file says of its size is another matter.
        let read = content.take(64 << 20).read_to_end(&mut bytes);
        read.map_err(|error: io::Error| Error::io("read a file of it", error))?;
        let sha256 = Digest::from_bytes(Sha256::digest(&bytes).into());
        let size = bytes.len() as u64;
        Ok(Stored { sha256, size })
    }
}

/// Reads `bytes` as a package, and as the texts that one consists of. It must end,
/// without a panic, whatever the bytes are.
pub fn package(mut bytes: &[u8]) {
    let original = bytes;
    let text = String::from_utf8_lossy(bytes).into_owned();
    let read = read_one(&mut bytes, &mut Hash);
    if let Err(Damage::Package(problem)) = &read {
        assert!(!problem.is_empty() && !problem.contains('\n'), "{problem}");
    }
    deb::scripts::judge(&text).ok();
    if let Some(groups) = deb::relation::parse(&text) {
        let shown: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let again = deb::relation::parse(&shown.join(", "));
        assert_eq!(again.as_deref(), Some(&groups[..]), "{text}");
    }
    if let Some(paragraph) = deb::control::Paragraph::parse(&text) {
        deb::Relations::of(&paragraph).ok();
    }
    let (left, right) = text.split_once('\n').unwrap_or((&text, ""));
    let order = deb::version::compare(left, right);
    assert_eq!(deb::version::compare(right, left), order.reverse());
    let order = rpm::version::compare(left, right);
    assert_eq!(rpm::version::compare(right, left), order.reverse());
    rpm::capability::value(&text);
    if let Ok(header) = rpm::header::Header::parse(original.to_vec()) {
        rpm::Relations::of(&header).ok();
        rpm::scripts::judge(&header).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_packages_and_what_is_like_them() {
        let mut read = 0;
        crate::seeds::replay("package", 300, |mut bytes| {
            package(bytes);
            read += usize::from(read_one(&mut bytes, &mut Hash).is_ok());
        });
        assert!(read > 0, "the seeds are packages");
    }
}
