//! `manifest.json`: what went in and what came out.
//!
//! It holds no time but the epoch, no path of the machine that built it but
//! those that the lock names, and no variable of the profile.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lock::model::{LockedComponent, LockedFile, Origin};
use crate::os::Os;
use crate::packages::Package;
use crate::profile::model::{Architecture, CredentialProvider, Profile};
use crate::store::Digest;

/// `apiVersion` of the only version there is.
pub const API_VERSION: &str = "nodekiln.dev/v1alpha1";
/// `kind` of a manifest.
pub const KIND: &str = "ImageManifest";

/// The manifest of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `nodekiln.dev/v1alpha1`.
    pub api_version: String,
    /// `ImageManifest`.
    pub kind: String,
    /// Version of nodekiln that made the build.
    pub nodekiln: String,
    /// The build key: sha256 of the canonical plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<String>,
    /// What was asked for, in short.
    pub profile: ProfileSummary,
    /// What it was made from.
    pub base: BaseImage,
    /// The node components by name.
    pub components: BTreeMap<String, Component>,
    /// The packages that were unpacked and recorded in the image's database, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, InstalledPackage>,
    /// Files of the image that a hygiene check finds and that the profile asks for, such
    /// as the keys of its users: sha256 by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exceptions: BTreeMap<String, String>,
    /// What was found in the base.
    pub os: Os,
    /// Time stamp of everything that was written, in seconds since 1970.
    pub epoch: i64,
    /// The image files; none in the manifest that lies in the image itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageFile>,
    /// The partition table of the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionEntry>,
}

/// What was asked for, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSummary {
    /// Name of the profile.
    pub name: String,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Version of Kubernetes.
    pub kubernetes: String,
    /// Who vouches for the node.
    pub credential_provider: CredentialProvider,
}

/// The base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseImage {
    /// Where it came from.
    pub source: Source,
    /// sha256 of the file.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// How it was trusted, in words.
    pub trust: String,
}

/// Where something came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Downloaded from this URL.
    Url(String),
    /// A file, as the lock names it.
    Path(String),
    /// Made from packages of this release.
    Bootstrap {
        /// The release.
        suite: String,
        /// Version by package.
        packages: BTreeMap<String, String>,
    },
    /// It was in the base already.
    Base,
}

impl From<&Origin> for Source {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Url(url) => Self::Url(url.clone()),
            Origin::Path(path) => Self::Path(path.clone()),
            Origin::Bootstrap { suite, packages } => Self::Bootstrap {
                suite: suite.clone(),
                packages: packages.clone(),
            },
        }
    }
}

/// A node component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Where it came from.
    pub source: Source,
    /// Version, where a package database tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// sha256 of the file that it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How it was trusted, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// sha256 by path in the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

impl Component {
    /// One that is baked.
    pub fn baked(locked: &LockedComponent) -> Self {
        Self {
            source: Source::from(&locked.file.origin),
            version: None,
            sha256: Some(locked.file.sha256.to_string()),
            trust: Some(locked.file.trust.clone()),
            files: locked
                .members
                .values()
                .map(|member| (member.destination.to_string(), member.sha256.to_string()))
                .collect(),
        }
    }

    /// One that the base has.
    pub fn from_base(version: Option<String>) -> Self {
        Self {
            source: Source::Base,
            version,
            sha256: None,
            trust: None,
            files: BTreeMap::new(),
        }
    }
}

/// A package that was unpacked and recorded in the image's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstalledPackage {
    /// Its version.
    pub version: String,
    /// Its architecture, in the words of its own tools.
    pub architecture: String,
    /// Where it came from.
    pub source: Source,
    /// sha256 of its file.
    pub sha256: String,
    /// How it was trusted, in words.
    pub trust: String,
    /// Why its scripts did not have to run, by the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_scripts: Option<String>,
}

impl InstalledPackage {
    /// One that is baked.
    pub fn baked(package: &Package) -> Self {
        Self {
            version: package.version().to_owned(),
            architecture: package.architecture().to_owned(),
            source: Source::from(&package.file.origin),
            sha256: package.file.sha256.to_string(),
            trust: package.file.trust.clone(),
            ignored_scripts: package.ignore_scripts.clone(),
        }
    }
}

/// An image file of the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// File name beside the manifest.
    pub name: String,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// sha256 of the file. A raw image has none: it would cost time for every
    /// hole of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// sha256 over the sha256 of each 512 KiB of the disk, as EBS's `LINEAR`
    /// aggregation computes it; of raw images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_sha256: Option<String>,
}

/// A partition of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionEntry {
    /// Number, from 1.
    pub number: u32,
    /// Type GUID.
    #[serde(rename = "type")]
    pub type_guid: String,
    /// Unique GUID.
    pub guid: String,
    /// Name in the table.
    pub name: String,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Manifest {
    /// What is known before the image is made.
    pub fn new(
        profile: &Profile,
        base: &LockedFile,
        components: BTreeMap<String, Component>,
        os: Os,
        epoch: i64,
        key: Option<Digest>,
    ) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            nodekiln: env!("CARGO_PKG_VERSION").to_owned(),
            build_key: key.map(|key| key.to_string()),
            profile: ProfileSummary {
                name: profile.metadata.name.clone(),
                architecture: profile.spec.architecture,
                kubernetes: profile.spec.kubernetes.version.clone(),
                credential_provider: profile.spec.credential_provider,
            },
            base: BaseImage {
                source: Source::from(&base.origin),
                sha256: base.sha256.to_string(),
                size: base.size,
                trust: base.trust.clone(),
            },
            components,
            packages: BTreeMap::new(),
            exceptions: BTreeMap::new(),
            os,
            epoch,
            images: Vec::new(),
            partitions: Vec::new(),
        }
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is none, or one of another version.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| Error::input("read a manifest").caused_by(error))?;
        if manifest.api_version != API_VERSION || manifest.kind != KIND {
            return Err(Error::input(format!(
                "read a manifest: it is '{}' of '{}', not {KIND} of {API_VERSION}",
                manifest.kind.escape_debug(),
                manifest.api_version.escape_debug()
            )));
        }
        Ok(manifest)
    }

    /// The file's text: indented, with a line break at the end.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self)
            .expect("a manifest holds nothing that JSON cannot hold");
        text + "\n"
    }
}

/// The published JSON schema of a manifest.
pub fn manifest_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(
            "$id".to_owned(),
            "https://nodekiln.dev/schema/v1alpha1/manifest.json".into(),
        );
        schema.insert("title".to_owned(), "nodekiln image manifest".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzz target does with an input, too.
    fn survive(bytes: &[u8]) {
        if let Ok(manifest) = Manifest::parse(bytes) {
            let text = manifest.to_json();
            let again = Manifest::parse(text.as_bytes()).expect("reads back");
            assert_eq!(again, manifest);
        }
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        let mut read = 0;
        crate::seeds::replay("manifest", 300, |bytes| {
            read += usize::from(Manifest::parse(bytes).is_ok());
            survive(bytes);
        });
        assert!(read > 0, "the seeds are manifests");
    }

    #[test]
    fn a_document_of_another_kind_is_refused_by_name() {
        let text = include_str!("../../../fuzz/corpus/manifest/usual");
        Manifest::parse(text.as_bytes()).expect("a manifest");
        let other = text.replace("\"ImageManifest\"", "\"ImageProfile\"");
        let error = Manifest::parse(other.as_bytes()).expect_err("another kind");
        assert!(error.to_string().contains("'ImageProfile'"), "{error}");
        assert_eq!(error.class(), crate::Class::Input);
    }
}
