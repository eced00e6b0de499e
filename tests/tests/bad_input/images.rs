//! Bases that are no disk images, or no whole ones.

use std::fs;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::damage::resize;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{MIB, MODULES, Shape, text};

use crate::Bases;

#[test]
fn files_that_are_no_disk_images_are_refused_by_their_kind() {
    let workshop = Workshop::empty();
    let tree = workshop.path("tree");
    fs::create_dir(&tree).expect("creates");
    fs::write(tree.join("file"), "content").expect("writes");
    let iso = workshop.path("installer.iso");
    run("genisoimage", &["-quiet", "-o", text(&iso), text(&tree)]);
    let words = workshop.path("words.txt");
    fs::write(&words, "these are words\n".repeat(5000)).expect("writes");
    run("gzip", &["-k", text(&words)]);
    fs::write(workshop.path("zeros.raw"), vec![0; 1 << 20]).expect("writes");
    fs::write(workshop.path("empty.raw"), "").expect("writes");
    run("mkfifo", &[text(&workshop.path("pipe.raw"))]);
    let bare = workshop.path("bare.raw");
    fs::File::create(&bare)
        .expect("creates")
        .set_len(8 * MIB)
        .expect("sizes");
    run("mke2fs", &["-q", "-t", "ext4", text(&bare)]);
    for (base, code, words) in [
        ("empty.raw", 2, "the file is empty"),
        ("words.txt", 2, "is this a disk image"),
        ("words.txt.gz", 3, "compressed with gzip"),
        ("installer.iso", 3, "an ISO image"),
        ("zeros.raw", 2, "there is no partition table"),
        ("bare.raw", 3, "without partitions"),
        ("tree", 2, "it is a folder"),
        ("pipe.raw", 2, "not a regular file"),
        ("absent.raw", 2, "No such file"),
    ] {
        workshop.write_profile(base, "");
        workshop.refused(code, &[base, words, "hint:"]);
    }
}

#[test]
fn a_truncated_disk_is_refused() {
    let bases = Bases::new();
    for (size, words) in [
        (30 * MIB, "cut off"),
        (30 * MIB + 100, "not a multiple of 512"),
        (1024, "too few"),
    ] {
        bases
            .harmed(|base| resize(base, size))
            .refused(2, &["base.raw", words, "hint:"]);
    }
}

#[test]
fn a_base_that_is_cut_off_after_the_lock_is_built_as_it_was_pinned() {
    let bases = Bases::new();
    let workshop = bases.harmed(|_| ());
    workshop.lock().succeeded();
    resize(&workshop.path("base.raw"), 30 * MIB);
    // The pinned content lies in the store: the build is that of the lock.
    workshop.build(&[]).succeeded();
    std::fs::remove_dir_all(workshop.path("out")).expect("removes");
    // Without the store there is only the file, and it is another one now.
    std::fs::remove_dir_all(workshop.path("cache")).expect("removes");
    workshop.refused_by(&["fetch", "--offline"], 2, &["base.raw", "lock", "hint:"]);
}

#[test]
fn a_base_that_may_not_be_read_is_refused_by_its_mode() {
    let workshop = Workshop::new();
    run("chmod", &["000", text(&workshop.path("base.raw"))]);
    run("chown", &["-R", "nobody", text(workshop.folder())]);
    let copy = workshop.copy_of_command();
    let mut command = workshop.as_nobody(&copy);
    command.args(["lock", "--offline"]);
    workshop.refused_run(command, 4, &["base.raw", "Permission denied", "hint:"]);
}

#[test]
fn a_system_that_is_not_supported_is_refused_unless_that_is_allowed() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        let release = "ID=rocky\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=9.6\n\
                       PRETTY_NAME=\"Rocky Linux 9.6 (Blue Onyx)\"\n";
        fs::write(tree.join("etc/os-release"), release).expect("writes");
    });
    let words = [
        "base.raw",
        "Rocky Linux 9.6",
        "--allow-unsupported",
        "hint:",
    ];
    workshop.refused(3, &words);
    workshop.refused_by(&["plan", "--offline"], 3, &words);
    let built = workshop.build(&["--allow-unsupported"]).succeeded();
    assert!(
        built.stderr.contains("not supported, but allowed"),
        "{}",
        built.stderr
    );
}

#[test]
fn a_kernel_that_cannot_run_a_node_is_refused() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        let modules = MODULES.replace("nf_conntrack.ko", "other.ko");
        fs::write(tree.join("usr/lib/modules/6.1.0/modules.dep"), modules).expect("writes");
    });
    workshop.refused(2, &["kernel 6.1.0", "nf_conntrack", "kube-proxy", "hint:"]);
}
