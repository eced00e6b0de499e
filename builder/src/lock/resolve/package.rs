//! The pin of one package.

use super::{Resolver, TRUST_LOCAL, TRUST_PROFILE};
use crate::error::{Error, Result};
use crate::lock::checksum_file::checksum_in;
use crate::lock::model::{LockedFile, Origin};
use crate::lock::sources::Signer;
use crate::lock::upgrade::Input;
use crate::lock::{SIGNED_BY, file_name_of_url};
use crate::profile::model::PackageSource;
use crate::store::Digest;

impl Resolver<'_> {
    pub(super) fn package(&self, source: &PackageSource) -> Result<LockedFile> {
        let sha256 = source.sha256.as_deref().map(Digest::from_hex).transpose()?;
        let trust = match (&source.url, &source.checksum_url, sha256) {
            (_, _, Some(_)) => TRUST_PROFILE.to_owned(),
            (Some(_), Some(list), None) => format!("checksum file {list}"),
            _ => TRUST_LOCAL.to_owned(),
        };
        let (origin, stored) = match (&source.path, &source.url) {
            (Some(path), _) => {
                let origin = self.path_origin(path);
                let kept = self.kept_package(&origin, &trust, sha256);
                // A local file may have changed; where it is gone, the store has it.
                if let (Some(pin), false) = (kept, self.sources.is_present(path)) {
                    return self.vouched(source, pin.clone(), trust);
                }
                (origin, self.local(path, sha256))
            }
            (None, Some(url)) => {
                let origin = Origin::Url(url.clone());
                let kept = self.kept_package(&origin, &trust, sha256);
                if let (Some(pin), true) = (kept, source.keys.is_empty()) {
                    return Ok(pin.clone());
                }
                let expected = match sha256.or(kept.map(|pin| pin.sha256)) {
                    Some(sha256) => sha256,
                    None => self.published(url, source.checksum_url.as_deref())?,
                };
                (origin, self.download(url, expected))
            }
            (None, None) => {
                let text = "lock a package: the profile names no source for it";
                return Err(Error::input(text).hint("give it a url or a path"));
            }
        };
        let stored = stored.map_err(|error| error.context("lock a package"))?;
        let pin = LockedFile {
            origin,
            sha256: stored.sha256,
            size: stored.size,
            trust: trust.clone(),
        };
        self.vouched(source, pin, trust)
    }

    /// The pin with who signed the package, after that was verified.
    fn vouched(
        &self,
        source: &PackageSource,
        pin: LockedFile,
        trust: String,
    ) -> Result<LockedFile> {
        let name = match &pin.origin {
            Origin::Url(url) => file_name_of_url(url).to_owned(),
            Origin::Path(path) => path.clone(),
            Origin::Bootstrap { .. } => pin.sha256.to_string(),
        };
        let signer = self.sources.signer(&pin.sha256, &source.keys);
        let trust = match signer.map_err(|error| error.context(format!("lock {name}")))? {
            Signer::Key(fingerprint) => format!("{trust}, {SIGNED_BY}{fingerprint}"),
            Signer::NotInFormat if !source.keys.is_empty() => {
                return Err(Error::input(format!(
                    "lock {name}: a Debian package has no signature of its own"
                ))
                .hint("remove `keys`; its `sha256` is what says that it is the right one"));
            }
            Signer::NotInFormat => trust,
            Signer::NotAsked if source.allow_unsigned => trust,
            Signer::NotAsked => {
                return Err(Error::input(format!(
                    "lock {name}: nothing says whose signature it has to have"
                ))
                .hint(
                    "name the publisher's public keys with `keys`, or say `allowUnsigned: true`",
                ));
            }
        };
        Ok(LockedFile { trust, ..pin })
    }

    /// The previous pin, if the profile still asks for it.
    fn kept_package(
        &self,
        origin: &Origin,
        trust: &str,
        sha256: Option<Digest>,
    ) -> Option<&LockedFile> {
        if self.upgrade.includes(Input::Packages) {
            return None;
        }
        let pins = self.previous?.packages.iter();
        pins.into_iter().find(|pin| {
            pin.origin == *origin
                && pin.trust.split(", ").next() == Some(trust)
                && sha256.is_none_or(|sha256| sha256 == pin.sha256)
        })
    }

    /// What the checksum file says of a package.
    fn published(&self, url: &str, list: Option<&str>) -> Result<Digest> {
        let hint = "give the package its `sha256`, or another `checksumUrl`";
        let doing = || format!("find the checksum of {url}");
        let list = list.ok_or_else(|| {
            Error::input(format!("{}: the profile names none", doing())).hint(hint)
        })?;
        let text = self.text(list).map_err(|error| error.context(doing()))?;
        checksum_in(&text, file_name_of_url(url))
            .map_err(|error| error.context(format!("{} in {list}", doing())).hint(hint))
    }
}
