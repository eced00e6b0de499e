//! A small base disk as a Debian cloud image has it: GPT, ESP, ext4 root, and
//! just enough of a system that a node can be baked into it. It is made by
//! sgdisk, mkfs.vfat and mke2fs within a fraction of a second.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::program::{output, run};

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// Where the ESP begins, in bytes.
pub const ESP_START: u64 = MIB;
/// Size of the ESP in bytes.
pub const ESP_SIZE: u64 = 8 * MIB;
/// Where the first root partition begins, in bytes.
pub const ROOT_START: u64 = 10 * MIB;
/// Size of a root partition of the usual shape, in bytes.
pub const ROOT_SIZE: u64 = 48 * MIB;

/// Modules of a kernel that can run a node, as `depmod` lists them.
pub const MODULES: &str = "\
kernel/fs/overlayfs/overlay.ko.xz:
kernel/net/bridge/bridge.ko.xz:
kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz
kernel/drivers/net/veth.ko.xz:
kernel/net/netfilter/nf_conntrack.ko.xz:
kernel/net/netfilter/nf_nat.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz
kernel/net/netfilter/nf_tables.ko.xz:
";

/// What the disk is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Bytes of a root partition.
    pub root_size: u64,
    /// How many partitions hold a root file system.
    pub roots: u64,
    /// Further arguments of mke2fs.
    pub mke2fs: &'a [&'a str],
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self {
            root_size: ROOT_SIZE,
            roots: 1,
            mke2fs: &[],
        }
    }
}

/// Makes the folder of a root file system below `root`.
///
/// # Panics
/// When it cannot be written.
pub fn tree(root: &Path) {
    for folder in ["usr/bin", "usr/sbin", "dev", "proc", "sys", "tmp", "root"] {
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
        write(root, path, tiny_program());
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).expect("sets");
    }
    let texts = [
        (
            "etc/os-release",
            "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (small)\"\n",
        ),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_ed25519_key", "one node's identity"),
        ("etc/fstab", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("var/log/syslog", "old\n"),
        ("usr/lib/modules/6.1.0/modules.dep", MODULES),
        ("usr/lib/systemd/system/multi-user.target", "[Unit]\n"),
        (
            "usr/lib/systemd/system/containerd.service",
            "[Install]\nWantedBy=multi-user.target\n",
        ),
        (
            "usr/lib/systemd/system/cron.service",
            "[Install]\nWantedBy=multi-user.target\n",
        ),
    ];
    for (path, text) in texts {
        write(root, path, text);
    }
}

/// A 64-bit ELF header for x86-64: a program as far as any look at it goes.
pub fn tiny_program() -> Vec<u8> {
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(120, 0);
    program[16] = 2;
    program[18] = 62;
    program[20] = 1;
    program
}

/// Makes all that is taken for a program for x86-64, in a folder or alone, one for arm64.
///
/// # Panics
/// When it cannot be read or written.
pub fn turn_to_arm64(path: &Path) {
    // `e_machine` of an ELF header, and its value for AArch64.
    const MACHINE: (usize, u8) = (18, 183);
    for entry in walkdir::WalkDir::new(path) {
        let entry = entry.expect("can be walked");
        if !entry.file_type().is_file() {
            continue;
        }
        let mut program = fs::read(entry.path()).expect("reads");
        if program.starts_with(b"\x7fELF") {
            program[MACHINE.0] = MACHINE.1;
            fs::write(entry.path(), program).expect("writes");
        }
    }
}

/// A program of `size` bytes that neither compresses nor repeats.
pub fn program(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = tiny_program();
    let mut state = seed | 1;
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Makes the file system of the EFI system partition of `image`.
///
/// # Panics
/// When mkfs.vfat fails or is missing.
pub fn make_esp(image: &Path) {
    let kib = (ESP_SIZE / 1024).to_string();
    run(
        "mkfs.vfat",
        &[
            "--offset=2048",
            "-F",
            "16",
            "-s",
            "2",
            "-i",
            "4e4b494c",
            "-n",
            "ESP",
            text(image),
            kib.as_str(),
        ],
    );
}

/// Makes `folder/base.raw` with `tree` as the content of every root partition.
///
/// # Panics
/// When a tool fails or is missing.
pub fn disk(folder: &Path, tree: &Path, shape: &Shape<'_>) -> PathBuf {
    let image = folder.join("base.raw");
    let file = fs::File::create(&image).expect("creates");
    file.set_len(ROOT_START + shape.root_size * shape.roots + 2 * MIB)
        .expect("sizes");
    let name = text(&image);
    let mut table = vec![
        "--disk-guid=6a5b0f1e-9a63-4c0d-8f0c-0d6a5e2b7c11".to_owned(),
        format!("--new=15:{}:+{}", ESP_START / 512, ESP_SIZE / 512),
        "--typecode=15:ef00".to_owned(),
    ];
    for number in 1..=shape.roots {
        let start = (ROOT_START + shape.root_size * (number - 1)) / 512;
        let end = start + shape.root_size / 512 - 1;
        table.push(format!("--new={number}:{start}:{end}"));
    }
    table.push(name.to_owned());
    run("sgdisk", &words(&table));
    make_esp(&image);
    for number in 0..shape.roots {
        let offset = format!("offset={}", ROOT_START + shape.root_size * number);
        let size = format!("{}k", shape.root_size / 1024);
        let fixed = ["-q", "-F", "-t", "ext4", "-L", "cloudimg-rootfs"];
        let place = ["-E", &offset, "-d", text(tree), name, &size];
        run("mke2fs", &[&fixed[..], shape.mke2fs, &place[..]].concat());
    }
    image
}

/// Copies `size` bytes from `start` of `image` into the file `to`.
///
/// # Panics
/// When that fails.
pub fn cut(image: &Path, start: u64, size: u64, to: &Path) {
    run(
        "dd",
        &[
            &format!("if={}", text(image)),
            &format!("of={}", text(to)),
            "bs=1M",
            "iflag=skip_bytes,count_bytes",
            "conv=sparse",
            &format!("skip={start}"),
            &format!("count={size}"),
            "status=none",
        ],
    );
    // Holes at the end are left out.
    let file = fs::OpenOptions::new().write(true).open(to).expect("opens");
    file.set_len(size).expect("sizes");
}

/// Copies the tree of the root of a raw image to the new folder `to`, with owners, times and
/// extended attributes, as the kernel sees them.
///
/// # Panics
/// When it cannot be mounted or copied: that takes root.
pub fn copy_root(image: &Path, scratch: &Path, to: &Path) {
    let mount = scratch.join("mount");
    fs::create_dir_all(&mount).expect("creates");
    let options = format!("loop,ro,offset={ROOT_START},sizelimit={ROOT_SIZE}");
    run("mount", &["-o", &options, text(image), text(&mount)]);
    let copied = output("cp", &["-a", text(&mount), text(to)]);
    run("umount", &[text(&mount)]);
    assert!(copied.status.success(), "{copied:?}");
}

/// Fails unless partition table, ESP and root of a raw image are sound by the
/// checkers of others.
///
/// # Panics
/// When one of them finds something.
pub fn assert_sound(image: &Path, root_size: u64, scratch: &Path) {
    let table = run("sgdisk", &["-v", text(image)]);
    assert!(table.contains("No problems found"), "sgdisk: {table}");
    let (root, esp) = (scratch.join("root.ext4"), scratch.join("esp.fat"));
    cut(image, ROOT_START, root_size, &root);
    run("e2fsck", &["-fn", text(&root)]);
    cut(image, ESP_START, ESP_SIZE, &esp);
    run("fsck.vfat", &["-n", text(&esp)]);
}

/// A path as an argument.
///
/// # Panics
/// When it is not UTF-8.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
    fs::write(path, content).expect("writes");
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}
