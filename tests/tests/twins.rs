//! Twins of vendors' images: each is known for what it is, and baked as one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln::build::layout;
use nodekiln::disk::{OpenOptions, open_base};
use nodekiln::os::{self, Cgroups, Image, Os, PackageDatabase, Selinux};
use nodekiln::plan::Target;
use nodekiln::progress::Silent;
use nodekiln::volume::{Access, Timestamp};
use nodekiln_tests::command::Workshop;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{cut, text};
use nodekiln_tests::twins::{Packages, Partition, Role, TWINS, Twin};
use nodekiln_tests::units;

/// What is found in a twin, and which partition is what.
fn found(twin: &Twin) -> (Os, Vec<(Target, u32)>) {
    let disk = open_base(&twin.path(), &OpenOptions::default()).expect("an image");
    let layout = layout::find(&disk.storage, &Silent)
        .unwrap_or_else(|error| panic!("{}: {error}", twin.name));
    let volumes = layout
        .open(&disk.storage, Access::Read, Timestamp::default())
        .expect("opens");
    let mut image = Image::new(volumes).expect("has a root");
    let os = os::detect(&mut image).unwrap_or_else(|error| panic!("{}: {error}", twin.name));
    let numbers = layout.partitions();
    let numbers = numbers.iter().map(|(target, part)| (*target, part.number));
    (os, numbers.collect())
}

#[test]
fn every_twin_is_known_for_what_it_is() {
    for twin in &TWINS {
        let (os, numbers) = found(twin);
        let field = |name: &str| {
            let line = twin
                .os_release
                .lines()
                .find_map(|line| line.strip_prefix(name));
            line.expect("a field").trim_matches('"').to_owned()
        };
        assert_eq!(os.id, field("ID="), "{}", twin.name);
        assert_eq!(os.version_id, field("VERSION_ID="), "{}", twin.name);
        let release = os
            .system()
            .and_then(|system| system.release(&os.version_id));
        assert!(release.is_some(), "{} is supported", twin.name);

        let mut wanted = Vec::new();
        for part in twin.table {
            match part.role {
                Role::BiosBoot => {}
                Role::Esp(_) => wanted.push((Target::Esp, part.number)),
                Role::Boot(_) => wanted.push((Target::Boot, part.number)),
                Role::Root(_) => wanted.push((Target::Root, part.number)),
            }
        }
        wanted.sort_unstable();
        assert_eq!(numbers, wanted, "{}", twin.name);

        let (database, containerd) = match twin.packages {
            Packages::Dpkg => (PackageDatabase::Dpkg, None),
            Packages::Sqlite(list) | Packages::Berkeley(list) => {
                let first = list.lines().next().expect("a package");
                let version: Vec<&str> = first.split(' ').skip(1).collect();
                (PackageDatabase::Rpm, Some(version.join("-")))
            }
        };
        assert_eq!(os.packages, database, "{}", twin.name);
        let version = os.containerd.as_ref().and_then(|it| it.version.clone());
        match containerd {
            Some(containerd) => assert_eq!(version, Some(containerd), "{}", twin.name),
            None => assert!(version.is_some(), "{}", twin.name),
        }
        let selinux = match twin.selinux {
            None => Selinux::Absent,
            Some("enforcing") => Selinux::Enforcing,
            Some(_) => Selinux::Permissive,
        };
        assert_eq!(os.selinux, selinux, "{}", twin.name);
        let is_old = ["ubuntu-20.04", "rhel-8"].contains(&twin.name);
        assert_eq!(os.cgroups == Cgroups::V1, is_old, "{}", twin.name);
        assert!(!os.kernels.is_empty() && !os.cloud_init.is_empty());
        assert!(os.iptables.is_some() && os.conntrack.is_some() && !os.fips);
    }
}

/// More lines of the profile: the kernel's command line reaches what boots, wherever that
/// lies.
const MORE: &str = "  overlays: [common, linux]
  kernel:
    modules: [br_netfilter]
    commandLine: [systemd.unified_cgroup_hierarchy=1, panic=10]
  outputs:
    - format: raw
";

/// What is new in the list of units; of these only first boot starts by itself. Whatever
/// the system starts is left as it is.
const OWN_UNITS: [&str; 3] = [
    "kubelet.service - disabled",
    "nodekiln-firstboot.service - enabled",
    "runtime.slice - static",
];

/// Bakes a twin and has every partition judged by its own checker; gives the workshop,
/// and where the partitions were cut out to, by number.
fn baked(twin: &Twin) -> (Workshop, PathBuf) {
    let workshop = Workshop::empty();
    workshop.write_profile(text(&twin.path()), MORE);
    let built = workshop.built(&[]);
    workshop.nodekiln(&["verify", text(&built)]).succeeded();
    let image = built.join("small.raw");
    let table = run("sgdisk", &["-v", text(&image)]);
    assert!(table.contains("No problems found"), "sgdisk: {table}");
    let base = workshop.path("twin.raw");
    run(
        "qemu-img",
        &["convert", "-O", "raw", text(&twin.path()), text(&base)],
    );
    assert_same_start(&base, &image);
    for part in twin.table {
        let part_file = workshop.path(&format!("part-{}", part.number));
        cut_out(&image, part, &part_file);
        match part.role {
            Role::BiosBoot => {
                let before = workshop.path("bios-boot");
                cut_out(&base, part, &before);
                run("cmp", &[text(&before), text(&part_file)]);
            }
            Role::Esp(_) => drop(run("fsck.vfat", &["-n", text(&part_file)])),
            Role::Boot(make) | Role::Root(make) if make.starts_with("mkfs.xfs") => {
                drop(run("xfs_repair", &["-n", "-f", text(&part_file)]));
            }
            Role::Boot(_) | Role::Root(_) => drop(run("e2fsck", &["-fn", text(&part_file)])),
        }
    }
    let root = twin.partition(|role| matches!(role, Role::Root(_)));
    let before = workshop.path("root-before");
    cut_out(&base, root, &before);
    let changed = units::differences(
        &units::of_root(&before),
        &units::of_root(&workshop.path(&format!("part-{}", root.number))),
    );
    assert_eq!(changed, OWN_UNITS, "{}", twin.name);
    let boot = twin
        .table
        .iter()
        .find(|part| matches!(part.role, Role::Boot(_)))
        .unwrap_or(root);
    let boot = workshop.path(&format!("part-{}", boot.number));
    (workshop, boot)
}

/// Where `/boot` begins in the file system that holds it.
fn in_boot(twin: &Twin) -> &'static str {
    let is_separate = |part: &Partition| matches!(part.role, Role::Boot(_));
    if twin.table.iter().any(is_separate) {
        ""
    } else {
        "/boot"
    }
}

/// What the profile asks of the kernel's command line.
const ARGUMENTS: &str = "systemd.unified_cgroup_hierarchy=1 panic=10";

#[test]
fn every_twin_with_ext4_is_baked_and_sound() {
    for twin in TWINS.iter().filter(|twin| !twin.is_xfs()) {
        let (_workshop, boot) = baked(twin);
        let path = format!("{}/grub/grub.cfg", in_boot(twin));
        let config = run("debugfs", &["-R", &format!("cat {path}"), text(&boot)]);
        let line = config.lines().find(|line| line.starts_with("\tlinux\t"));
        let line = line.expect("starts a kernel");
        assert!(line.ends_with(ARGUMENTS), "{}: {line}", twin.name);
    }
}

#[test]
fn every_twin_with_xfs_is_baked_and_sound() {
    for twin in TWINS.iter().filter(|twin| twin.is_xfs()) {
        let (workshop, boot) = baked(twin);
        let mounted = |part: &Path, script: &str| {
            let point = workshop.path("mounted");
            fs::create_dir_all(&point).expect("creates");
            let script =
                format!("mount -o ro,loop,norecovery,nouuid \"$0\" \"$1\"; cd \"$1\"; {script}");
            let private = ["--mount", "--propagation", "private", "bash", "-euc"];
            let arguments = [&private[..], &[&script, text(part), text(&point)]].concat();
            run("unshare", &arguments)
        };
        let entries = format!("cat .{}/loader/entries/*.conf", in_boot(twin));
        let entries = mounted(&boot, &entries);
        let line = entries.lines().find(|line| line.starts_with("options "));
        let line = line.expect("a boot entry");
        assert!(line.ends_with(ARGUMENTS), "{}: {line}", twin.name);

        // The policy of the twin says bin_t below /usr/libexec, etc_t below /etc.
        let root = twin.partition(|role| matches!(role, Role::Root(_)));
        let root = workshop.path(&format!("part-{}", root.number));
        for (path, label) in [
            ("usr/libexec/nodekiln/firstboot", "bin_t"),
            ("usr/libexec/nodekiln", "bin_t"),
            ("etc/nodekiln-release", "etc_t"),
        ] {
            let ask = format!("getfattr --only-values -n security.selinux {path}");
            let found = mounted(&root, &ask);
            let wanted = format!("system_u:object_r:{label}:s0");
            assert_eq!(
                found.trim_end_matches('\0'),
                wanted,
                "{}: {path}",
                twin.name
            );
        }
    }
}

/// The boot code of the first sector is the base's.
fn assert_same_start(base: &Path, image: &Path) {
    let same = Command::new("cmp")
        .args(["-n", "440", text(base), text(image)])
        .status();
    assert!(same.expect("cmp starts").success());
}

fn cut_out(image: &Path, part: &Partition, to: &Path) {
    let size = (part.last - part.first + 1) * 512;
    cut(image, part.first * 512, size, to);
}
