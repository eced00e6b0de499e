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

/// A workshop whose base has a root of type `file_system`, which `make` makes in a folder
/// from a tree; the command and the agent lie in it, for users to whom the folders of this
/// tree are closed.
pub fn workshop(file_system: &str, make: impl FnOnce(&Path, &Path) -> PathBuf) -> Workshop {
    let workshop = Workshop::empty();
    let tree = workshop.path("tree");
    small_base::tree(&tree);
    let fstab = format!("LABEL=root / {file_system} defaults 0 0\n");
    fs::write(tree.join("etc/fstab"), fstab).expect("writes");
    let root = make(workshop.folder(), &tree);
    disk(workshop.folder(), &root);
    fs::remove_file(root).expect("removed");
    workshop.copy_of_command();
    fs::copy(agent(), workshop.path("agent")).expect("copies");
    workshop
}

/// Makes `folder/base.raw`, a disk with an EFI system partition and the root file system
/// `root`, as RHEL 9 and Amazon Linux 2023 have it.
pub fn disk(folder: &Path, root: &Path) -> PathBuf {
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

/// The root partition of `size` bytes, in a file of its own.
pub fn root_of(build: &Path, workshop: &Workshop, size: u64) -> PathBuf {
    let root = workshop.path("root");
    small_base::cut(&build.join("small.raw"), ROOT_START, size, &root);
    root
}

/// What a bake has put into the root of the usual workshop, and taken from it: commands
/// for a mount of it.
pub fn baked(workshop: &Workshop) -> String {
    format!(
        "cmp usr/bin/kubelet '{}'; cmp usr/local/bin/kubectl '{}'
         [ \"$(stat -c %a:%u:%g usr/bin/kubelet)\" = 755:0:0 ]
         grep -q small etc/nodekiln-release
         [ ! -e etc/ssh/ssh_host_ed25519_key ]; [ ! -s var/log/syslog ]
         [ \"$(readlink bin)\" = usr/bin ]",
        workshop.path("components/kubelet").display(),
        workshop.path("components/kubectl").display()
    )
}

/// The images of three builds by the kernel of `scripts/build-guest-kernel`, on one
/// processor, on two, and on the other.
pub fn by_our_kernel(workshop: &Workshop) -> Vec<PathBuf> {
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
