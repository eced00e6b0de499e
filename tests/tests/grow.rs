//! Growing ext4 offline, on file systems that `mke2fs` made and judged by
//! `e2fsck`; `resize2fs` is the measure of the size that is reached.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln::volume::ext4::grow::grow;
use nodekiln_tests::plain::Plain;
use nodekiln_tests::program::run;

fn field(image: &str, name: &str) -> u64 {
    run("dumpe2fs", &["-h", image])
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name}"))
}

fn fill(folder: &Path) {
    for number in 0..40u32 {
        let bytes: Vec<u8> = (0..70_000u32)
            .map(|byte| ((byte * (number + 3)) >> 5) as u8)
            .collect();
        std::fs::write(folder.join(format!("file-{number}")), bytes).expect("written");
    }
}

/// Makes a file system of `from` MiB, grows it to `to` MiB, and compares.
fn check(options: &[&str], from: u64, to: u64) {
    let folder = tempfile::tempdir().expect("folder");
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).expect("tree");
    fill(&tree);
    let image = folder.path().join("image");
    let name = image.to_str().expect("UTF-8");
    File::create(&image)
        .expect("image")
        .set_len(from << 20)
        .expect("sized");
    let mut arguments = vec![
        "-q",
        "-F",
        "-t",
        "ext4",
        "-d",
        tree.to_str().expect("UTF-8"),
    ];
    arguments.extend(options);
    arguments.push(name);
    run("mke2fs", &arguments);
    run("e2fsck", &["-fn", name]);
    let reference = folder.path().join("reference");
    std::fs::copy(&image, &reference).expect("copied");

    // What lies behind the old end is not zeros: an old partition table, say.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .expect("opened");
    file.set_len(to << 20).expect("grown");
    let noise = vec![0xA5; 1 << 20];
    for megabyte in from..to.min(from + 64) {
        file.write_all_at(&noise, megabyte << 20).expect("noise");
    }
    let growth = grow(&Plain(file)).expect("grows");
    assert_eq!(growth.from, from << 20, "{options:?}");
    run("e2fsck", &["-fn", name]);

    let reference_name = reference.to_str().expect("UTF-8");
    run("resize2fs", &[reference_name, &format!("{to}M")]);
    for wanted in ["Block count:", "Inode count:"] {
        assert_eq!(
            field(name, wanted),
            field(reference_name, wanted),
            "{options:?} {wanted}"
        );
    }
    assert_eq!(
        field(name, "Block count:") * field(name, "Block size:"),
        growth.to,
        "{options:?}"
    );
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("out");
    run(
        "debugfs",
        &["-R", &format!("rdump / {}", out.display()), name],
    );
    for number in 0..40 {
        let file = format!("file-{number}");
        assert_eq!(
            std::fs::read(tree.join(&file)).expect("read"),
            std::fs::read(out.join(&file)).expect("dumped"),
            "{options:?} {file}"
        );
    }
    let growth = grow(&Plain::open(&image)).expect("again");
    assert_eq!(
        growth.from, growth.to,
        "a second growth finds nothing to do"
    );
}

#[test]
fn grows_within_the_last_group() {
    check(&[], 64, 100);
}

#[test]
fn grows_by_many_groups_and_their_copies() {
    check(&[], 200, 4000);
}

#[test]
fn grows_into_reserved_descriptor_blocks() {
    check(&["-b", "1024"], 64, 1500);
    check(&["-b", "4096", "-E", "resize=2097152"], 100, 3000);
}

#[test]
fn grows_every_kind_of_checksum_and_layout() {
    check(&["-O", "^metadata_csum,uninit_bg"], 100, 900);
    check(&["-O", "^metadata_csum,^uninit_bg,^64bit"], 100, 900);
    check(&["-O", "metadata_csum_seed,orphan_file"], 100, 900);
    check(&["-O", "^flex_bg"], 100, 900);
    check(
        &["-O", "^sparse_super,^resize_inode", "-b", "4096"],
        100,
        900,
    );
    check(&["-I", "128"], 100, 900);
    check(&["-b", "2048"], 100, 900);
}

#[test]
fn drops_a_last_group_that_is_too_small() {
    check(&[], 100, 129);
    check(&[], 100, 131);
}

#[test]
fn refuses_what_keeps_descriptors_elsewhere() {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("image");
    File::create(&image)
        .expect("image")
        .set_len(64 << 20)
        .expect("sized");
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "meta_bg,^resize_inode",
            image.to_str().expect("UTF-8"),
        ],
    );
    let before = std::fs::read(&image).expect("read");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .expect("opened");
    file.set_len(128 << 20).expect("grown");
    let error = grow(&Plain(file)).expect_err("refused");
    assert_eq!(error.class(), nodekiln::Class::Unsupported);
    assert_eq!(
        std::fs::read(&image).expect("read")[..before.len()],
        before[..]
    );
}
