//! qcow2 bases that lead astray, lie, or need what is not there.

use std::path::Path;

use nodekiln_tests::damage::{big_endian, bytes, copy, patch};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::text;

use crate::Bases;

/// Bits of an L1 or L2 entry that hold an offset.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
/// Marks a compressed cluster in an L2 entry.
const COMPRESSED: u64 = 1 << 62;
/// Bits of the offset of a compressed cluster, for clusters of 64 KiB.
const COMPRESSED_OFFSET: u64 = (1 << 54) - 1;

/// The small base as qcow2, with `arguments` of `qemu-img convert`.
struct Images {
    bases: Bases,
}

impl Images {
    fn new(arguments: &[&str]) -> Self {
        let bases = Bases::new();
        let workshop = &bases.workshop;
        let (raw, whole) = (workshop.path("whole.raw"), workshop.path("whole.qcow2"));
        let fixed = ["convert", "-O", "qcow2"];
        let files = [text(&raw), text(&whole)];
        run("qemu-img", &[&fixed[..], arguments, &files].concat());
        workshop.write_profile("base.qcow2", "");
        Self { bases }
    }

    /// Fails unless the image is refused after `harm`.
    #[track_caller]
    fn refused(&self, harm: impl FnOnce(&Path), code: i32, words: &[&str]) {
        let workshop = &self.bases.workshop;
        let base = workshop.path("base.qcow2");
        std::fs::remove_file(&base).ok();
        copy(&workshop.path("whole.qcow2"), &base);
        harm(&base);
        workshop.refused(code, &[words, &["base.qcow2", "hint:"]].concat());
    }
}

fn l1(image: &Path) -> u64 {
    big_endian(image, 40)
}

/// Offset in the file of the first L2 table.
fn first_l2(image: &Path) -> u64 {
    big_endian(image, l1(image)) & OFFSET
}

/// Places of the L2 entries that are in use, with the entries.
fn entries(image: &Path) -> Vec<(u64, u64)> {
    let table = first_l2(image);
    let entries = bytes(image, table, 64 << 10);
    let entries = entries.chunks_exact(8).enumerate().map(|(number, entry)| {
        let entry = u64::from_be_bytes(entry.try_into().expect("eight bytes"));
        (table + number as u64 * 8, entry)
    });
    entries.filter(|(_, entry)| *entry != 0).collect()
}

#[test]
fn tables_that_lead_in_a_circle_are_refused() {
    let images = Images::new(&[]);
    images.refused(
        |image| patch(image, l1(image), &(l1(image) | 1 << 63).to_be_bytes()),
        2,
        &["overlaps"],
    );
    // A cluster of the disk that is the table that leads to it.
    images.refused(
        |image| {
            let entry = (first_l2(image) | 1 << 63).to_be_bytes();
            patch(image, entries(image)[0].0, &entry);
        },
        2,
        &["overlaps"],
    );
    images.refused(
        |image| {
            let used = entries(image);
            patch(image, used[1].0, &used[0].1.to_be_bytes());
        },
        2,
        &["overlaps"],
    );
}

#[test]
fn tables_of_any_claimed_size_take_no_memory() {
    let images = Images::new(&[]);
    images.refused(
        |image| patch(image, 36, &0x7FFF_FFFF_u32.to_be_bytes()),
        2,
        &["L1 table"],
    );
    images.refused(
        |image| patch(image, 24, &(1_u64 << 62).to_be_bytes()),
        2,
        &["its disk has"],
    );
    images.refused(
        |image| {
            // 64 TiB in clusters of 512 bytes: a table of 8 GiB.
            patch(image, 20, &9_u32.to_be_bytes());
            patch(image, 24, &(64_u64 << 40).to_be_bytes());
            patch(image, 36, &0x4000_0000_u32.to_be_bytes());
        },
        2,
        &["L1 table"],
    );
    images.refused(
        |image| patch(image, 20, &40_u32.to_be_bytes()),
        2,
        &["2^40"],
    );
}

#[test]
fn clusters_past_the_end_of_a_truncated_file_are_refused() {
    let images = Images::new(&[]);
    images.refused(
        |image| {
            let size = std::fs::metadata(image).expect("is there").len();
            nodekiln_tests::damage::resize(image, size / 2);
        },
        2,
        &["end"],
    );
}

#[test]
fn images_that_need_another_file_are_refused() {
    let images = Images::new(&[]);
    let workshop = &images.bases.workshop;
    let data = workshop.path("data.raw");
    images.refused(
        |image| {
            std::fs::remove_file(image).expect("removes");
            let option = format!("data_file={}", text(&data));
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    &option,
                    text(image),
                    "64M",
                ],
            );
        },
        3,
        &["external data file"],
    );
    images.refused(
        |image| {
            std::fs::remove_file(image).expect("removes");
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-F",
                    "raw",
                    "-b",
                    "whole.raw",
                    text(image),
                ],
            );
        },
        3,
        &["needs another file", "allowBackingFile"],
    );
}

#[test]
fn unknown_features_and_versions_are_not_supported() {
    let images = Images::new(&[]);
    // The highest bit of the incompatible features.
    images.refused(
        |image| patch(image, 72, &[0x80]),
        3,
        &["features that are not known", "0x8000000000000000"],
    );
    images.refused(|image| patch(image, 7, &[1]), 3, &["version 1"]);
    images.refused(|image| patch(image, 7, &[4]), 3, &["version 4"]);
    // Bits 0 and 1: not closed, corrupt.
    images.refused(|image| patch(image, 79, &[1]), 2, &["not closed"]);
    images.refused(|image| patch(image, 79, &[2]), 2, &["corrupt"]);
}

#[test]
fn an_encrypted_image_is_not_supported() {
    let images = Images::new(&[]);
    images.refused(
        |image| {
            std::fs::remove_file(image).expect("removes");
            let secret = "secret,id=key,data=secret";
            let luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
            let fixed = ["create", "-q", "-f", "qcow2", "--object", secret];
            run(
                "qemu-img",
                &[&fixed[..], &["-o", luks, text(image), "64M"]].concat(),
            );
        },
        3,
        &["encrypted"],
    );
    // The method of old: AES in the header.
    images.refused(|image| patch(image, 35, &[1]), 3, &["encrypted"]);
}

#[test]
fn compressed_clusters_that_lie_are_refused() {
    for kind in ["zlib", "zstd"] {
        let option = format!("compression_type={kind}");
        let images = Images::new(&["-c", "-o", &option]);
        let compressed = |image: &Path| -> Vec<(u64, u64)> {
            let mut entries = entries(image);
            entries.retain(|(_, entry)| entry & COMPRESSED != 0);
            assert!(entries.len() > 8, "{}", entries.len());
            entries
        };
        images.refused(
            |image| {
                for (_, entry) in compressed(image) {
                    patch(image, entry & COMPRESSED_OFFSET, &[0xFF; 16]);
                }
            },
            2,
            &["compressed cluster is damaged"],
        );
        // Each leads to the last byte of the next one: too little, or nonsense.
        images.refused(
            |image| {
                for (place, entry) in compressed(image) {
                    patch(image, place, &(entry + 7).to_be_bytes());
                }
            },
            2,
            &["damaged"],
        );
        images.refused(
            |image| {
                let (place, entry) = compressed(image)[3];
                let far = entry & !COMPRESSED_OFFSET | 1 << 50;
                patch(image, place, &far.to_be_bytes());
            },
            2,
            &["past the end"],
        );
    }
}
