use std::path::PathBuf;

use super::super::MAXIMUM_FILE;
use super::super::cloud_init::USER_DATA as CLOUD_INIT;
use super::super::files::{FILE, FOLDER};
use super::super::pretended::{Around, Fake};
use super::*;

const CONFIG: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: a}}\n";
const OTHER: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: b}}\n";

fn corpus(path: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    std::fs::read(folder.join(path)).unwrap()
}

fn search(machine: &Fake) -> Result<Found, FindError> {
    find(&Options::default(), machine, &Around::default())
}

/// Kind and message of a refusal.
fn refused(machine: &Fake) -> (Source, String) {
    match search(machine) {
        Err(FindError::Refused {
            source_kind,
            problem,
            hint,
            may_pass,
        }) => {
            assert!(!hint.is_empty() && !may_pass);
            (source_kind, problem)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_order_is_kept_and_other_configurations_are_told() {
    let seed = corpus("iso9660/both.iso");
    let drive = corpus("iso9660/drive.iso");
    let mut machine = Fake::default()
        .with(FILE, CONFIG)
        .with("/etc/nodekiln/nodeconfig.d/a.yaml", CONFIG)
        .with(CLOUD_INIT, OTHER)
        .with("/named", CONFIG)
        .device("sr0", &seed)
        .device("sr1", &drive);
    let found = search(&machine).unwrap();
    assert_eq!((found.source, found.origin.as_str()), (Source::File, FILE));
    let ignored: Vec<String> = found.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(
        ignored,
        [
            "cloud-init: another NodeConfig lies there and is not used: /var/lib/cloud/instance/user-data.txt",
            "NoCloud seed: another NodeConfig lies there and is not used: user-data on /dev/sr0 (iso9660, cidata)",
            "config drive: another NodeConfig lies there and is not used: openstack/latest/user_data on /dev/sr1 (iso9660, config-2)",
        ]
    );
    for (path, expected) in [
        (FILE, Source::Folder),
        ("/etc/nodekiln/nodeconfig.d/a.yaml", Source::CloudInit),
        (CLOUD_INIT, Source::NoCloud),
    ] {
        machine.files.remove(path);
        assert_eq!(search(&machine).unwrap().source, expected);
    }
    machine.devices.remove(0);
    let found = search(&machine).unwrap();
    assert_eq!(found.source, Source::ConfigDrive);
    assert_eq!(found.ignored, []);
    assert_eq!(found.load().unwrap().config.spec.cluster.name, "farm");
    machine.command_line = "quiet nodekiln.config=/named\n";
    assert_eq!(search(&machine).unwrap().source, Source::NamedFile);
    let options = Options {
        config: Some(PathBuf::from("/missing")),
        ..Options::default()
    };
    let error = find(&options, &machine, &Around::default()).unwrap_err();
    assert_eq!(error.to_string(), "named file: /missing does not exist");
}

#[test]
fn nothing_found_names_all_that_was_tried() {
    let machine = Fake::default()
        .with(CLOUD_INIT, "#cloud-config\n")
        .device("sda", &[0; 4096])
        .device("sr0", &[]);
    let Err(FindError::NotFound { tried }) = search(&machine) else {
        panic!("found")
    };
    let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
    assert_eq!(
        tried,
        [
            "named file: neither --config nor nodekiln.config= names one",
            "file: /etc/nodekiln/nodeconfig.yaml does not exist",
            "folder of files: /etc/nodekiln/nodeconfig.d does not exist",
            "cloud-init: /var/lib/cloud/instance/user-data.txt: no NodeConfig in it: it is a #cloud-config document",
            "NoCloud seed: no volume is labelled cidata; /dev/sr0 cannot be opened: entity not found",
            "config drive: no volume is labelled config-2; /dev/sr0 cannot be opened: entity not found",
            "VMware guestinfo: this is no virtual machine of VMware's",
            "EC2 user data: this is no instance of EC2",
        ]
    );
}

#[test]
fn two_seeds_are_refused_but_one_seen_twice_is_not() {
    let seed = corpus("iso9660/both.iso");
    let (source, problem) = refused(
        &Fake::default()
            .device("sr0", &seed)
            .device("vdb", &corpus("vfat/fat12.img")),
    );
    assert_eq!(source, Source::NoCloud);
    assert_eq!(
        problem,
        "several volumes are labelled cidata: /dev/sr0 (iso9660, cidata), /dev/vdb (vfat, CIDATA)"
    );
    let found = search(
        &Fake::default()
            .device("nvme0n1", &seed)
            .device("nvme0n1p1", &seed),
    );
    assert_eq!(
        found.unwrap().origin,
        "user-data on /dev/nvme0n1 (iso9660, cidata)"
    );
    // A source of higher rank wins; the ambiguity is told.
    let found = search(
        &Fake::default()
            .with(FILE, CONFIG)
            .device("sr0", &seed)
            .device("sr1", &seed),
    );
    assert_eq!(found.unwrap().ignored.len(), 1);
}

#[test]
fn what_is_there_but_unusable_ends_the_search() {
    let large = "#".repeat(usize::try_from(MAXIMUM_FILE).unwrap() + 1);
    let machine = Fake::default().with(CLOUD_INIT, &large);
    assert_eq!(
        refused(&machine),
        (
            Source::CloudInit,
            format!("{CLOUD_INIT} is larger than 16 MiB")
        )
    );
    let mut machine = Fake::default().with(CLOUD_INIT, CONFIG);
    machine.distrusted.push(CLOUD_INIT);
    assert_eq!(
        refused(&machine),
        (
            Source::CloudInit,
            format!("{CLOUD_INIT} can be written by others than root")
        )
    );
    let damaged = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/node.eks.aws\n\n";
    let machine = Fake::default().with(CLOUD_INIT, damaged);
    assert!(refused(&machine).1.contains("no closing boundary"));
    let machine = Fake {
        command_line: "nodekiln.config=/gone",
        ..Fake::default()
    };
    assert_eq!(
        refused(&machine),
        (Source::NamedFile, "/gone does not exist".to_owned())
    );
}

#[test]
fn the_files_of_the_folder_are_merged_by_name() {
    let part =
        |spec: &str| format!("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {spec}\n");
    let folder = |name: &str| format!("{FOLDER}/{name}");
    let machine = Fake::default()
        .with(
            &folder("10-a.yaml"),
            &part("{cluster: {name: a, region: r}}"),
        )
        .with(&folder("20-b.YML"), &part("{cluster: {name: b}}"))
        .with(&folder("30-c.json"), &part("{cluster: {id: c}}"))
        .with(&folder("README.md"), "not for us");
    let cluster = search(&machine)
        .unwrap()
        .load()
        .unwrap()
        .config
        .spec
        .cluster;
    assert_eq!(
        (
            cluster.name.as_str(),
            cluster.region.as_str(),
            cluster.id.as_str()
        ),
        ("b", "r", "c")
    );
    let machine = machine
        .with(&folder("40-d.yaml"), &part("{cluser: {}}"))
        .with(&folder("50-e.yaml"), "");
    let problems = search(&machine).unwrap().load().unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "/etc/nodekiln/nodeconfig.d/50-e.yaml: no NodeConfig in the user data: it is empty",
            "/etc/nodekiln/nodeconfig.d/40-d.yaml: line 3, column 8: unknown field `cluser` in `spec`",
        ]
    );
}

#[test]
fn nothing_of_user_data_is_shown_by_debug() {
    let machine = Fake::default().with(FILE, &CONFIG.replace("name: a", "name: Secret"));
    let found = search(&machine).unwrap();
    assert!(!format!("{found:?}").contains("Secret"));
}
