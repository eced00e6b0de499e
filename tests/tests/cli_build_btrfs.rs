//! `nodekiln build` of bases with a btrfs root, as a user runs it, read by the kernel.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln_tests::btrfs::{self, SIZE, by_hand, check};
use nodekiln_tests::command::Workshop;
use nodekiln_tests::guest_builds::{self, PATH, as_nobody, baked, built, by_our_kernel, root_of};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{MIB, ROOT_START, text};

/// A workshop whose base has a btrfs root.
fn workshop() -> Workshop {
    guest_builds::workshop("btrfs", btrfs::root)
}

#[test]
fn a_btrfs_root_is_baked_by_a_user_without_rights() {
    let workshop = workshop();
    let (build, said) = built(&workshop);
    assert!(
        said.contains("a guest kernel (/usr/bin/linux.uml) edits"),
        "{said}"
    );
    assert!(said.contains("no library writes btrfs rightly"), "{said}");
    assert!(!said.contains("could not run"), "every check ran: {said}");
    let root = root_of(&build, &workshop, SIZE);
    check(&root);
    by_hand(&root, &baked(&workshop));
    let verified = as_nobody(&workshop, PATH, &["verify", text(&build)]).succeeded();
    assert!(
        verified.stdout.contains("root file system"),
        "{}",
        verified.stdout
    );
}

#[test]
fn a_btrfs_root_grows() {
    let workshop = workshop();
    workshop.write_profile(
        "base.raw",
        "  overlays: [common, linux]\n  diskSize: 700MiB\n  outputs:\n    - format: raw\n",
    );
    let (build, _) = built(&workshop);
    let size = 700 * MIB - ROOT_START - MIB;
    let root = root_of(&build, &workshop, size);
    check(&root);
    let table = run("sgdisk", &["-v", text(&build.join("small.raw"))]);
    assert!(table.contains("No problems found"), "{table}");
    by_hand(
        &root,
        &format!(
            "[ $(stat -f -c '%b*%S' . | bc) -gt {} ]; test -e usr/bin/kubelet",
            size - 8 * MIB
        ),
    );
}

/// Has the kernel change the root of a disk; what was synchronised file by file is in the
/// log alone when the disk is copied.
fn leave_a_log(image: &Path) {
    let script = format!(
        "set -eu; mkdir \"$1.mounted\"
         mount -o loop,offset={ROOT_START},sizelimit={SIZE} \"$1\" \"$1.mounted\"
         cd \"$1.mounted\"; mkdir left; sync
         i=0; while [ $i -lt 40 ]; do head -c $((i * 97)) /dev/urandom >left/file-$i; i=$((i + 1)); done
         chmod 4750 left/file-2; sync left/file-*
         cp --sparse=always \"$1\" \"$1.copied\"
         cd /; umount \"$1.mounted\"; rmdir \"$1.mounted\"; mv \"$1.copied\" \"$1\""
    );
    run("bash", &["-c", &script, "bash", text(image)]);
}

#[test]
fn a_log_that_a_running_system_left_is_replayed() {
    let workshop = workshop();
    let base = workshop.path("base.raw");
    leave_a_log(&base);
    let before = run("sha256sum", &[text(&base)]);
    let said = "it was not unmounted: its log holds changes";
    let verified = as_nobody(&workshop, PATH, &["verify", text(&base)]);
    assert_eq!(verified.code, Some(7), "{}", verified.stderr);
    assert!(verified.stdout.contains(said), "{}", verified.stdout);
    as_nobody(&workshop, PATH, &["lock", "--offline"]).succeeded();
    as_nobody(
        &workshop,
        PATH,
        &["build", "--offline", "--engine", "in-process"],
    )
    .failed(2, &[said]);

    let (build, told) = built(&workshop);
    let words = "partition 4 was not unmounted: a kernel replays its log";
    assert!(told.contains(words), "{told}");
    let root = root_of(&build, &workshop, SIZE);
    check(&root);
    by_hand(
        &root,
        "[ $(stat -c %s left/file-39) = 3783 ]; [ $(stat -c %a left/file-2) = 4750 ]
         [ $(ls left | wc -l) = 40 ]; test -x usr/bin/kubelet",
    );
    assert_eq!(
        run("sha256sum", &[text(&base)]),
        before,
        "the base is as it was"
    );
}

#[test]
fn what_is_damaged_is_refused_and_leaves_nothing() {
    let workshop = workshop();
    let base = fs::File::options()
        .write(true)
        .open(workshop.path("base.raw"))
        .expect("opens");
    // In the middle of the superblock, and a file system that is nothing but its number.
    base.write_all_at(&[0xFF; 8], ROOT_START + (64 << 10) + 80)
        .expect("writes");
    workshop.lock().succeeded();
    workshop.build(&[]).failed(2, &["damaged", "btrfs check"]);
    base.write_all_at(&vec![0; 70 << 10], ROOT_START)
        .expect("wipes");
    base.write_all_at(b"_BHRfS_M", ROOT_START + (64 << 10) + 64)
        .expect("writes");
    workshop.lock().succeeded();
    workshop.build(&[]).failed(2, &["find the root partition"]);
    assert_eq!(workshop.left_in("out"), Vec::<String>::new());
}

/// Moves the tree of a root into a subvolume, as some installers lay it, and makes that the
/// one that is mounted with `is_default`.
fn into_a_subvolume(root: &Path, is_default: bool) {
    let last = if is_default {
        "btrfs -q subvolume set-default @"
    } else {
        "true"
    };
    by_hand(
        root,
        &format!(
            "btrfs -q subvolume create @ >/dev/null
             find . -mindepth 1 -maxdepth 1 ! -name @ -exec mv '{{}}' @/ ';'
             {last} >/dev/null"
        ),
    );
}

#[test]
fn a_system_in_a_subvolume_is_found_when_it_is_the_default() {
    for is_default in [false, true] {
        let workshop = guest_builds::workshop("btrfs", |folder, tree| {
            let root = btrfs::root(folder, tree);
            into_a_subvolume(&root, is_default);
            root
        });
        if !is_default {
            workshop.lock().succeeded();
            let words = ["no partition holds", "partition 4: btrfs", "set-default"];
            workshop.build(&[]).failed(2, &words);
            continue;
        }
        let (build, _) = built(&workshop);
        let root = root_of(&build, &workshop, SIZE);
        check(&root);
        by_hand(&root, &baked(&workshop));
    }
}

#[test]
fn a_mount_by_root_makes_the_same_of_it() {
    let workshop = workshop();
    workshop.lock().succeeded();
    let ran = workshop.build(&["--engine", "mount", "--format", "json"]);
    let folder = ran.succeeded().json()["folder"].as_str().map(str::to_owned);
    let build = workshop.path(&folder.expect("a folder"));
    let root = root_of(&build, &workshop, SIZE);
    check(&root);
    by_hand(&root, &baked(&workshop));
}

#[test]
#[ignore = "builds a kernel: make e2e"]
fn our_kernel_writes_the_same_bytes_twice() {
    let workshop = workshop();
    let images = by_our_kernel(&workshop);
    run(
        "bash",
        &[
            "-c",
            "mkdir -p /tmp/bs; cp --sparse=always $1 $2 $3 /tmp/bs",
            "x",
            text(&images[0]),
            text(&images[1]),
            text(&images[2]),
        ],
    );
    for other in &images[1..] {
        run("cmp", &[text(&images[0]), text(other)]);
    }
    let root = workshop.path("root");
    nodekiln_tests::small_base::cut(&images[0], ROOT_START, SIZE, &root);
    check(&root);
    by_hand(&root, &baked(&workshop));
}
