//! Partition tables that are damaged, lie, or are of a kind that is not taken.

use std::fs;
use std::path::{Path, PathBuf};

use nodekiln_tests::command::Workshop;
use nodekiln_tests::damage::{SECTOR, Table, patch};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{ESP_START, MIB, ROOT_START, Shape, assert_sound, text};

use crate::Bases;

/// Size of the root partition of the usual base.
const ROOT_SIZE: u64 = 48 * MIB;

fn end(image: &Path) -> u64 {
    fs::metadata(image).expect("is there").len()
}

/// Changes both copies of the table, with right checksums.
fn reshape(image: &Path, change: impl Fn(&mut Table<'_>)) {
    for mut table in [Table::primary(image), Table::backup(image)] {
        change(&mut table);
        table.write();
    }
}

fn built_raw(workshop: &Workshop) -> PathBuf {
    fs::remove_dir_all(workshop.path("out")).ok();
    workshop.built(&[]).join("small.raw")
}

/// Damages an image.
type Harm = Box<dyn Fn(&Path)>;

#[test]
fn one_good_copy_of_the_table_is_enough_and_both_are_good_afterwards() {
    let bases = Bases::new();
    let whole = bases.workshop.path("whole.raw");
    let header = |at: u64| move |image: &Path| patch(image, at + 60, &[0xFF; 4]);
    let harms: [(&str, Harm); 5] = [
        ("checksum of the header", Box::new(header(SECTOR))),
        (
            "checksum of the entries",
            Box::new(|image| patch(image, 2 * SECTOR + 128 + 56, b"x")),
        ),
        (
            "header is gone",
            Box::new(|image| patch(image, SECTOR, &[0; 512])),
        ),
        (
            "backup: checksum of the header",
            Box::new(|image| patch(image, end(image) - SECTOR + 60, &[0xFF; 4])),
        ),
        (
            "backup: checksum of the entries",
            Box::new(|image| patch(image, end(image) - 33 * SECTOR + 56, b"x")),
        ),
    ];
    for (name, harm) in harms {
        println!("{name}");
        let workshop = bases.harmed(&*harm);
        let raw = built_raw(workshop);
        assert_sound(&raw, ROOT_SIZE, workshop.folder());
        // sgdisk takes a table for good when its backup is: ask the bytes, too.
        let entries = Table::primary(&whole).entries;
        assert!(Table::primary(&raw).is_sealed() && Table::backup(&raw).is_sealed());
        assert_eq!(Table::primary(&raw).entries, entries);
        assert_eq!(Table::backup(&raw).entries, entries);
    }
}

#[test]
fn two_bad_copies_of_the_table_are_refused() {
    let bases = Bases::new();
    let headers = |image: &Path| {
        patch(image, SECTOR + 60, &[0xFF; 4]);
        patch(image, end(image) - SECTOR + 60, &[0xFF; 4]);
    };
    bases
        .harmed(headers)
        .refused(2, &["partition table", "checksum", "sgdisk -v"]);
    let entries = |image: &Path| {
        patch(image, 2 * SECTOR + 56, b"x");
        patch(image, end(image) - 33 * SECTOR + 56, b"x");
    };
    bases
        .harmed(entries)
        .refused(2, &["partition table", "checksum", "sgdisk -v"]);
}

#[test]
fn partitions_that_overlap_or_lead_out_are_refused() {
    let bases = Bases::new();
    let root = (ROOT_START / SECTOR, (ROOT_START + ROOT_SIZE) / SECTOR - 1);
    let overlap = |image: &Path| {
        reshape(image, |table| {
            table.set_extent(1, ESP_START / SECTOR + 8, root.1);
        });
    };
    bases
        .harmed(overlap)
        .refused(2, &["partition table", "overlap", "hint:"]);
    let beyond = |image: &Path| {
        reshape(image, |table| {
            table.set_extent(1, root.0, root.1 + (1 << 20));
        });
    };
    bases
        .harmed(beyond)
        .refused(2, &["partition table", "partition 1", "hint:"]);
    let backwards = |image: &Path| {
        reshape(image, |table| table.set_extent(1, root.1, root.0));
    };
    bases
        .harmed(backwards)
        .refused(2, &["partition table", "partition 1", "hint:"]);
}

#[test]
fn entries_of_256_bytes_are_read_and_kept() {
    let bases = Bases::new();
    let workshop = bases.harmed(|image| reshape(image, |table| table.widen(256)));
    let raw = built_raw(workshop);
    assert_eq!(Table::primary(&raw).entry_size(), 256);
    assert_eq!(Table::backup(&raw).entry_size(), 256);
    assert_eq!(
        Table::primary(&raw).entries,
        Table::primary(&workshop.path("base.raw")).entries
    );
    let root = workshop.path("root.ext4");
    nodekiln_tests::small_base::cut(&raw, ROOT_START, ROOT_SIZE, &root);
    run("e2fsck", &["-fn", text(&root)]);
}

#[test]
fn a_disk_with_mbr_partitions_only_is_not_supported() {
    let bases = Bases::new();
    let workshop = bases.harmed(|image| {
        run("sgdisk", &["--gpttombr=1", text(image)]);
    });
    workshop.refused(3, &["MBR partitions", "sgdisk --mbrtogpt"]);
}

#[test]
fn a_disk_without_a_root_partition_is_refused_with_what_it_has() {
    let bases = Bases::new();
    let gone = |image: &Path| {
        run("sgdisk", &["--delete=1", text(image)]);
    };
    bases
        .harmed(gone)
        .refused(2, &["find the root partition", "FAT", "hint:"]);
    // A file system is there, but nothing in it.
    let empty = |image: &Path| {
        let offset = format!("offset={ROOT_START}");
        run(
            "mke2fs",
            &["-q", "-F", "-t", "ext4", "-E", &offset, text(image), "48M"],
        );
    };
    bases.harmed(empty).refused(
        2,
        &["find the root partition", "no partition holds", "hint:"],
    );
}

#[test]
fn a_disk_with_two_roots_is_refused_with_both_named() {
    let two = Shape {
        roots: 2,
        ..Shape::default()
    };
    let workshop = Workshop::with(&two, |_| ());
    workshop.refused(2, &["find the root partition: 2 partitions", "hint:"]);
}
