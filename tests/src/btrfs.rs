//! btrfs for tests: file systems made by mkfs, and the programs of others that judge.

use std::path::{Path, PathBuf};

use crate::small_base::MIB;
use crate::volumes::{blank, must, run};
use crate::xfs::{CHURN, DRESS, fill, mounted};

/// Ways to make one, and how it is mounted when it is filled.
pub const LAYOUTS: &[(&str, &[&str], &str)] = &[
    ("as it comes", &[], "noatime"),
    // What mkfs.btrfs made before Linux 5.15, and what it makes of a small device.
    (
        "old",
        &["-O", "^no-holes", "-R", "^free-space-tree", "-m", "single"],
        "compress-force=lzo",
    ),
    (
        "mixed",
        &["--mixed", "--nodesize", "4096", "--csum", "xxhash"],
        "compress-force=zstd",
    ),
    (
        "large nodes",
        &["--nodesize", "65536", "--csum", "sha256"],
        "compress-force=zlib",
    ),
];

/// Size of the images, in bytes.
pub const SIZE: u64 = 400 * MIB;

/// A btrfs of `size` bytes.
pub fn make(folder: &Path, name: &str, options: &[&str], size: u64) -> PathBuf {
    let image = blank(folder, name, size);
    let mut arguments = vec!["-q", "-L", "root"];
    arguments.extend_from_slice(options);
    must("mkfs.btrfs", &arguments, &image);
    image
}

/// What images have ([`crate::xfs::populate`]), some of it compressed.
pub fn populate(image: &Path, options: &str) {
    fill(image);
    mounted(
        image,
        options,
        &format!(
            "{DRESS}
             mkdir packed; i=0; while [ $i -lt 30000 ]; do echo line $((i % 100)); i=$((i + 1)); done >packed/text
             echo a little that is the same, the same, the same, the same, the same >packed/small
             head -c 300000 /dev/urandom >packed/noise; fallocate -l 200K packed/kept"
        ),
    );
}

/// Runs shell commands in a root mount of an image.
pub fn by_hand(image: &Path, commands: &str) {
    mounted(image, "noatime", commands);
}

/// Has the kernel work on an image: what is wrong with its trees shows now.
pub fn churn(image: &Path) {
    by_hand(image, CHURN);
}

/// A btrfs `folder/root.btrfs` that holds `tree`.
pub fn root(folder: &Path, tree: &Path) -> PathBuf {
    let root = make(folder, "root.btrfs", &[], SIZE);
    by_hand(&root, &format!("cp -a '{}/.' .", tree.display()));
    root
}

/// Whether `btrfs check` finds an image sound, its contents by their checksums too.
pub fn check(image: &Path) {
    let finished = run(
        "btrfs",
        &["check", "--readonly", "--check-data-csum"],
        image,
    );
    let said = String::from_utf8_lossy(&finished.stdout);
    assert!(
        finished.code == Some(0) && said.contains("no error found"),
        "btrfs check {}:\n{said}{}",
        image.display(),
        finished.stderr
    );
}
