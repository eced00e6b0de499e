//! A whole bake of a small disk made by mkfs and sgdisk, looked at by e2fsck,
//! debugfs, sgdisk, systemctl and sh.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::bake::{self, LocalContents};
use nodekiln::build::layout;
use nodekiln::disk::cow::CowDisk;
use nodekiln::disk::{OpenOptions, Storage, open_base};
use nodekiln::lock::model::LockedProfile;
use nodekiln::os::{Image, detect};
use nodekiln::plan::overlay::{Overlay, OverlayEntry, OverlayNode};
use nodekiln::plan::{Content, Inputs, Partition, Plan, Target, compute};
use nodekiln::profile::model::Profile;
use nodekiln::progress::Silent;
use nodekiln::store::Digest;
use nodekiln::task::Task;
use nodekiln::volume::{Access, Timestamp};
use nodekiln::{Class, ImagePath, Result};
use serde_json::json;
use tempfile::TempDir;

const EPOCH: i64 = 1_700_000_000;
const MIB: u64 = 1 << 20;
/// Bytes of the component that the tests bake: not a multiple of any block.
const KUBELET_SIZE: usize = 3_000_001;

fn run(program: &str, arguments: &[&str]) -> String {
    let printed = Task::new(program).args(arguments).output();
    let printed = printed.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error);
        panic!(
            "{error}: {}",
            cause.map(ToString::to_string).unwrap_or_default()
        )
    });
    String::from_utf8_lossy(&printed).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
    fs::write(path, content).expect("writes");
}

/// A root folder as a Debian cloud image has it, in small.
fn debian(root: &Path) {
    let program = fs::read("/bin/true").expect("a program of this machine");
    for folder in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "dev",
        "tmp",
        "etc/default/grub.d",
        "root",
    ] {
        fs::create_dir_all(root.join(folder)).expect("creates");
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        symlink(target, root.join(link)).expect("links");
    }
    for path in [
        "usr/bin/sh",
        "usr/bin/containerd",
        "usr/sbin/runc",
        "usr/sbin/iptables",
        "usr/lib/cni/loopback",
        "usr/lib/cni/bridge",
        "usr/lib/systemd/systemd",
    ] {
        write(root, path, &program);
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).expect("sets");
    }
    write(
        root,
        "etc/os-release",
        "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
    );
    write(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    write(root, "etc/ssh/ssh_host_ed25519_key", "secret");
    write(
        root,
        "var/lib/cloud/instances/i-1/user-data.txt",
        "#cloud-config\n",
    );
    write(root, "var/log/journal/0123/system.journal", vec![0; 9000]);
    write(root, "var/log/syslog", "old\n");
    write(
        root,
        "etc/fstab",
        "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n",
    );
    write(
        root,
        "etc/default/grub",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\n",
    );
    write(
        root,
        "boot/grub/grub.cfg",
        "menuentry 'Debian' {\n\tlinux\t/boot/vmlinuz root=LABEL=x ro quiet\n}\n",
    );
    write(
        root,
        "usr/lib/modules/6.1.0/modules.dep",
        nodekiln_tests::small_base::MODULES,
    );
    units(root);
}

/// Units of every shape that `systemctl enable` treats in its own way.
fn units(root: &Path) {
    let all = [
        (
            "containerd.service",
            "[Install]\nWantedBy=multi-user.target\n",
        ),
        ("cron.service", "[Install]\nWantedBy=multi-user.target\n"),
        (
            "ssh.service",
            "[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n",
        ),
        (
            "serial-getty@.service",
            "[Install]\nWantedBy=getty.target\nDefaultInstance=ttyS0\n",
        ),
        ("plain@.service", "[Install]\nWantedBy=%i.target\n"),
        (
            "pair.service",
            "[Install]\nAlso=pair.socket\nRequiredBy=network.target\n",
        ),
        ("pair.socket", "[Install]\nWantedBy=sockets.target\n"),
        ("extended.service", "[Unit]\nDescription=x\n"),
        ("noisy.timer", "[Install]\nWantedBy=timers.target\n"),
        ("multi-user.target", "[Unit]\n"),
    ];
    for (name, content) in all {
        write(root, &format!("usr/lib/systemd/system/{name}"), content);
    }
    write(
        root,
        "etc/systemd/system/extended.service.d/install.conf",
        "[Install]\nWantedBy=a.target \\\n  b.target\n",
    );
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("creates");
    symlink(
        "/lib/systemd/system/cron.service",
        wants.join("cron.service"),
    )
    .expect("links");
    let timers = root.join("etc/systemd/system/timers.target.wants");
    fs::create_dir_all(&timers).expect("creates");
    symlink(
        "/lib/systemd/system/noisy.timer",
        timers.join("noisy.timer"),
    )
    .expect("links");
}

/// A raw disk with a GPT, an ESP as partition 15, and `roots` as ext4 partitions.
fn disk(folder: &Path, roots: &[&Path], size: u64) -> PathBuf {
    let image = folder.join("base.raw");
    let mib = |count: u64| count * MIB;
    let file = fs::File::create(&image).expect("creates");
    file.set_len(mib(20) + size * roots.len() as u64)
        .expect("sizes");
    let mut table = vec![
        "--new=15:1M:+8M".to_owned(),
        "--typecode=15:ef00".to_owned(),
    ];
    for number in 1..=roots.len() as u64 {
        let start = (mib(10) + size * (number - 1)) / 512;
        table.push(format!("--new={number}:{start}:{}", start + size / 512 - 1));
    }
    table.push(text(&image).to_owned());
    run(
        "sgdisk",
        &table.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    run(
        "mkfs.vfat",
        &["--offset=2048", "-n", "ESP", text(&image), "8192"],
    );
    for (number, root) in roots.iter().enumerate() {
        let offset = format!("offset={}", mib(10) + size * number as u64);
        let blocks = format!("{}k", size / 1024);
        run(
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-L",
                "cloudimg-rootfs",
                "-E",
                &offset,
                "-d",
                text(root),
                text(&image),
                &blocks,
            ],
        );
    }
    image
}

fn kubelet() -> Vec<u8> {
    (0..KUBELET_SIZE).map(|index| (index % 251) as u8).collect()
}

fn profile(services: &serde_json::Value) -> Profile {
    serde_json::from_value(json!({
        "apiVersion": "nodekiln.dev/v1alpha1", "kind": "ImageProfile",
        "metadata": {"name": "demo"},
        "spec": {
            "base": {"path": "base.raw"},
            "kubernetes": {"version": "1.34.4", "components": {
                "containerd": {"fromBase": true}, "runc": {"fromBase": true}, "cni-plugins": {"fromBase": true},
            }},
            "credentialProvider": "iam-ra",
            "services": services,
            "kernel": {"modules": ["br_netfilter"], "commandLine": ["-quiet", "panic=10"]},
        }
    }))
    .expect("a profile")
}

fn locked() -> LockedProfile {
    let digest = Content::inline(kubelet()).sha256;
    let file = json!({"origin": {"path": "kubelet"}, "sha256": digest, "size": KUBELET_SIZE, "trust": "local file"});
    serde_json::from_value(json!({
        "inputs": digest, "baseInputs": digest, "architecture": "x86_64", "base": file,
        "components": {"kubelet": {"file": file, "members": {"kubelet": {
            "sha256": digest, "size": KUBELET_SIZE, "destination": "/usr/bin/kubelet", "mode": "0755",
        }}}},
    }))
    .expect("a lock")
}

fn unit_overlay() -> Overlay {
    let path = ImagePath::new("/etc/systemd/system/nodekiln-firstboot.service").expect("absolute");
    let entry = OverlayEntry {
        node: OverlayNode::File {
            content: Content::inline("[Install]\nWantedBy=multi-user.target\n"),
            executable: false,
        },
        origin: "unit".to_owned(),
    };
    Overlay {
        name: "linux".to_owned(),
        entries: [(path, entry)].into(),
    }
}

fn store(digest: &Digest) -> Result<Box<dyn std::io::Read + Send>> {
    assert_eq!(*digest, Content::inline(kubelet()).sha256);
    Ok(Box::new(std::io::Cursor::new(kubelet())))
}

fn open_image(
    disk: &Arc<dyn Storage>,
    access: Access,
) -> Result<(Image, BTreeMap<Target, Partition>)> {
    let layout = layout::find(disk, &Silent)?;
    let epoch = Timestamp {
        seconds: EPOCH,
        nanoseconds: 0,
    };
    let image = Image::new(layout.open(disk, access, epoch)?)?;
    Ok((image, layout.partitions()))
}

/// Bakes `base` into a new file in `folder`, and verifies it.
fn bake_into(base: &Path, folder: &Path, profile: &Profile) -> Result<(Plan, PathBuf)> {
    let base = open_base(
        base,
        &OpenOptions {
            allow_backing_file: false,
        },
    )?;
    let path = folder.join("baked.raw");
    let delta = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("creates");
    let size = base.storage.size();
    let cow = Arc::new(CowDisk::new(base.storage, size, delta)?);
    let disk: Arc<dyn Storage> = cow.clone();

    let (mut image, partitions) = open_image(&disk, Access::Write)?;
    let os = detect(&mut image)?;
    let overlays = [
        vec![bake::overlay::shipped("common").expect("is shipped")],
        vec![unit_overlay()],
    ]
    .concat();
    let inputs = Inputs {
        profile,
        kubelet_version: Some("1.34.4".to_owned()),
        locked: &locked(),
        os: &os,
        partitions,
        packages: &[],
        overlays: &overlays,
        firstboot: Content::inline("#!/bin/sh\n"),
        epoch: EPOCH,
        disk_size: None,
    };
    let plan = compute(&inputs, &mut image)?;
    let mut volumes = image.into_volumes();
    bake::apply(&plan, &mut volumes, &LocalContents::new(store), &Silent)?;
    for volume in volumes.into_values() {
        volume.finish()?;
    }
    let (mut image, _) = open_image(&disk, Access::Read)?;
    bake::verify(&plan, &mut image, &LocalContents::new(store), &Silent)?;
    cow.materialize(&Silent)?;
    Ok((plan, path))
}

/// The root file system of a baked disk, in its own file.
fn root_of(image: &Path, folder: &Path, size: u64) -> PathBuf {
    let root = folder.join("root.ext4");
    let (from, to) = (format!("if={}", text(image)), format!("of={}", text(&root)));
    let count = format!("count={}", size / MIB);
    run(
        "dd",
        &[&from, &to, "bs=1M", "skip=10", &count, "status=none"],
    );
    root
}

/// Every link below a folder, with its target, by path relative to it.
fn links(folder: &Path) -> BTreeMap<String, String> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("can be walked"))
        .filter(|entry| entry.file_type().is_symlink())
        .map(|entry| {
            let target = fs::read_link(entry.path()).expect("is a link");
            let path = entry.path().strip_prefix(folder).expect("is below");
            (path.display().to_string(), target.display().to_string())
        })
        .collect()
}

fn services() -> serde_json::Value {
    json!({
        "enable": ["ssh", "serial-getty@.service", "serial-getty@ttyS1.service", "plain@demo.service", "pair", "extended.service", "containerd"],
        "disable": ["cron.service", "noisy.timer"],
        "mask": ["apt-daily.timer"],
    })
}

#[test]
fn a_baked_disk_is_sound_and_as_systemctl_would_have_it() {
    const SIZE: u64 = 64 * MIB;
    let folder = TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    debian(&source);
    let base = disk(folder.path(), &[&source], SIZE);
    let before = fs::read(&base).expect("reads");
    let (plan, baked) = bake_into(&base, folder.path(), &profile(&services())).expect("bakes");
    assert!(
        fs::read(&base).expect("reads") == before,
        "the base is never changed"
    );

    run("sgdisk", &["-v", text(&baked)]);
    let root = root_of(&baked, folder.path(), SIZE);
    run("e2fsck", &["-fn", text(&root)]);
    let esp = folder.path().join("esp.fat");
    let (from, to) = (format!("if={}", text(&baked)), format!("of={}", text(&esp)));
    run(
        "dd",
        &[&from, &to, "bs=1M", "skip=1", "count=8", "status=none"],
    );
    run("fsck.vfat", &["-n", text(&esp)]);
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).expect("creates");
    run(
        "debugfs",
        &["-R", &format!("rdump / {}", text(&tree)), text(&root)],
    );

    // The oracle does to the source what the profile asks for.
    let systemctl = |verb: &str, units: &[&str]| {
        let rooted = format!("--root={}", text(&source));
        run("systemctl", &[&[&rooted, verb][..], units].concat());
    };
    fs::write(
        source.join("etc/systemd/system/nodekiln-firstboot.service"),
        "[Install]\nWantedBy=multi-user.target\n",
    )
    .expect("writes");
    let wish = services();
    for verb in ["disable", "mask", "enable"] {
        let units: Vec<&str> = wish[verb]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|unit| unit.as_str())
            .collect();
        systemctl(verb, &units);
    }
    systemctl("enable", &["nodekiln-firstboot.service"]);
    let units = "etc/systemd/system";
    assert_eq!(links(&tree.join(units)), links(&source.join(units)));
    assert!(
        !tree.join(units).join("timers.target.wants").exists(),
        "an empty folder goes too"
    );

    assert!(fs::read(tree.join("usr/bin/kubelet")).expect("reads") == kubelet());
    let metadata = fs::metadata(tree.join("usr/bin/kubelet")).expect("is there");
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.mtime()),
        (0o755, 0, EPOCH)
    );
    assert_eq!(fs::read(tree.join("etc/machine-id")).expect("reads"), b"");
    assert_eq!(fs::read(tree.join("var/log/syslog")).expect("reads"), b"");
    for gone in [
        "etc/ssh/ssh_host_ed25519_key",
        "var/lib/cloud/instances",
        "var/log/journal/0123",
    ] {
        assert!(!tree.join(gone).exists(), "{gone}");
    }
    assert!(
        !fs::read_to_string(tree.join("etc/fstab"))
            .expect("reads")
            .contains("swap")
    );
    assert!(
        fs::read_to_string(tree.join("boot/grub/grub.cfg"))
            .expect("reads")
            .contains("ro panic=10\n")
    );
    assert_eq!(
        fs::read_link(tree.join("opt/cni/bin/bridge")).expect("a link"),
        Path::new("/usr/lib/cni/bridge")
    );
    let release = run(
        "sh",
        &[
            "-euc",
            ". \"$0\"; printf %s \"$BUILD_KEY\"",
            text(&tree.join("etc/nodekiln-release")),
        ],
    );
    assert_eq!(release, plan.key().to_string());
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let folder = TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    debian(&source);
    let base = disk(folder.path(), &[&source], 64 * MIB);
    let bake = |name: &str| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).expect("creates");
        let (plan, path) = bake_into(&base, &folder, &profile(&services())).expect("bakes");
        (plan.key(), fs::read(path).expect("reads"))
    };
    let (first, second) = (bake("one"), bake("two"));
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "two bakes differ");
}

#[test]
fn disks_without_one_root_are_refused_with_what_was_seen() {
    let folder = TempDir::new().expect("a folder");
    let (source, empty) = (folder.path().join("source"), folder.path().join("empty"));
    debian(&source);
    fs::create_dir(&empty).expect("creates");
    let refused = |name: &str, roots: &[&Path]| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).expect("creates");
        let base = disk(&folder, roots, 32 * MIB);
        bake_into(&base, &folder, &profile(&json!({}))).expect_err(name)
    };
    let none = refused("none", &[&empty]);
    assert_eq!(none.class(), Class::Input);
    assert!(none.to_string().contains("partition 15: FAT"), "{none}");
    let two = refused("two", &[&source, &source]);
    assert!(two.to_string().contains("2 partitions hold"), "{two}");
    assert!(two.hint_text().is_some());
}

#[test]
fn a_full_disk_is_found_before_the_first_write() {
    let folder = TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    debian(&source);
    write(&source, "srv/filler", vec![7; 12 << 20]);
    let base = disk(folder.path(), &[&source], 16 * MIB);
    let error = bake_into(&base, folder.path(), &profile(&json!({}))).expect_err("no room");
    assert_eq!(error.class(), Class::Environment);
    let cause = std::error::Error::source(&error).expect("says why");
    let said = format!("{cause} {:?}", std::error::Error::source(cause));
    assert!(said.contains("bytes are missing"), "{said}");
    // Nothing was written: the layer holds nothing but what opening left there.
    let size = fs::metadata(folder.path().join("baked.raw"))
        .expect("is there")
        .blocks()
        * 512;
    assert!(size < MIB, "{size} bytes were written");
}
