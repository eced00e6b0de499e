//! Mount units of systemd.

use super::layout::{FileSystem, Folder};

const UNITS: &str = "/etc/systemd/system";

/// A mount unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountUnit {
    /// Its name, which systemd derives from where it mounts.
    pub name: String,
    /// Where it mounts.
    pub mount_point: String,
    /// The whole unit file.
    pub content: String,
}

impl MountUnit {
    /// Mounts a file system by its UUID.
    pub(super) fn of_file_system(file_system: &FileSystem, uuid: &str) -> Self {
        Self::new(
            &format!("Local disk {}", file_system.label),
            &format!("/dev/disk/by-uuid/{uuid}"),
            &file_system.mount_point,
            "xfs",
            "defaults,noatime",
            "",
        )
    }

    /// Lays a folder of the disk over that of the node.
    pub(super) fn of_folder(folder: &Folder, source: &str) -> Self {
        Self::new(
            &format!("{} on a local disk", folder.path),
            source,
            folder.path,
            "none",
            "bind",
            // A user of the folder that found it empty would begin anew.
            &format!("Before={}\n", folder.unit),
        )
    }

    fn new(
        description: &str,
        what: &str,
        mount_point: &str,
        kind: &str,
        options: &str,
        order: &str,
    ) -> Self {
        let value = |text: &str| text.replace('%', "%%");
        let content = format!(
            "# Written by nodekiln-firstboot.\n\
             [Unit]\nDescription={}\n{order}\n\
             [Mount]\nWhat={}\nWhere={}\nType={kind}\nOptions={options}\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            value(description),
            value(what),
            value(mount_point),
        );
        Self {
            name: format!("{}.mount", escape_path(mount_point)),
            mount_point: mount_point.to_owned(),
            content,
        }
    }

    /// Where its file lies.
    pub fn path(&self) -> String {
        format!("{UNITS}/{}", self.name)
    }
}

/// A path as part of a unit's name (systemd.unit(5), "String Escaping for Inclusion
/// in Unit Names").
pub fn escape_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return "-".into();
    }
    let joined = parts.join("/");
    let mut escaped = String::new();
    for (index, byte) in joined.bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if index > 0 => escaped.push('.'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_as_systemd_does() {
        for path in [
            "/",
            "/var/lib/kubelet",
            "/mnt/k8s-disks/0",
            "/.hidden/.file",
            "//a///b/",
            "/with space/ümlaut/100%/a:b_c.d",
        ] {
            let output = std::process::Command::new("systemd-escape")
                .args(["--path", path])
                .output()
                .unwrap();
            let expected = String::from_utf8(output.stdout).unwrap();
            assert_eq!(escape_path(path), expected.trim_end(), "{path}");
        }
    }
}
