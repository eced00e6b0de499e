//! Root file systems that cannot be edited, or only after a repair, or have no
//! room.

use std::path::Path;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::damage::{bytes, patch};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{MIB, ROOT_START, Shape, assert_sound, cut, text};

use crate::Bases;

const ROOT_SIZE: u64 = 48 * MIB;

/// Lets debugfs change the root file system of `image`.
fn debugfs(image: &Path, requests: &[&str]) {
    let root = image.with_extension("ext4");
    cut(image, ROOT_START, ROOT_SIZE, &root);
    for request in requests {
        run("debugfs", &["-w", "-R", request, text(&root)]);
    }
    put(&root, image);
}

/// Puts the root file system in the file `root` back into `image`.
fn put(root: &Path, image: &Path) {
    let place = format!("seek={}", ROOT_START / MIB);
    let (from, to) = (format!("if={}", text(root)), format!("of={}", text(image)));
    run(
        "dd",
        &[&from, &to, "bs=1M", "conv=notrunc", "status=none", &place],
    );
    std::fs::remove_file(root).expect("removes");
}

/// A little-endian field of 32 bits of the superblock.
fn field(image: &Path, offset: u64) -> u32 {
    let field = bytes(image, ROOT_START + 1024 + offset, 4);
    u32::from_le_bytes(field.try_into().expect("four bytes"))
}

#[test]
fn an_unknown_feature_of_the_root_is_not_supported() {
    let bases = Bases::new();
    let unknown = |image: &Path| {
        let features = field(image, 0x60) | 1 << 31;
        debugfs(
            image,
            &[&format!("set_super_value feature_incompat {features:#x}")],
        );
        assert_eq!(field(image, 0x60), features);
    };
    bases
        .harmed(unknown)
        .refused(3, &["base.raw", "feature", "hint:"]);
}

#[test]
fn a_root_with_recorded_errors_is_refused_until_it_is_repaired() {
    let bases = Bases::new();
    let errors = |image: &Path| debugfs(image, &["set_super_value state 3"]);
    bases
        .harmed(errors)
        .refused(2, &["base.raw", "errors", "e2fsck", "hint:"]);
}

#[test]
fn a_root_that_was_not_unmounted_is_refused() {
    let bases = Bases::new();
    let mounted = |image: &Path| debugfs(image, &["set_super_value state 0"]);
    bases
        .harmed(mounted)
        .refused(2, &["base.raw", "unmounted", "hint:"]);
}

#[test]
fn a_root_in_use_elsewhere_is_refused() {
    let shape = Shape {
        mke2fs: &["-O", "mmp"],
        ..Shape::default()
    };
    let workshop = Workshop::with(&shape, |_| ());
    let base = workshop.path("base.raw");
    // The sequence number of a block of multiple mount protection that a kernel
    // would write: fs/ext4/mmp.c.
    let block = u64::from(field(&base, 0x16C));
    patch(&base, ROOT_START + block * 1024 + 4, &[1, 0, 0, 0]);
    workshop.refused(3, &["base.raw", "hint:"]);
}

#[test]
fn a_dirty_journal_is_replayed() {
    let bases = Bases::new();
    let mut block = 0;
    let workshop = bases.harmed(|image| {
        let root = image.with_extension("ext4");
        cut(image, ROOT_START, ROOT_SIZE, &root);
        let blocks = run("debugfs", &["-R", "blocks /var/log/syslog", text(&root)]);
        block = blocks
            .lines()
            .find_map(|line| line.trim().parse().ok())
            .expect("a block");
        // What a kernel would have committed, and not yet written to its place.
        let committed = image.with_extension("block");
        let mut content = b"committed\n".to_vec();
        content.resize(1024, b'.');
        std::fs::write(&committed, content).expect("writes");
        let requests = image.with_extension("requests");
        let text_of = format!("jo\njw -b {block} {}\njc\n", text(&committed));
        std::fs::write(&requests, text_of).expect("writes");
        run("debugfs", &["-w", "-f", text(&requests), text(&root)]);
        put(&root, image);
    });
    assert_ne!(
        field(&workshop.path("base.raw"), 0x60) & 4,
        0,
        "it is dirty"
    );
    workshop.write_profile("base.raw", "  outputs: [{format: raw}]\n");
    let raw = workshop.built(&[]).join("small.raw");
    assert_eq!(field(&raw, 0x60) & 4, 0, "it is clean");
    assert_sound(&raw, ROOT_SIZE, workshop.folder());
    let root = workshop.path("root.ext4");
    // A bake takes the log away: its block is free, and holds what was committed.
    let replayed = std::fs::read(&root).expect("reads");
    let begin = b"committed\n..";
    let places: Vec<usize> = replayed
        .chunks_exact(1024)
        .enumerate()
        .filter(|(_, block)| block.starts_with(begin))
        .map(|(number, _)| number)
        .collect();
    assert!(places.contains(&block), "{block}: {places:?}");
}

#[test]
fn too_few_inodes_are_found_before_the_first_write() {
    let shape = Shape {
        mke2fs: &["-N", "96"],
        ..Shape::default()
    };
    let workshop = Workshop::with(&shape, |tree| {
        for number in 0..20 {
            std::fs::write(tree.join(format!("filler-{number}")), "").expect("writes");
        }
    });
    workshop.refused(4, &["inodes are missing", "diskSize", "hint:"]);
}

#[test]
fn a_full_root_is_refused_with_what_is_missing() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        let filler = nodekiln_tests::small_base::program(38 << 20, 7);
        std::fs::write(tree.join("filler"), filler).expect("writes");
    });
    let ran = workshop.refused(4, &["bytes are missing", "diskSize", "hint:"]);
    assert!(!ran.stderr.contains("inodes are missing"), "{}", ran.stderr);
}
