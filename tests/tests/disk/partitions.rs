//! Partition tables: what `sgdisk` writes is read, what we write it verifies.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodekiln::disk::CowDisk;
use nodekiln::disk::gpt::{self, Guid, Origin};
use nodekiln::disk::raw::RawFile;
use nodekiln::output::{self, Pending};
use nodekiln::progress::Silent;

use crate::{Folder, MIB, Noise, open, run, text};

/// A table with the numbers of Ubuntu (1, 14, 15) or Amazon Linux (1, 127, 128).
fn partitioned(folder: &Folder, small: [u32; 2]) -> PathBuf {
    let path = folder.path("partitioned.raw");
    let file = File::create(&path).expect("create");
    file.set_len(64 * MIB).expect("grow");
    // Boot code and disk signature, as GRUB and others leave them.
    let boot_code = Noise(0xC234_5678).bytes(446);
    file.write_all_at(&boot_code, 0).expect("write");
    let [bios, esp] = small;
    let arguments = format!(
        "-a 1 -n {bios}:2048:4095 -t {bios}:ef02 -n {esp}:4096:20479 -t {esp}:ef00 -c {esp}:ESP \
         -n 1:20480:110000 -t 1:8303 -c 1:Würzel -A 1:set:59 -A 1:set:2"
    );
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.push(text(&path));
    run("sgdisk", &arguments);
    path
}

fn details(path: &Path, numbers: &[u32]) -> Vec<String> {
    let detail = |number: &u32| run("sgdisk", &["-i", &number.to_string(), text(path)]);
    numbers.iter().map(detail).collect()
}

/// A partition without the two lines that growing changes.
fn without_size(detail: &str) -> Vec<&str> {
    let changes = ["Last sector:", "Partition size:"];
    detail
        .lines()
        .filter(|line| !changes.iter().any(|change| line.starts_with(change)))
        .collect()
}

#[track_caller]
fn assert_verified(path: &Path) {
    let report = run("sgdisk", &["-v", text(path)]);
    assert!(report.contains("No problems found"), "{report}");
}

#[test]
fn grows_tables_and_keeps_what_they_hold() {
    let folder = Folder::new();
    for small in [[14, 15], [127, 128]] {
        let path = partitioned(&folder, small);
        let numbers = [1, small[0], small[1]];
        let before = details(&path, &numbers);
        let base = open(&path, false).expect("opens");
        let out = folder.path("grown.raw");
        let pending = Pending::create(&out).expect("create");
        let delta = pending.file().try_clone().expect("second handle");
        let disk = CowDisk::new(base, 10 << 30, delta).expect("make");
        let grown = gpt::grow(&disk, 10 << 30, 1).expect("grows");
        assert_eq!(grown.origin(), &Origin::Both);
        output::raw::finish(&disk, pending, &Silent).expect("finish");

        assert_verified(&out);
        assert_verified(&path);
        let after = details(&out, &numbers);
        assert_eq!(before[1..], after[1..]);
        assert_eq!(without_size(&before[0]), without_size(&after[0]));
        let last = ((10_u64 << 30) - MIB) / 512 - 1;
        assert!(
            after[0].contains(&format!("Last sector: {last} ")),
            "{}",
            after[0]
        );
        run("cmp", &["-n", "446", text(&path), text(&out)]);
        // The old backup would lie inside of the root now.
        let file = File::open(&out).expect("open");
        let mut old = vec![1; 33 * 512];
        file.read_exact_at(&mut old, 64 * MIB - 33 * 512)
            .expect("read");
        assert!(old.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn reads_what_sgdisk_wrote() {
    let folder = Folder::new();
    let path = partitioned(&folder, [127, 128]);
    let table = gpt::read(&*open(&path, false).expect("opens")).expect("reads");
    assert_eq!(table.origin(), &Origin::Both);
    let found: Vec<u32> = table.partitions().iter().map(|p| p.number).collect();
    assert_eq!(found, [1, 127, 128]);
    assert_eq!(table.find_type(Guid::ESP).count(), 1);
    assert_eq!(table.find_name("ESP").next().map(|p| p.number), Some(128));
    assert_eq!(table.last_on_disk().map(|p| p.number), Some(1));
    let root = table.partition(1).expect("root");
    assert_eq!((root.first_lba, root.last_lba), (20_480, 110_000));
    assert_eq!(root.bytes(), 20_480 * 512..110_001 * 512);
    assert_eq!(root.name, "Würzel");
    assert_eq!(root.attributes, 1 << 59 | 1 << 2);
    let detail = details(&path, &[1])[0].to_lowercase();
    assert!(detail.contains(&root.unique_guid.to_string()), "{detail}");
    assert!(detail.contains(&root.type_guid.to_string()), "{detail}");
    let list = run("sgdisk", &["-p", text(&path)]).to_lowercase();
    assert!(list.contains(&table.disk_guid().to_string()), "{list}");
}

#[test]
fn mends_a_table_of_which_only_the_backup_is_valid() {
    let folder = Folder::new();
    let path = partitioned(&folder, [14, 15]);
    let before = details(&path, &[1, 14, 15]);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.expect("open");
    file.write_all_at(&[0xFF; 20], 512 + 60).expect("write");
    let disk = RawFile::writable(file).expect("open");
    let table = gpt::read(&disk).expect("reads the backup");
    assert!(matches!(table.origin(), Origin::Backup(_)));
    assert!(table.origin().note().expect("a note").contains("backup"));
    table.write(&disk).expect("writes");
    assert_eq!(gpt::read(&disk).expect("reads").origin(), &Origin::Both);
    assert_verified(&path);
    assert_eq!(details(&path, &[1, 14, 15]), before);
}

#[test]
fn grows_a_table_of_an_unusual_number_of_entries() {
    let folder = Folder::new();
    let path = folder.path("disk.raw");
    let file = File::create(&path).expect("create");
    file.set_len(8 * MIB).expect("grow");
    run("sgdisk", &["-S", "28", "-n", "28:0:0", text(&path)]);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.expect("open");
    file.set_len(16 * MIB).expect("grow");
    let disk = RawFile::writable(file).expect("open");
    let grown = gpt::grow(&disk, 16 * MIB, 28).expect("grows");
    let partition = grown.partition(28).expect("still there");
    assert_eq!(partition.bytes().end, 15 * MIB);
    assert_verified(&path);
}
