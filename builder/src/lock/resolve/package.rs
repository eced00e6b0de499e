//! The pin of one package.

use super::{Resolver, TRUST_LOCAL, TRUST_PROFILE};
use crate::error::{Error, Result};
use crate::lock::checksum_file::checksum_in;
use crate::lock::file_name_of_url;
use crate::lock::model::{LockedFile, Origin};
use crate::lock::upgrade::Input;
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
                    return Ok(pin.clone());
                }
                (origin, self.local(path, sha256))
            }
            (None, Some(url)) => {
                let origin = Origin::Url(url.clone());
                if let Some(pin) = self.kept_package(&origin, &trust, sha256) {
                    return Ok(pin.clone());
                }
                let expected = match sha256 {
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
        Ok(LockedFile {
            origin,
            sha256: stored.sha256,
            size: stored.size,
            trust,
        })
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
                && pin.trust == trust
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
