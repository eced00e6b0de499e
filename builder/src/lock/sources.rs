//! The edge between a lock and the outside world.
//!
//! Resolving decides what is needed and whether it may be trusted; a
//! [`Sources`] brings it into the store. Nothing else in this module knows of
//! networks, archives or processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::profile::model::{Architecture, Bootstrap};
use crate::store::Digest;

/// An object of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What is to be taken out of an archive. Paths are those of the archive with
/// `/` between components and without `./` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberSelection {
    /// The regular file with this path.
    File(String),
    /// Every regular file that anybody may execute and that lies directly in
    /// this folder; `""` is the top of the archive.
    Programs(String),
}

impl MemberSelection {
    /// Whether the member with `path` (normalised as above) and `mode` is meant.
    pub fn takes(&self, path: &str, mode: u32) -> bool {
        match self {
            Self::File(file) => path == file,
            Self::Programs(folder) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                parent == folder && !name.is_empty() && mode & 0o111 != 0
            }
        }
    }
}

/// A local base image that now lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalBase {
    /// The image in the store.
    pub image: Stored,
    /// Whether it was written anew as one qcow2: a raw image, or one with a
    /// backing file.
    pub is_rewritten: bool,
}

/// A member of an archive that now lies in the store by its own digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMember {
    /// The content.
    pub content: Stored,
    /// Permission bits in the archive.
    pub mode: u32,
}

/// What was found in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// The selected members by normalised path.
    pub members: BTreeMap<String, StoredMember>,
    /// Paths of the other regular files, at most [`OTHERS_LIMIT`] of them: what
    /// an error can name when the selection matches nothing.
    pub others: Vec<String>,
}

/// How many paths [`Unpacked::others`] keeps.
pub const OTHERS_LIMIT: usize = 200;

/// A list of checksums whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedList {
    /// The signed text: for a clear-signed list, what lies between the armour.
    pub text: String,
    /// Fingerprint of the primary key whose signature is good, in upper-case
    /// hexadecimal.
    pub fingerprint: String,
}

/// What is known of a package's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The format has none: a Debian package.
    NotInFormat,
    /// Nobody was asked.
    NotAsked,
    /// The primary key with this fingerprint, in upper-case hexadecimal.
    Key(String),
}

/// A base that was made from packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrapped {
    /// The disk image.
    pub image: Stored,
    /// Every installed package with its version.
    pub packages: BTreeMap<String, String>,
}

/// Brings inputs into the store. Every method is blocking, reports progress and
/// stops on request by means of its own, and leaves nothing half-written in the
/// store. Local paths are as the profile and the lock write them: relative to
/// their folder, which the implementation knows.
pub trait Sources {
    /// Downloads `url` (https) into the store.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when it is not there or its sha256 is not
    /// `expected`; [`crate::Class::Transient`] when the network fails;
    /// [`crate::Class::Input`] for a URL that is not https.
    fn download(&self, url: &str, expected: Option<Digest>) -> Result<Stored>;

    /// Downloads a small text (a checksum file, a signature) of at most `limit`
    /// bytes, without storing it.
    ///
    /// # Errors
    /// As [`Sources::download`]; [`crate::Class::Dependency`] when it is longer
    /// than `limit`.
    fn text(&self, url: &str, limit: u64) -> Result<Vec<u8>>;

    /// Tells the user something that is no error.
    fn note(&self, text: &str);

    /// Whether a local file is there.
    fn is_present(&self, path: &Path) -> bool;

    /// Copies a local file into the store.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is absent, no regular file, or its sha256
    /// is not `expected`.
    fn local(&self, path: &Path, expected: Option<Digest>) -> Result<Stored>;

    /// Takes a local base image into the store, as one file that needs no other:
    /// the same content gives the same object. `expected` is of the local file.
    ///
    /// # Errors
    /// As [`Sources::local`]; [`crate::Class::Input`] when it is no image;
    /// [`crate::Class::Unsupported`] for one with a backing file unless
    /// `allow_backing_file`.
    fn local_base(
        &self,
        path: &Path,
        expected: Option<Digest>,
        allow_backing_file: bool,
    ) -> Result<LocalBase>;

    /// Unpacks what `selection` takes from an archive that lies in the store into
    /// the store, with bounds on entries, sizes and ratio.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when it is no archive, is damaged or passes a
    /// bound. A selection that matches nothing is no error here.
    fn members(&self, archive: &Digest, selection: &MemberSelection) -> Result<Unpacked>;

    /// Verifies the OpenPGP signature of a list of checksums: a detached one in
    /// `signature`, or a clear-signed `list` when there is none.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when no key of the file `keyring` (restricted
    /// to `fingerprints` unless these are empty) made a good signature.
    fn verify_checksums(
        &self,
        list: &[u8],
        signature: Option<&[u8]>,
        keyring: &Path,
        fingerprints: &[String],
    ) -> Result<VerifiedList>;

    /// Who signed a package of the store: the fingerprint of a primary key of the files
    /// `keyrings`. `None` for an rpm when there are no `keyrings`, and for a package
    /// whose format has no signature.
    ///
    /// # Errors
    /// [`crate::Class::Dependency`] when no key of these made a good signature, or it is
    /// no package; [`crate::Class::Input`] when a keyring cannot be read.
    fn signer(&self, package: &Digest, keyrings: &[PathBuf]) -> Result<Signer>;

    /// Makes a base image from packages.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when a tool or the package archive is
    /// missing.
    fn bootstrap(&self, wish: &Bootstrap, architecture: Architecture) -> Result<Bootstrapped>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_programs_of_one_folder_only() {
        let top = MemberSelection::Programs(String::new());
        assert!(top.takes("bridge", 0o755));
        assert!(!top.takes("README.md", 0o644));
        assert!(!top.takes("bin/bridge", 0o755));
        let bin = MemberSelection::Programs("bin".to_owned());
        assert!(bin.takes("bin/ctr", 0o755));
        assert!(!bin.takes("bin/deep/ctr", 0o755));
        assert!(!bin.takes("ctr", 0o755));
        assert!(MemberSelection::File("a/b".to_owned()).takes("a/b", 0o644));
    }
}
