//! `nodekiln build` of bases with an XFS root, as a user runs it, read by the kernel.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nodekiln_tests::command::{Ran, Running, Workshop};
use nodekiln_tests::guest_builds::{PATH, Root, as_nobody, replayed};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{
    self, ESP_SIZE, ESP_START, MIB, ROOT_SIZE, ROOT_START, assert_sound, text,
};
use nodekiln_tests::xfs::{self, SIZE, agent, by_hand, check};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const XFS: Root = Root {
    name: "XFS",
    kind: "xfs",
    size: SIZE,
    make: xfs::root,
    check,
    by_hand,
    overhead: 80 * MIB,
};

fn workshop() -> Workshop {
    XFS.workshop()
}

#[test]
fn an_xfs_root_is_baked_by_a_user_without_rights() {
    XFS.assert_baked_without_rights();
}

#[test]
fn an_xfs_root_grows() {
    XFS.assert_grows();
}

/// Has the kernel change the root of a disk and stop in the middle: what it has changed
/// is in the log alone.
fn leave_a_log(image: &Path) {
    let script = format!(
        "set -eu; mkdir \"$1.mounted\"
         mount -o loop,offset={ROOT_START},sizelimit={SIZE} \"$1\" \"$1.mounted\"
         cd \"$1.mounted\"; mkdir left
         i=0; while [ $i -lt 200 ]; do head -c $((i * 97)) /dev/urandom >left/file-$i; i=$((i + 1)); done
         setfattr -n user.note -v something left/file-1; chmod 4750 left/file-2
         mv left/file-9 left/moved; rm left/file-7
         sync; i=0; while [ $i -lt 50 ]; do mkdir left/folder-$i; ln -s x left/link-$i; i=$((i + 1)); done
         xfs_io -x -c 'shutdown -f' .
         cd /; umount \"$1.mounted\"; rmdir \"$1.mounted\""
    );
    run("bash", &["-c", &script, "bash", text(image)]);
}

/// Each path of what was left in the log, with owner, mode, time and content.
fn left_behind(root: &Path) -> String {
    let list = root.with_extension("list");
    by_hand(
        root,
        &format!(
            "{{ find left -printf '%p %y %m %U %G %n %s %T@ %l\\n' | sort
               find left -type f | sort | xargs sha256sum
               getfattr -d left/file-1; }} >'{}'",
            list.display()
        ),
    );
    fs::read_to_string(list).expect("written")
}

#[test]
fn a_log_that_a_running_system_left_is_replayed() {
    let workshop = workshop();
    let (base, copy) = (workshop.path("base.raw"), workshop.path("copy"));
    leave_a_log(&base);
    small_base::cut(&base, ROOT_START, SIZE, &copy);
    let judged = nodekiln_tests::program::output("xfs_repair", &["-n", "-f", text(&copy)]);
    let judged = nodekiln_tests::program::text(&judged);
    assert!(judged.contains("valuable metadata changes"), "{judged}");

    let root = replayed(&workshop, SIZE);
    check(&root);
    // The kernel of this machine replays the log of the copy.
    let expected = left_behind(&copy);
    assert!(expected.contains("left/link-49"), "{expected}");
    assert_eq!(left_behind(&root), expected);
    by_hand(&root, "test -x usr/bin/kubelet");
}

#[test]
fn what_lacks_is_told() {
    let workshop = workshop();
    as_nobody(&workshop, PATH, &["lock", "--offline"]).succeeded();
    let build = |path: &str, engine: &str| {
        as_nobody(&workshop, path, &["build", "--offline", "--engine", engine])
    };
    // A PATH without linux.uml.
    let programs = workshop.path("programs");
    fs::create_dir(&programs).expect("creates");
    build(text(&programs), "auto").failed(4, &["linux.uml is not installed", "user-mode-linux"]);
    build(PATH, "in-process").failed(3, &["it is XFS", "--engine agent"]);
    build(PATH, "mount").failed(4, &["needs root"]);
    let mut named = workshop.command(&["build", "--offline", "--engine", "agent"]);
    named
        .env("NODEKILN_UML_KERNEL", "/no/such/kernel")
        .env("NODEKILN_AGENT", agent());
    Ran::from(named.output().expect("it starts")).failed(4, &["/no/such/kernel", "is no file"]);
    assert_eq!(workshop.left_in("out"), Vec::<String>::new());
    let doctor = as_nobody(&workshop, PATH, &["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("/usr/bin/linux.uml, for bases with XFS or btrfs"),
        "{}",
        doctor.stdout
    );
    let doctor = as_nobody(&workshop, text(&programs), &["doctor"]);
    assert!(
        doctor.stdout.contains("linux.uml is not installed"),
        "{}",
        doctor.stdout
    );
}

/// A build whose guest kernel is a stand-in that says that it runs, and does not end; and
/// a process that the kernel started, as user-mode Linux does.
fn build_that_does_not_end(workshop: &Workshop) -> (Running, OwnedFd) {
    workshop.lock().succeeded();
    let (pipe, kernel) = (workshop.path("started"), workshop.path("kernel"));
    run("mkfifo", &[text(&pipe)]);
    let script = format!(
        "#!/bin/sh\nsleep 1000 &\necho $! >'{}'\nexec sleep 1000\n",
        pipe.display()
    );
    fs::write(&kernel, script).expect("writes");
    run("chmod", &["755", text(&kernel)]);

    let mut command = workshop.command(&["build", "--offline"]);
    command
        .env("NODEKILN_UML_KERNEL", &kernel)
        .env("NODEKILN_AGENT", agent())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let build = Running::start(&mut command);
    let number = fs::read_to_string(&pipe).expect("it starts");
    let number = number.trim().parse().ok().and_then(Pid::from_raw);
    let number = number.expect("a process");
    let process = pidfd_open(number, PidfdFlags::empty()).expect("it runs");
    (build, process)
}

/// Whether a process ends within `limit`.
fn ends(process: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a short time");
    let mut wanted = [PollFd::new(process, PollFlags::IN)];
    poll(&mut wanted, Some(&limit)).expect("waits") == 1
}

#[test]
fn an_interrupt_ends_the_guest_kernel_and_leaves_nothing() {
    let workshop = workshop();
    let (build, kernel) = build_that_does_not_end(&workshop);
    build.signal("INT");
    let (code, lines) = build.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert_eq!(workshop.left_in("out"), Vec::<String>::new());
    assert!(ends(&kernel, Duration::ZERO), "the kernel runs on");
}

#[test]
fn a_kill_ends_the_guest_kernel_too() {
    let workshop = workshop();
    let (build, kernel) = build_that_does_not_end(&workshop);
    build.signal("KILL");
    assert_eq!(build.end().0, None);
    assert!(ends(&kernel, Duration::from_secs(10)), "the kernel runs on");
}

#[test]
fn roots_that_are_not_looked_into_are_refused() {
    let workshop = workshop();
    let base = fs::File::options()
        .write(true)
        .open(workshop.path("base.raw"))
        .expect("opens");
    let signatures: [(u64, &[u8], &str); 2] = [
        (512, b"LABELONE", "partition 4 is LVM"),
        (0, b"LUKS\xba\xbe", "partition 4 is LUKS"),
    ];
    for (offset, signature, words) in signatures {
        base.write_all_at(&vec![0; 70 << 10], ROOT_START)
            .expect("wipes");
        base.write_all_at(signature, ROOT_START + offset)
            .expect("writes");
        workshop.lock().succeeded();
        workshop
            .build(&[])
            .failed(3, &[words, "does not look into", "ext4, XFS or btrfs"]);
    }
}

#[test]
fn the_guest_kernel_edits_ext4_too_when_asked() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let mut command = workshop.command(&["build", "--offline", "--engine", "agent"]);
    command.env("NODEKILN_AGENT", agent());
    let ran = Ran::from(command.args(["--format", "json"]).output().expect("runs")).succeeded();
    let build = workshop.path(ran.json()["folder"].as_str().expect("a folder"));
    assert!(ran.stderr.contains("asked for"), "{}", ran.stderr);
    assert_sound(&build.join("small.raw"), ROOT_SIZE, workshop.folder());
}

#[test]
fn the_guest_kernel_edits_the_esp_too_when_asked() {
    let workshop = Workshop::new();
    let loader = small_base::program(700_001, 9);
    for (path, content) in [
        ("BOOT/BOOTX64.EFI", &loader[..]),
        ("a long name.cfg", b"set\n"),
    ] {
        let path = workshop.path("esp/boot/efi/EFI").join(path);
        fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
        fs::write(path, content).expect("writes");
    }
    workshop.write_profile(
        "base.raw",
        "  overlays: [common, linux, esp]\n  outputs: [{format: raw}]\n",
    );
    workshop.lock().succeeded();
    let mut trees = Vec::new();
    for engine in ["agent", "in-process"] {
        let mut command = workshop.command(&["build", "--offline", "--engine", engine]);
        command.env("NODEKILN_AGENT", agent());
        let ran = Ran::from(command.args(["--format", "json"]).output().expect("runs"));
        let ran = ran.succeeded();
        let build = workshop.path(ran.json()["folder"].as_str().expect("a folder"));
        let image = build.join("small.raw");
        assert_sound(&image, ROOT_SIZE, workshop.folder());
        let esp = workshop.path("esp.fat");
        small_base::cut(&image, ESP_START, ESP_SIZE, &esp);
        let copy = workshop.path("copy");
        run(
            "mcopy",
            &[
                "-n",
                "-i",
                text(&esp),
                "::EFI/BOOT/BOOTX64.EFI",
                text(&copy),
            ],
        );
        assert!(fs::read(&copy).expect("read") == loader, "{engine}");
        fs::remove_file(copy).expect("removed");
        let shown = run("mtype", &["-i", text(&esp), "::EFI/a long name.cfg"]);
        assert_eq!(shown, "set\n", "{engine}");
        trees.push((
            run("mdir", &["-i", text(&esp), "-a", "-b", "-/", "::/"]),
            run("mdir", &["-i", text(&esp), "-a", "::/EFI/BOOT"]),
        ));
        let verified = workshop.command(&["verify", text(&build)]).output();
        Ran::from(verified.expect("runs")).succeeded();
        fs::remove_dir_all(build).expect("removed");
    }
    assert_eq!(trees[0], trees[1], "names, sizes and times");
}

#[test]
#[ignore = "builds a kernel: make e2e"]
fn our_kernel_writes_the_same_bytes_twice() {
    XFS.assert_same_bytes();
}
