//! Builds through the guest kernel, by a user who has no rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Ran, Workshop};
use crate::program::{run, script};
use crate::small_base::{self, ESP_SIZE, ESP_START, MIB, ROOT_START, make_esp, text};
use crate::volumes::{blank, must};
use crate::xfs::{agent, paste};

/// The usual folders of programs.
pub const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// A kind of root that the guest kernel edits, and who judges it.
#[derive(Debug)]
pub struct Root {
    /// Its name, for people.
    pub name: &'static str,
    /// Its name in `/etc/fstab`.
    pub kind: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Makes one in a folder from a tree.
    pub make: fn(&Path, &Path) -> PathBuf,
    /// Whether it is sound.
    pub check: fn(&Path),
    /// Runs shell commands in a mount of it.
    pub by_hand: fn(&Path, &str),
    /// Bytes of 700 MiB that it needs for itself, at most.
    pub overhead: u64,
}

impl Root {
    /// A workshop whose base has such a root; the command and the agent lie in it, for
    /// users to whom the folders of this tree are closed.
    pub fn workshop(&self) -> Workshop {
        self.workshop_changed(|_| {})
    }

    /// The same; `change` has the root before it is laid into the base.
    pub fn workshop_changed(&self, change: impl FnOnce(&Path)) -> Workshop {
        let workshop = Workshop::empty();
        let tree = workshop.path("tree");
        small_base::tree(&tree);
        let fstab = format!("LABEL=root / {} defaults 0 0\n", self.kind);
        fs::write(tree.join("etc/fstab"), fstab).expect("writes");
        let root = (self.make)(workshop.folder(), &tree);
        change(&root);
        disk(workshop.folder(), &root);
        fs::remove_file(root).expect("removed");
        workshop.copy_of_command();
        fs::copy(agent(), workshop.path("agent")).expect("copies");
        workshop
    }

    /// Whether the build in `build` is sound and holds what a bake of the usual workshop
    /// puts into its root, and not what that takes from it.
    pub fn assert_baked(&self, build: &Path, workshop: &Workshop) {
        self.assert_root_baked(&build.join("small.raw"), workshop);
    }

    fn assert_root_baked(&self, image: &Path, workshop: &Workshop) {
        let root = root_of(image, workshop, self.size);
        (self.check)(&root);
        let commands = format!(
            "cmp usr/bin/kubelet '{}'; cmp usr/local/bin/kubectl '{}'
             [ \"$(stat -c %a:%u:%g usr/bin/kubelet)\" = 755:0:0 ]
             grep -q small etc/nodekiln-release
             [ ! -e etc/ssh/ssh_host_ed25519_key ]; [ ! -s var/log/syslog ]
             [ \"$(readlink bin)\" = usr/bin ]",
            workshop.path("components/kubelet").display(),
            workshop.path("components/kubectl").display()
        );
        (self.by_hand)(&root, &commands);
    }

    /// A user without rights builds an image, in its formats, and verifies it.
    pub fn assert_baked_without_rights(&self) {
        let workshop = self.workshop();
        let (build, said) = built(&workshop);
        let why = format!("no library writes {} rightly", self.name);
        for words in ["a guest kernel (/usr/bin/linux.uml) edits", &why] {
            assert!(said.contains(words), "{said}");
        }
        assert!(!said.contains("could not run"), "every check ran: {said}");
        self.assert_baked(&build, &workshop);
        let (raw, qcow2) = (build.join("small.raw"), build.join("small.qcow2"));
        run("qemu-img", &["check", text(&qcow2)]);
        run("qemu-img", &["compare", text(&raw), text(&qcow2)]);
        let verified = as_nobody(&workshop, PATH, &["verify", text(&build)]).succeeded();
        assert!(
            verified.stdout.contains("root file system"),
            "{}",
            verified.stdout
        );
        let left: Vec<String> = workshop
            .left_in("out")
            .into_iter()
            .filter(|path| path.contains("nodekiln-agent"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }

    /// It grows to a disk of 700 MiB.
    pub fn assert_grows(&self) {
        let workshop = self.workshop();
        workshop.write_profile(
            "base.raw",
            "  overlays: [common, linux]\n  diskSize: 700MiB\n  outputs:\n    - format: raw\n",
        );
        let (build, _) = built(&workshop);
        let size = 700 * MIB - ROOT_START - MIB;
        let root = root_of(&build.join("small.raw"), &workshop, size);
        (self.check)(&root);
        let table = run("sgdisk", &["-v", text(&build.join("small.raw"))]);
        assert!(table.contains("No problems found"), "{table}");
        let commands = format!(
            "[ $(stat -f -c '%b*%S' . | bc) -gt {} ]; test -e usr/bin/kubelet",
            size - self.overhead
        );
        (self.by_hand)(&root, &commands);
    }

    /// The kernel of `scripts/build-guest-kernel` writes the same bytes on one processor,
    /// on two, and on the other.
    pub fn assert_same_bytes(&self) {
        let workshop = self.workshop();
        let images = by_our_kernel(&workshop);
        for other in &images[1..] {
            run("cmp", &[text(&images[0]), text(other)]);
        }
        self.assert_root_baked(&images[0], &workshop);
    }
}

/// What only reads a base whose log waits says so, and this process alone does not build it;
/// a build replays it, and leaves the base as it was. Gives the root of that build.
pub fn replayed(workshop: &Workshop, size: u64) -> PathBuf {
    let base = workshop.path("base.raw");
    let before = run("sha256sum", &[text(&base)]);
    let said = "it was not unmounted: its log holds changes";
    let verified = as_nobody(workshop, PATH, &["verify", text(&base)]);
    assert_eq!(verified.code, Some(7), "{}", verified.stderr);
    assert!(verified.stdout.contains(said), "{}", verified.stdout);
    as_nobody(workshop, PATH, &["lock", "--offline"]).succeeded();
    let alone = ["build", "--offline", "--engine", "in-process"];
    as_nobody(workshop, PATH, &alone).failed(2, &[said]);
    let (build, told) = built(workshop);
    let words = "partition 4 was not unmounted: a kernel replays its log";
    assert!(told.contains(words), "{told}");
    assert_eq!(run("sha256sum", &[text(&base)]), before, "the base");
    root_of(&build.join("small.raw"), workshop, size)
}

/// Makes `folder/base.raw`, a disk with an EFI system partition and the root file system
/// `root`, as RHEL 9 and Amazon Linux 2023 have it.
fn disk(folder: &Path, root: &Path) -> PathBuf {
    let size = fs::metadata(root).expect("the root is there").len();
    let image = blank(folder, "base.raw", ROOT_START + size + 2 * MIB);
    let (first, last) = (ROOT_START / 512, (ROOT_START + size) / 512 - 1);
    let esp = format!("-n15:{}:+{}", ESP_START / 512, ESP_SIZE / 512);
    must(
        "sgdisk",
        &[
            &esp,
            "-t15:ef00",
            &format!("-n4:{first}:{last}"),
            "-c4:root",
        ],
        &image,
    );
    make_esp(&image);
    paste(root, &image, ROOT_START);
    image
}

/// Runs the command as a user with no rights, in a network that holds nothing.
pub fn as_nobody(workshop: &Workshop, path: &str, arguments: &[&str]) -> Ran {
    run("chown", &["-R", "nobody", text(workshop.folder())]);
    let mut command = workshop.as_nobody_alone(workshop.path("nodekiln"));
    command.args(arguments);
    command.env("NODEKILN_AGENT", workshop.path("agent"));
    command.env("PATH", path);
    Ran::from(command.output().expect("unshare is needed"))
}

/// The folder of a build, and what it said.
pub fn built(workshop: &Workshop) -> (PathBuf, String) {
    as_nobody(workshop, PATH, &["lock", "--offline"]).succeeded();
    let ran = as_nobody(workshop, PATH, &["build", "--offline", "--format", "json"]).succeeded();
    let folder = ran.json()["folder"].as_str().expect("a folder").to_owned();
    (workshop.path(&folder), ran.stderr)
}

/// The root partition of an image, of `size` bytes, in a file of its own.
fn root_of(image: &Path, workshop: &Workshop, size: u64) -> PathBuf {
    let root = workshop.path("root");
    small_base::cut(image, ROOT_START, size, &root);
    root
}

/// The images of three builds by the kernel of `scripts/build-guest-kernel`, on one
/// processor, on two, and on the other.
fn by_our_kernel(workshop: &Workshop) -> Vec<PathBuf> {
    let kernel = script("build-guest-kernel", "");
    workshop.lock().succeeded();
    let build = |(cpus, kept): (&str, &str)| {
        let mut command = on(cpus, &workshop.command(&["build", "--offline"]));
        command
            .env("NODEKILN_UML_KERNEL", &kernel)
            .env("NODEKILN_AGENT", agent());
        let done = command.args(["--format", "json"]).output();
        let ran = Ran::from(done.expect("it starts")).succeeded();
        let built = workshop.path(ran.json()["folder"].as_str().expect("a folder"));
        fs::rename(built.join("small.raw"), workshop.path(kept)).expect("moved");
        fs::remove_dir_all(built).expect("removed");
        workshop.path(kept)
    };
    [("0", "first"), ("0-1", "second"), ("1", "third")]
        .map(build)
        .to_vec()
}

/// The command and its environment, on the processors `cpus` alone.
fn on(cpus: &str, wish: &Command) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(wish.get_program());
    command.args(wish.get_args());
    for (name, value) in wish.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = wish.get_current_dir() {
        command.current_dir(folder);
    }
    command
}
