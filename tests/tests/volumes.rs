//! The engines against each other, on ext4 file systems that mkfs made.

use std::path::{Path, PathBuf};

use nodekiln::volume::{Access, Attributes, Kind, Problem, problem};
use nodekiln_tests::sequences::{Abilities, apply, for_each_seed, sequence};
use nodekiln_tests::volumes::{
    assert_same, at, blank, bytes, content, fill_old, in_process, must, plain, thin_old,
    through_kernel, tree,
};

/// mkfs.ext4 as the distributions call it, and older layouts.
const EXT4: &[(&str, &[&str])] = &[
    (
        "ubuntu-24.04",
        &[
            "-O",
            "metadata_csum,metadata_csum_seed,64bit,orphan_file",
            "-b",
            "4096",
            "-I",
            "256",
        ],
    ),
    (
        "ubuntu-22.04",
        &[
            "-O",
            "metadata_csum,64bit,^orphan_file",
            "-b",
            "4096",
            "-I",
            "256",
        ],
    ),
    (
        "ubuntu-20.04",
        &[
            "-O",
            "metadata_csum,64bit,^orphan_file",
            "-b",
            "4096",
            "-i",
            "8192",
            "-m",
            "0",
        ],
    ),
    ("debian-12", &["-b", "4096"]),
    ("blocks of 1 KiB", &["-b", "1024", "-I", "256"]),
    (
        "inodes of 128 bytes",
        &[
            "-O",
            "^metadata_csum,uninit_bg,^64bit,^orphan_file",
            "-I",
            "128",
            "-b",
            "1024",
        ],
    ),
    (
        "no journal",
        &["-O", "^has_journal,^orphan_file", "-b", "4096"],
    ),
];

const SIZE: u64 = 48 << 20;

fn make_ext4(folder: &Path, options: &[&str], size: u64) -> PathBuf {
    let name = format!("base-{}", options.concat());
    let image = blank(folder, &name, size);
    let mut arguments = vec![
        "-q",
        "-F",
        "-L",
        "cloudimg-rootfs",
        "-U",
        "6a1f5b9e-0c5b-4c53-8f0e-0d5a8a1b2c3d",
        "-E",
        "hash_seed=6a1f5b9e-0c5b-4c53-8f0e-0d5a8a1b2c3d,lazy_itable_init=1",
    ];
    arguments.extend_from_slice(options);
    must("mkfs.ext4", &arguments, &image);
    image
}

/// Gives a base what images have: a large indexed folder, holes in the free
/// space, a folder that hands its group on.
fn populate(image: &Path) {
    let mut volume = through_kernel(image, Access::Write);
    fill_old(volume.as_mut());
    thin_old(volume.as_mut());
    volume.finish().expect("unmounted");
}

fn check_ext4(image: &Path) {
    must("e2fsck", &["-fn"], image);
}

#[test]
fn random_sequences_on_ext4_equal_the_kernel() {
    let folder = tempfile::tempdir().expect("folder");
    let bases: Vec<(&str, PathBuf)> = EXT4
        .iter()
        .map(|(name, options)| {
            let base = make_ext4(folder.path(), options, SIZE);
            populate(&base);
            (*name, base)
        })
        .collect();
    for_each_seed(500, 3, &bases, |seed, base| {
        compare_sequence(folder.path(), base, seed);
    });
}

fn compare_sequence(folder: &Path, base: &Path, seed: u64) {
    let operations = sequence(seed, 50, Abilities::Linux);
    let ours = folder.join(format!("ours-{seed}"));
    let kernels = folder.join(format!("kernels-{seed}"));
    std::fs::copy(base, &ours).expect("copied");
    std::fs::copy(base, &kernels).expect("copied");
    let mut volume = in_process(&ours).expect("opened");
    let mut oracle = through_kernel(&kernels, Access::Write);
    for (step, operation) in operations.iter().enumerate() {
        let done = apply(volume.as_mut(), operation);
        let expected = apply(oracle.as_mut(), operation);
        assert_eq!(done, expected, "seed {seed}, step {step}: {operation:?}");
    }
    let seen_by_us = tree(volume.as_mut());
    let expected = tree(oracle.as_mut());
    assert_same(&format!("seed {seed}, our reading"), &seen_by_us, &expected);
    volume.finish().expect("finished");
    oracle.finish().expect("unmounted");
    check_ext4(&ours);
    let mut read_back = through_kernel(&ours, Access::Read);
    let seen = tree(read_back.as_mut());
    read_back.finish().expect("unmounted");
    assert_same(
        &format!("seed {seed}, the kernel's reading"),
        &seen,
        &expected,
    );
    if seed.is_multiple_of(25) {
        let again = folder.join(format!("again-{seed}"));
        std::fs::copy(base, &again).expect("copied");
        let mut volume = in_process(&again).expect("opened");
        for operation in &operations {
            apply(volume.as_mut(), operation);
        }
        // The first run read the whole tree as well: reading changes nothing.
        volume.finish().expect("finished");
        let same = std::fs::read(&ours).expect("read") == std::fs::read(&again).expect("read");
        assert!(same, "seed {seed}: the same operations gave other bytes");
        std::fs::remove_file(again).expect("removed");
    }
    std::fs::remove_file(ours).expect("removed");
    std::fs::remove_file(kernels).expect("removed");
}

fn attributes_of_link() -> Attributes {
    let mut attributes = plain(0o777);
    attributes.xattrs.insert(
        "security.selinux".to_owned(),
        b"system_u:object_r:bin_t:s0\0".to_vec(),
    );
    attributes
}

#[test]
fn a_payload_on_every_ext4_is_what_the_kernel_reads() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options) in EXT4 {
        let image = make_ext4(folder.path(), options, 96 << 20);
        let mut volume = in_process(&image).expect(name);
        assert_eq!(volume.identity().label, "cloudimg-rootfs");
        assert_eq!(
            volume.identity().uuid,
            "6a1f5b9e-0c5b-4c53-8f0e-0d5a8a1b2c3d"
        );
        for path in ["/usr", "/usr/bin"] {
            volume
                .create_directory(&at(path), &plain(0o755))
                .expect(name);
        }
        let kubelet = bytes(1, 40 << 20);
        let mut attributes = plain(0o755);
        attributes.xattrs.insert(
            "security.capability".to_owned(),
            [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec(),
        );
        volume
            .write_file(
                &at("/usr/bin/kubelet"),
                40 << 20,
                &mut &kubelet[..],
                &attributes,
            )
            .expect(name);
        for number in 0..300u64 {
            let path = at(&format!("/usr/bin/tool-{number}"));
            let data = bytes(number, (number * 41) as usize);
            volume
                .write_file(&path, data.len() as u64, &mut &data[..], &plain(0o644))
                .expect(name);
        }
        volume
            .create_symlink(&at("/usr/bin/crictl"), b"kubelet", &attributes_of_link())
            .expect(name);
        let ours = tree(volume.as_mut());
        volume.finish().expect(name);
        check_ext4(&image);
        let mut kernel = through_kernel(&image, Access::Read);
        assert_same(name, &ours, &tree(kernel.as_mut()));
        assert!(
            content(kernel.as_mut(), "/usr/bin/kubelet") == kubelet,
            "{name}"
        );
        kernel.finish().expect(name);
        std::fs::remove_file(image).expect(name);
    }
}

fn refused(image: &Path) -> (Option<Problem>, String) {
    let error = in_process(image).expect_err("must be refused");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    (problem(&error), cause.unwrap_or_default())
}

#[test]
fn ext4_that_must_not_be_edited_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for feature in [
        "inline_data",
        "quota",
        "bigalloc",
        "encrypt",
        "casefold",
        "mmp",
        "verity",
    ] {
        let image = make_ext4(folder.path(), &["-O", feature], SIZE);
        let (kind, text) = refused(&image);
        assert_eq!(kind, Some(Problem::NotSupported), "{feature}: {text}");
        assert!(text.contains(feature), "{feature}: {text}");
        std::fs::remove_file(image).expect("removed");
    }
    let image = make_ext4(folder.path(), &[], SIZE);
    must("debugfs", &["-w", "-R", "ssv state 3"], &image);
    assert!(refused(&image).1.contains("recorded errors"));
    must("debugfs", &["-w", "-R", "ssv state 0"], &image);
    assert!(refused(&image).1.contains("not unmounted"));
    must("debugfs", &["-w", "-R", "ssv state 1"], &image);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&image)
        .expect("opened");
    file.set_len(SIZE / 2).expect("cut");
    let (kind, text) = refused(&image);
    assert_eq!(kind, Some(Problem::Damaged));
    assert!(text.contains("only"), "{text}");
    for size in [0, 1, 1500] {
        file.set_len(size).expect("cut");
        assert_eq!(
            refused(&image).0,
            Some(Problem::NotSupported),
            "{size} bytes"
        );
    }
    let ext2 = blank(folder.path(), "ext2", SIZE);
    must("mkfs.ext2", &["-q", "-F"], &ext2);
    assert!(refused(&ext2).1.contains("no extents"));
    let xfs = blank(folder.path(), "xfs", 320 << 20);
    must("mkfs.xfs", &["-q"], &xfs);
    assert!(refused(&xfs).1.contains("XFS"));
}

#[test]
fn a_journal_left_by_a_running_system_is_replayed() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options) in EXT4 {
        let image = make_ext4(folder.path(), options, SIZE);
        // The image is copied while the kernel has it mounted: its journal holds
        // what is not in its place yet.
        let mut volume = through_kernel(&image, Access::Write);
        for number in 0..60u64 {
            let data = bytes(number, 3000);
            volume
                .write_file(
                    &at(&format!("/f{number}")),
                    3000,
                    &mut &data[..],
                    &plain(0o640),
                )
                .expect(name);
        }
        must("sync", &[], Path::new("--"));
        let copy = folder.path().join("copied-while-mounted");
        std::fs::copy(&image, &copy).expect("copied");
        volume.finish().expect("unmounted");
        let dirty = must("dumpe2fs", &["-h"], &copy).contains("needs_recovery");
        assert_eq!(dirty, *name != "no journal", "{name}");
        if options.concat().contains(",orphan_file") || *name == "no journal" {
            let (_, text) = refused(&copy);
            assert!(text.contains("not unmounted"), "{name}: {text}");
        } else {
            let mut volume = in_process(&copy).expect(name);
            assert_eq!(content(volume.as_mut(), "/f7"), bytes(7, 3000), "{name}");
            volume
                .write_file(&at("/new"), 3, &mut &b"new"[..], &plain(0o644))
                .expect(name);
            let ours = tree(volume.as_mut());
            volume.finish().expect(name);
            check_ext4(&copy);
            let mut kernel = through_kernel(&copy, Access::Read);
            assert_same(name, &ours, &tree(kernel.as_mut()));
            kernel.finish().expect(name);
        }
        std::fs::remove_file(image).expect("removed");
    }
}

#[test]
fn a_full_ext4_says_so_and_stays_sound() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make_ext4(folder.path(), &["-N", "32", "-b", "1024"], 8 << 20);
    let mut volume = in_process(&image).expect("opened");
    let mut made = 0;
    let why = loop {
        match volume.write_file(&at(&format!("/f{made}")), 0, &mut &b""[..], &plain(0o644)) {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 100, "the inodes must end");
    };
    assert_eq!(problem(&why), Some(Problem::NoSpace), "{why:?}");
    volume.remove_file(&at("/f0")).expect("removed");
    let free = volume.space().expect("space").free;
    let large = vec![7; free as usize + 1];
    let why = volume
        .write_file(&at("/large"), free + 1, &mut &large[..], &plain(0o644))
        .expect_err("too large");
    assert_eq!(problem(&why), Some(Problem::NoSpace), "{why:?}");
    assert!(format!("{why:?}").contains("bytes are missing"));
    assert_eq!(volume.metadata(&at("/large")).expect("looked"), None);
    let half = free / 2;
    volume
        .write_file(
            &at("/fits"),
            half,
            &mut &large[..half as usize],
            &plain(0o644),
        )
        .expect("there is room again");
    volume.finish().expect("finished");
    check_ext4(&image);
}

#[test]
fn content_of_another_length_leaves_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make_ext4(folder.path(), &[], SIZE);
    let mut volume = in_process(&image).expect("opened");
    for (announced, given) in [(10, 9), (10, 11), (5 << 20, 100)] {
        let data = vec![1; given];
        volume
            .write_file(&at("/f"), announced, &mut &data[..], &plain(0o644))
            .expect_err("another length");
        assert_eq!(volume.metadata(&at("/f")).expect("looked"), None);
    }
    volume.finish().expect("finished");
    check_ext4(&image);
}

#[test]
fn a_path_through_a_link_is_refused_by_both_engines() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make_ext4(folder.path(), &[], SIZE);
    let mut volume = in_process(&image).expect("opened");
    volume
        .create_symlink(&at("/out"), b"../../../../etc", &plain(0o777))
        .expect("made");
    let kind = volume
        .metadata(&at("/out"))
        .expect("looked")
        .map(|found| found.kind);
    assert_eq!(kind, Some(Kind::Symlink));
    volume.finish().expect("finished");
    for mut volume in [in_process(&image).expect("opened")]
        .into_iter()
        .chain(std::iter::once_with(|| {
            through_kernel(&image, Access::Write)
        }))
    {
        let why = volume
            .write_file(&at("/out/shadow"), 0, &mut &b""[..], &plain(0o600))
            .expect_err("through a link");
        assert_eq!(problem(&why), Some(Problem::NotADirectory));
        assert_eq!(volume.metadata(&at("/out/shadow")).expect("looked"), None);
        volume.finish().expect("finished");
        check_ext4(&image);
    }
}
