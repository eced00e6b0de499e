//! `lock` and `build` as a user runs them, looked at by the programs of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_tests::command::{Ran, Workshop, binary};
use nodekiln_tests::program::{output, run};
use nodekiln_tests::small_base::{self, MIB, ROOT_SIZE, ROOT_START, Shape, assert_sound, text};
use serde_json::Value;

/// The names of a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("reads")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// Fails unless two builds have the same bytes; only logs tell of times.
fn assert_same(left: &Path, right: &Path) {
    assert_eq!(names(left), names(right));
    for name in names(left).iter().filter(|name| *name != "build.log") {
        run("cmp", &[text(&left.join(name)), text(&right.join(name))]);
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("reads")).expect("JSON")
}

#[test]
fn a_build_is_complete_and_sound_by_the_tools_of_others() {
    let workshop = Workshop::new();
    let base = fs::read(workshop.path("base.raw")).expect("reads");
    let built = workshop.built(&[]);
    assert_eq!(
        names(&built),
        [
            "SHA256SUMS",
            "build.log",
            "manifest.json",
            "small.qcow2",
            "small.raw"
        ]
    );
    assert!(
        fs::read(workshop.path("base.raw")).expect("reads") == base,
        "the base is never changed"
    );
    assert_eq!(
        fs::read_dir(workshop.path("out")).expect("reads").count(),
        1
    );

    let (raw, qcow2) = (built.join("small.raw"), built.join("small.qcow2"));
    assert_sound(&raw, ROOT_SIZE, workshop.folder());
    run("qemu-img", &["check", text(&qcow2)]);
    let compared = run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&raw),
            text(&qcow2),
        ],
    );
    assert!(compared.contains("identical"), "{compared}");
    let sums = run(
        "sh",
        &["-c", "cd \"$0\" && sha256sum -c SHA256SUMS", text(&built)],
    );
    assert!(sums.contains("small.qcow2: OK"), "{sums}");

    let schema: Value = workshop
        .nodekiln(&["schema", "manifest"])
        .succeeded()
        .json();
    let manifest = read_json(&built.join("manifest.json"));
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let problems: Vec<String> = validator
        .iter_errors(&manifest)
        .map(|problem| problem.to_string())
        .collect();
    assert_eq!(problems, Vec::<String>::new());

    let again = workshop.build(&[]).succeeded();
    assert!(
        again.stdout.contains("is there already"),
        "{}",
        again.stdout
    );
    workshop.nodekiln(&["verify", text(&built)]).succeeded();
}

#[test]
fn the_image_holds_what_the_profile_asks_for() {
    let workshop = Workshop::new();
    let built = workshop.built(&[]);
    let root = workshop.path("root.ext4");
    small_base::cut(&built.join("small.raw"), ROOT_START, ROOT_SIZE, &root);
    let debugfs = |request: &str| run("debugfs", &["-R", request, text(&root)]);
    for (path, from) in [
        ("/usr/bin/kubelet", "components/kubelet"),
        ("/usr/local/bin/kubectl", "components/kubectl"),
        ("/usr/libexec/nodekiln/firstboot", "firstboot"),
    ] {
        let dumped = workshop.path("dumped");
        debugfs(&format!("dump {path} {}", text(&dumped)));
        run("cmp", &[text(&dumped), text(&workshop.path(from))]);
        assert!(
            debugfs(&format!("stat {path}")).contains("Mode:  0755"),
            "{path}"
        );
    }
    let identity = debugfs("stat /etc/ssh/ssh_host_ed25519_key");
    assert!(identity.contains("File not found"), "{identity}");
    let release = debugfs("cat /etc/nodekiln-release");
    assert!(release.contains("small"), "{release}");
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let workshop = Workshop::new();
    let first = workshop.built(&[]);

    let temporary = workshop.path("elsewhere");
    fs::create_dir(&temporary).expect("creates");
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(binary());
    command.args(["build", "--offline", "--output", "second"]);
    workshop.furnish(&mut command);
    command.env("TMPDIR", &temporary);
    Ran::from(command.output().expect("taskset is needed")).succeeded();
    let key = first.file_name().expect("a name");
    assert_same(&first, &workshop.path("second/small").join(key));
    assert_eq!(names(&temporary), Vec::<String>::new());

    // Another folder of profile, store and components.
    let other = Workshop::new();
    fs::copy(workshop.path("base.raw"), other.path("base.raw")).expect("copies");
    assert_same(&first, &other.built(&[]));
}

#[test]
fn a_qcow2_copy_of_the_base_gives_the_same_disk() {
    let workshop = Workshop::new();
    let first = workshop.built(&[]);
    let (raw, qcow2) = (workshop.path("base.raw"), workshop.path("base.qcow2"));
    run(
        "qemu-img",
        &["convert", "-c", "-O", "qcow2", text(&raw), text(&qcow2)],
    );
    workshop.write_profile("base.qcow2", "");
    let second = workshop.built(&[]);
    assert_ne!(first, second, "the base is part of the key");
    let root = |build: &Path, name: &str| -> PathBuf {
        let root = workshop.path(name);
        small_base::cut(&build.join("small.raw"), ROOT_START, ROOT_SIZE, &root);
        let tree = workshop.path(&format!("{name}.tree"));
        fs::create_dir(&tree).expect("creates");
        run(
            "debugfs",
            &["-R", &format!("rdump / {}", text(&tree)), text(&root)],
        );
        tree
    };
    let (left, right) = (root(&first, "one"), root(&second, "two"));
    let difference = output(
        "diff",
        &["-r", "-q", "--no-dereference", text(&left), text(&right)],
    );
    let difference = String::from_utf8_lossy(&difference.stdout).into_owned();
    let differing: Vec<&str> = difference.lines().collect();
    assert!(
        differing
            .iter()
            .all(|line| line.contains("nodekiln-release")
                || line.contains("usr/share/nodekiln/manifest.json")),
        "only what names the base differs: {difference}"
    );
}

#[test]
fn builds_without_privileges_and_without_a_network() {
    let workshop = Workshop::new();
    let reachable = Command::new("chown")
        .args(["-R", "nobody"])
        .arg(workshop.folder())
        .status();
    assert!(reachable.expect("chown").success());
    let inside = |arguments: &[&str]| -> Ran {
        let mut command = workshop.as_nobody_alone(arguments[0]);
        command.args(&arguments[1..]);
        Ran::from(command.output().expect("unshare is needed"))
    };
    let proof = inside(&["cat", "/proc/self/status", "/proc/self/net/dev"]).succeeded();
    assert!(
        proof.stdout.contains("CapEff:\t0000000000000000"),
        "{}",
        proof.stdout
    );
    assert!(!proof.stdout.contains("eth"), "{}", proof.stdout);
    let route = inside(&["cat", "/proc/self/net/route"]).succeeded();
    assert!(
        route.stdout.lines().count() <= 1,
        "a heading at most: {}",
        route.stdout
    );

    let copy = workshop.copy_of_command();
    inside(&[text(&copy), "lock", "--offline"]).succeeded();
    let built = inside(&[text(&copy), "build", "--offline", "--format", "json"])
        .succeeded()
        .json();
    let built = workshop.path(built["folder"].as_str().expect("a folder"));
    assert_sound(&built.join("small.raw"), ROOT_SIZE, workshop.folder());
}

#[test]
fn the_kernel_and_this_process_write_the_same_tree() {
    let workshop = Workshop::new();
    let own = workshop.built(&["--engine", "in-process", "--output", "own"]);
    let kernel = workshop.build(&[
        "--engine", "mount", "--output", "kernel", "--format", "json",
    ]);
    let kernel = kernel.succeeded().json();
    let kernel = workshop.path(kernel["folder"].as_str().expect("a folder"));
    let listing = |build: &Path| {
        let image = build.join("small.raw");
        assert_sound(&image, ROOT_SIZE, workshop.folder());
        let mount = workshop.path("mount");
        fs::create_dir_all(&mount).expect("creates");
        let options = format!("loop,ro,offset={ROOT_START},sizelimit={ROOT_SIZE}");
        run("mount", &["-o", &options, text(&image), text(&mount)]);
        // Kind, mode, owner, size and link target; then the content of files.
        let find = "cd \"$0\" && find . -path ./lost+found -prune -o -printf '%y %m %U:%G %l %p\\n' | sort && find . -type f -exec sha256sum {} + | sort -k2";
        let listing = output("sh", &["-c", find, text(&mount)]);
        run("umount", &[text(&mount)]);
        assert!(listing.status.success());
        String::from_utf8_lossy(&listing.stdout).into_owned()
    };
    let (own, kernel) = (listing(&own), listing(&kernel));
    assert!(own.lines().count() > 80, "{own}");
    assert_eq!(own, kernel);
}

#[test]
fn a_disk_grows_as_asked() {
    let workshop = Workshop::new();
    workshop.write_profile(
        "base.raw",
        "  diskSize: 600MiB\n  outputs: [{format: raw}]\n  overlays: [common, linux]\n",
    );
    let built = workshop.built(&[]);
    let raw = built.join("small.raw");
    assert_eq!(fs::metadata(&raw).expect("is there").len(), 600 * MIB);
    let table = run("sgdisk", &["-v", "-i", "1", text(&raw)]);
    assert!(table.contains("No problems found"), "{table}");
    let sectors: u64 = table
        .lines()
        .find_map(|line| line.strip_prefix("Partition size: "))
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .expect("a size");
    assert!(sectors * 512 > 588 * MIB, "{table}");
    let root = workshop.path("root.ext4");
    small_base::cut(&raw, ROOT_START, 590 * MIB, &root);
    fs::OpenOptions::new()
        .write(true)
        .open(&root)
        .expect("opens")
        .set_len(sectors * 512)
        .expect("sizes");
    run("e2fsck", &["-fn", text(&root)]);
    let blocks = run("dumpe2fs", &["-h", text(&root)]);
    let value = |name: &str| -> u64 {
        let line = blocks.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse().ok())
            .expect("a number")
    };
    let size = value("Block count:") * value("Block size:");
    assert!(
        size <= sectors * 512 && size > sectors * 512 - MIB,
        "{size} of {}",
        sectors * 512
    );
}

#[test]
fn a_disk_cannot_shrink() {
    let large = Shape {
        root_size: 560 * MIB,
        ..Shape::default()
    };
    let workshop = Workshop::with(&large, |_| ());
    workshop.write_profile("base.raw", "  diskSize: 512MiB\n");
    workshop.lock().succeeded();
    workshop
        .build(&[])
        .failed(2, &["profile.yaml:", "diskSize: 512MiB", "hint:"]);
    assert_eq!(workshop.left_in("out"), Vec::<String>::new());
}

#[test]
fn the_time_does_not_depend_on_holes_in_the_disk() {
    // 16 GiB of disk in a sparse file: only what is there costs anything.
    let workshop = Workshop::new();
    workshop.write_profile(
        "base.raw",
        "  diskSize: 16GiB\n  outputs: [{format: qcow2}]\n  overlays: [common, linux]\n",
    );
    let built = workshop.built(&[]);
    let qcow2 = built.join("small.qcow2");
    run("qemu-img", &["check", text(&qcow2)]);
    assert!(fs::metadata(&qcow2).expect("is there").len() < 32 * MIB);
}

#[test]
fn nothing_is_left_to_the_first_mount() {
    let workshop = Workshop::new();
    let root = |image: &Path| format!("{}?offset={ROOT_START}", text(image));
    let base = root(&workshop.path("base.raw"));
    run("tune2fs", &["-c", "20", "-i", "30d", &base]);
    workshop.lock().succeeded();
    let plan = workshop.nodekiln(&["plan"]).succeeded();
    let told = "~ root file system: no check by the number of mounts or by age";
    assert!(plan.stdout.contains(told), "{}", plan.stdout);
    for engine in ["in-process", "mount"] {
        let output = format!("out-{engine}");
        let built = workshop.built(&["--engine", engine, "--output", &output]);
        let raw = built.join("small.raw");
        assert_sound(&raw, ROOT_SIZE, workshop.folder());
        let shown = run("dumpe2fs", &[&root(&raw)]);
        let line = |name: &str| {
            let found = shown.lines().find_map(|line| line.strip_prefix(name));
            found.expect(name).trim().to_owned()
        };
        assert_eq!(line("Maximum mount count:"), "-1", "{engine}");
        assert!(line("Check interval:").starts_with("0 "), "{engine}");
        let groups: Vec<&str> = shown
            .lines()
            .filter(|line| line.starts_with("Group ") && line.contains("(Blocks "))
            .collect();
        assert!(!groups.is_empty(), "{shown}");
        for group in groups {
            assert!(group.contains("ITABLE_ZEROED"), "{engine}: {group}");
        }
    }
}
