//! Seeds and config drives made by the programs that people use, read by the
//! program that joins the machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_firstboot::datasource::{
    FindError, LinuxMachine, Machine as _, Options, Source, find, iso9660::Iso9660, vfat::Vfat,
};
use nodekiln_firstboot::node_config;
use nodekiln_firstboot::system::Linux;
use tempfile::TempDir;

const CONFIG: &str = "apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: farm, region: eu-central-1}
  hybrid: {}
";

/// Runs a program that must succeed, and gives what it prints.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

/// A folder with the files of a NoCloud seed.
fn seed_files(folder: &Path, user_data: &[u8]) -> PathBuf {
    let files = folder.join("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("user-data"), user_data).unwrap();
    fs::write(files.join("meta-data"), "instance-id: node-1\n").unwrap();
    files
}

/// A folder that looks like the root of a machine with these devices.
fn machine(folder: &Path, devices: &[(&str, &Path)]) -> LinuxMachine {
    let root = folder.join("root");
    for path in ["sys/class/block", "dev", "proc"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("proc/cmdline"), "quiet\n").unwrap();
    for (name, image) in devices {
        let node = root.join("sys/class/block").join(name);
        fs::create_dir_all(&node).unwrap();
        let sectors = fs::metadata(image).unwrap().len() / 512;
        fs::write(node.join("size"), format!("{sectors}\n")).unwrap();
        fs::hard_link(image, root.join("dev").join(name)).unwrap();
    }
    LinuxMachine::new(root)
}

fn genisoimage(image: &Path, files: &Path, label: &str, options: &[&str]) {
    let arguments = [
        &["-quiet", "-V", label],
        options,
        &["-o", text(image), text(files)],
    ];
    run("genisoimage", &arguments.concat());
}

fn xorriso(image: &Path, files: &Path, options: &[&str]) {
    let first = ["-as", "mkisofs", "-quiet", "-V", "CIDATA"];
    run(
        "xorriso",
        &[&first, options, &["-o", text(image), text(files)]].concat(),
    );
}

fn cloud_localds(image: &Path, files: &Path, options: &[&str]) {
    let (user_data, meta_data) = (files.join("user-data"), files.join("meta-data"));
    let last = [text(image), text(&user_data), text(&meta_data)];
    run("cloud-localds", &[options, &last].concat());
}

fn make_fat(image: &Path, files: &Path, bits: &str, kibibytes: &str) {
    let options = ["--invariant", "-F", bits, "-s", "1", "-n", "CIDATA", "-C"];
    run(
        "mkfs.vfat",
        &[&options[..], &[text(image), kibibytes]].concat(),
    );
    let (user_data, meta_data) = (files.join("user-data"), files.join("meta-data"));
    run(
        "mcopy",
        &["-i", text(image), text(&user_data), text(&meta_data), "::"],
    );
    run("fsck.vfat", &["-n", text(image)]);
}

#[test]
fn seeds_of_every_writer_are_found() {
    type Writer = fn(&Path, &Path);
    let writers: [(&str, Writer); 12] = [
        ("names of level 1", |image, files| {
            genisoimage(image, files, "cidata", &[]);
        }),
        ("names of level 3", |image, files| {
            genisoimage(image, files, "cidata", &["-iso-level", "3"]);
        }),
        ("Joliet", |image, files| {
            genisoimage(image, files, "cidata", &["-J"]);
        }),
        ("Rock Ridge", |image, files| {
            genisoimage(image, files, "cidata", &["-R"]);
        }),
        ("both", |image, files| {
            genisoimage(image, files, "cidata", &["-J", "-r"]);
        }),
        ("xorriso", |image, files| xorriso(image, files, &[])),
        ("xorriso, Joliet alone", |image, files| {
            xorriso(image, files, &["-J", "--norock"]);
        }),
        ("cloud-localds, ISO", |image, files| {
            cloud_localds(image, files, &[]);
        }),
        ("cloud-localds, FAT", |image, files| {
            cloud_localds(image, files, &["-f", "vfat"]);
        }),
        ("FAT12", |image, files| make_fat(image, files, "12", "64")),
        ("FAT16", |image, files| make_fat(image, files, "16", "8192")),
        ("FAT32", |image, files| {
            make_fat(image, files, "32", "65536");
        }),
    ];
    let folder = TempDir::new().unwrap();
    let files = seed_files(folder.path(), CONFIG.as_bytes());
    for (name, write) in writers {
        let place = TempDir::new_in(folder.path()).unwrap();
        let image = place.path().join("seed.img");
        write(&image, &files);
        let machine = machine(place.path(), &[("vdb", &image)]);
        let found = find(&Options::default(), &machine, &Linux::new())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(found.source, Source::NoCloud, "{name}");
        assert_eq!(found.documents[0].bytes, CONFIG.as_bytes(), "{name}");
        assert_eq!(
            found.load().unwrap().config.spec.cluster.name,
            "farm",
            "{name}"
        );
    }
}

#[test]
fn config_drives_are_found() {
    let folder = TempDir::new().unwrap();
    let files = folder.path().join("files");
    fs::create_dir_all(files.join("openstack/latest")).unwrap();
    fs::write(files.join("openstack/latest/user_data"), CONFIG).unwrap();
    fs::write(files.join("openstack/latest/meta_data.json"), "{}").unwrap();
    for options in [&[][..], &["-R"], &["-J"]] {
        let place = TempDir::new_in(folder.path()).unwrap();
        let image = place.path().join("drive.iso");
        genisoimage(&image, &files, "config-2", options);
        let found = find(
            &Options::default(),
            &machine(place.path(), &[("sr0", &image)]),
            &Linux::new(),
        )
        .unwrap();
        assert_eq!(found.source, Source::ConfigDrive, "{options:?}");
        assert_eq!(found.documents[0].bytes, CONFIG.as_bytes(), "{options:?}");
    }
    let image = folder.path().join("drive.img");
    run("mkfs.vfat", &["-n", "CONFIG-2", "-C", text(&image), "2048"]);
    run(
        "mcopy",
        &[
            "-s",
            "-i",
            text(&image),
            text(&files.join("openstack")),
            "::",
        ],
    );
    let found = find(
        &Options::default(),
        &machine(folder.path(), &[("vdc1", &image)]),
        &Linux::new(),
    )
    .unwrap();
    assert_eq!(
        found.origin,
        "openstack/latest/user_data on /dev/vdc1 (vfat, CONFIG-2)"
    );
    assert_eq!(found.documents[0].bytes, CONFIG.as_bytes());
}

#[test]
fn two_seeds_are_refused_with_both_names() {
    let folder = TempDir::new().unwrap();
    let files = seed_files(folder.path(), CONFIG.as_bytes());
    let (iso, fat) = (
        folder.path().join("seed.iso"),
        folder.path().join("seed.img"),
    );
    genisoimage(&iso, &files, "cidata", &["-r"]);
    make_fat(&fat, &files, "12", "1440");
    let machine = machine(folder.path(), &[("sr0", &iso), ("vdb", &fat)]);
    let error = find(&Options::default(), &machine, &Linux::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NoCloud seed: several volumes are labelled cidata: /dev/sr0 (iso9660, cidata), \
         /dev/vdb (vfat, CIDATA)"
    );
}

#[test]
fn large_files_come_whole_or_not_at_all() {
    const LIMIT: u64 = 16 << 20;
    let folder = TempDir::new().unwrap();
    let exact: Vec<u8> = (0..16u32 << 20).map(|index| (index % 251) as u8).collect();
    for (bytes, fits) in [(exact.clone(), true), ([&exact[..], b"x"].concat(), false)] {
        let place = TempDir::new_in(folder.path()).unwrap();
        let files = seed_files(place.path(), &bytes);
        let (iso, fat) = (place.path().join("seed.iso"), place.path().join("seed.img"));
        genisoimage(&iso, &files, "cidata", &["-r"]);
        make_fat(&fat, &files, "16", "20480");
        let iso_volume = Iso9660::open(fs::File::open(&iso).unwrap())
            .unwrap()
            .unwrap();
        let fat_volume = Vfat::open(fs::File::open(&fat).unwrap()).unwrap().unwrap();
        for read in [
            iso_volume.read("user-data", LIMIT),
            fat_volume.read("user-data", LIMIT),
        ] {
            match read {
                Ok(found) => assert!(fits && found.as_deref() == Some(&bytes[..])),
                Err(error) => {
                    assert!(!fits, "{error}");
                    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
                }
            }
        }
        if !fits {
            let machine = machine(place.path(), &[("sr0", &iso)]);
            let error = find(&Options::default(), &machine, &Linux::new()).unwrap_err();
            assert!(
                error.to_string().ends_with("is larger than 16 MiB"),
                "{error}"
            );
        }
    }
}

#[test]
fn long_names_and_fragments_are_read() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("seed.img");
    run(
        "mkfs.vfat",
        &[
            "-F",
            "12",
            "-s",
            "1",
            "-n",
            "CIDATA",
            "-C",
            text(&image),
            "256",
        ],
    );
    let filler = folder.path().join("filler");
    fs::write(&filler, [1; 512]).unwrap();
    let name = |index: usize| format!("a rather long name of a file that only fills {index}");
    for index in 0..40 {
        run(
            "mcopy",
            &[
                "-i",
                text(&image),
                text(&filler),
                &format!("::{}", name(index)),
            ],
        );
    }
    for index in (0..40).step_by(2) {
        run("mdel", &["-i", text(&image), &format!("::{}", name(index))]);
    }
    // Larger than any hole left, so that its chain jumps.
    let data: Vec<u8> = (0..90_000u32).map(|index| (index % 253) as u8).collect();
    let file = folder.path().join("data");
    fs::write(&file, &data).unwrap();
    run("mcopy", &["-i", text(&image), text(&file), "::user-data"]);
    run("fsck.vfat", &["-n", text(&image)]);
    let volume = Vfat::open(fs::File::open(&image).unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(volume.label(), "CIDATA");
    assert_eq!(
        volume.read("USER-DATA", 1 << 20).unwrap().as_deref(),
        Some(&data[..])
    );
    assert_eq!(
        volume.read(&name(13), 1 << 20).unwrap().as_deref(),
        Some(&[1; 512][..])
    );
    assert_eq!(volume.read(&name(12), 1 << 20).unwrap(), None);
}

#[test]
fn images_cut_anywhere_are_refused_quietly() {
    let folder = TempDir::new().unwrap();
    let files = seed_files(folder.path(), CONFIG.as_bytes());
    let (iso, fat) = (
        folder.path().join("seed.iso"),
        folder.path().join("seed.img"),
    );
    genisoimage(&iso, &files, "cidata", &["-J", "-r"]);
    make_fat(&fat, &files, "12", "64");
    let (iso, fat) = (fs::read(&iso).unwrap(), fs::read(&fat).unwrap());
    let mut whole = 0;
    for length in (0..iso.len().min(128 << 10)).step_by(1021) {
        if let Ok(Some(volume)) = Iso9660::open(&iso[..length])
            && let Ok(Some(bytes)) = volume.read("user-data", 1 << 20)
        {
            assert_eq!(bytes, CONFIG.as_bytes());
            whole += 1;
        }
    }
    for length in (0..fat.len()).step_by(509) {
        if let Ok(Some(volume)) = Vfat::open(&fat[..length])
            && let Ok(Some(bytes)) = volume.read("user-data", 1 << 20)
        {
            assert_eq!(bytes, CONFIG.as_bytes());
            whole += 1;
        }
    }
    assert!(whole > 0);
}

#[test]
fn files_of_the_machine_are_read_with_their_trust() {
    let folder = TempDir::new().unwrap();
    let machine = machine(folder.path(), &[]);
    let instance = folder.path().join("root/var/lib/cloud/instance");
    fs::create_dir_all(&instance).unwrap();
    let file = instance.join("user-data.txt");
    fs::write(&file, CONFIG).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        find(&Options::default(), &machine, &Linux::new())
            .unwrap()
            .source,
        Source::CloudInit
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(
        find(&Options::default(), &machine, &Linux::new()),
        Err(FindError::Refused {
            source_kind: Source::CloudInit,
            ..
        })
    ));
    fs::remove_file(&file).unwrap();
    // A pipe must not be waited for.
    run("mkfifo", &[text(&file)]);
    assert!(matches!(
        find(&Options::default(), &machine, &Linux::new()),
        Err(FindError::Refused { .. })
    ));
    fs::remove_file(&file).unwrap();
    fs::write(
        folder.path().join("root/proc/cmdline"),
        "nodekiln.config=/given.yaml\n",
    )
    .unwrap();
    fs::write(folder.path().join("root/given.yaml"), CONFIG).unwrap();
    assert_eq!(
        find(&Options::default(), &machine, &Linux::new())
            .unwrap()
            .source,
        Source::NamedFile
    );
    assert!(machine.read_file(Path::new("/given.yaml"), 3).is_err());
}

/// User data as people put it together for cloud-init and nodeadm.
#[test]
fn messages_of_other_programs_are_read() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let other = CONFIG
        .replace("farm", "barn")
        .replace("  hybrid: {}\n", "  kubelet: {flags: [--v=2]}\n");
    fs::write(path("first.yaml"), CONFIG).unwrap();
    fs::write(path("second.yaml"), &other).unwrap();
    fs::write(path("cloud.yaml"), "#cloud-config\npackages: []\n").unwrap();
    let typed = |name: &str, kind: &str| format!("{}:{kind}", text(&path(name)));
    let parts = [
        typed("first.yaml", "application/node.eks.aws"),
        typed("cloud.yaml", "text/cloud-config"),
        typed("second.yaml", "application/node.eks.aws"),
    ];
    let message = run(
        "write-mime-multipart",
        &parts.each_ref().map(String::as_str),
    );
    fs::write(path("message"), &message).unwrap();
    let compressed = run("gzip", &["-9", "-c", text(&path("message"))]);
    fs::write(path("message.gz"), &compressed).unwrap();
    let encoded = run("base64", &[text(&path("message.gz"))]);
    for (name, bytes) in [
        ("plain", message),
        ("gzip", compressed),
        ("base64 of gzip", encoded),
    ] {
        let parsed = node_config::load(&bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let spec = parsed.config.spec;
        assert_eq!(spec.cluster.name, "barn", "{name}");
        assert_eq!(spec.cluster.region, "eu-central-1", "{name}");
        assert_eq!(spec.kubelet.flags, ["--v=2"], "{name}");
        assert!(spec.hybrid.is_some(), "{name}");
        assert_eq!(
            node_config::decode(&bytes).unwrap().skipped,
            ["text/cloud-config"],
            "{name}"
        );
    }
}
