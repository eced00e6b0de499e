//! The archive from which a guest kernel fills its first file system.
//!
//! The format "newc" of cpio: Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`.

/// `S_IFDIR`, `S_IFREG` and `S_IFCHR`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

/// A module of a kernel.
#[derive(Debug)]
pub struct Module {
    /// The name of its file: the ending tells how it is compressed.
    pub name: String,
    /// The file.
    pub content: Vec<u8>,
}

/// An archive with `program` as `/init`, the two devices that a program wants before it
/// has mounted anything, and in `/modules` the modules, named so that they sort in their
/// order.
pub fn initramfs(program: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(program.len() + 2048);
    let mut inode = 0;
    let mut add = |name: &str, mode: u32, device: (u32, u32), content: &[u8]| {
        inode += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let size = content.len() as u32;
        let name_size = name.len() as u32 + 1;
        archive.extend_from_slice(b"070701");
        for number in [
            inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            archive.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    add("dev", FOLDER | 0o755, (0, 0), b"");
    add("dev/console", DEVICE | 0o600, (5, 1), b"");
    add("dev/null", DEVICE | 0o666, (1, 3), b"");
    if !modules.is_empty() {
        add("modules", FOLDER | 0o755, (0, 0), b"");
    }
    for (number, module) in modules.iter().enumerate() {
        let name = format!("modules/{number:03}-{}", module.name);
        add(&name, FILE | 0o644, (0, 0), &module.content);
    }
    add("init", FILE | 0o755, (0, 0), program);
    add("TRAILER!!!", 0, (0, 0), b"");
    archive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    #[test]
    fn cpio_reads_it() {
        let folder = tempfile::tempdir().expect("folder");
        let archive = folder.path().join("archive");
        std::fs::write(&archive, initramfs(b"the program", &[])).expect("written");
        let listed = Task::new("cpio")
            .args([
                "--list",
                "--verbose",
                "--numeric-uid-gid",
                "--quiet",
                "--file",
            ])
            .arg(&archive)
            .env("TZ", "UTC")
            .output()
            .expect("cpio reads it");
        let listed = String::from_utf8(listed).expect("text");
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let first = |line: usize| lines[line].first().copied();
        assert_eq!(lines.len(), 4, "{listed}");
        assert_eq!(first(0), Some("drwxr-xr-x"), "{listed}");
        assert!(
            first(1) == Some("crw-------") && listed.contains("5,   1"),
            "{listed}"
        );
        assert!(
            first(3) == Some("-rwxr-xr-x") && listed.contains(" 11 "),
            "{listed}"
        );
    }
}
