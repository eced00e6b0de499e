//! Labels as Debian's own SELinux policy gives them, judged by matchpathcon.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::ImagePath;
use nodekiln::build::layout;
use nodekiln::disk::{OpenOptions, Storage, open_base};
use nodekiln::os::selinux::{FileType, Policy};
use nodekiln::os::{Image, Tree as _};
use nodekiln::profile::model::Architecture;
use nodekiln::progress::Silent;
use nodekiln::volume::{Access, Kind, Timestamp};
use nodekiln_tests::command::Workshop;
use nodekiln_tests::judges::judge;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{ROOT_SIZE, ROOT_START, Shape, cut, text};
use nodekiln_tests::{debian_base, volumes};
use tempfile::TempDir;

/// Paths that one call of matchpathcon is asked about.
const BATCH: usize = 4000;

/// What matchpathcon calls each kind.
const KINDS: [(FileType, &str); 7] = [
    (FileType::File, "file"),
    (FileType::Directory, "dir"),
    (FileType::Symlink, "lnk_file"),
    (FileType::CharacterDevice, "chr_file"),
    (FileType::BlockDevice, "blk_file"),
    (FileType::Pipe, "pipe"),
    (FileType::Socket, "sock_file"),
];

/// What an administrator may add: every way in which a line can be odd.
const LOCAL: &str = r"# local
/opt/nodekiln(/.*)?	system_u:object_r:usr_t:s0
/opt/cni/bin/[^/]+	--	system_u:object_r:bin_t:s0
/etc/kubernetes/pki/.*\.key	--	system_u:object_r:cert_t:s0
/srv/none(/.*)?	<<none>>
/srv/none/but	-d	system_u:object_r:var_t:s0
/data/[[:digit:]]{2,3}x?	system_u:object_r:var_lib_t:s0
/data/one|/data/two	system_u:object_r:var_log_t:s0
/data-set/[a\]-]+\.(a|b+?)	system_u:object_r:var_run_t:s0
/data\-set/a	system_u:object_r:etc_t:s0
/data\.set/a	-l	system_u:object_r:etc_t:s0
/etc/shadow	system_u:object_r:etc_t:s0
/usr/bin/.*	-s	system_u:object_r:bin_t:s0
";
const SUBS: &str = "/srv/kubelet /var/lib/kubelet\n/sysroot /\n/srv/kubelet/logs /var/log\n";

/// Paths that no tree has, of every kind.
const MORE: &[&str] = &[
    "/",
    "/home",
    "/home/u",
    "/home/u/.ssh",
    "/home/u/.ssh/authorized_keys",
    "/home/u/.bashrc",
    "/home/u/public_html/x",
    "/root",
    "/root/.ssh/authorized_keys",
    "/root/.bash_history",
    "/srv",
    "/srv/x",
    "/srv/none",
    "/srv/none/but",
    "/srv/none/but/x",
    "/srv/kubelet",
    "/srv/kubelet/pods/x",
    "/srv/kubelet/logs/x",
    "/srv/kubelets",
    "/sysroot",
    "/sysroot/etc/shadow",
    "/etc/shadow",
    "/etc/passwd",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/a/b.key",
    "/etc/kubernetes/kubelet/config.json",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/multi-user.target.wants/containerd.service",
    "/etc/containerd/config.toml",
    "/etc/cni/net.d/10-x.conflist",
    "/etc/nodekiln-release",
    "/etc/sysctl.d/99-nodekiln.conf",
    "/etc/modules-load.d/nodekiln.conf",
    "/etc/localtime",
    "/etc/init.d/x",
    "/opt/cni/bin",
    "/opt/cni/bin/loopback",
    "/opt/cni/bin/a/b",
    "/opt/nodekiln",
    "/opt/nodeadm/tracker",
    "/opt/x/bin/y",
    "/usr",
    "/usr/bin/kubelet",
    "/usr/libexec/nodekiln/firstboot",
    "/usr/share/nodekiln/manifest.json",
    "/usr/local/bin/aws_signing_helper",
    "/usr/local/lib64/x.so.1",
    "/lib/systemd/system/x.service",
    "/lib64/ld-linux-x86-64.so.2",
    "/bin/sh",
    "/sbin/init",
    "/var/lib/kubelet",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs",
    "/var/lib/nodekiln/state.json",
    "/var/lib/private/x",
    "/var/log/pods/x",
    "/var/log/journal/x",
    "/var/run/x.pid",
    "/var/lock/x",
    "/run",
    "/run/containerd/containerd.sock",
    "/run/systemd/units/x",
    "/run/lock/x",
    "/dev",
    "/dev/null",
    "/dev/sda1",
    "/dev/nvme0n1",
    "/dev/log",
    "/dev/raw1394-0",
    "/dev/shm/x",
    "/proc/1/status",
    "/sys/fs/cgroup",
    "/tmp",
    "/tmp/x",
    "/var/tmp/x",
    "/boot/grub/grub.cfg",
    "/boot/vmlinuz-6.1.0",
    "/lost+found",
    "/lost+found/x",
    "/.autorelabel",
    "/swap.img",
    "/data",
    "/data/12",
    "/data/123x",
    "/data/1234",
    "/data/one",
    "/data/one/more",
    "/more/data/two",
    "/data-set/a",
    "/data-set/a]-.bb",
    "/data-set/a.c",
    "/data.set/a",
    "/unknown",
    "/unknown/a/b",
];

/// Folders of first boot, as Fedora's container-selinux tells them from others.
const CONTAINERS: &str = r"/etc/kubernetes(/.*)?	system_u:object_r:kubernetes_file_t:s0
/var/lib/containerd(/.*)?	system_u:object_r:container_var_lib_t:s0
/var/log/pods(/.*)?	system_u:object_r:container_log_t:s0
";

struct Judge {
    matchpathcon: PathBuf,
    /// A root folder with the policy in its place.
    root: TempDir,
}

impl Judge {
    /// Debian's policy, with lines of an administrator.
    fn new() -> Self {
        let folder = judge("selinux");
        let root = TempDir::new().expect("a folder");
        let judge = Self {
            matchpathcon: folder.join("matchpathcon"),
            root,
        };
        lay_policy(&folder, judge.root.path(), "enforcing");
        let files = judge.policy().join("contexts/files");
        fs::write(files.join("file_contexts.local"), LOCAL).expect("writes");
        fs::write(files.join("file_contexts.subs"), SUBS).expect("writes");
        judge
    }

    fn policy(&self) -> PathBuf {
        self.root.path().join("etc/selinux/default")
    }

    /// What nodekiln reads out of a file system with this policy.
    fn read(&self) -> Policy {
        let mut image = volumes::image_of(self.root.path());
        Policy::read(&mut image).expect("reads").expect("is there")
    }

    /// What matchpathcon says of each path.
    fn labels(&self, kind: &str, paths: &[String]) -> Vec<String> {
        labels(&self.matchpathcon, &self.policy(), kind, paths)
    }
}

/// Puts the policy of the folder of the judge below a root folder.
fn lay_policy(judge: &Path, root: &Path, mode: &str) {
    let etc = root.join("etc/selinux");
    fs::create_dir_all(&etc).expect("creates");
    let policy = judge.join("policy/etc/selinux/default");
    run("cp", &["-a", text(&policy), text(&etc)]);
    let config = format!("# of a test\nSELINUX={mode}\nSELINUXTYPE=default\n");
    fs::write(etc.join("config"), config).expect("writes");
}

fn labels(matchpathcon: &Path, policy: &Path, kind: &str, paths: &[String]) -> Vec<String> {
    let fixed = ["-N", "-m", kind, "-P", text(policy)];
    let mut found = Vec::new();
    for batch in paths.chunks(BATCH) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        let printed = run(text(matchpathcon), &[&fixed[..], &batch].concat());
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.len(), batch.len(), "{printed}");
        for (line, path) in lines.into_iter().zip(batch) {
            let (said, label) = line.rsplit_once('\t').expect("a path and a label");
            assert_eq!(said, path);
            found.push(label.to_owned());
        }
    }
    found
}

/// Every path of a Debian that mmdebstrap made, by kind.
fn debian() -> BTreeMap<&'static str, Vec<String>> {
    let storage: Arc<dyn Storage> = open_base(
        &debian_base::path(Architecture::X86_64),
        &OpenOptions::default(),
    )
    .expect("opens")
    .storage;
    let layout = layout::find(&storage, &Silent).expect("has a root");
    let volumes = layout
        .open(&storage, Access::Read, Timestamp::default())
        .expect("opens");
    let mut image = Image::new(volumes).expect("has a root");
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut left = vec![ImagePath::root()];
    while let Some(folder) = left.pop() {
        for entry in image.list(&folder).expect("lists") {
            let path = folder.join(&entry.name).expect("a path");
            if entry.kind == Kind::Directory {
                left.push(path.clone());
            }
            let kind = FileType::of(entry.kind);
            let name = KINDS.iter().find(|(it, _)| Some(*it) == kind);
            if let (Some((_, name)), Some(path)) = (name, path.as_str()) {
                found.entry(name).or_default().push(path.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_path_gets_the_label_that_matchpathcon_tells() {
    let judge = Judge::new();
    let policy = judge.read();
    let mut asked = debian();
    let more = MORE.iter().map(|path| (*path).to_owned());
    for (_, name) in KINDS {
        asked.entry(name).or_default().extend(more.clone());
    }
    let (mut compared, mut unlabelled) = (0, 0);
    let mut different = Vec::new();
    for (kind, name) in KINDS {
        let paths = &asked[name];
        for (path, wanted) in paths.iter().zip(judge.labels(name, paths)) {
            let found = policy.label(&ImagePath::new(path).expect("absolute"), kind);
            let found = found.unwrap_or("<<none>>");
            compared += 1;
            unlabelled += usize::from(wanted == "<<none>>");
            if found != wanted {
                different.push(format!("{path} ({name}): {found}, not {wanted}"));
            }
        }
    }
    assert!(
        different.is_empty(),
        "{} of {compared}:\n{}",
        different.len(),
        different.join("\n")
    );
    // Else nothing was compared.
    assert!(compared >= 10_000, "{compared} paths");
    assert!(unlabelled > 0 && unlabelled < compared / 2, "{unlabelled}");
}

/// The paths that lie in an ext4, by kind, as debugfs tells them.
fn laid(root: &Path, tree: &Path) -> BTreeMap<&'static str, Vec<String>> {
    run(
        "debugfs",
        &["-R", &format!("rdump / {}", text(tree)), text(root)],
    );
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(tree).min_depth(1).sort_by_file_name() {
        let entry = entry.expect("can be walked");
        let kind = match entry.file_type() {
            kind if kind.is_dir() => "dir",
            kind if kind.is_symlink() => "lnk_file",
            _ => "file",
        };
        let path = entry.path().strip_prefix(tree).expect("is below");
        found
            .entry(kind)
            .or_default()
            .push(format!("/{}", path.display()));
    }
    found
}

/// The label of each path, as debugfs reads it; empty without one.
fn written(root: &Path, scratch: &Path, paths: &[&String]) -> Vec<String> {
    let commands = scratch.join("commands");
    let lines: Vec<String> = paths
        .iter()
        .map(|path| format!("ea_get \"{path}\" security.selinux\n"))
        .collect();
    fs::write(&commands, lines.concat()).expect("writes");
    let output = nodekiln_tests::program::output("debugfs", &["-f", text(&commands), text(root)]);
    // It echoes each command, then says `security.selinux (32) = "..."`.
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<&str> = said.split("debugfs: ea_get ").skip(1).collect();
    assert_eq!(answers.len(), paths.len(), "{said}");
    answers
        .into_iter()
        .map(|answer| {
            let value = answer.split_once("= \"").map(|(_, value)| value);
            let value = value.and_then(|value| value.rsplit_once('"'));
            value.map(|(value, _)| value.to_owned()).unwrap_or_default()
        })
        .collect()
}

#[test]
fn a_baked_image_has_the_labels_of_its_policy() {
    let folder = judge("selinux");
    let workshop = Workshop::with(&Shape::default(), |tree| {
        lay_policy(&folder, tree, "enforcing");
        let local = tree.join("etc/selinux/default/contexts/files/file_contexts.local");
        fs::write(local, CONTAINERS).expect("writes");
    });
    let built = workshop.built(&[]);
    let image = built.join("small.raw");
    let root = workshop.path("root.ext4");
    cut(&image, ROOT_START, ROOT_SIZE, &root);
    run("e2fsck", &["-fn", text(&root)]);
    let before = workshop.path("before.ext4");
    cut(&workshop.path("base.raw"), ROOT_START, ROOT_SIZE, &before);

    let (old, new) = (workshop.path("old"), workshop.path("new"));
    fs::create_dir(&old)
        .and_then(|()| fs::create_dir(&new))
        .expect("creates");
    let known = laid(&before, &old);
    let policy = workshop.path("tree/etc/selinux/default");
    let mut labelled = Vec::new();
    for (kind, paths) in laid(&root, &new) {
        let wanted = labels(&folder.join("matchpathcon"), &policy, kind, &paths);
        let found = written(&root, workshop.folder(), &paths.iter().collect::<Vec<_>>());
        for ((path, wanted), found) in paths.iter().zip(wanted).zip(found) {
            if known.get(kind).is_some_and(|known| known.contains(path)) && found.is_empty() {
                // It was there, without a label as everything in this base.
                continue;
            }
            let wanted = match wanted.as_str() {
                "<<none>>" => String::new(),
                label => format!("{label}\\000"),
            };
            assert_eq!(found, wanted, "{path} ({kind})");
            labelled.push(path.clone());
        }
    }
    for path in [
        "/usr/bin/kubelet",
        "/usr/libexec/nodekiln",
        "/usr/libexec/nodekiln/firstboot",
        "/usr/sbin/firstboot",
        "/etc/nodekiln-release",
        "/etc/systemd/system/nodekiln-firstboot.service",
        "/etc/systemd/system/multi-user.target.wants/nodekiln-firstboot.service",
        "/usr/share/nodekiln/manifest.json",
        "/etc/machine-id",
        // First boot and containerd would make these, with the labels of their folders.
        "/etc/kubernetes",
        "/var/lib/containerd",
        "/var/log/pods",
    ] {
        assert!(
            labelled.iter().any(|it| it == path),
            "{path} in {labelled:?}"
        );
    }
    assert!(!new.join(".autorelabel").exists());
    let config = fs::read_to_string(new.join("etc/selinux/config")).expect("is there");
    assert!(config.contains("SELINUX=enforcing\n"), "{config}");

    verify_notices_a_label(&workshop, &image, &root);
}

/// `nodekiln verify` passes, and does not once a label is another one.
fn verify_notices_a_label(workshop: &Workshop, image: &Path, root: &Path) {
    let ran = workshop.nodekiln(&["verify", text(image)]).succeeded();
    assert!(
        ran.stdout
            .contains("passed         small.raw: SELinux labels"),
        "{}",
        ran.stdout
    );
    let label = "ea_set /usr/bin/kubelet security.selinux system_u:object_r:etc_t:s0\\000";
    run("debugfs", &["-w", "-R", label, text(root)]);
    let start = (ROOT_START >> 20).to_string();
    run(
        "dd",
        &[
            &format!("if={}", text(root)),
            &format!("of={}", text(image)),
            "bs=1M",
            &format!("seek={start}"),
            "conv=notrunc",
            "status=none",
        ],
    );
    let ran = workshop.nodekiln(&["verify", text(image)]);
    assert_eq!(ran.code, Some(7), "{}{}", ran.stdout, ran.stderr);
    let wanted = "/usr/bin/kubelet has system_u:object_r:etc_t:s0, not system_u:object_r:bin_t:s0";
    let line = ran
        .stdout
        .lines()
        .find(|line| line.contains("SELinux labels"));
    assert!(
        line.is_some_and(|line| line.starts_with("failed") && line.contains(wanted)),
        "{}",
        ran.stdout
    );
}

#[test]
fn an_enforcing_base_without_a_policy_is_refused() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        let folder = tree.join("etc/selinux");
        fs::create_dir_all(&folder).expect("creates");
        fs::write(
            folder.join("config"),
            "SELINUX=enforcing\nSELINUXTYPE=default\n",
        )
        .expect("writes");
    });
    workshop.lock().succeeded();
    let words = [
        "says enforcing",
        "/etc/selinux/default/contexts/files/file_contexts",
        "hint:",
    ];
    workshop.build(&[]).failed(2, &words);
}
