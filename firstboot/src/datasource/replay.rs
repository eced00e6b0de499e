//! The corpora of the fuzz targets of this folder, replayed and damaged.

use std::path::Path;

use super::iso9660::Iso9660;
use super::vfat::Vfat;
use super::{MAXIMUM_FILE, cloud_init, seed_line};
use crate::node_config::tests::corpus::replay;

fn corpus(path: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    std::fs::read(folder.join(path)).unwrap()
}

#[test]
fn the_corpora_of_volumes_are_replayed() {
    replay("iso9660", 300, |input| {
        if let Ok(Some(volume)) = Iso9660::open(input) {
            let _ = volume.read("user-data", MAXIMUM_FILE);
            let _ = volume.read("openstack/latest/user_data", MAXIMUM_FILE);
        }
    });
    replay("vfat", 300, |input| {
        if let Ok(Some(volume)) = Vfat::open(input) {
            let _ = volume.read("user-data", MAXIMUM_FILE);
            let _ = volume.read("openstack/latest/user_data", MAXIMUM_FILE);
        }
    });
}

/// Damage where it hurts most: every byte of the descriptors, the boot sector and
/// the first folder.
#[test]
fn no_single_wrong_byte_breaks_the_readers() {
    let iso = corpus("iso9660/both.iso");
    let fat = corpus("vfat/fat12.img");
    let sectors = |from: usize, to: usize| from * 2048..to * 2048;
    for place in sectors(16, 17).step_by(3).chain(sectors(19, 27).step_by(7)) {
        for value in [0, 0x01, 0xff] {
            let mut image = iso.clone();
            image[place] = value;
            if let Ok(Some(volume)) = Iso9660::open(image) {
                let _ = volume.read("user-data", MAXIMUM_FILE);
            }
        }
    }
    for place in (0..512).chain((512..4096).step_by(7)) {
        for value in [0, 0x01, 0xff] {
            let mut image = fat.clone();
            image[place] = value;
            if let Ok(Some(volume)) = Vfat::open(image) {
                let _ = volume.read("user-data", MAXIMUM_FILE);
            }
        }
    }
}

#[test]
fn the_corpora_of_texts_are_replayed() {
    replay("seed_line", 3000, |input| {
        let text = String::from_utf8_lossy(input);
        let firmware = |_: &str| Some(text.chars().take(64).collect());
        let Some(line) = seed_line::SeedLine::read(&text) else {
            return;
        };
        match line.place(&firmware) {
            Ok(seed_line::Place::File(path)) => assert!(path.starts_with('/'), "{path}"),
            Ok(seed_line::Place::Url(url)) => assert!(seed_line::shown(&url).contains("://")),
            Ok(seed_line::Place::Volume) | Err(_) => {}
        }
    });
    replay("instance_data", 3000, |input| {
        if let Ok(Some(user_data)) = cloud_init::user_data_of(input) {
            assert!(user_data.len() <= input.len());
        }
    });
}
