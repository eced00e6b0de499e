//! XFS through the guest kernel, against the same changes through a root mount.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodekiln::Class;
use nodekiln::volume::agent::{Kernel, installed};
use nodekiln::volume::{Access, Problem, Volume, problem};
use nodekiln_tests::by_agent::{compare_payload, compare_sequence, machine};
use nodekiln_tests::sequences::for_each_seed;
use nodekiln_tests::small_base::cut;
use nodekiln_tests::volumes::{at, bytes, content, must, plain, run, through_kernel};
use nodekiln_tests::xfs::{
    LAYOUTS, SIZE, check, churn, copy, kernel, make, paste, populate, reading, through,
    through_agent,
};

#[test]
fn a_payload_on_every_layout_is_what_a_root_mount_makes() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options) in LAYOUTS {
        let ours = make(folder.path(), "ours", options, SIZE);
        populate(&ours);
        let identity = reading(&ours).expect(name).identity();
        assert_eq!(
            (&identity.label[..], &identity.uuid[..]),
            ("root", "6a1f5b9e-0c5b-4c53-8f0e-0d5a8a1b2c3d")
        );
        compare_payload(name, kernel(), &ours, check);
        // What was /old lies elsewhere now.
        nodekiln_tests::xfs::by_hand(&ours, "mkdir old; cp -a usr/older/. old/");
        churn(&ours);
        check(&ours);
        std::fs::remove_file(ours).expect("removed");
    }
}

#[test]
fn random_sequences_on_xfs_equal_the_kernel() {
    let folder = tempfile::tempdir().expect("folder");
    let bases: Vec<(&str, PathBuf)> = LAYOUTS
        .iter()
        .map(|(name, options)| {
            let base = make(folder.path(), &format!("base-{name}"), options, SIZE);
            populate(&base);
            (*name, base)
        })
        .collect();
    for_each_seed(20, 2, &bases, |seed, base| {
        compare_sequence(folder.path(), base, seed, check);
    });
}

#[test]
fn a_long_link_that_loses_its_attributes_is_sound() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    // It fits into the inode alone, and does not beside the attribute.
    let target = vec![b't'; 300];
    let mut dressed = plain(0o777);
    dressed
        .xattrs
        .insert("trusted.note".to_owned(), vec![b'n'; 200]);
    for attributes in [dressed, plain(0o777)] {
        let mut volume = through_agent(&image).expect("opened");
        if attributes.xattrs.is_empty() {
            volume
                .set_attributes(&at("/link"), &attributes)
                .expect("set");
        } else {
            volume
                .create_symlink(&at("/link"), &target, &attributes)
                .expect("made");
        }
        volume.finish().expect("finished");
        check(&image);
    }
    let mut mounted = through_kernel(&image, Access::Read);
    let link = mounted.read_link(&at("/link")).expect("read");
    assert_eq!(link, target);
    let found = mounted
        .metadata(&at("/link"))
        .expect("read")
        .expect("is there");
    assert_eq!(found.attributes.xattrs, plain(0o777).xattrs);
    mounted.finish().expect("unmounted");
}

#[test]
fn a_folder_that_holds_something_is_told_as_that_by_xfs_too() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    populate(&image);
    let refused = |volume: &mut dyn Volume| {
        volume
            .create_directory(&at("/empty"), &plain(0o755))
            .expect("made");
        let error = volume.rename(&at("/empty"), &at("/old"));
        problem(&error.expect_err("/old holds something"))
    };
    let mut mounted = through_kernel(&image, Access::Write);
    assert_eq!(refused(mounted.as_mut()), Some(Problem::NotEmpty));
    mounted
        .remove_directory(&at("/empty"))
        .expect("it is empty");
    mounted.finish().expect("unmounted");
    let mut volume = through_agent(&image).expect("opened");
    assert_eq!(refused(volume.as_mut()), Some(Problem::NotEmpty));
}

fn text(error: &nodekiln::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text = format!("{text}: {current}");
        cause = current.source();
    }
    text
}

#[test]
fn a_full_xfs_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let mut volume = through_agent(&image).expect("opened");
    let free = volume.space().expect("space").free;
    let large = vec![7; 1 << 20];
    for number in 0..=SIZE >> 20 {
        let path = at(&format!("/large-{number}"));
        volume
            .write_file(&path, large.len() as u64, &mut &large[..], &plain(0o644))
            .expect("it waits");
    }
    assert!(free > 0);
    assert_eq!(volume.space().expect("space").free, 0);
    let error = volume.finish().expect_err("full");
    assert_eq!(problem(&error), Some(Problem::NoSpace), "{error:?}");
    assert!(text(&error).contains("write /large-"), "{}", text(&error));
    // The layer is thrown away, and still it is sound.
    check(&image);
}

#[test]
fn content_of_another_length_leaves_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let mut volume = through_agent(&image).expect("opened");
    for (announced, given) in [(10, 9), (10, 11), (5 << 20, 100), (5 << 20, (5 << 20) + 1)] {
        let data = vec![1; given];
        let error = volume
            .write_file(&at("/f"), announced, &mut &data[..], &plain(0o644))
            .expect_err("another length");
        assert_eq!(error.class(), Class::Dependency);
        assert_eq!(volume.metadata(&at("/f")).expect("looked"), None);
    }
    let data = bytes(3, 100_000);
    volume
        .write_file(&at("/g"), 100_000, &mut &data[..], &plain(0o644))
        .expect("written");
    volume.finish().expect("finished");
    check(&image);
    let mut mounted = through_kernel(&image, Access::Read);
    assert_eq!(mounted.metadata(&at("/f")).expect("looked"), None);
    assert!(content(mounted.as_mut(), "/g") == data);
    mounted.finish().expect("unmounted");
}

#[test]
fn a_path_through_a_link_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let mut volume = through_agent(&image).expect("opened");
    volume
        .create_symlink(&at("/out"), b"../../../../etc", &plain(0o777))
        .expect("made");
    let error = volume
        .write_file(&at("/out/shadow"), 0, &mut &b""[..], &plain(0o600))
        .expect_err("through a link");
    assert_eq!(problem(&error), Some(Problem::NotADirectory));
    volume.finish().expect("finished");
    let mut volume = reading(&image).expect("opened");
    assert_eq!(volume.metadata(&at("/out/shadow")).expect("looked"), None);
}

#[test]
fn a_partition_is_found_by_its_place_and_grows() {
    let folder = tempfile::tempdir().expect("folder");
    let inner = make(folder.path(), "inner", &[], SIZE);
    let disk = folder.path().join("disk");
    let (start, end) = (8 << 20, (8 << 20) + 2 * SIZE);
    let file = std::fs::File::create(&disk).expect("created");
    file.set_len(end + (1 << 20)).expect("sized");
    let (first, last) = (start / 512, end / 512 - 1);
    must(
        "sgdisk",
        &["-a1", &format!("-n7:{first}:{last}"), "-n3:2048:4095"],
        &disk,
    );
    paste(&inner, &disk, start);
    let mut volume = through(kernel(), &disk, start..end, true).expect("opened");
    let large = bytes(4, (SIZE + (40 << 20)) as usize);
    assert!(volume.space().expect("space").free > large.len() as u64);
    volume
        .write_file(
            &at("/large"),
            large.len() as u64,
            &mut &large[..],
            &plain(0o644),
        )
        .expect("there will be room");
    volume.finish().expect("grown and written");
    let grown = folder.path().join("grown");
    cut(&disk, start, 2 * SIZE, &grown);
    check(&grown);
    let mut mounted = through_kernel(&grown, Access::Read);
    assert!(mounted.space().expect("space").total > 2 * SIZE - (80 << 20));
    assert!(content_of(mounted.as_mut(), "/large") == large);
    mounted.finish().expect("unmounted");
}

fn content_of(volume: &mut dyn Volume, path: &str) -> Vec<u8> {
    let mut found = Vec::new();
    volume.read_file(&at(path), &mut found).expect("read");
    found
}

/// A script that stands in for the kernel: it does what `commands` say. `$answer` is the
/// disk for the answer.
fn stand_in(folder: &Path, commands: &str) -> Kernel {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("stand-in-for-a-kernel");
    let text = format!(
        "#!/bin/bash\nfor word; do case $word in ubd2d=*) answer=${{word#*=}} ;; ubd1dr=*) payload=${{word#*=}} ;; esac; done\n{commands}\n"
    );
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Kernel::new(path, b"\x7fELF no program".to_vec())
}

#[test]
fn a_kernel_that_does_not_do_it_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let finish = |kernel: Kernel| {
        let mut volume = through(kernel, &image, 0..SIZE, false).expect("opened");
        volume
            .create_directory(&at("/new"), &plain(0o755))
            .expect("it waits");
        let error = volume.finish().expect_err("nothing was done");
        assert_eq!(error.class(), Class::Environment, "{}", text(&error));
        assert!(!text(&error).contains('\n'), "{}", text(&error));
        (
            text(&error),
            error.hint_text().unwrap_or_default().to_owned(),
        )
    };
    let (said, hint) = finish(stand_in(
        folder.path(),
        "echo 'Kernel panic - not syncing: no memory'; exit 134",
    ));
    assert!(
        said.contains("ended with exit code 134 before it was done"),
        "{said}"
    );
    assert!(said.contains("no memory"), "{said}");
    assert!(hint.contains("nodekiln doctor"), "{hint}");
    let (said, _) = finish(stand_in(folder.path(), "kill -SEGV $$"));
    assert!(said.contains("ended by a signal"), "{said}");
    let (said, _) = finish(stand_in(folder.path(), "exit 0"));
    assert!(said.contains("answer is missing"), "{said}");
    let (said, _) = finish(stand_in(folder.path(), "sleep 1000").limit(Duration::from_millis(300)));
    assert!(said.contains("no end after"), "{said}");
    // An answer to another list, and one that says less than all was done.
    let (said, _) = finish(stand_in(
        folder.path(),
        "printf 'NKANSWER%-32s' x >$answer; printf '\\0\\0\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0' >>$answer",
    ));
    assert!(said.contains("answers to another list"), "{said}");
    let (said, _) = finish(stand_in(
        folder.path(),
        "{ printf NKANSWER; head -c 40 $payload | tail -c 32; head -c 17 /dev/zero; } >$answer",
    ));
    assert!(said.contains("made 0 of 1 changes"), "{said}");
    // Linux itself, with an agent that is no program.
    let program = installed("linux.uml").expect("it is installed");
    let (said, _) = finish(Kernel::new(program, b"\x7fELF no program".to_vec()));
    assert!(said.contains("before it was done"), "{said}");
    assert!(said.contains("init"), "{said}");
    check(&image);
}

fn refused(image: &Path) -> (Option<Problem>, String) {
    let error = reading(image).expect_err("must be refused");
    (problem(&error), text(&error))
}

#[test]
fn xfs_that_cannot_be_read_rightly_is_refused() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    let file = std::fs::File::options()
        .write(true)
        .open(&image)
        .expect("opened");
    // sb_features_incompat, the last of its four bytes and the one before.
    for (byte, value, name) in [(218, 1, "metadir"), (218, 2, "zoned"), (217, 1, "bit 16")] {
        file.write_all_at(&[value], byte).expect("patched");
        let (kind, said) = refused(&image);
        assert_eq!(kind, Some(Problem::NotSupported), "{said}");
        assert!(said.contains(name), "{said}");
        file.write_all_at(&[0], byte).expect("patched");
    }
    reading(&image).expect("as it was");
    file.write_all_at(&[1], 0x7E).expect("patched");
    assert_eq!(
        refused(&image).0,
        Some(Problem::Damaged),
        "a wrong checksum"
    );
    file.write_all_at(&[0], 0x7E).expect("patched");
    file.set_len(SIZE / 2).expect("cut");
    let (kind, said) = refused(&image);
    assert_eq!(kind, Some(Problem::Damaged));
    assert!(said.contains("cut off"), "{said}");
    let old = make_old(folder.path());
    let (kind, said) = refused(&old);
    assert_eq!(kind, Some(Problem::NotSupported));
    assert!(said.contains("version 4"), "{said}");
}

fn make_old(folder: &Path) -> PathBuf {
    let image = nodekiln_tests::volumes::blank(folder, "old", SIZE);
    must("mkfs.xfs", &["-q", "-m", "crc=0"], &image);
    image
}

#[test]
fn a_log_left_by_a_running_system_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &[], SIZE);
    // The image is copied while the kernel has it mounted.
    let mut volume = through_kernel(&image, Access::Write);
    for number in 0..60u64 {
        let path = at(&format!("/f{number}"));
        let data = bytes(number, 3000);
        volume
            .write_file(&path, 3000, &mut &data[..], &plain(0o640))
            .expect("written");
    }
    must("sync", &[], Path::new("--"));
    let dirty = folder.path().join("copied-while-mounted");
    copy(&image, &dirty);
    volume.finish().expect("unmounted");
    let judged = run("xfs_repair", &["-n", "-f"], &dirty);
    let said = String::from_utf8_lossy(&judged.stdout).into_owned() + &judged.stderr;
    assert!(said.contains("valuable metadata changes"), "{said}");
    let (kind, said) = refused(&dirty);
    assert_eq!(kind, Some(Problem::Damaged), "{said}");
    assert!(said.contains("was not unmounted"), "{said}");
    let error = through_agent(&dirty).expect_err("told");
    assert!(
        error
            .hint_text()
            .unwrap_or_default()
            .contains("replays the log")
    );
}

/// What this machine's programs say of a log that holds nothing but its end.
#[test]
fn the_log_is_empty_and_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options) in LAYOUTS {
        let image = make(folder.path(), "image", options, SIZE);
        // Once around the log, and some more.
        for round in 0..3 {
            let mut volume = through_agent(&image).expect(name);
            for number in 0..300u64 {
                let path = at(&format!("/secret-{round}-{number}"));
                volume
                    .write_file(&path, 3, &mut &b"abc"[..], &plain(0o600))
                    .expect(name);
            }
            volume.finish().expect(name);
            check(&image);
            let said = run("xfs_logprint", &["-t"], &image);
            let said = String::from_utf8_lossy(&said.stdout).into_owned() + &said.stderr;
            assert!(said.contains("<CLEAN>"), "{name}: {said}");
            churn_in(&image, round);
            check(&image);
        }
        std::fs::remove_file(image).expect("removed");
    }
}

/// Has the kernel work on an image again and again, so that its log goes around.
fn churn_in(image: &Path, round: u32) {
    let commands = format!(
        "i=0; while [ $i -lt 600 ]; do echo $i >again-{round}-$i; i=$((i + 1)); done; sync
         rm again-{round}-*[02468]"
    );
    nodekiln_tests::xfs::by_hand(image, &commands);
}

#[test]
fn a_machine_does_what_user_mode_linux_does() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "ours", &[], SIZE);
    populate(&image);
    compare_payload("by a machine", machine(), &image, check);
    // What a machine cannot do is told as by user-mode Linux.
    let mut volume = machine_without_an_agent(&image);
    volume
        .create_directory(&at("/new"), &plain(0o755))
        .expect("it waits");
    let error = volume.finish().expect_err("its agent is no program");
    assert_eq!(error.class(), Class::Environment, "{}", text(&error));
    assert!(
        text(&error).contains("before it was done"),
        "{}",
        text(&error)
    );
    check(&image);
}

fn machine_without_an_agent(image: &Path) -> Box<dyn Volume> {
    let kernel = nodekiln_tests::program::script("vm-kernel", "");
    // The head of one for x86-64, and no more.
    let mut agent = b"\x7fELF\x02\x01".to_vec();
    agent.resize(64, 0);
    agent[18] = 62;
    let machine = Kernel::of_machine(kernel, agent).expect("QEMU is installed");
    through(machine, image, 0..SIZE, false).expect("opened")
}
