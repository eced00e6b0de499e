//! Builds that are stopped or killed at every moment, and builds side by side.

use std::fs;
use std::path::Path;

use nodekiln_tests::command::{Running, Workshop};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{ROOT_SIZE, assert_sound, text};

/// Code of a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// A workshop with pins, and the number of lines that its build prints.
fn rehearsed() -> (Workshop, usize) {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let (code, lines) = workshop.start_build(&["--output", "rehearsal"]).end();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.len() >= 12,
        "enough moments to choose from: {lines:?}"
    );
    (workshop, lines.len())
}

/// Starts a build and sends `signal` as soon as it has printed `after` lines.
fn cut_short(workshop: &Workshop, output: &str, signal: &str, after: usize) -> Option<i32> {
    let mut build: Running = workshop.start_build(&["--output", output]);
    for _ in 0..after {
        if build.line().is_none() {
            break;
        }
    }
    build.signal(signal);
    let (code, lines) = build.end();
    // Shown only when the test fails.
    println!("{signal} after {after} lines: {code:?} {lines:?}");
    code
}

/// Fails unless `output` holds exactly one finished build with the bytes of the
/// rehearsal.
fn assert_finished(workshop: &Workshop, output: &str) {
    let of = |output: &str| -> std::path::PathBuf {
        let mut folders = fs::read_dir(workshop.path(output).join("small"))
            .expect("reads")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name != ".lock"));
        let folder = folders.next().expect("a build");
        assert_eq!(folders.next(), None, "one build and nothing else");
        folder
    };
    let (wanted, found) = (of("rehearsal"), of(output));
    for name in ["small.raw", "small.qcow2", "manifest.json", "SHA256SUMS"] {
        run("cmp", &[text(&wanted.join(name)), text(&found.join(name))]);
    }
    assert_eq!(fs::read_dir(&found).expect("reads").count(), 5);
}

/// What a store holds beside whole objects.
fn unfinished_objects(workshop: &Workshop) -> Vec<String> {
    let folder = workshop.path("cache/store/temporary");
    fs::read_dir(folder)
        .expect("reads")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "gate")
        .collect()
}

#[test]
fn an_interrupt_at_any_moment_leaves_nothing() {
    let (workshop, lines) = rehearsed();
    let mut interrupted = 0;
    for moment in 0..20 {
        let after = 1 + moment * lines / 20;
        match cut_short(&workshop, "out", "INT", after) {
            Some(INTERRUPTED) => {
                interrupted += 1;
                assert_eq!(
                    workshop.left_in("out"),
                    Vec::<String>::new(),
                    "after {after} lines"
                );
            }
            // The last step was over before the signal came.
            Some(0) => {
                assert_finished(&workshop, "out");
                fs::remove_dir_all(workshop.path("out")).expect("removes");
            }
            other => panic!("after {after} of {lines} lines: {other:?}"),
        }
        assert_eq!(unfinished_objects(&workshop), Vec::<String>::new());
    }
    assert!(interrupted >= 12, "{interrupted} of 20 came in time");
    workshop.build(&[]).succeeded();
    assert_finished(&workshop, "out");
}

#[test]
fn after_a_kill_at_any_moment_the_next_build_works() {
    let (workshop, lines) = rehearsed();
    let mut killed = 0;
    for moment in 0..20 {
        let after = 1 + moment * lines / 20;
        let output = format!("out-{moment}");
        let code = cut_short(&workshop, &output, "KILL", after);
        killed += usize::from(code.is_none());
        for left in workshop.left_in(&output) {
            let folder = Path::new(&left);
            let finished = code == Some(0) || left.contains("/.work-");
            assert!(finished, "looks finished: {}", folder.display());
        }
        workshop.build(&["--output", &output]).succeeded();
        assert_finished(&workshop, &output);
        assert_eq!(unfinished_objects(&workshop), Vec::<String>::new());
        fs::remove_dir_all(workshop.path(&output)).expect("removes");
    }
    assert!(killed >= 12, "{killed} of 20 came in time");
}

#[test]
fn a_lock_that_is_killed_leaves_a_whole_lock_or_none() {
    let workshop = Workshop::new();
    let path = workshop.path("nodekiln.lock");
    for round in 0..10_u32 {
        let mut command = workshop.command(&["lock", "--offline", "--progress", "json"]);
        command.stderr(std::process::Stdio::piped());
        let running = Running::start(&mut command);
        // Events are few here: what the store does tells how far it is.
        let temporary = workshop.path("cache/store/temporary");
        let begun =
            || fs::read_dir(&temporary).map_or(0, |entries| entries.count()) > 1 || path.exists();
        let begin = std::time::Instant::now();
        while round > 0 && !begun() && begin.elapsed().as_millis() < u128::from(round) * 20 {
            std::thread::yield_now();
        }
        running.signal("KILL");
        running.end();
        workshop.lock().succeeded();
        assert_eq!(unfinished_objects(&workshop), Vec::<String>::new());
        let text = fs::read_to_string(&path).expect("a lock");
        assert!(text.contains("kubelet"), "{text}");
        fs::remove_file(&path).expect("removes");
        fs::remove_dir_all(workshop.path("cache")).expect("removes");
    }
    let files: Vec<_> = fs::read_dir(workshop.folder())
        .expect("reads")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.contains("nodekiln"))
        .collect();
    assert!(files.len() <= 1, "{files:?}");
}

#[test]
fn two_builds_of_one_profile_at_once_give_one_folder() {
    let (workshop, _) = rehearsed();
    let mut first = workshop.start_build(&[]);
    assert!(first.line().is_some());
    let second = workshop.start_build(&[]);
    let (second, third) = (second, workshop.start_build(&[]));
    for build in [first, second, third] {
        let (code, lines) = build.end();
        assert_eq!(code, Some(0), "{lines:?}");
    }
    assert_finished(&workshop, "out");
    let folder = workshop.left_in("out");
    let raw = folder
        .iter()
        .find(|path| path.ends_with(".raw"))
        .expect("a raw image");
    assert_sound(Path::new(raw), ROOT_SIZE, workshop.folder());
}

#[test]
fn a_second_interrupt_ends_a_wait_for_another_build() {
    let (workshop, _) = rehearsed();
    // Holds the lock of the output folder, as another build would.
    let folder = workshop.path("out/small");
    fs::create_dir_all(&folder).expect("creates");
    let lock = fs::File::create(folder.join(".lock")).expect("creates");
    lock.lock().expect("locks");
    let mut build = workshop.start_build(&[]);
    while let Some(line) = build.line() {
        if line.contains("waiting for another build") {
            break;
        }
    }
    build.signal("INT");
    assert_eq!(build.end().0, Some(INTERRUPTED));
    drop(lock);
    workshop.build(&[]).succeeded();
    assert_finished(&workshop, "out");
}
