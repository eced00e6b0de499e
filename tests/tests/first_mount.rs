//! What an ext4 leaves to its first mount is done at the build: `mke2fs` and `tune2fs`
//! leave it, `e2fsck` and `dumpe2fs` say whether it is done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodekiln::volume::{FileSystem, FirstMount, first_mount};
use nodekiln_tests::plain::Plain;
use nodekiln_tests::program::run;

/// A file system of 300 MiB over noise, with some files, that has all work left.
fn image(folder: &Path, options: &[&str]) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(&tree).expect("tree");
    for number in 0..300 {
        fs::write(tree.join(format!("file-{number}")), [7; 5000]).expect("written");
    }
    let path = folder.join("image");
    let file = File::create(&path).expect("image");
    let noise = vec![0xA5; 1 << 20];
    for megabyte in 0..300 {
        file.write_all_at(&noise, megabyte << 20).expect("noise");
    }
    let name = path.to_str().expect("UTF-8");
    let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    let mut arguments = vec!["-q", "-F", "-t", "ext4", "-E", extended];
    arguments.extend(["-d", tree.to_str().expect("UTF-8")]);
    arguments.extend(options);
    arguments.push(name);
    run("mke2fs", &arguments);
    run("tune2fs", &["-c", "20", "-i", "30d", name]);
    path
}

/// A block group as dumpe2fs shows it.
#[derive(Debug, Default)]
struct Group {
    flags: String,
    table: std::ops::Range<u64>,
    unused: u64,
}

/// The two fields of the superblock that ask for checks, and the groups.
fn shown(image: &Path) -> (String, String, Vec<Group>) {
    let text = run("dumpe2fs", &[image.to_str().expect("UTF-8")]);
    let field = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no {name}"))
            .trim()
            .to_owned()
    };
    let mut groups: Vec<Group> = Vec::new();
    for line in text.lines() {
        if line.starts_with("Group ") && line.contains("(Blocks ") {
            let flags = line.split_once('[').map_or("", |(_, flags)| flags);
            groups.push(Group {
                flags: flags.to_owned(),
                ..Group::default()
            });
        }
        let Some(group) = groups.last_mut() else {
            continue;
        };
        if let Some((_, place)) = line.split_once("Inode table at ") {
            let place = place.split([' ', '(']).next().expect("blocks");
            let (first, last) = place.split_once('-').expect("a range of blocks");
            let number = |text: &str| text.parse::<u64>().expect("a block");
            group.table = number(first)..number(last) + 1;
        }
        if let Some((before, _)) = line.split_once(" unused inodes") {
            let count = before.rsplit(' ').next().expect("a count");
            group.unused = count.parse().expect("a count");
        }
    }
    (
        field("Maximum mount count:"),
        field("Check interval:"),
        groups,
    )
}

fn check(options: &[&str]) {
    let folder = tempfile::tempdir().expect("folder");
    let path = image(folder.path(), options);
    let name = path.to_str().expect("UTF-8");
    run("e2fsck", &["-fn", name]);
    let (count, _, groups) = shown(&path);
    assert_eq!(count, "20");
    assert!(groups.len() > 1, "{options:?}: {} groups", groups.len());

    let both = BTreeSet::from([FirstMount::PeriodicCheck, FirstMount::InodeTables]);
    let find = || first_mount::find(&Plain::open(&path), FileSystem::Ext4).expect("looks");
    assert_eq!(find(), both, "{options:?}");
    first_mount::settle(&Plain::open(&path), FileSystem::Ext4, &both).expect("settles");
    assert_eq!(find(), BTreeSet::new(), "{options:?}");

    run("e2fsck", &["-fn", name]);
    let (count, interval, groups) = shown(&path);
    assert_eq!(count, "-1", "{options:?}");
    assert!(interval.starts_with("0 "), "{options:?}: {interval}");
    let superblock = run("dumpe2fs", &["-h", name]);
    let number = |name: &str| -> u64 {
        let line = superblock.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().parse().expect(name)
    };
    let (block, inode) = (number("Block size:"), number("Inode size:"));
    let inodes = number("Inodes per group:");
    let file = File::open(&path).expect("image");
    for group in groups {
        assert!(
            group.flags.contains("ITABLE_ZEROED"),
            "{options:?}: {group:?}"
        );
        let start = group.table.start * block + (inodes - group.unused) * inode;
        let mut unused = vec![1; (group.table.end * block - start) as usize];
        file.read_exact_at(&mut unused, start).expect("reads");
        // The kernel, too, begins with the first whole block.
        let first = start.next_multiple_of(block) - start;
        let unused = unused.get(first as usize..).unwrap_or_default();
        assert!(
            unused.iter().all(|byte| *byte == 0),
            "{options:?}: {group:?}"
        );
    }
    // The files are what they were.
    let cat = run("debugfs", &["-R", "cat /file-299", name]);
    assert_eq!(cat.matches('\u{7}').count(), 5000, "{options:?}");

    let before = fs::read(&path).expect("reads");
    first_mount::settle(&Plain::open(&path), FileSystem::Ext4, &both).expect("again");
    assert!(
        before == fs::read(&path).expect("reads"),
        "done once is done"
    );
}

#[test]
fn with_checksums_of_all_metadata() {
    check(&["-O", "metadata_csum,64bit", "-b", "4096"]);
    check(&["-O", "metadata_csum,^64bit,^flex_bg", "-b", "1024"]);
}

#[test]
fn with_checksums_of_descriptors_alone() {
    check(&["-O", "^metadata_csum,uninit_bg,64bit", "-b", "4096"]);
}

#[test]
fn without_flags_only_the_check_is_left() {
    let folder = tempfile::tempdir().expect("folder");
    let path = image(folder.path(), &["-O", "^metadata_csum,^uninit_bg"]);
    let storage = Plain::open(&path);
    let found = first_mount::find(&storage, FileSystem::Ext4).expect("looks");
    assert_eq!(found, BTreeSet::from([FirstMount::PeriodicCheck]));
    first_mount::settle(&storage, FileSystem::Ext4, &found).expect("settles");
    run("e2fsck", &["-fn", path.to_str().expect("UTF-8")]);
    assert_eq!(shown(&path).0, "-1");
}

#[test]
fn a_descriptor_that_was_tampered_with_is_not_sealed_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let path = image(folder.path(), &["-O", "metadata_csum,64bit", "-b", "4096"]);
    let file = File::options().write(true).open(&path).expect("image");
    // bg_itable_unused_lo of group 0: descriptors are in block 1 of 4 KiB.
    file.write_all_at(&[0xFF, 0xFF], 4096 + 0x1C)
        .expect("breaks");
    let before = fs::read(&path).expect("reads");
    let work = BTreeSet::from([FirstMount::InodeTables]);
    let error = first_mount::settle(&Plain::open(&path), FileSystem::Ext4, &work)
        .expect_err("contradicts itself");
    assert_eq!(error.class(), nodekiln::Class::Input, "{error}");
    assert!(
        before == fs::read(&path).expect("reads"),
        "nothing is written"
    );
}
