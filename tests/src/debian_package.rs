//! Debian packages, and images that have some, made by dpkg's own tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::program::run;
use crate::small_base::text;

/// A maintainer script of debhelper 13.11 for the unit `agent.service`.
const ENABLE: &str = include_str!("../../fuzz/corpus/package/postinst");
const PURGE: &str = r#"#!/bin/sh
set -e
if [ "$1" = "purge" ]; then
	if [ -x "/usr/bin/deb-systemd-helper" ]; then
		deb-systemd-helper purge 'agent.service' >/dev/null || true
	fi
fi
"#;

/// A package to be made.
#[derive(Debug)]
pub struct DebianPackage {
    folder: PathBuf,
    file: PathBuf,
    compression: &'static str,
}

impl DebianPackage {
    /// Named `NAME_VERSION_ARCHITECTURE.deb` in `folder`; `fields` are further lines of
    /// its control file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new(folder: &Path, name: &str, fields: &str) -> Self {
        let field = |name: &str, usual: &str| {
            let value = fields
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or(usual).to_owned()
        };
        let (version, architecture) = (field("Version", "1.0"), field("Architecture", "amd64"));
        let more: String = fields
            .lines()
            .filter(|line| !line.starts_with("Version:") && !line.starts_with("Architecture:"))
            .map(|line| format!("{line}\n"))
            .collect();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: \
             Nobody <nobody@example.com>\nInstalled-Size: 12\n{more}Section: admin\nPriority: \
             optional\nDescription: made for a test\n It does nothing.\n .\n At all.\n"
        );
        let package = Self {
            folder: folder.join(format!("{name}.tree")),
            file: folder.join(format!("{name}_{version}_{architecture}.deb")),
            compression: "xz",
        };
        package.put("DEBIAN/control", 0o644, &control)
    }

    /// Adds a file.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn put(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("sets");
        self
    }

    /// Adds a symbolic link.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.folder.join(path)).expect("links");
        self
    }

    /// Adds one more name of a file.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn hard_link(self, path: &str, existing: &str) -> Self {
        fs::hard_link(self.folder.join(existing), self.folder.join(path)).expect("links");
        self
    }

    /// Adds a unit, with the scripts that debhelper writes for it.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn unit(self, unit: &str) -> Self {
        let text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        let script = |body: &str| body.replace("agent.service", unit);
        self.put(&format!("lib/systemd/system/{unit}"), 0o644, text)
            .put("DEBIAN/postinst", 0o755, script(ENABLE))
            .put("DEBIAN/postrm", 0o755, script(PURGE))
    }

    /// Compresses its members in this way.
    #[must_use]
    pub fn compressed(mut self, way: &'static str) -> Self {
        self.compression = way;
        self
    }

    /// Makes it; gives its file.
    ///
    /// # Panics
    /// When dpkg-deb fails or is missing.
    pub fn build(self) -> PathBuf {
        let way = format!("-Z{}", self.compression);
        let arguments = ["--root-owner-group", &way, "--build"];
        let places = [text(&self.folder), text(&self.file)];
        run("dpkg-deb", &[&arguments[..], &places].concat());
        self.file
    }
}

/// Gives the tree of an image dpkg's database, with `packages` installed by dpkg.
///
/// # Panics
/// When dpkg fails or is missing.
pub fn install(tree: &Path, packages: &[PathBuf]) {
    for folder in ["info", "updates", "triggers"] {
        fs::create_dir_all(tree.join("var/lib/dpkg").join(folder)).expect("creates");
    }
    for file in ["status", "available"] {
        fs::write(tree.join("var/lib/dpkg").join(file), "").expect("writes");
    }
    let root = format!("--root={}", text(tree));
    let mut arguments = vec![root.as_str(), "--force-script-chrootless", "--install"];
    arguments.extend(packages.iter().map(|package| text(package)));
    run("dpkg", &arguments);
}
