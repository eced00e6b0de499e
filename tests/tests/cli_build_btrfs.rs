//! `nodekiln build` of bases with a btrfs root, as a user runs it, read by the kernel.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln_tests::btrfs::{self, SIZE, by_hand, check};
use nodekiln_tests::guest_builds::{Root, built, replayed};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{MIB, ROOT_START, text};

const BTRFS: Root = Root {
    name: "btrfs",
    kind: "btrfs",
    size: SIZE,
    make: btrfs::root,
    check,
    by_hand,
    overhead: 8 * MIB,
};

#[test]
fn a_btrfs_root_is_baked_by_a_user_without_rights() {
    BTRFS.assert_baked_without_rights();
}

#[test]
fn a_btrfs_root_grows() {
    BTRFS.assert_grows();
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
    let workshop = BTRFS.workshop();
    leave_a_log(&workshop.path("base.raw"));
    let root = replayed(&workshop, SIZE);
    check(&root);
    by_hand(
        &root,
        "[ $(stat -c %s left/file-39) = 3783 ]; [ $(stat -c %a left/file-2) = 4750 ]
         [ $(ls left | wc -l) = 40 ]; test -x usr/bin/kubelet",
    );
}

#[test]
fn what_is_damaged_is_refused_and_leaves_nothing() {
    let workshop = BTRFS.workshop();
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
        let workshop = BTRFS.workshop_changed(|root| into_a_subvolume(root, is_default));
        if !is_default {
            workshop.lock().succeeded();
            let words = ["no partition holds", "partition 4: btrfs", "set-default"];
            workshop.build(&[]).failed(2, &words);
            continue;
        }
        let (build, _) = built(&workshop);
        BTRFS.assert_baked(&build, &workshop);
    }
}

#[test]
fn a_mount_by_root_makes_the_same_of_it() {
    let workshop = BTRFS.workshop();
    workshop.lock().succeeded();
    let ran = workshop.build(&["--engine", "mount", "--format", "json"]);
    let folder = ran.succeeded().json()["folder"].as_str().map(str::to_owned);
    let build = workshop.path(&folder.expect("a folder"));
    BTRFS.assert_baked(&build, &workshop);
}

#[test]
#[ignore = "builds a kernel: make e2e"]
fn our_kernel_writes_the_same_bytes_twice() {
    BTRFS.assert_same_bytes();
}
