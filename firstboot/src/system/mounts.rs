//! What is mounted where, as the kernel tells it.

use super::{Error, Files};
use crate::render::unescape_octal;

/// The mounts that this process sees (proc(5), `/proc/pid/mountinfo`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// A machine with a hundred pods has some thousand mounts.
const LIMIT: usize = 16 << 20;

/// Paths of all mounts strictly below a folder, the deepest first, so that each can
/// be unmounted in its turn.
pub fn mounts_below(files: &dyn Files, folder: &str) -> Result<Vec<String>, Error> {
    let mut found = mounts_at_or_below(files, folder)?;
    found.retain(|place| place.trim_end_matches('/') != folder.trim_end_matches('/'));
    Ok(found)
}

/// The same with what is mounted at the folder itself.
pub fn mounts_at_or_below(files: &dyn Files, folder: &str) -> Result<Vec<String>, Error> {
    let bytes = files.read(MOUNTS, LIMIT)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let prefix = format!("{}/", folder.trim_end_matches('/'));
    let mut found: Vec<String> = text
        .lines()
        // Identifiers, device, root, then the place.
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape_octal)
        .filter(|place| format!("{place}/").starts_with(&prefix))
        .collect();
    // What was mounted last is on top; what lies deeper comes first.
    found.reverse();
    found.sort_by_key(|place| std::cmp::Reverse(place.matches('/').count()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::pretended::Pretended;
    use super::*;

    #[test]
    fn only_what_lies_below_and_the_deepest_first() {
        let machine = Pretended::default();
        assert_eq!(mounts_below(&machine, "/a").unwrap(), [""; 0]);
        let lines = [
            "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw",
            "23 22 8:2 / /a rw shared:2 - ext4 /dev/sda2 rw",
            "24 23 0:1 / /a/b rw - tmpfs tmpfs rw",
            "25 24 8:1 /etc /a/b/with\\040blank rw - ext4 /dev/sda1 rw",
            "26 22 8:1 / /ab/c rw - ext4 /dev/sda1 rw",
            "27 24 0:2 / /a/b rw - tmpfs tmpfs rw",
            "broken",
        ];
        machine.put(MOUNTS, lines.join("\n").as_bytes(), 0o444);
        assert_eq!(
            mounts_below(&machine, "/a/").unwrap(),
            ["/a/b/with blank", "/a/b", "/a/b"]
        );
        assert_eq!(
            mounts_at_or_below(&machine, "/a").unwrap(),
            ["/a/b/with blank", "/a/b", "/a/b", "/a"]
        );
    }
}
