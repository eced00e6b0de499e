//! Booting, with a program that plays QEMU: deadlines, failures and ends that a
//! real guest does not give on request.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nodekiln_qemu::{
    AcceleratorChoice, BootOptions, Error, FirmwareChoice, Format, Kind, Milestones, Observer,
    Reached, Report, Seed, Standing, Unwatched, boot, guest_command,
};
use serde_json::{Value, json};

const NODE: &str = "SeaBIOS (version 1.16)\r\n\
    \x1b[2J\x1b[1;1HGNU GRUB  version 2.06\r\n\
    [    0.000000] Linux version 6.1.0 (gcc)\r\n\
    \r\nWelcome to \x1b[1mDebian GNU/Linux 12\x1b[0m!\r\n\
    nodekiln-firstboot: started\r\n\
    nodekiln-firstboot: node configuration from the seed cidata\r\n\
    nodekiln-firstboot: containerd is active\r\n\
    nodekiln-firstboot: kubelet is active\r\n";
const DONE: &str = "nodekiln-firstboot: done in 1.2 s\r\n";

struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(play: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| {
            std::fs::write(folder.path().join(name), content).expect("written");
        };
        write("qemu", include_bytes!("fake_qemu.py"));
        write("play", play.to_string().as_bytes());
        write("image.raw", &[0; 4096]);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("qemu"), mode).expect("executable");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> BootOptions {
        BootOptions {
            emulator: Some(self.path("qemu")),
            firmware: FirmwareChoice::Bios,
            accelerator: AcceleratorChoice::Tcg,
            ..BootOptions::of_image(self.path("image.raw"))
        }
    }
}

fn missed(error: &Error) -> &Report {
    assert_eq!(error.kind(), Kind::Milestone, "{error}");
    error.report().expect("a report")
}

#[derive(Default)]
struct Watcher {
    lines: Vec<String>,
    milestones: Vec<String>,
    notes: Vec<String>,
    kept: bool,
    stop_at: Option<&'static str>,
}

impl Observer for Watcher {
    fn on_line(&mut self, _: Duration, line: &str) {
        self.lines.push(line.to_owned());
    }
    fn on_milestone(&mut self, milestone: &Reached) {
        self.milestones.push(milestone.name.clone());
    }
    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
    fn on_keep(&mut self, report: &Report) {
        self.kept = report.passed;
    }
    fn stopped(&self) -> bool {
        self.stop_at
            .is_some_and(|stop| self.kept || self.milestones.iter().any(|name| name == stop))
    }
}

#[test]
fn a_node_comes_up_and_qemu_is_asked_to_quit() {
    let stage = Stage::new(&json!([["say", NODE], ["say", DONE]]));
    let log = stage.path("console.log");
    let options = BootOptions {
        console_log: Some(log.clone()),
        ..stage.options()
    };
    let mut watcher = Watcher::default();
    let report = boot(&options, &mut watcher).expect("boots");

    assert!(report.passed);
    assert_eq!(
        watcher.milestones,
        [
            "firmware",
            "loader",
            "kernel",
            "systemd",
            "firstboot",
            "config",
            "containerd",
            "kubelet",
            "done"
        ]
    );
    let network = report.milestone("network").expect("known");
    assert_eq!(network.standing, Standing::Implied);
    assert!(
        watcher
            .lines
            .contains(&"Welcome to Debian GNU/Linux 12!".to_owned())
    );
    assert!(
        watcher
            .notes
            .iter()
            .any(|note| note.contains("software emulation"))
    );
    assert!(stage.path("quit").exists(), "QEMU was told to quit");
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.contains("] GNU GRUB  version 2.06\n"), "{text}");
    let mode = log.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let json = serde_json::to_value(&report).expect("written");
    assert_eq!(json["milestones"][0]["name"], "firmware");
    assert_eq!(json["accelerator"]["kind"], "tcg");
    assert_eq!(json["firmware"]["kind"], "bios");
}

#[test]
fn a_missed_milestone_is_named_with_the_last_lines() {
    let stage = Stage::new(&json!([["say", NODE]]));
    let options = BootOptions {
        timeout_scale: 0.01,
        ..stage.options()
    };
    let error = boot(&options, &mut Unwatched).expect_err("the end is missing");
    let report = missed(&error);
    assert!(error.to_string().contains("milestone 'done'"), "{error}");
    assert!(error.hint().is_some());
    assert!(!report.passed);
    assert_eq!(
        report.milestone("done").expect("known").standing,
        Standing::Missed
    );
    assert_eq!(
        report.console_tail.last().map(String::as_str),
        Some("nodekiln-firstboot: kubelet is active")
    );
}

#[test]
fn a_sign_of_failure_ends_it_at_once_with_its_last_words() {
    let stage = Stage::new(&json!([
        [
            "say",
            "BIOS\r\n[ 1.0] Kernel panic - not syncing: no root\r\n"
        ],
        ["say", "[ 1.0] CPU: 0 PID: 1\r\n"]
    ]));
    let start = Instant::now();
    let error = boot(&stage.options(), &mut Unwatched).expect_err("it panics");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(
        error.to_string().contains("the kernel panicked: no root"),
        "{error}"
    );
    assert!(
        missed(&error)
            .console_tail
            .contains(&"[ 1.0] CPU: 0 PID: 1".to_owned())
    );
}

#[test]
fn first_boot_that_fails_says_why() {
    let stage = Stage::new(&json!([[
        "say",
        "BIOS\nnodekiln-firstboot: failed: two node configurations\n"
    ]]));
    let error = boot(&stage.options(), &mut Unwatched).expect_err("it fails");
    assert!(
        error
            .to_string()
            .ends_with("first boot failed: two node configurations"),
        "{error}"
    );
}

#[test]
fn a_prompt_without_a_line_end_is_seen() {
    let stage = Stage::new(&json!([["say", "BIOS\r\nLinux version 6\r\nnode login: "]]));
    let options = BootOptions {
        milestones: Milestones::login(),
        ..stage.options()
    };
    assert!(boot(&options, &mut Unwatched).expect("boots").passed);
}

#[test]
fn a_guest_that_powers_off_or_resets_over_and_over_has_failed() {
    let off = Stage::new(&json!([["say", NODE], ["exit", 0]]));
    let error = boot(&off.options(), &mut Unwatched).expect_err("it powers off");
    assert!(
        error
            .to_string()
            .contains("powered off before milestone 'done'"),
        "{error}"
    );

    let reset = json!(["event", "RESET"]);
    let stage = Stage::new(&json!([["say", NODE], reset, reset, reset, reset, reset]));
    let error = boot(&stage.options(), &mut Unwatched).expect_err("it resets");
    assert_eq!(missed(&error).resets, 5);
}

#[test]
fn a_qemu_that_fails_is_quoted() {
    let stage = Stage::new(&json!([
        ["complain", "qemu: \u{1b}[31mno such device"],
        ["exit", 1]
    ]));
    let error = boot(&stage.options(), &mut Unwatched).expect_err("it ends");
    assert_eq!(error.kind(), Kind::Environment);
    assert!(
        error.to_string().contains("code 1: qemu: no such device"),
        "{error}"
    );

    std::fs::write(
        stage.path("qemu"),
        "#!/bin/sh\necho 'bad option' >&2\nexit 2\n",
    )
    .expect("written");
    let error = boot(&stage.options(), &mut Unwatched).expect_err("it ends");
    assert!(error.to_string().contains("code 2: bad option"), "{error}");
}

#[test]
fn the_user_can_stop_it() {
    let stage = Stage::new(&json!([["say", NODE]]));
    let mut watcher = Watcher {
        stop_at: Some("kernel"),
        ..Watcher::default()
    };
    let error = boot(&stage.options(), &mut watcher).expect_err("stopped");
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(stage.path("quit").exists());
}

#[test]
fn a_guest_can_be_kept_until_the_user_stops_it() {
    let stage = Stage::new(&json!([["say", NODE], ["say", DONE]]));
    let options = BootOptions {
        keep: true,
        ..stage.options()
    };
    let mut watcher = Watcher {
        stop_at: Some("never"),
        ..Watcher::default()
    };
    assert!(boot(&options, &mut watcher).expect("boots").passed);
    assert!(watcher.kept);
}

#[test]
fn a_qemu_that_does_not_listen_is_killed() {
    let stage = Stage::new(&json!([["say", NODE], ["say", DONE], ["deaf", 0]]));
    assert!(
        boot(&stage.options(), &mut Unwatched)
            .expect("boots")
            .passed
    );
    assert!(!stage.path("quit").exists());
}

#[test]
fn guest_commands_come_back_with_their_output() {
    let lines = "nodekiln-test:id:dWlkPTA=\r\nnodekiln-test:id:=0\r\n";
    let stage = Stage::new(&json!([["say", NODE], ["say", DONE], ["say", lines]]));
    let seeded = || BootOptions {
        seed: Some((Seed::of_node_config("kind: NodeConfig\n"), Format::NoCloud)),
        guest_commands: vec![guest_command("id", "id")],
        ..stage.options()
    };
    let report = boot(&seeded(), &mut Unwatched).expect("boots");
    assert_eq!(report.guest["id"].output, "uid=0");

    let options = BootOptions {
        guest_commands: vec![guest_command("other", "id")],
        guest_limit: Duration::from_millis(300),
        ..seeded()
    };
    let error = boot(&options, &mut Unwatched).expect_err("no answer");
    assert!(
        error.to_string().contains("guest command 'other'"),
        "{error}"
    );
}

#[test]
fn a_folder_with_a_long_name_does_not_matter() {
    // The sockets of QEMU may have 107 bytes of path. TMPDIR is process-wide, so
    // this runs in a process of its own.
    if let Some(folder) = std::env::var_os("NODEKILN_TEST_LONG_TMPDIR") {
        let stage = Stage::new(&json!([["say", NODE], ["say", DONE]]));
        assert!(stage.folder.path().starts_with(folder));
        assert!(
            boot(&stage.options(), &mut Unwatched)
                .expect("boots")
                .passed
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let long = folder.path().join("x".repeat(120));
    std::fs::create_dir(&long).expect("created");
    let status = again("a_folder_with_a_long_name_does_not_matter")
        .env("NODEKILN_TEST_LONG_TMPDIR", &long)
        .env("TMPDIR", &long)
        .status()
        .expect("runs");
    assert!(status.success());
    let left = std::fs::read_dir(&long).expect("read").count();
    assert_eq!(left, 0, "temporary files stay behind");
}

#[test]
fn qemu_and_its_files_are_gone_when_the_process_is_killed() {
    const MARK: &str = "NODEKILN_TEST_KILLED";
    /// Tells through a pipe that the guest runs.
    struct Teller(PathBuf);
    impl Observer for Teller {
        fn on_milestone(&mut self, milestone: &Reached) {
            if milestone.name == "kubelet" {
                std::fs::write(&self.0, "up").expect("told");
            }
        }
    }
    if let Some(pipe) = std::env::var_os(MARK) {
        let stage = Stage::new(&json!([["say", NODE]]));
        let options = BootOptions {
            seed: Some((Seed::of_node_config("secret: yes\n"), Format::NoCloud)),
            ..stage.options()
        };
        boot(&options, &mut Teller(pipe.into())).expect_err("killed before it ends");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("a pipe");
    let mut child = again("qemu_and_its_files_are_gone_when_the_process_is_killed")
        .env(MARK, &pipe)
        .env("TMPDIR", folder.path())
        .spawn()
        .expect("runs");
    // Opening waits for the other side.
    let told = std::fs::read_to_string(&pipe).expect("read");
    assert_eq!(told, "up");
    let qemu = child_of(child.id());
    let handle =
        rustix::process::pidfd_open(qemu, rustix::process::PidfdFlags::empty()).expect("QEMU runs");

    child.kill().expect("killed");
    child.wait().expect("gone");
    let mut wait = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut wait, Some(&limit)).expect("polled");
    assert_eq!(ended, 1, "QEMU outlives a killed nodekiln");
    let left: Vec<_> = walk(folder.path())
        .into_iter()
        .filter(|path| {
            ["seed.iso", "overlay.qcow2", "console", "control"]
                .iter()
                .any(|name| path.ends_with(name))
        })
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// This test program, for one test of it in a process of its own.
fn again(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("known"));
    command.args(["--exact", test]);
    command
}

fn child_of(parent: u32) -> rustix::process::Pid {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).expect("it runs");
    let child = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .find_map(|children| children.split_whitespace().next()?.parse().ok())
        .expect("it has a child");
    rustix::process::Pid::from_raw(child).expect("a process")
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("read").flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
