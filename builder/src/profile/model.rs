//! The profile as values, after templating and checking.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// `apiVersion` of the only version there is.
pub const API_VERSION: &str = "nodekiln.dev/v1alpha1";
/// `kind` of a profile.
pub const KIND: &str = "ImageProfile";

/// An image profile: everything that the user asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// `nodekiln.dev/v1alpha1`.
    pub api_version: String,
    /// `ImageProfile`.
    pub kind: String,
    /// Name and variables.
    pub metadata: Metadata,
    /// The wish.
    pub spec: Spec,
}

/// Name and variables of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the profile, of the output folder and of the images: lower-case
    /// letters, digits, `.` and `-`.
    pub name: String,
    /// Values for templates: `{{ NAME }}` in any string of `spec`, and in
    /// overlay files that end in `.tmpl`. `--set NAME=VALUE` replaces one; one
    /// without a value must be set. Where a template gives nothing, the key
    /// counts as absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, schema::Variable>")]
    pub variables: BTreeMap<String, String>,
}

/// What the image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Processor architecture.
    #[serde(default)]
    pub architecture: Architecture,
    /// The disk image to start from.
    pub base: Base,
    /// Size of the resulting disk, such as `8GiB`; the base's own size by
    /// default. The last partition and its file system grow with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<String>,
    /// The node components.
    pub kubernetes: Kubernetes,
    /// Who vouches for the node.
    pub credential_provider: CredentialProvider,
    /// Packages of the base's own kind (.deb or .rpm) to unpack and to record in its
    /// database, without running anything of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageSource>,
    /// File trees laid over the image, in order: names of shipped overlays, or
    /// folders relative to the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<PathBuf>,
    /// Users to create. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The SSH server, if it is to be configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// systemd units.
    #[serde(default)]
    pub services: Services,
    /// Kernel modules, settings and command line.
    #[serde(default)]
    pub kernel: Kernel,
    /// What is written.
    #[serde(default = "default_outputs")]
    pub outputs: Vec<Output>,
}

fn default_outputs() -> Vec<Output> {
    vec![Output {
        format: Format::Qcow2,
        compression: Compression::Zstd,
    }]
}

/// Processor architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::add_architecture_aliases)]
pub enum Architecture {
    /// x86-64; `amd64` in Go's and Debian's words.
    #[default]
    #[serde(rename = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit Arm; `aarch64` in Linux's words.
    #[serde(rename = "arm64", alias = "aarch64")]
    Arm64,
}

impl Architecture {
    /// As profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// The disk image to start from: exactly one of `path`, `url` and `bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// A raw or qcow2 file, relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// An https URL of a raw or qcow2 image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// sha256 of the image as it is given. A `url` needs it, or `checksums`;
    /// without it, `nodekiln lock` pins a `path` as it finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The vendor's list of checksums, for `url` without `sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<SignedChecksums>,
    /// Makes the base from Debian packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// Lets a qcow2 base have a backing file (below the same folder).
    /// `nodekiln lock` makes one image of both and pins that.
    #[serde(default)]
    pub allow_backing_file: bool,
}

/// A `SHA256SUMS` file with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedChecksums {
    /// https URL of the list in `sha256sum`'s format.
    pub url: String,
    /// https URL of the detached OpenPGP signature; `URL.gpg` by default. A
    /// clear-signed list needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// File with the OpenPGP public keys to trust, relative to the profile.
    pub keyring: PathBuf,
    /// The fingerprints that may sign, in hexadecimal; all of the keyring's keys
    /// by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
}

/// A base made from Debian packages with mmdebstrap. Those of another architecture set
/// themselves up in emulation, if this machine runs programs of it (`binfmt_misc`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bootstrap {
    /// Debian release by name, such as `bookworm`.
    pub suite: String,
    /// Packages beside those that a bootable machine needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Partition layout.
    #[serde(default)]
    pub layout: Layout,
    /// Size of the disk, such as `4GiB`.
    #[serde(default = "default_bootstrap_size")]
    pub size: String,
}

fn default_bootstrap_size() -> String {
    "4GiB".to_owned()
}

/// Partition layouts of a bootstrapped base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// As Ubuntu's cloud images: BIOS boot 14, ESP 15, root 1 (ext4).
    #[default]
    Ubuntu,
}

/// The node components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// Full version, such as `1.34.4`.
    pub version: String,
    /// Date of Amazon's build of this version, such as `2026-07-05`: where the
    /// components without a source of their own come from. The catalogue knows
    /// it for some versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_build: Option<String>,
    /// Where each component comes from. What is not named comes from the
    /// catalogue's URL for the version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<ComponentName, ComponentSource>,
}

/// The components that can be baked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentName {
    /// The node agent.
    Kubelet,
    /// The command-line client.
    Kubectl,
    /// The container runtime, with its shim and client.
    Containerd,
    /// The OCI runtime.
    Runc,
    /// The reference CNI plugins.
    CniPlugins,
    /// kubelet's credential provider for Amazon ECR.
    EcrCredentialProvider,
    /// Makes tokens for the cluster from AWS credentials.
    AwsIamAuthenticator,
    /// Makes AWS credentials from a certificate (IAM Roles Anywhere).
    AwsSigningHelper,
    /// Installs and registers the SSM agent.
    SsmSetupCli,
}

impl ComponentName {
    /// As profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Kubectl => "kubectl",
            Self::Containerd => "containerd",
            Self::Runc => "runc",
            Self::CniPlugins => "cni-plugins",
            Self::EcrCredentialProvider => "ecr-credential-provider",
            Self::AwsIamAuthenticator => "aws-iam-authenticator",
            Self::AwsSigningHelper => "aws-signing-helper",
            Self::SsmSetupCli => "ssm-setup-cli",
        }
    }
}

/// Where a component comes from: exactly one of `url`, `path`, `fromBase` and
/// `omit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSource {
    /// An https URL of a program or an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A program or an archive on this machine, relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// sha256 of the file. Without it, `nodekiln lock` takes that of a `url` from
    /// its checksum file, and pins a `path` as it finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// https URL of a checksum file, for `url` without `sha256`; `URL.sha256`
    /// by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_url: Option<String>,
    /// The member of the archive that is the program; for `containerd` and
    /// `cni-plugins` the folder of the archive whose programs are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The base image has it already.
    #[serde(default)]
    pub from_base: bool,
    /// The image is to be made without it. `nodekiln lock` says what the node
    /// cannot do then: without kubelet, containerd or runc it is no node, only
    /// the image of one.
    #[serde(default)]
    pub omit: bool,
}

/// A package: exactly one of `url` and `path`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackageSource {
    /// An https URL of a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A package on this machine, relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// sha256 of the package. A `url` needs it, or `checksumUrl`; without it,
    /// `nodekiln lock` pins a `path` as it finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// https URL of a checksum file, for `url` without `sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_url: Option<String>,
    /// Files with the OpenPGP public keys that may have signed an rpm, relative to the
    /// profile. A Debian package has no signature of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PathBuf>,
    /// Takes an rpm without looking at its signature: its sha256 alone says what it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unsigned: bool,
    /// Why the image can do without what the scripts of this package would do when it is
    /// installed. Without it, a package whose scripts matter is refused, with the list of
    /// what they would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_scripts: Option<String>,
}

/// Who vouches for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialProvider {
    /// AWS Systems Manager, with an activation.
    Ssm,
    /// IAM Roles Anywhere, with a certificate.
    IamRa,
}

impl CredentialProvider {
    /// As profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssm => "ssm",
            Self::IamRa => "iam-ra",
        }
    }
}

/// A user to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric user and group; the next free one from 1000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Further groups that exist in the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Login shell.
    #[serde(default = "default_shell")]
    pub shell: String,
    /// Public keys that may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// Whether the user may become root without a password.
    #[serde(default)]
    pub sudo: bool,
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

/// The SSH server's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// Whether passwords may be used to log in.
    #[serde(default)]
    pub password_authentication: bool,
    /// Whether root may log in (with a key).
    #[serde(default)]
    pub permit_root_login: bool,
}

/// systemd units to switch on, off, or out of reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Services {
    /// As `systemctl enable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enable: Vec<String>,
    /// As `systemctl disable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disable: Vec<String>,
    /// As `systemctl mask`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<String>,
}

/// Kernel modules, settings and command line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kernel {
    /// Modules to load at boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Settings, as in `sysctl.d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, schema::Text>")]
    pub sysctl: BTreeMap<String, String>,
    /// Arguments added to the kernel command line; an argument `-NAME` removes
    /// all of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<String>,
}

/// One image to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// File format.
    pub format: Format,
    /// Compression of qcow2 clusters.
    #[serde(default)]
    pub compression: Compression,
}

/// File formats of images.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk, in a sparse file.
    Raw,
    /// QEMU's format, version 3.
    Qcow2,
}

/// Compression of qcow2 clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// zstd, level 3.
    #[default]
    Zstd,
    /// None: the fastest to write and to boot.
    None,
}
