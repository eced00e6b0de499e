//! Bases whose ext4 was made to exhaust who reads it, through the command: it ends
//! with one error, within a bounded address space.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use nodekiln_tests::command::{Ran, Workshop, binary};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{self, ROOT_START, Shape, text};

/// Address space of the command in KiB: twice what a build of the small base
/// takes, with every thread's stack.
const ADDRESS_SPACE: u64 = 1 << 20;
/// Processor seconds of the command.
const SECONDS: u64 = 60;
/// A file that every build removes.
const REMOVED: &str = "/etc/ssh/ssh_host_ed25519_key";
const BLOCK: u64 = 1024;

/// A workshop with a base without checksums, and its root as a file of its own.
struct Broken {
    workshop: Workshop,
    root: PathBuf,
}

impl Broken {
    fn new() -> Self {
        let shape = Shape {
            mke2fs: &[
                "-b",
                "1024",
                "-O",
                "^metadata_csum,^has_journal,^orphan_file",
            ],
            ..Shape::default()
        };
        let workshop = Workshop::with(&shape, |tree| {
            fs::write(tree.join("etc/ssh/ssh_host_ed25519_key"), vec![7; 50_000]).expect("writes");
            fs::create_dir_all(tree.join("var/log/journal/deep")).expect("creates");
        });
        let root = workshop.path("root.ext4");
        small_base::cut(
            &workshop.path("base.raw"),
            ROOT_START,
            shape.root_size,
            &root,
        );
        Self { workshop, root }
    }

    /// One request of debugfs, which may write.
    fn debugfs(&self, request: &str) -> String {
        run("debugfs", &["-w", "-R", request, text(&self.root)])
    }

    /// The first block of a file's content.
    fn block_of(&self, path: &str) -> u64 {
        let printed = self.debugfs(&format!("bmap {path} 0"));
        let number = printed.lines().find_map(|line| line.trim().parse().ok());
        number.unwrap_or_else(|| panic!("a block: {printed}"))
    }

    /// Where the inode of `path` lies in the root, in bytes.
    fn inode_of(&self, path: &str) -> u64 {
        // located at block 4, offset 0x0f00
        let printed = self.debugfs(&format!("imap {path}"));
        let (_, place) = printed.split_once("located at block ").expect("a place");
        let (block, offset) = place.split_once(", offset 0x").expect("an offset");
        let block: u64 = block.trim().parse().expect("a number");
        let offset = offset.split_whitespace().next().expect("a number");
        block * BLOCK + u64::from_str_radix(offset, 16).expect("hexadecimal")
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new()
            .write(true)
            .open(&self.root)
            .expect("opens");
        file.write_all_at(bytes, at).expect("writes");
    }

    /// Puts the root back and builds, with bounded memory and time.
    fn build(&self) -> Ran {
        let bytes = fs::read(&self.root).expect("reads");
        let base = OpenOptions::new()
            .write(true)
            .open(self.workshop.path("base.raw"))
            .expect("opens");
        base.write_all_at(&bytes, ROOT_START).expect("writes");
        let script = format!(
            "ulimit -v {ADDRESS_SPACE} -t {SECONDS}; \"$0\" lock --offline >/dev/null && \
             exec \"$0\" build --offline"
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(binary());
        self.workshop.furnish(&mut command);
        command.output().expect("bash starts").into()
    }

    /// Fails unless the build ends with `code`, one error that has `words`, and
    /// nothing left of it.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        self.build().failed(code, words);
        assert_eq!(self.workshop.left_in("out"), Vec::<String>::new());
    }
}

/// A node of an extent tree with `entries` to the same `block`.
fn node(depth: u16, entries: u16, block: u64, room: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for half in [0xF30A, entries, room, depth, 0, 0] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    for index in 0..entries {
        let logical = if depth == 0 { u32::from(index) } else { 0 };
        bytes.extend_from_slice(&logical.to_le_bytes());
        let block = (block as u32).to_le_bytes();
        if depth == 0 {
            bytes.extend_from_slice(&[1, 0, 0, 0]);
            bytes.extend_from_slice(&block);
        } else {
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(&[0; 4]);
        }
    }
    bytes
}

#[test]
fn the_base_of_these_tests_is_built_within_the_bounds() {
    let broken = Broken::new();
    broken.build().succeeded();
}

#[test]
fn a_file_whose_extent_tree_fans_out_is_not_followed() {
    let broken = Broken::new();
    let first = broken.block_of(REMOVED);
    // Five levels, each with 84 entries to the one block of the next: 84^5 paths.
    for level in 0..5 {
        let below = if level == 0 {
            first + 40
        } else {
            first + level - 1
        };
        let bytes = node(level as u16, 84, below, 84);
        broken.write((first + level) * BLOCK, &bytes);
    }
    let root = node(5, 4, first + 4, 4);
    broken.write(broken.inode_of(REMOVED) + 0x28, &root);
    broken.refused(2, &[REMOVED, "its extents", "e2fsck"]);
}

#[test]
fn an_extent_beyond_the_end_is_refused() {
    let broken = Broken::new();
    broken.write(broken.inode_of(REMOVED) + 0x28, &node(0, 1, 0x00FF_FFFF, 4));
    broken.refused(2, &[REMOVED, "the file system ends at", "e2fsck"]);
}

#[test]
fn a_folder_of_an_immense_size_is_refused() {
    let broken = Broken::new();
    let size = broken.inode_of("/etc") + 0x4;
    broken.write(size, &[0, 0, 0xFF, 0xFF]);
    broken.refused(2, &["/etc", "more bytes than the filesystem"]);
    broken.write(size, &[0, 0, 0xFF, 0]);
    broken.refused(2, &["/etc", "blocks for"]);
}

#[test]
fn a_file_of_an_immense_size_is_refused() {
    let broken = Broken::new();
    broken.debugfs("set_inode_field /etc/fstab size 0x200000000000");
    broken.refused(2, &["/etc/fstab", "35184372088832 bytes"]);
}

#[test]
fn a_folder_inside_itself_is_refused() {
    let broken = Broken::new();
    // A second name of /var/log below itself: every build clears that tree.
    broken.debugfs("link /var/log /var/log/journal/deep/again");
    broken.refused(2, &["'again'", "has another name, too", "e2fsck"]);
}

#[test]
fn a_damaged_block_of_attributes_is_refused() {
    let broken = Broken::new();
    let first = broken.block_of(REMOVED);
    // The key's attributes lie, it says, in a block of its content.
    broken.write(
        broken.inode_of(REMOVED) + 0x68,
        &(first as u32).to_le_bytes(),
    );
    broken.refused(2, &[REMOVED, "xattr block", "e2fsck"]);
}

#[test]
fn links_that_lead_to_each_other_are_refused() {
    let broken = Broken::new();
    broken.debugfs("rm /etc/os-release");
    broken.debugfs("symlink /etc/os-release ../usr/lib/os-release");
    broken.debugfs("symlink /usr/lib/os-release ../../etc/os-release");
    broken.refused(2, &["/etc/os-release", "more than 40 links"]);
}
