//! What cloud-init starts on a machine of a baked image, as its own generator says:
//! `ds-identify` of Debian 12 and of Debian's newest cloud-init.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::judges::judge;
use nodekiln_tests::program;
use nodekiln_tests::small_base::{self, Shape};
use tempfile::TempDir;

/// The generators that are asked.
const GENERATORS: [&str; 2] = ["ds-identify", "ds-identify-sid"];
/// As an AMI has it.
const AMI: &str = "datasource_list: [ Ec2, None ]\n";
/// As no cloud's image has it: the generator has a list of its own then.
const GENERIC: &str = "users: [default]\n";

/// Where a machine of an image is started.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Where there is neither a seed nor a cloud.
    Nowhere,
    /// Where a disk with a NoCloud seed is plugged in.
    Seeded,
    /// In EC2.
    Ec2,
    /// In an OpenStack that says so.
    OpenStack,
}

impl Place {
    /// What the firmware says, in the files of `/sys/class/dmi/id`.
    fn firmware(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Nowhere | Self::Seeded => &[("sys_vendor", "QEMU")],
            Self::Ec2 => &[
                ("sys_vendor", "Amazon EC2"),
                ("product_uuid", "ec2d7e9a-0f57-4b4e-9d2b-0c8a2f6b3c11"),
                ("product_serial", "ec2d7e9a-0f57-4b4e-9d2b-0c8a2f6b3c11"),
            ],
            Self::OpenStack => &[("product_name", "OpenStack Nova")],
        }
    }

    /// What `blkid` says of its disks.
    fn disks(self) -> &'static str {
        match self {
            Self::Seeded => "DEVNAME=/dev/vdb\nLABEL=cidata\nTYPE=iso9660\n",
            _ => "DEVNAME=/dev/vda1\nLABEL=cloudimg-rootfs\nTYPE=ext4\n",
        }
    }
}

/// What the generator decided.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// cloud-init does not run.
    Off,
    /// It asks these.
    Asks(String),
    /// It asks all that are configured.
    AsksAll,
}

fn asks(list: &str) -> Decision {
    Decision::Asks(list.to_owned())
}

/// Has `generator` look at a machine whose root is a copy of `etc/cloud` of `root`.
fn decide(generator: &Path, root: &Path, machine: &str, place: Place) -> Decision {
    let folder = TempDir::new().expect("a folder");
    let (own, programs) = (folder.path().join("root"), folder.path().join("programs"));
    fs::create_dir_all(own.join("etc")).expect("creates");
    program::run(
        "cp",
        &[
            "-a",
            small_base::text(&root.join("etc/cloud")),
            small_base::text(&own.join("etc")),
        ],
    );
    let firmware = own.join("sys/class/dmi/id");
    fs::create_dir_all(&firmware).expect("creates");
    for (name, value) in place.firmware() {
        fs::write(firmware.join(name), format!("{value}\n")).expect("writes");
    }
    fs::create_dir(&programs).expect("creates");
    for (name, says) in [
        (
            "uname",
            format!("Linux node 6.1.0 #1 SMP {machine} GNU/Linux\n"),
        ),
        ("blkid", place.disks().to_owned()),
        ("systemd-detect-virt", "kvm\n".to_owned()),
    ] {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{says}END\n")).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("sets");
    }
    let output = Command::new("/bin/sh")
        .arg(generator)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("PATH_ROOT", &own)
        .env("DI_LOG", "stderr")
        .output()
        .expect("a shell is there");
    let told = fs::read_to_string(own.join("run/cloud-init/cloud.cfg"));
    let told = told.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let list = told.lines().find_map(|line| {
        let list = line.strip_prefix("datasource_list: [")?;
        Some(list.strip_suffix(']')?.trim().to_owned())
    });
    match (output.status.code(), list) {
        (Some(1), _) => Decision::Off,
        (Some(0), Some(list)) if !list.is_empty() => Decision::Asks(list),
        (Some(0), _) if told.contains("notfound=enabled") => Decision::AsksAll,
        _ => panic!("{}: {output:?}", generator.display()),
    }
}

/// Images before and after a bake, as folders.
struct Baked {
    _workshop: Workshop,
    base: PathBuf,
    image: PathBuf,
}

/// Bakes a base whose cloud-init has this configuration.
fn bake(architecture: &str, configuration: &str) -> Baked {
    let of_architecture = |folder: &Path| {
        if architecture == "arm64" {
            small_base::turn_to_arm64(folder);
        }
    };
    let workshop = Workshop::with(&Shape::default(), |root| {
        for (path, content) in [
            ("usr/lib/cloud-init/ds-identify", "#!/bin/sh\n"),
            ("etc/cloud/cloud.cfg", configuration),
        ] {
            let path = root.join(path);
            let parent = path.parent().expect("has a folder");
            fs::create_dir_all(parent).expect("creates");
            fs::write(path, content).expect("writes");
        }
        of_architecture(root);
    });
    of_architecture(&workshop.path("components"));
    of_architecture(&workshop.path("firstboot"));
    let more = format!("  architecture: {architecture}\n  outputs:\n    - format: raw\n");
    workshop.write_profile("base.raw", &more);
    let built = workshop.built(&[]);
    Baked {
        base: workshop.path("tree"),
        image: workshop.root_of(&built),
        _workshop: workshop,
    }
}

#[test]
fn on_both_architectures_an_image_asks_for_what_is_there() {
    for (architecture, machine) in [("x86_64", "x86_64"), ("arm64", "aarch64")] {
        let ami = bake(architecture, AMI);
        for generator in GENERATORS.map(judge) {
            let decide = |root: &Path, place| decide(&generator, root, machine, place);
            // Without a bake it waits for EC2 even where there is a seed.
            assert_eq!(decide(&ami.base, Place::Seeded), asks("Ec2, None"));
            for (place, wanted) in [
                (Place::Nowhere, Decision::Off),
                (Place::Seeded, asks("NoCloud, None")),
                (Place::Ec2, asks("Ec2, None")),
            ] {
                assert_eq!(decide(&ami.image, place), wanted, "{machine}, {place:?}");
            }
        }
    }
}

#[test]
fn an_image_for_arm64_does_not_ask_everybody() {
    let generic = bake("arm64", GENERIC);
    let before = [Decision::AsksAll, Decision::Off];
    for (generator, before) in GENERATORS.map(judge).iter().zip(before) {
        let decide = |root: &Path, place| decide(generator, root, "aarch64", place);
        assert_eq!(decide(&generic.base, Place::Nowhere), before);
        for (place, wanted) in [
            (Place::Nowhere, Decision::Off),
            (Place::Seeded, asks("NoCloud, None")),
            (Place::Ec2, asks("Ec2, None")),
            (Place::OpenStack, asks("OpenStack, None")),
        ] {
            assert_eq!(decide(&generic.image, place), wanted, "{place:?}");
        }
    }
}
