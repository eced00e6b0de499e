//! btrfs through the guest kernel, against the same changes through a root mount.

use std::path::{Path, PathBuf};

use nodekiln::volume::{Access, Problem, Volume, problem};
use nodekiln_tests::btrfs::{LAYOUTS, SIZE, by_hand, check, churn, make, populate};
use nodekiln_tests::by_agent::{compare_payload, compare_sequence, machine};
use nodekiln_tests::sequences::for_each_seed;
use nodekiln_tests::volumes::{
    assert_same, at, bytes, content, must, plain, run, through_kernel, tree,
};
use nodekiln_tests::xfs::{kernel, reading, through, through_agent};

#[test]
fn a_payload_on_every_layout_is_what_a_root_mount_makes() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options, mounted) in LAYOUTS {
        let ours = make(folder.path(), "ours", options, SIZE);
        populate(&ours, mounted);
        let identity = reading(&ours).expect(name).identity();
        assert_eq!((&identity.label[..], identity.uuid), ("root", uuid(&ours)));
        compare_payload(name, kernel(), &ours, check);
        let mut mounted = through_kernel(&ours, Access::Read);
        assert_eq!(mounted.space().expect(name).free_inodes, None);
        mounted.finish().expect(name);
        by_hand(&ours, "mkdir old; cp -a usr/older/. old/");
        churn(&ours);
        check(&ours);
        std::fs::remove_file(ours).expect("removed");
    }
}

/// The UUID that blkid finds.
fn uuid(image: &Path) -> String {
    must("blkid", &["-p", "-s", "UUID", "-o", "value"], image)
        .trim()
        .to_owned()
}

#[test]
fn random_sequences_on_btrfs_equal_the_kernel() {
    let folder = tempfile::tempdir().expect("folder");
    let bases: Vec<(&str, PathBuf)> = LAYOUTS
        .iter()
        .map(|(name, options, mounted)| {
            let base = make(folder.path(), &format!("base-{name}"), options, SIZE);
            populate(&base, mounted);
            (*name, base)
        })
        .collect();
    // One at a time: Linux mounts no two file systems of one UUID.
    for_each_seed(12, 1, &bases, |seed, base| {
        compare_sequence(folder.path(), base, seed, check);
    });
}

/// As installers make them: the system in a subvolume of its own that is mounted by
/// default, others below it, snapshots of it.
#[test]
fn subvolumes_are_seen_as_a_mount_shows_them() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    by_hand(
        &image,
        "btrfs -q subvolume create @ >/dev/null; echo top >outside
         btrfs -q subvolume create @/home >/dev/null; mkdir @/home/user; echo x >@/home/user/f
         btrfs -q subvolume create @/var >/dev/null; btrfs -q subvolume create @/var/log >/dev/null
         mkdir @/etc; echo node >@/etc/hostname; echo y >@/var/log/messages
         btrfs -q subvolume snapshot @ @/before >/dev/null
         btrfs -q subvolume set-default @ >/dev/null",
    );
    let mut mounted = through_kernel(&image, Access::Read);
    let mut expected = tree(mounted.as_mut());
    mounted.finish().expect("unmounted");
    assert!(expected.contains_key(&at("/etc/hostname")));
    assert!(!expected.contains_key(&at("/outside")));
    let mut volume = reading(&image).expect("opened");
    // What a snapshot has where a subvolume hung, no tree records: Linux makes it up.
    let stubs = [at("/before/home"), at("/before/var")];
    let mut seen = tree(volume.as_mut());
    for stub in &stubs {
        let found = seen.remove(stub).expect("it is shown");
        assert!(expected.remove(stub).is_some());
        assert!(format!("{found:?}").contains("Directory"), "{found:?}");
        assert_eq!(volume.read_directory(stub).expect("listed"), Vec::new());
    }
    assert_same("subvolumes", &seen, &expected);
    // Files of one number in several subvolumes are no names of one file.
    let number = |volume: &mut dyn Volume, path: &str| {
        let found = volume.metadata(&at(path)).expect("looked");
        found.expect("is there").inode
    };
    assert_ne!(
        number(volume.as_mut(), "/etc/hostname"),
        number(volume.as_mut(), "/before/etc/hostname")
    );
    // What Linux does not let happen is refused at once.
    let across = |volume: &mut dyn Volume| {
        for (from, to) in [("/etc/hostname", "/home/n"), ("/home/user", "/var/log/u")] {
            let moved = volume.rename(&at(from), &at(to)).expect_err("refused");
            assert_eq!(problem(&moved), Some(Problem::NotSupported), "{from}");
        }
        let linked = volume.create_hard_link(&at("/etc/hostname"), &at("/var/log/n"));
        assert_eq!(
            problem(&linked.expect_err("refused")),
            Some(Problem::NotSupported)
        );
        volume
            .rename(&at("/home/user/f"), &at("/home/g"))
            .expect("within one");
        volume
            .rename(&at("/home/g"), &at("/home/user/f"))
            .expect("and back");
    };
    let mut mounted = through_kernel(&image, Access::Write);
    across(mounted.as_mut());
    mounted.finish().expect("unmounted");
    let mut volume = through_agent(&image).expect("opened");
    across(volume.as_mut());
    volume
        .create_directory(&at("/home/made"), &plain(0o755))
        .expect("it waits");
    let error = volume.rename(&at("/home/made"), &at("/etc/made"));
    let error = error.expect_err("what is new is in a subvolume, too");
    assert_eq!(problem(&error), Some(Problem::NotSupported));
    assert!(
        format!("{error:?}").contains("another subvolume"),
        "{error:?}"
    );
    for (from, to) in [
        ("/home/user/f", "/home/made/f"),
        ("/home/made/f", "/home/user/f"),
    ] {
        volume.rename(&at(from), &at(to)).expect("within one");
    }
    let error = volume.rename(&at("/etc/hostname"), &at("/home/made/n"));
    assert_eq!(
        problem(&error.expect_err("refused")),
        Some(Problem::NotSupported)
    );
    volume
        .remove_directory(&at("/home/made"))
        .expect("it waits");
    for path in ["/etc/new", "/home/user/new", "/var/log/new"] {
        volume
            .write_file(&at(path), 3, &mut &b"abc"[..], &plain(0o640))
            .expect("it waits");
    }
    volume.remove_file(&at("/home/user/f")).expect("it waits");
    volume.finish().expect("finished");
    check(&image);
    let mut mounted = through_kernel(&image, Access::Read);
    for path in ["/etc/new", "/home/user/new", "/var/log/new"] {
        assert_eq!(content(mounted.as_mut(), path), b"abc");
    }
    assert_eq!(mounted.metadata(&at("/home/user/f")).expect("looked"), None);
    mounted.finish().expect("unmounted");
}

#[test]
fn it_grows_and_takes_what_needs_the_room() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let file = std::fs::File::options().write(true).open(&image);
    file.expect("opened").set_len(2 * SIZE).expect("larger");
    let large = bytes(4, (SIZE + (40 << 20)) as usize);
    let mut volume = through(kernel(), &image, 0..2 * SIZE, true).expect("opened");
    let free = volume.space().expect("space").free;
    assert!(free > large.len() as u64, "{free}");
    volume
        .write_file(
            &at("/large"),
            large.len() as u64,
            &mut &large[..],
            &plain(0o644),
        )
        .expect("there will be room");
    volume.finish().expect("grown and written");
    check(&image);
    let mut mounted = through_kernel(&image, Access::Read);
    assert_eq!(mounted.space().expect("space").total, 2 * SIZE);
    let mut found = Vec::new();
    mounted.read_file(&at("/large"), &mut found).expect("read");
    assert!(found == large);
    mounted.finish().expect("unmounted");
}

#[test]
fn what_is_told_as_free_can_be_written() {
    let folder = tempfile::tempdir().expect("folder");
    let layouts: [&[&str]; 4] = [
        &[],
        &["-m", "single"],
        &["-d", "dup"],
        &["--mixed", "-m", "dup", "-d", "dup"],
    ];
    for options in layouts {
        let image = make(folder.path(), "image", options, SIZE);
        let mut volume = through_agent(&image).expect("opened");
        let free = volume.space().expect("space").free;
        assert!(free > SIZE / 5, "{options:?}: {free}");
        // Files of a few MiB, as programs are, and small ones.
        let large = bytes(7, (free / 20) as usize);
        for number in 0..19 {
            let path = at(&format!("/large-{number}"));
            volume
                .write_file(&path, large.len() as u64, &mut &large[..], &plain(0o644))
                .expect("it waits");
        }
        for number in 0..large.len() / 5000 {
            let path = at(&format!("/small-{number}"));
            volume
                .write_file(&path, 5000, &mut &large[..5000], &plain(0o644))
                .expect("it waits");
        }
        volume.finish().unwrap_or_else(|error| {
            panic!("{options:?}: {free} bytes were told as free: {error:?}")
        });
        check(&image);
        std::fs::remove_file(image).expect("removed");
    }
}

#[test]
fn a_full_btrfs_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let mut volume = through_agent(&image).expect("opened");
    let large = bytes(7, 4 << 20);
    for number in 0..=SIZE >> 22 {
        let path = at(&format!("/large-{number}"));
        volume
            .write_file(&path, large.len() as u64, &mut &large[..], &plain(0o644))
            .expect("it waits");
    }
    assert_eq!(volume.space().expect("space").free, 0);
    let error = volume.finish().expect_err("full");
    assert_eq!(problem(&error), Some(Problem::NoSpace), "{error:?}");
    // The layer is thrown away, and still it is sound.
    check(&image);
}

#[test]
fn a_log_left_by_a_running_system_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let dirty = folder.path().join("copied-while-mounted");
    // The image is copied while the kernel has it mounted; what was synchronised file by
    // file lies in the log alone.
    by_hand(
        &image,
        &format!(
            "echo first >first; sync; echo second >second; sync second
             cp --sparse=always '{}' '{}'",
            image.display(),
            dirty.display()
        ),
    );
    let superblock = must("btrfs", &["inspect-internal", "dump-super"], &dirty);
    let log = superblock
        .lines()
        .find(|line| line.starts_with("log_root\t"));
    assert!(log.is_some_and(|line| !line.ends_with("\t0")), "{log:?}");
    let error = reading(&dirty).expect_err("told");
    assert_eq!(problem(&error), Some(Problem::Damaged));
    assert!(
        format!("{error:?}").contains("was not unmounted"),
        "{error:?}"
    );
    assert!(
        error
            .hint_text()
            .unwrap_or_default()
            .contains("replays the log")
    );
    reading(&image).expect("the other was unmounted");
}

#[test]
fn btrfs_that_cannot_be_read_rightly_is_refused() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let refused = |image: &Path| {
        let error = reading(image).expect_err("must be refused");
        (problem(&error), format!("{error:?}"))
    };
    // Two devices.
    let (first, second) = (
        make(folder.path(), "first", &[], SIZE),
        make(folder.path(), "second", &[], SIZE),
    );
    let other = second.to_string_lossy().into_owned();
    must("mkfs.btrfs", &["-q", "-f", "-d", "raid0", &other], &first);
    let (kind, said) = refused(&first);
    assert_eq!(kind, Some(Problem::NotSupported), "{said}");
    assert!(said.contains("2 devices"), "{said}");
    // Another checksum than that of its superblock.
    let file = std::fs::File::options().read(true).write(true).open(&image);
    let file = file.expect("opened");
    let mut old = [0];
    file.read_exact_at(&mut old, (64 << 10) + 300)
        .expect("read");
    file.write_all_at(&[old[0] ^ 1], (64 << 10) + 300)
        .expect("patched");
    let (kind, said) = refused(&image);
    assert_eq!(kind, Some(Problem::Damaged), "{said}");
    file.write_all_at(&old, (64 << 10) + 300).expect("patched");
    reading(&image).expect("as it was");
    file.set_len(SIZE / 2).expect("cut");
    let (kind, said) = refused(&image);
    assert_eq!(kind, Some(Problem::Damaged), "{said}");
    assert!(said.contains("cut off"), "{said}");
    // One that others grow from.
    let seed = make(folder.path(), "seed", &[], SIZE);
    must("btrfstune", &["-S", "1"], &seed);
    let (kind, said) = refused(&seed);
    assert_eq!(kind, Some(Problem::NotSupported), "{said}");
    assert!(said.contains("seed"), "{said}");
}

#[test]
fn a_machine_edits_btrfs_too() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "ours", &[], SIZE);
    populate(&image, "compress-force=zstd");
    compare_payload("by a machine", machine(), &image, check);
}

#[test]
fn a_damaged_tree_is_found_by_the_check() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().expect("folder");
    // With one copy of the trees there is no other to take.
    let image = make(folder.path(), "image", &["-m", "single"], SIZE);
    populate(&image, "noatime");
    let storage = nodekiln_tests::volumes::RawFile::open(&image).expect("opened");
    let found = nodekiln::volume::check_partition(std::sync::Arc::new(storage)).expect("runs");
    assert_eq!(found, Vec::<String>::new());
    // The bytes of a name as they lie in the tree.
    let bytes = std::fs::read(&image).expect("read");
    let name = b"a-name-of-some-length-01999";
    let file = std::fs::File::options().write(true).open(&image);
    let file = file.expect("opened");
    let mut patched = 0;
    for place in places(&bytes, name) {
        file.write_all_at(b"b", place as u64).expect("patched");
        patched += 1;
    }
    assert!(patched > 0);
    let judged = run("btrfs", &["check", "--readonly"], &image);
    assert_ne!(judged.code, Some(0), "btrfs sees it");
    let storage = nodekiln_tests::volumes::RawFile::open(&image).expect("opened");
    match nodekiln::volume::check_partition(std::sync::Arc::new(storage)) {
        Ok(found) => assert!(!found.is_empty()),
        Err(error) => assert_eq!(problem(&error), Some(Problem::Damaged)),
    }
}

/// Where `wanted` lies in `bytes`.
fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows
        .filter(|(_, window)| *window == wanted)
        .map(|(place, _)| place)
        .collect()
}
