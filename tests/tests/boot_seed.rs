//! Seeds as cloud-init and independent readers see them, and a true boot of a
//! small guest in QEMU.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nodekiln_qemu::{
    AcceleratorChoice, AcceleratorKind, BootOptions, DirectKernel, FirmwareChoice, Format,
    Milestones, Network, Observer, Part, Seed, Standing, Unwatched, boot, guest_command,
};

const NODE_CONFIG: &str = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  \
    cluster: {name: käfig, region: eu-central-1}\n";
const CLOUD_CONFIG: &str = "#cloud-config\nruncmd:\n  - [echo, grüße]\n";

fn seed() -> Seed {
    Seed {
        hostname: Some("node-1.example.com".to_owned()),
        parts: vec![Part::of_cloud_init(CLOUD_CONFIG).expect("cloud-config")],
        time: 1_700_000_000,
        ..Seed::of_node_config(NODE_CONFIG)
    }
}

fn whole_seed() -> Seed {
    Seed {
        network_config: Some(b"version: 2\nethernets: {}\n".to_vec()),
        vendor_data: Some(b"#cloud-config\n{}\n".to_vec()),
        ..seed()
    }
}

fn written(seed: &Seed, format: Format) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seed.iso");
    seed.write(format, &path).expect("written");
    (folder, path)
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} must be installed: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    // isoinfo complains here and ends well.
    for sign in ["WARNING", "FAILURE", "SORRY", "rror:"] {
        assert!(!stderr.contains(sign), "{command:?}\n{stderr}");
    }
    stdout + &stderr
}

fn isoinfo(image: &Path, arguments: &[&str]) -> String {
    run(Command::new("isoinfo").arg("-i").arg(image).args(arguments))
}

fn extract(image: &Path, target: &Path) {
    run(Command::new("xorriso")
        .args(["-abort_on", "WARNING", "-osirrox", "on", "-indev"])
        .arg(image)
        .args(["-extract", "/"])
        .arg(target));
    run(Command::new("chmod").args(["-R", "u+rwX"]).arg(target));
}

#[test]
fn isoinfo_reads_all_three_names() {
    let (_folder, image) = written(&whole_seed(), Format::NoCloud);
    let header = isoinfo(&image, &["-d"]);
    assert!(header.contains("Volume id: cidata"), "{header}");
    assert!(header.contains("Joliet with UCS level 3 found"), "{header}");
    assert!(
        header.contains("Rock Ridge signatures version 1 found"),
        "{header}"
    );

    for names in ["-J", "-R"] {
        let listing = isoinfo(&image, &[names, "-f"]);
        let mut listed: Vec<&str> = listing.lines().collect();
        listed.sort_unstable();
        assert_eq!(
            listed,
            [
                "/meta-data",
                "/network-config",
                "/user-data",
                "/vendor-data"
            ]
        );
        let user_data = isoinfo(&image, &[names, "-x", "/user-data"]);
        assert_eq!(
            user_data.as_bytes(),
            whole_seed().user_data().expect("made")
        );
    }
    let plain = isoinfo(&image, &["-f"]);
    assert!(plain.contains("/META_DATA.;1"), "{plain}");
    let long = isoinfo(&image, &["-R", "-l"]);
    assert!(long.contains("-r--------"), "for root only:\n{long}");
    assert!(
        long.contains("Nov 14 2023"),
        "the time that was given:\n{long}"
    );
}

#[test]
fn xorriso_extracts_a_config_drive() {
    let (folder, image) = written(&seed(), Format::ConfigDrive);
    let told = run(Command::new("xorriso")
        .args(["-abort_on", "WARNING", "-indev"])
        .arg(&image)
        .arg("-toc"));
    assert!(told.contains("'config-2'"), "{told}");
    let target = folder.path().join("out");
    extract(&image, &target);
    let read = |name: &str| std::fs::read(target.join("openstack/latest").join(name));
    let meta_data: serde_json::Value =
        serde_json::from_slice(&read("meta_data.json").expect("there")).expect("JSON");
    assert_eq!(meta_data["uuid"], seed().instance_id.as_str());
    assert_eq!(meta_data["hostname"], "node-1.example.com");
    assert_eq!(
        read("user_data").expect("there"),
        seed().user_data().expect("made")
    );
}

#[test]
fn blkid_finds_the_labels_that_cloud_init_looks_for() {
    for (format, label) in [
        (Format::NoCloud, "cidata"),
        (Format::ConfigDrive, "config-2"),
    ] {
        let (_folder, image) = written(&seed(), format);
        let told = run(Command::new("/sbin/blkid")
            .args(["-p", "-o", "export"])
            .arg(&image));
        assert!(told.contains(&format!("LABEL={label}\n")), "{told}");
        assert!(told.contains("TYPE=iso9660\n"), "{told}");
    }
}

#[test]
fn files_of_a_seed_may_be_empty_or_large() {
    let large = Seed {
        vendor_data: Some(vec![b'x'; 3_000_000]),
        network_config: Some(Vec::new()),
        ..seed()
    };
    let (folder, image) = written(&large, Format::NoCloud);
    let target = folder.path().join("out");
    extract(&image, &target);
    let length = |name: &str| target.join(name).metadata().expect("there").len();
    assert_eq!(
        (length("vendor-data"), length("network-config")),
        (3_000_000, 0)
    );
}

/// Reads the seeds with cloud-init's own data sources and prints what it
/// understood, and what it complained about.
const ASK_CLOUD_INIT: &str = r#"
import json, logging, sys
from cloudinit import distros, helpers, user_data, util
from cloudinit.sources import DataSourceNoCloud
from cloudinit.sources.helpers import openstack

folder = sys.argv[1]
heard = []
class Ear(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
logging.getLogger().addHandler(Ear())

def text(data):
    return data if isinstance(data, str) else data.decode()

paths = helpers.Paths({"cloud_dir": folder + "/cloud", "run_dir": folder + "/run"})
distro = distros.fetch("debian")("debian", {}, paths)
source = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {}}}, distro, paths)
found = source._get_data()
drive = openstack.ConfigDriveReader(folder + "/drive").read_v2()
parts = [
    [part.get_content_type(), part.get_payload()]
    if part.get_content_type() == "application/node.eks.aws"
    else [part.get_content_type(), text(util.fully_decoded_payload(part))]
    for part in user_data.UserDataProcessor(paths).process(source.userdata_raw).walk()
    if not part.is_multipart()
]
print(json.dumps({
    "found": found,
    "instance": source.metadata["instance-id"],
    "hostname": source.metadata["local-hostname"],
    "network": source._network_config,
    "drive": [drive["metadata"]["uuid"], drive["metadata"]["hostname"]],
    "same": text(drive["userdata"]) == text(source.userdata_raw),
    "parts": parts,
    "heard": heard,
}))
"#;

const CLOUD_INIT_PACKAGES: &[&str] = &[
    "cloud-init",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-configobj",
    "python3-idna",
    "python3-jinja2",
    "python3-json-pointer",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-markupsafe",
    "python3-netifaces",
    "python3-oauthlib",
    "python3-pkg-resources",
    "python3-pyrsistent",
    "python3-requests",
    "python3-serial",
    "python3-six",
    "python3-urllib3",
    "python3-yaml",
];

fn cloud_init(arguments: &[&str]) -> String {
    let packages = unpacked(CLOUD_INIT_PACKAGES);
    // They are for the distribution's Python.
    run(Command::new("/usr/bin/python3")
        .env("PYTHONPATH", packages.join("usr/lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(arguments))
}

#[test]
fn cloud_init_understands_both_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(place("cloud/seed")).expect("created");
    let (_one, no_cloud) = written(&whole_seed(), Format::NoCloud);
    let (_two, drive) = written(&seed(), Format::ConfigDrive);
    extract(&no_cloud, &place("cloud/seed/nocloud"));
    extract(&drive, &place("drive"));

    let told = cloud_init(&["-c", ASK_CLOUD_INIT, folder.path().to_str().expect("UTF-8")]);
    let told = told.lines().last().expect("an answer");
    let told: serde_json::Value = serde_json::from_str(told).expect("JSON");
    assert_eq!(told["found"], true, "{told}");
    assert_eq!(told["instance"], seed().instance_id.as_str());
    assert_eq!(told["hostname"], "node-1.example.com");
    assert_eq!(told["network"]["version"], 2);
    assert_eq!(told["drive"][0], seed().instance_id.as_str());
    assert_eq!(told["same"], true);
    assert_eq!(
        told["parts"],
        serde_json::json!([
            ["application/node.eks.aws", NODE_CONFIG],
            ["text/cloud-config", CLOUD_CONFIG]
        ])
    );
    assert_eq!(told["heard"], serde_json::json!([]), "no warnings");
}

#[test]
fn a_small_guest_boots_reads_its_seed_and_runs_commands() {
    #[derive(Default)]
    struct Watcher(Vec<String>);
    impl Observer for Watcher {
        fn on_line(&mut self, _: Duration, line: &str) {
            self.0.push(line.to_owned());
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image.raw");
    std::fs::write(&image, vec![0x5a; 1 << 20]).expect("written");
    let options = BootOptions {
        image: Some(image.clone()),
        disk_size: Some(8 << 20),
        serial_number: Some("serial,number".to_owned()),
        ..small_guest()
    };
    let mut watcher = Watcher::default();
    let report = boot(&options, &mut watcher).expect("boots");

    assert!(report.passed);
    for milestone in &report.milestones {
        assert_eq!(milestone.standing, Standing::Reached, "{milestone:?}");
        assert!(milestone.seconds.expect("a time") < milestone.deadline);
    }
    let seconds = |name: &str| report.milestone(name).expect("known").seconds;
    assert!(seconds("kernel") < seconds("done"));
    assert!(
        watcher
            .0
            .iter()
            .any(|line| line.contains("Linux version 6.1"))
    );
    assert!(
        !watcher
            .0
            .iter()
            .any(|line| line.chars().any(char::is_control))
    );
    // The guest wrote to its disk, which is larger than the image; the image did
    // not change.
    assert_eq!(report.guest["disk"].output, "written 8388608\n");
    let bytes = std::fs::read(&image).expect("read");
    assert!(bytes.len() == 1 << 20 && bytes.iter().all(|byte| *byte == 0x5a));
    assert_eq!(report.guest["serial"].output, "serial,number\n");
    assert_eq!(report.guest["fails"].code, 3);
    // Linux sees the Rock Ridge names and modes.
    assert_eq!(
        report.guest["files"].output,
        "400 /mnt/meta-data\n400 /mnt/user-data\n"
    );

    // The commands come as a script beside the site's own cloud-config, which is
    // valid.
    let user_data = &report.guest["user-data"].output;
    assert!(user_data.contains("text/x-shellscript"), "{user_data}");
    let path = folder.path().join("cloud-config");
    std::fs::write(&path, CLOUD_CONFIG).expect("written");
    let path = path.to_str().expect("UTF-8");
    let verdict = cloud_init(&["-m", "cloudinit.cmd.main", "schema", "--config-file", path]);
    assert!(verdict.contains("Valid cloud-config"), "{verdict}");
}

#[test]
fn an_empty_disk_is_told_from_a_broken_guest() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image.raw");
    std::fs::write(&image, vec![0; 1 << 20]).expect("written");
    for (firmware, reason) in [
        (FirmwareChoice::Bios, "nothing to boot"),
        (FirmwareChoice::Uefi, "no boot loader"),
    ] {
        let options = BootOptions {
            firmware,
            image: Some(image.clone()),
            direct_kernel: None,
            guest_commands: Vec::new(),
            milestones: Milestones::login(),
            ..small_guest()
        };
        let error = boot(&options, &mut Unwatched).expect_err("there is nothing");
        assert!(
            error.to_string().contains(reason),
            "{error}\n{:?}",
            error.report()
        );
        assert!(error.hint().is_some());
        let report = error.report().expect("a report");
        let firmware = report.milestone("firmware").expect("known");
        assert_eq!(firmware.standing, Standing::Reached);
    }
}

/// `/dev/kvm` may be there and be of no use. That is found out in seconds, and
/// the guest boots either way.
#[test]
fn the_accelerator_is_probed_not_believed() {
    let options = BootOptions {
        accelerator: AcceleratorChoice::Auto,
        ..small_guest()
    };
    let start = Instant::now();
    let report = boot(&options, &mut Unwatched).expect("boots");
    let beside = start.elapsed().as_secs_f64() - report.seconds;
    assert!(beside < 30.0, "{beside} s beside the boot");
    if !Path::new("/dev/kvm").exists() {
        assert_eq!(report.accelerator.kind, AcceleratorKind::Tcg);
    }
    assert!(!report.accelerator.reason.is_empty());
}

/// A kernel of Debian, with an init that plays a node.
fn small_guest() -> BootOptions {
    let (kernel, initrd) = small_guest_files();
    BootOptions {
        direct_kernel: Some(DirectKernel {
            kernel,
            initrd: Some(initrd),
            command_line: "console=ttyS0 panic=-1".to_owned(),
        }),
        seed: Some((seed(), Format::NoCloud)),
        guest_commands: vec![
            guest_command("user-data", "cat /mnt/user-data"),
            guest_command("files", "stat -c '%a %n' /mnt/*"),
            guest_command("serial", "cat /sys/class/dmi/id/product_serial"),
            guest_command(
                "disk",
                "dd if=/dev/zero of=/dev/vda bs=512 count=16 conv=fsync 2>/dev/null && \
                 echo written $(( $(cat /sys/block/vda/size) * 512 ))",
            ),
            guest_command("fails", "exit 3"),
        ],
        accelerator: AcceleratorChoice::Tcg,
        network: Network::None,
        memory_mib: 512,
        // Test machines are shared.
        timeout_scale: 4.0,
        ..BootOptions::default()
    }
}

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
echo 'systemd[1]: played by busybox'
echo -e '[\033[0;32m  OK  \033[0m] Reached target \033[0;1;39mnetwork-online.target\033[0m - Network is Online.'
echo 'nodekiln-firstboot: started'
for disk in /dev/vda /dev/vdb; do
    mount -t iso9660 -o ro "$disk" /mnt 2>/dev/null && break
done
[ -f /mnt/user-data ] || { echo 'nodekiln-firstboot: failed: no seed'; sleep 1000; }
echo 'nodekiln-firstboot: node configuration from the seed cidata'
echo 'nodekiln-firstboot: containerd is active'
echo 'nodekiln-firstboot: kubelet is active'
echo 'nodekiln-firstboot: done in 0.1 s'
grep '^echo .*base64 -d' /mnt/user-data | cut -d' ' -f2 | base64 -d > /run.sh
sh /run.sh
sleep 1000
"#;

/// In the order in which they need each other.
const MODULES: [&str; 8] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/cdrom/cdrom.ko",
    "fs/isofs/isofs.ko",
];

fn small_guest_files() -> (PathBuf, PathBuf) {
    let depends = run(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let version = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .expect("the kernel's own package");
    let root = unpacked(&[&format!("linux-image-{version}"), "busybox-static"]);
    let read = |path: &str| std::fs::read(root.join(path)).expect(path);
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "sys", "dev", "mnt", "tmp", "modules"] {
        archive.add(folder, 0o040_755, b"");
    }
    archive.add("init", 0o100_755, INIT.as_bytes());
    archive.add("bin/busybox", 0o100_755, &read("bin/busybox"));
    for (number, module) in MODULES.iter().enumerate() {
        let bytes = read(&format!("lib/modules/{version}/kernel/{module}"));
        archive.add(&format!("modules/{number}.ko"), 0o100_644, &bytes);
    }
    // Another test may write the same at the same time.
    let mut temporary = tempfile::NamedTempFile::new_in(&root).expect("a file");
    std::io::Write::write_all(&mut temporary, &archive.end()).expect("written");
    let initrd = root.join("initrd");
    temporary.persist(&initrd).expect("renamed");
    (root.join(format!("boot/vmlinuz-{version}")), initrd)
}

/// A cpio archive of the kind "newc", as the kernel wants it (its
/// documentation, `buffer-format.rst`).
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let mut header = "070701".to_owned();
        let number = self.0.len() + 1;
        for field in [
            number,
            mode as usize,
            0, // owner
            0, // group
            1, // links
            0, // time
            content.len(),
            0, // device
            0,
            0, // device that a device node stands for
            0,
            name.len() + 1,
            0, // checksum
        ] {
            write!(header, "{field:08x}").expect("a string takes all");
        }
        self.0.extend(header.as_bytes());
        self.0.extend(name.as_bytes());
        self.0.push(0);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.0
    }
}

/// Debian packages, unpacked but not installed; kept between runs under the name
/// of the first.
fn unpacked(packages: &[&str]) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = cache.join(packages[0]);
    let lock = File::create(cache.join(format!("{}.lock", packages[0]))).expect("a lock");
    lock.lock().expect("locked");
    if root.is_dir() {
        return root;
    }
    let downloads = tempfile::tempdir_in(cache).expect("a folder");
    run(Command::new("apt-get")
        .current_dir(downloads.path())
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages));
    let fresh = downloads.path().join("root");
    for entry in std::fs::read_dir(downloads.path()).expect("read") {
        let path = entry.expect("read").path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(path).arg(&fresh));
        }
    }
    std::fs::rename(&fresh, &root).expect("renamed");
    root
}
