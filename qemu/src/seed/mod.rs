//! A seed: the small disk that tells a machine who it is on its first boot.
//!
//! Two formats that cloud-init and `nodekiln-firstboot` read:
//! - [`Format::NoCloud`]: a file system with the label `cidata` and the files
//!   `meta-data`, `user-data` and, when they are given, `network-config` and
//!   `vendor-data`
//!   (<https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>);
//! - [`Format::ConfigDrive`]: the label `config-2` and the files
//!   `openstack/latest/meta_data.json` and `openstack/latest/user_data`, as
//!   OpenStack writes them
//!   (<https://cloudinit.readthedocs.io/en/latest/reference/datasources/configdrive.html>).
//!
//! A seed may hold secrets (an SSM activation code, a private key), so it is
//! written with mode 0600 and appears under its name only when it is whole.

mod user_data;

use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::iso9660;

pub use user_data::{Part, USER_DATA_LIMIT};

/// How a seed is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Label `cidata`.
    #[default]
    NoCloud,
    /// Label `config-2`.
    ConfigDrive,
}

/// What a machine is told on its first boot.
#[derive(Clone, Default)]
pub struct Seed {
    /// Names this life of the machine: cloud-init does its first-boot work again
    /// when it changes. 1 to 128 letters, digits, `.`, `-` and `_`.
    pub instance_id: String,
    /// Host name, if the seed sets it (RFC 1123: labels of letters, digits and
    /// `-`).
    pub hostname: Option<String>,
    /// The NodeConfig as the user wrote it, YAML or JSON.
    pub node_config: Option<Vec<u8>>,
    /// Further parts of the user data, for cloud-init.
    pub parts: Vec<Part>,
    /// Network configuration, version 1 or 2 of cloud-init. NoCloud only.
    pub network_config: Option<Vec<u8>>,
    /// Vendor data of cloud-init. NoCloud only.
    pub vendor_data: Option<Vec<u8>>,
    /// The time of all files, seconds since 1970; 0 if it does not matter.
    pub time: i64,
}

impl std::fmt::Debug for Seed {
    /// Sizes only: the contents may be secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
        formatter
            .debug_struct("Seed")
            .field("instance_id", &self.instance_id)
            .field("hostname", &self.hostname)
            .field("node_config", &length(&self.node_config))
            .field("parts", &self.parts)
            .field("network_config", &length(&self.network_config))
            .field("vendor_data", &length(&self.vendor_data))
            .field("time", &self.time)
            .finish()
    }
}

impl Seed {
    /// A seed for one NodeConfig, with an instance ID that follows from it: the
    /// same NodeConfig gives the same seed.
    pub fn of_node_config(node_config: impl Into<Vec<u8>>) -> Self {
        let node_config = node_config.into();
        Self {
            instance_id: format!("nodekiln-{:016x}", fingerprint(&node_config)),
            node_config: Some(node_config),
            ..Self::default()
        }
    }

    /// The user data: MIME multipart, with a NodeConfig as
    /// `application/node.eks.aws`, the type that nodeadm uses. Always
    /// multipart, because cloud-init warns about a bare NodeConfig on every
    /// boot.
    ///
    /// # Errors
    /// [`crate::Kind::Input`] when a part is not text, is MIME itself, or all
    /// together are larger than [`USER_DATA_LIMIT`].
    pub fn user_data(&self) -> Result<Vec<u8>> {
        let mut parts = Vec::new();
        if let Some(node_config) = &self.node_config {
            parts.push(Part::node_config(node_config.clone())?);
        }
        parts.extend(self.parts.iter().cloned());
        user_data::multipart(&parts)
    }

    /// The whole ISO 9660 image; the same bytes for the same seed.
    ///
    /// # Errors
    /// [`crate::Kind::Input`] or [`crate::Kind::Unsupported`], with a hint.
    pub fn image(&self, format: Format) -> Result<Vec<u8>> {
        self.check_names()?;
        let (label, files) = match format {
            Format::NoCloud => ("cidata", self.no_cloud()?),
            Format::ConfigDrive => ("config-2", self.config_drive()?),
        };
        iso9660::write(label, &files, self.time).map_err(|error| Error::seed(error.to_string()))
    }

    /// Writes the image to `path` with mode 0600, under a temporary name beside
    /// it first. An earlier file is replaced.
    ///
    /// # Errors
    /// As [`Seed::image`], and when the file cannot be written.
    pub fn write(&self, format: Format, path: &Path) -> Result<()> {
        write_secret(path, &self.image(format)?)
    }

    fn no_cloud(&self) -> Result<Vec<iso9660::File>> {
        // JSON strings are YAML strings, with nothing left to quote.
        let mut meta_data = format!("instance-id: {}\n", json_string(&self.instance_id));
        if let Some(hostname) = &self.hostname {
            meta_data.extend(["local-hostname: ", &json_string(hostname), "\n"]);
        }
        let mut files = vec![
            file("meta-data", meta_data.into_bytes()),
            file("user-data", self.user_data()?),
        ];
        if let Some(network_config) = &self.network_config {
            files.push(file("network-config", network_config.clone()));
        }
        if let Some(vendor_data) = &self.vendor_data {
            files.push(file("vendor-data", vendor_data.clone()));
        }
        Ok(files)
    }

    fn config_drive(&self) -> Result<Vec<iso9660::File>> {
        for (given, what) in [
            (
                &self.network_config,
                "a network configuration of cloud-init",
            ),
            (&self.vendor_data, "vendor data of cloud-init"),
        ] {
            if given.is_some() {
                return Err(Error::UnsupportedSeed {
                    reason: format!("a config drive cannot hold {what}"),
                    hint: "use the format nocloud".to_owned(),
                });
            }
        }
        let mut meta_data = serde_json::json!({ "uuid": self.instance_id });
        if let Some(hostname) = &self.hostname {
            meta_data["hostname"] = hostname.as_str().into();
            meta_data["name"] = hostname.as_str().into();
        }
        let mut meta_data = serde_json::to_vec_pretty(&meta_data)
            .map_err(|error| Error::Internal(format!("write meta_data.json: {error}")))?;
        meta_data.push(b'\n');
        Ok(vec![
            file("openstack/latest/meta_data.json", meta_data),
            file("openstack/latest/user_data", self.user_data()?),
        ])
    }

    fn check_names(&self) -> Result<()> {
        let id = &self.instance_id;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if id.is_empty() || id.len() > 128 || !id.bytes().all(fits) {
            return Err(Error::option(
                format!("instance ID '{}'", id.escape_default()),
                "is not 1 to 128 letters, digits, '.', '-' and '_'",
            ));
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match &self.hostname {
            Some(name) if name.len() > 253 || !name.split('.').all(is_label) => Err(Error::option(
                format!("host name '{}'", name.escape_default()),
                "is not a host name: labels of letters, digits and '-', separated by '.'",
            )),
            _ => Ok(()),
        }
    }
}

fn file(path: &str, content: Vec<u8>) -> iso9660::File {
    iso9660::File {
        path: path.to_owned(),
        content,
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// FNV-1a in 64 bits: names a content, protects nothing.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes a file that only its owner may read; whole or not at all.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Temporary files are created with mode 0600.
    let mut temporary = tempfile::Builder::new()
        .prefix(".nodekiln-seed-")
        .tempfile_in(folder)
        .map_err(|error| Error::io(doing(), error))?;
    temporary
        .write_all(bytes)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(|error| Error::io(doing(), error))?;
    temporary
        .persist(path)
        .map_err(|error| Error::io(doing(), error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn seed() -> Seed {
        Seed {
            hostname: Some("node-1.example.com".to_owned()),
            ..Seed::of_node_config("kind: NodeConfig\n")
        }
    }

    #[test]
    fn names_follow_from_the_node_config() {
        let other = Seed::of_node_config("kind: NodeConfig\n#\n");
        assert_eq!(seed().instance_id, seed().instance_id);
        assert_ne!(seed().instance_id, other.instance_id);
        assert_eq!(
            seed().image(Format::NoCloud).expect("made"),
            seed().image(Format::NoCloud).expect("made")
        );
    }

    #[test]
    fn names_cannot_smuggle_lines() {
        for id in ["", "a\nlocal-hostname: b", "a b", "é"] {
            let seed = Seed {
                instance_id: id.to_owned(),
                ..seed()
            };
            let error = seed.image(Format::NoCloud).expect_err("refused");
            assert_eq!(error.kind(), Kind::Input, "{id:?}");
            assert!(!error.to_string().contains('\n'));
        }
        for name in ["", "-a", "a..b", "a_b", "a\nb", &"x".repeat(64)] {
            let seed = Seed {
                hostname: Some(name.to_owned()),
                ..seed()
            };
            assert!(seed.image(Format::ConfigDrive).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_config_drive_says_what_it_cannot_hold() {
        let seed = Seed {
            network_config: Some(b"version: 2".to_vec()),
            ..seed()
        };
        let error = seed.image(Format::ConfigDrive).expect_err("refused");
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.hint().is_some());
        assert!(seed.image(Format::NoCloud).is_ok());
    }

    #[test]
    fn nobody_else_reads_a_written_seed_and_nothing_is_left_beside_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seed.iso");
        std::fs::write(&path, "earlier").expect("written");
        seed().write(Format::NoCloud, &path).expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 1);
        let error = seed()
            .write(Format::NoCloud, &folder.path().join("absent/seed.iso"))
            .expect_err("no folder");
        assert!(error.to_string().contains("absent/seed.iso"));
    }

    #[test]
    fn the_contents_stay_out_of_debug_output() {
        let text = format!("{:?}", Seed::of_node_config("activationCode: secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}
