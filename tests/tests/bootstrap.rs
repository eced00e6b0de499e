//! A base image from packages, checked by the programs that users would use.

use std::path::Path;

use nodekiln::profile::model::Architecture;
use nodekiln::task::Task;
use nodekiln_tests::debian_base;

fn run(program: &str, arguments: &[&str]) -> String {
    let finished = Task::new(program).args(arguments).run().expect(program);
    let output = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(
        finished.code,
        Some(0),
        "{program} {arguments:?}\n{output}{}",
        finished.stderr
    );
    output
}

/// A raw copy, and its partitions as files of their own.
struct Pieces {
    folder: tempfile::TempDir,
}

impl Pieces {
    fn of(image: &Path) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pieces = Self { folder };
        let image = image.display().to_string();
        run(
            "qemu-img",
            &["convert", "-O", "raw", &image, &pieces.path("disk")],
        );
        // Sector ranges of Ubuntu's layout; sgdisk is asked about them below.
        pieces.cut("esp", 10_240, 217_088);
        let sectors = debian_base::SIZE / 512 - 33 - 227_328;
        pieces.cut("root", 227_328, sectors);
        pieces
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn cut(&self, name: &str, first: u64, sectors: u64) {
        let input = format!("if={}", self.path("disk"));
        let output = format!("of={}", self.path(name));
        let skip = format!("skip={}", first * 512);
        let count = format!("count={}", sectors * 512);
        let flags = "iflag=skip_bytes,count_bytes";
        run(
            "dd",
            &[
                &input,
                &output,
                "bs=1M",
                "conv=sparse",
                flags,
                &skip,
                &count,
                "status=none",
            ],
        );
        // dd leaves out zeros at the end.
        std::fs::OpenOptions::new()
            .write(true)
            .open(self.path(name))
            .and_then(|file| file.set_len(sectors * 512))
            .expect("the piece can be extended");
    }

    fn debugfs(&self, command: &str) -> String {
        run("debugfs", &["-R", command, &self.path("root")])
    }
}

#[test]
fn makes_a_sound_disk_in_ubuntus_layout() {
    let image = debian_base::path(Architecture::X86_64);
    run("qemu-img", &["check", &image.display().to_string()]);
    let pieces = Pieces::of(&image);

    let table = run("sgdisk", &["-v", "-p", &pieces.path("disk")]);
    assert!(table.contains("No problems found"), "{table}");
    for (number, first, last, kind) in [
        ("1", "227328", "8388574", "8300"),
        ("14", "2048", "10239", "EF02"),
        ("15", "10240", "227327", "EF00"),
    ] {
        let found = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&number))
            .unwrap_or_else(|| unreachable!("partition {number}:\n{table}"));
        assert_eq!(&found[1..3], [first, last]);
        assert_eq!(found[5], kind);
    }

    run("e2fsck", &["-fn", &pieces.path("root")]);
    run("fsck.vfat", &["-n", &pieces.path("esp")]);
    let root = run("blkid", &["-p", "-o", "export", &pieces.path("root")]);
    assert!(root.contains("LABEL=cloudimg-rootfs"), "{root}");
    let esp = run("blkid", &["-p", "-o", "export", &pieces.path("esp")]);
    assert!(esp.contains("LABEL=UEFI"), "{esp}");
    assert!(esp.contains("VERSION=FAT32"), "{esp}");

    boots_by_name(&pieces, &root);
    is_no_machine_yet(&pieces);
}

/// Every name on the way from the firmware to the kernel leads somewhere.
fn boots_by_name(pieces: &Pieces, root: &str) {
    let uuid = root
        .lines()
        .find_map(|line| line.strip_prefix("UUID="))
        .expect("the root has a UUID");
    let esp = pieces.path("esp");
    let files = run("mdir", &["-i", &esp, "-/", "-b", "::"]);
    for name in [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/BOOT/grubx64.efi",
        "EFI/BOOT/mmx64.efi",
        "EFI/BOOT/grub.cfg",
        "EFI/debian/grub.cfg",
    ] {
        assert!(files.contains(name), "{name}:\n{files}");
    }
    let stub = run("mtype", &["-i", &esp, "::EFI/debian/grub.cfg"]);
    assert!(stub.contains(uuid), "{stub}");

    let config = pieces.debugfs("cat /boot/grub/grub.cfg");
    let kernel = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("linux\t"))
        .expect("a kernel");
    assert!(kernel.contains(&format!("root=UUID={uuid} ")), "{kernel}");
    assert!(kernel.ends_with("console=tty1 console=ttyS0"), "{kernel}");
    for command in ["linux\t", "initrd\t"] {
        let path = config
            .lines()
            .find_map(|line| line.trim().strip_prefix(command))
            .and_then(|line| line.split_whitespace().next())
            .expect(command);
        let status = pieces.debugfs(&format!("stat {path}"));
        assert!(status.contains("Type: regular"), "{path}: {status}");
    }
}

/// Nothing in it belongs to one machine, and nobody can log in.
fn is_no_machine_yet(pieces: &Pieces) {
    let machine_id = pieces.debugfs("stat /etc/machine-id");
    assert!(machine_id.contains("Size: 0"), "{machine_id}");
    let keys = pieces.debugfs("ls -p /etc/ssh");
    assert!(!keys.contains("ssh_host_"), "{keys}");
    assert!(keys.contains("sshd_config"), "{keys}");
    assert_eq!(pieces.debugfs("cat /etc/hostname"), "localhost\n");
    let shadow = pieces.debugfs("cat /etc/shadow");
    for line in shadow.lines() {
        let password = line.split(':').nth(1).expect("a password field");
        assert!(password.starts_with(['*', '!']), "{line}");
    }
    let logs = pieces.debugfs("ls -p /var/log");
    assert!(!logs.contains("dpkg.log"), "{logs}");
}

#[test]
fn holds_the_packages_that_it_lists() {
    let made = debian_base::bootstrapped(Architecture::X86_64);
    for name in [
        "containerd",
        "runc",
        "containernetworking-plugins",
        "cloud-init",
        "linux-image-cloud-amd64",
        "shim-signed",
    ] {
        let version = made.packages.get(name);
        assert!(
            version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())),
            "{name} {version:?}"
        );
    }
    assert!(made.packages.len() > 150, "{}", made.packages.len());
}
