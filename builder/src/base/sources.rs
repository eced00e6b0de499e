//! The outside world, as a lock sees it: over the store, the network, archives,
//! signatures and mmdebstrap.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::bootstrap::{self, DEFAULT_EPOCH};
use super::local;
use crate::error::{Context as _, Error, Result};
use crate::lock::{
    Bootstrapped, LocalBase, MemberSelection, Signer, Sources, Stored, Unpacked, VerifiedList,
};
use crate::packages;
use crate::profile::model::{Architecture, Bootstrap};
use crate::profile::size;
use crate::progress::Progress;
use crate::store::{Digest, Fetcher, Store, archive, signature};

/// Largest file that is downloaded, in bytes: beyond any disk image in use.
pub const DOWNLOAD_LIMIT: u64 = 64 << 30;
/// Largest keyring, in bytes.
const KEYRING_LIMIT: u64 = 4 << 20;

/// Brings inputs into a store. Local paths are relative to the profile's folder.
#[derive(Clone, Copy)]
pub struct StoreSources<'a> {
    store: &'a Store,
    fetcher: &'a Fetcher,
    folder: &'a Path,
    epoch: Option<i64>,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for StoreSources<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StoreSources")
            .field("store", &self.store)
            .field("fetcher", &self.fetcher)
            .field("folder", &self.folder)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl<'a> StoreSources<'a> {
    /// Sources for a profile in `folder`. `epoch` (`SOURCE_DATE_EPOCH`, in
    /// seconds since 1970) is the latest time in a bootstrapped base;
    /// [`DEFAULT_EPOCH`] when there is none.
    pub fn new(
        store: &'a Store,
        fetcher: &'a Fetcher,
        folder: &'a Path,
        epoch: Option<i64>,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            store,
            fetcher,
            folder,
            epoch,
            progress,
        }
    }

    /// The store that is filled.
    pub(super) fn store(&self) -> &Store {
        self.store
    }

    /// A file of public keys.
    fn keyring(&self, path: &Path) -> Result<Vec<u8>> {
        let path = self.resolve(path);
        let doing = || format!("read the keyring {}", path.display());
        let size = std::fs::metadata(&path).doing(doing)?.len();
        if size > KEYRING_LIMIT {
            return Err(Error::input(format!("{}: it is too large", doing())));
        }
        std::fs::read(&path).doing(doing)
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

impl Sources for StoreSources<'_> {
    fn download(&self, url: &str, expected: Option<Digest>) -> Result<Stored> {
        let (sha256, size) =
            self.fetcher
                .download(self.store, url, expected, DOWNLOAD_LIMIT, self.progress)?;
        Ok(Stored { sha256, size })
    }

    fn text(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        self.fetcher.text(url, limit, self.progress)
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    fn is_present(&self, path: &Path) -> bool {
        self.resolve(path).exists()
    }

    fn local(&self, path: &Path, expected: Option<Digest>) -> Result<Stored> {
        let path = self.resolve(path);
        let (sha256, size) = self
            .store
            .add_file(&path, expected)
            .map_err(|error| local::wrong_file(&path, error))?;
        Ok(Stored { sha256, size })
    }

    fn local_base(
        &self,
        path: &Path,
        expected: Option<Digest>,
        allow_backing_file: bool,
    ) -> Result<LocalBase> {
        let path = self.resolve(path);
        local::add(
            self.store,
            &path,
            expected,
            allow_backing_file,
            self.progress,
        )
    }

    fn members(&self, archive: &Digest, selection: &MemberSelection) -> Result<Unpacked> {
        let limits = archive::Limits::default();
        archive::members(self.store, archive, selection, &limits, self.progress)
    }

    fn verify_checksums(
        &self,
        list: &[u8],
        signature: Option<&[u8]>,
        keyring: &Path,
        fingerprints: &[String],
    ) -> Result<VerifiedList> {
        let keyring = self.keyring(keyring)?;
        signature::verify(list, signature, &keyring, fingerprints, SystemTime::now())
    }

    fn signer(&self, package: &Digest, keyrings: &[PathBuf]) -> Result<Signer> {
        let keyrings = keyrings
            .iter()
            .map(|path| self.keyring(path))
            .collect::<Result<Vec<_>>>()?;
        packages::signer(self.store, package, &keyrings, SystemTime::now())
    }

    fn bootstrap(&self, wish: &Bootstrap, architecture: Architecture) -> Result<Bootstrapped> {
        let options = bootstrap::Options {
            epoch: self.epoch.unwrap_or(DEFAULT_EPOCH),
            size: size::parse(&wish.size)?,
        };
        if self.fetcher.is_offline() {
            return Err(Error::environment(format!(
                "bootstrap Debian {}: this run is offline",
                wish.suite
            ))
            .hint("run `nodekiln lock` and `nodekiln fetch` where there is a network"));
        }
        bootstrap::bootstrap(self.store, wish, architecture, &options, self.progress)
    }
}
