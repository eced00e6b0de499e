//! Output folders that are full, closed, elsewhere, or no folders.

use std::fs;
use std::process::Command;

use nodekiln_tests::command::{Ran, Workshop, binary};
use nodekiln_tests::small_base::text;

/// Runs a build inside a mount namespace of its own, where `mount` was run on the
/// folder `out`; gives the result, and what was left in there.
fn build_on(workshop: &Workshop, mount: &str, after: &str) -> Ran {
    fs::create_dir_all(workshop.path("out")).expect("creates");
    let script =
        format!("set -e\n{mount}\nset +e\n\"$0\" build --offline\ncode=$?\n{after}\nexit $code");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", &script]);
    command.arg(binary());
    workshop.furnish(&mut command);
    command.output().expect("unshare is needed").into()
}

/// Prints everything that lies in the output folder beside its lock.
const LIST: &str = "find out -mindepth 2 ! -name .lock >&2";

#[test]
fn a_full_output_folder_is_named_and_left_empty() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    for size in ["64k", "4m", "9m", "12m"] {
        let mount = format!("mount -t tmpfs -o size={size} none out");
        let ran = build_on(&workshop, &mount, LIST);
        println!("{size}: {}", ran.stderr);
        let ran = ran.failed(4, &["No space left", "out/small", "hint:"]);
        assert!(ran.stderr.contains("--output"), "{}", ran.stderr);
        let left = ran.stderr.lines().any(|line| line.starts_with("out/"));
        assert!(!left, "{}", ran.stderr);
    }
}

#[test]
fn a_read_only_output_folder_is_named() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let mount = "mount -t tmpfs -o ro none out";
    build_on(&workshop, mount, LIST).failed(4, &["out", "Read-only", "--output"]);
}

#[test]
fn an_output_folder_without_permission_is_named() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    fs::create_dir(workshop.path("out")).expect("creates");
    let mut command = Command::new("chown");
    command.args(["-R", "nobody", text(&workshop.path("cache"))]);
    assert!(command.status().expect("chown").success());
    let copy = workshop.copy_of_command();
    let open = Command::new("chmod")
        .args(["755", text(workshop.folder())])
        .status();
    assert!(open.expect("chmod").success());
    let mut command = workshop.as_nobody(&copy);
    command.args(["build", "--offline"]);
    workshop.refused_run(command, 4, &["out/small", "Permission denied", "hint:"]);
}

#[test]
fn an_output_folder_on_another_file_system_than_everything_else_works() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let mount = "mount -t tmpfs -o size=256m none out";
    let check = "cd out/small/*/ && sha256sum -c SHA256SUMS >&2 || code=99";
    let ran = build_on(&workshop, mount, check).succeeded();
    assert!(ran.stderr.contains("small.qcow2: OK"), "{}", ran.stderr);
    assert_eq!(workshop.left_in("out"), Vec::<String>::new());
}

#[test]
fn a_file_where_the_output_folder_should_be_is_named() {
    let workshop = Workshop::new();
    fs::write(workshop.path("out"), "a file").expect("writes");
    workshop.lock().succeeded();
    let ran = workshop.build(&[]).failed(2, &["out/small", "hint:"]);
    assert!(ran.stderr.contains("Not a directory"), "{}", ran.stderr);
    assert_eq!(fs::read(workshop.path("out")).expect("reads"), b"a file");

    fs::remove_file(workshop.path("out")).expect("removes");
    fs::create_dir(workshop.path("out")).expect("creates");
    fs::write(workshop.path("out/small"), "a file").expect("writes");
    workshop.build(&[]).failed(2, &["out/small", "hint:"]);
}
