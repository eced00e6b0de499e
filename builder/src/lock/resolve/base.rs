//! The pin of the base image.

use super::{Resolver, TRUST_BOOTSTRAP, TRUST_LOCAL, TRUST_PROFILE};
use crate::error::{Error, Result};
use crate::lock::checksum_file::checksum_in;
use crate::lock::file_name_of_url;
use crate::lock::model::{LockedFile, Origin};
use crate::lock::upgrade::Input;
use crate::profile::model::SignedChecksums;
use crate::store::Digest;

/// How a clear-signed text begins (RFC 9580 7).
const CLEAR_SIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// Added to the trust in a base whose pin is that of a copy in another format.
const REWRITTEN: &str = "written anew as one qcow2";

impl Resolver<'_> {
    pub(super) fn base(&self, inputs: Digest) -> Result<LockedFile> {
        if let Some(previous) = self.previous
            && previous.base_inputs == inputs
            && !self.upgrade.includes(Input::Base)
            && !self.is_local_base_present()
        {
            return Ok(previous.base.clone());
        }
        let base = self
            .new_base()
            .map_err(|error| error.context("lock the base image"))?;
        if let Some(previous) = self.previous
            && previous.base_inputs == inputs
            && previous.base.sha256 != base.sha256
        {
            self.sources
                .note("the base image changed: it is pinned anew");
        }
        Ok(base)
    }

    /// A local base may have changed, or the file that it rests on.
    fn is_local_base_present(&self) -> bool {
        let path = self.profile.spec.base.path.as_deref();
        path.is_some_and(|path| self.sources.is_present(path))
    }

    fn new_base(&self) -> Result<LockedFile> {
        let base = &self.profile.spec.base;
        let sha256 = base.sha256.as_deref().map(Digest::from_hex).transpose()?;
        if let Some(path) = &base.path {
            let found = self
                .sources
                .local_base(path, sha256, base.allow_backing_file)?;
            let vouched = if sha256.is_some() {
                TRUST_PROFILE
            } else {
                TRUST_LOCAL
            };
            return Ok(LockedFile {
                origin: self.path_origin(path),
                sha256: found.image.sha256,
                size: found.image.size,
                trust: if found.is_rewritten {
                    format!("{vouched}, {REWRITTEN}")
                } else {
                    vouched.to_owned()
                },
            });
        }
        if let Some(url) = &base.url {
            let (expected, trust) = match (sha256, &base.checksums) {
                (Some(sha256), _) => (sha256, TRUST_PROFILE.to_owned()),
                (None, Some(checksums)) => self.signed_checksum(url, checksums)?,
                (None, None) => {
                    return Err(
                        Error::dependency(format!("verify {url}: nothing vouches for it")).hint(
                            "give spec.base the `sha256` of the image, or `checksums` with the \
                             vendor's signed list",
                        ),
                    );
                }
            };
            let stored = self.download(url, expected)?;
            return Ok(LockedFile {
                origin: Origin::Url(url.clone()),
                sha256: stored.sha256,
                size: stored.size,
                trust,
            });
        }
        if let Some(wish) = &base.bootstrap {
            let made = self
                .sources
                .bootstrap(wish, self.profile.spec.architecture)?;
            return Ok(LockedFile {
                origin: Origin::Bootstrap {
                    suite: wish.suite.clone(),
                    packages: made.packages,
                },
                sha256: made.image.sha256,
                size: made.image.size,
                trust: TRUST_BOOTSTRAP.to_owned(),
            });
        }
        Err(
            Error::input("the base says neither path, url nor bootstrap")
                .hint("give spec.base exactly one of them"),
        )
    }

    /// The digest of `url` in the vendor's signed list, and how it is trusted.
    fn signed_checksum(&self, url: &str, checksums: &SignedChecksums) -> Result<(Digest, String)> {
        let list = self.text(&checksums.url)?;
        let clear_signed = list
            .windows(CLEAR_SIGNED.len())
            .any(|part| part == CLEAR_SIGNED);
        let signature = match &checksums.signature {
            Some(signature) => Some(self.text(signature)?),
            None if clear_signed => None,
            None => Some(
                self.text(&format!("{}.gpg", checksums.url))
                    .map_err(|error| {
                        error
                            .context("find the signature of the list of checksums")
                            .hint("give spec.base.checksums a `signature`")
                    })?,
            ),
        };
        let fingerprints: Vec<String> = checksums
            .fingerprints
            .iter()
            .map(|text| text.split_whitespace().collect::<String>().to_uppercase())
            .collect();
        let verified = self
            .sources
            .verify_checksums(
                &list,
                signature.as_deref(),
                &checksums.keyring,
                &fingerprints,
            )
            .map_err(|error| error.context(format!("verify the signature of {}", checksums.url)))?;
        // Only what was signed counts, not what lies around it.
        let digest = checksum_in(verified.text.as_bytes(), file_name_of_url(url))
            .map_err(|error| error.context(format!("find {url} in {}", checksums.url)))?;
        let list = file_name_of_url(&checksums.url);
        Ok((digest, format!("{list} signed by {}", verified.fingerprint)))
    }
}
