//! `nodekiln verify` of a folder that somebody changed, and `nodekiln lock --check`
//! of local files that somebody changed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use nodekiln_tests::command::{Ran, Workshop};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{self, ROOT_SIZE, ROOT_START, Shape, text};

/// A build, and a fresh copy of it for every change.
struct Builds {
    workshop: Workshop,
    built: PathBuf,
}

impl Builds {
    fn new() -> Self {
        let workshop = Workshop::new();
        let built = workshop.built(&[]);
        Self { workshop, built }
    }

    /// Verifies a copy of the build that `change` was let at.
    fn verified(&self, change: impl FnOnce(&Path)) -> Ran {
        let copy = self.workshop.path("copy");
        if copy.exists() {
            fs::remove_dir_all(&copy).expect("removes");
        }
        run(
            "cp",
            &[
                "-a",
                "--reflink=auto",
                "--sparse=always",
                text(&self.built),
                text(&copy),
            ],
        );
        change(&copy);
        self.workshop.nodekiln(&["verify", text(&copy)])
    }

    /// Fails unless verifying ends with exit code 7 and a check that failed with
    /// these words.
    #[track_caller]
    fn refused(&self, words: &[&str], change: impl FnOnce(&Path)) {
        let ran = self.verified(change);
        assert_eq!(ran.code, Some(7), "{}{}", ran.stdout, ran.stderr);
        let failed = |line: &&str| line.starts_with("failed");
        let failures: Vec<&str> = ran.stdout.lines().filter(failed).collect();
        assert!(
            failures
                .iter()
                .any(|line| words.iter().all(|word| line.contains(word))),
            "{words:?} in: {}",
            ran.stdout
        );
    }
}

/// Changes a text file.
fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let before = fs::read_to_string(path).expect("reads");
    fs::write(path, change(before)).expect("writes");
}

/// Puts another byte into the middle of a file.
fn spoil(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opens");
    let at = file.metadata().expect("is there").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reads");
    file.write_all_at(&[!byte[0]], at).expect("writes");
}

#[test]
fn a_folder_whose_parts_disagree_is_refused_with_what_disagrees() {
    let builds = Builds::new();
    builds.verified(|_| ()).succeeded();
    let sums = |folder: &Path| folder.join("SHA256SUMS");
    let without = |name: &'static str| {
        move |text: String| {
            let lines = text.lines().filter(|line| !line.ends_with(name));
            lines.map(|line| format!("{line}\n")).collect()
        }
    };
    builds.refused(&["small.qcow2", "no line"], |folder| {
        edit(&sums(folder), without("small.qcow2"));
    });
    builds.refused(&["manifest.json", "no line"], |folder| {
        edit(&sums(folder), without("manifest.json"));
    });
    builds.refused(&["more.raw", "no file of this build"], |folder| {
        fs::write(folder.join("more.raw"), "x").expect("writes");
    });
    builds.refused(&["more.raw", "the manifest does not"], |folder| {
        fs::write(folder.join("more.raw"), "").expect("writes");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        edit(&sums(folder), |text| format!("{text}{empty}  more.raw\n"));
    });
    builds.refused(&["SHA256SUMS", "is no name"], |folder| {
        edit(&sums(folder), |text| text.replace("  small", "  ../small"));
    });
    builds.refused(&["small.qcow2: checksum"], |folder| {
        spoil(&folder.join("small.qcow2"));
    });
    builds.refused(&["small.raw: linear checksum"], |folder| {
        spoil(&folder.join("small.raw"));
    });
    builds.refused(&["small.raw", "missing"], |folder| {
        fs::remove_file(folder.join("small.raw")).expect("removes");
    });
    builds.refused(&["small.qcow2", "no file"], |folder| {
        fs::rename(folder.join("small.qcow2"), folder.join("../elsewhere")).expect("moves");
        symlink("../elsewhere", folder.join("small.qcow2")).expect("links");
    });
    builds.refused(&["SHA256SUMS", "more than"], |folder| {
        OpenOptions::new()
            .write(true)
            .open(sums(folder))
            .and_then(|file| file.set_len(1 << 40))
            .expect("a large file without content");
    });
}

/// Accounts to which users can be added, and what a pipeline left behind.
fn with_accounts(tree: &Path) {
    let etc = tree.join("etc");
    fs::create_dir_all(etc.join("sudoers.d")).expect("creates");
    for (name, content) in [
        ("shadow", "root:$6$salt$digest:19700::::::\n"),
        (
            "sudoers",
            "root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n",
        ),
        ("sudoers.d/packer", "packer ALL=(ALL) NOPASSWD: ALL\n"),
    ] {
        fs::write(etc.join(name), content).expect("writes");
    }
}

#[test]
fn users_that_the_profile_asks_for_are_no_findings_of_a_later_check() {
    let workshop = Workshop::with(&Shape::default(), with_accounts);
    workshop.write_profile(
        "base.raw",
        "  overlays: [common, linux]\n  users:\n    - name: ops\n      shell: /bin/sh\n      \
         sudo: true\n      sshAuthorizedKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f x]\n  \
         outputs: [{format: raw}]\n",
    );
    let built = workshop.built(&[]);
    workshop.nodekiln(&["verify", text(&built)]).succeeded();
    let image = built.join("small.raw");
    let root = workshop.path("root.ext4");
    small_base::cut(&image, ROOT_START, ROOT_SIZE, &root);
    let debugfs = |request: &str| run("debugfs", &["-w", "-R", request, text(&root)]);
    let shadow = debugfs("cat /etc/shadow");
    assert!(
        shadow.starts_with("root:!:19700::::::\nops:!:::::::\n"),
        "{shadow}"
    );
    assert!(debugfs("stat /etc/sudoers.d/packer").contains("File not found"));

    // The same file with another key is not what the profile asked for; and a manifest
    // cannot ask for what no profile can.
    let write = |path: &str, content: &str| {
        let file = workshop.path("written");
        fs::write(&file, content).expect("writes");
        debugfs(&format!("rm {path}"));
        debugfs(&format!("write {} {path}", text(&file)));
    };
    let (keys, host_key) = (
        "/home/ops/.ssh/authorized_keys",
        "/etc/ssh/ssh_host_rsa_key",
    );
    write(keys, "ssh-ed25519 AAAA mallory\n");
    write(host_key, "one machine's");
    let manifest = "/usr/share/nodekiln/manifest.json";
    let dumped = workshop.path("manifest");
    debugfs(&format!("dump {manifest} {}", text(&dumped)));
    let host_keys = workshop.path("host-key");
    debugfs(&format!("dump {host_key} {}", text(&host_keys)));
    let sum = run("sha256sum", &[text(&host_keys)]);
    let asked = fs::read_to_string(&dumped).expect("reads");
    let begin = "\"exceptions\": {";
    assert!(asked.contains(begin), "{asked}");
    let more = format!("{begin} \"{host_key}\": \"{}\",", &sum[..64]);
    write(manifest, &asked.replace(begin, &more));
    let file = OpenOptions::new().write(true).open(&image).expect("opens");
    let bytes = fs::read(&root).expect("reads");
    file.write_all_at(&bytes, ROOT_START).expect("writes");
    let ran = workshop.nodekiln(&["verify", text(&image)]);
    assert_eq!(ran.code, Some(7), "{}{}", ran.stdout, ran.stderr);
    for told in [
        format!("{keys} lets somebody in who was not asked for"),
        format!("{host_key} is the SSH host key of one machine"),
    ] {
        assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    }
    // It is the manifest that was read: the rule of sudo, which it names, is none.
    assert!(!ran.stdout.contains("90-nodekiln-ops"), "{}", ran.stdout);
}

#[test]
fn a_manifest_that_cannot_be_read_is_bad_input() {
    let builds = Builds::new();
    let manifest = |folder: &Path| folder.join("manifest.json");
    builds
        .verified(|folder| edit(&manifest(folder), |text| text[..200].to_owned()))
        .failed(2, &["manifest.json"]);
    builds
        .verified(|folder| {
            edit(&manifest(folder), |text| {
                text.replace("ImageManifest", "Other")
            });
        })
        .failed(2, &["manifest.json", "'Other'"]);
    builds
        .verified(|folder| fs::remove_file(manifest(folder)).expect("removes"))
        .failed(2, &["manifest.json", "hint"]);
}

#[test]
fn checking_a_lock_notices_a_changed_local_file() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let check = || workshop.nodekiln(&["lock", "--offline", "--check"]);
    check().succeeded();
    let lock = fs::read(workshop.path("nodekiln.lock")).expect("reads");
    spoil(&workshop.path("components/kubelet"));
    check().failed(2, &["out of date", "kubelet", "run: nodekiln lock"]);
    spoil(&workshop.path("components/kubelet"));
    check().succeeded();
    spoil(&workshop.path("base.raw"));
    check().failed(2, &["another content now: base"]);
    assert_eq!(
        fs::read(workshop.path("nodekiln.lock")).expect("reads"),
        lock,
        "checking writes nothing"
    );
}
