//! EFI system partitions that have no room or are damaged.

use std::fs;
use std::path::Path;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::damage::patch;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{ESP_SIZE, ESP_START, text};

use crate::Bases;

/// Where the first file allocation table begins: behind the reserved sectors.
fn table(image: &Path) -> u64 {
    let reserved = nodekiln_tests::damage::bytes(image, ESP_START + 14, 2);
    ESP_START + u64::from(u16::from_le_bytes([reserved[0], reserved[1]])) * 512
}

/// A profile that lays a file into the ESP.
fn lay_a_loader(workshop: &Workshop) {
    let folder = workshop.path("site/boot/efi/EFI/site");
    fs::create_dir_all(&folder).expect("creates");
    fs::write(folder.join("loader.efi"), vec![7; 300_000]).expect("writes");
    workshop.write_profile(
        "base.raw",
        "  overlays: [site]\n  outputs: [{format: raw}]\n",
    );
}

fn mcopy(image: &Path, file: &Path) {
    let partition = format!("{}@@{ESP_START}", text(image));
    run("mcopy", &["-i", &partition, text(file), "::"]);
}

#[test]
fn an_esp_without_free_clusters_is_refused_with_what_is_missing() {
    let bases = Bases::new();
    lay_a_loader(&bases.workshop);
    let filler = bases.workshop.path("filler");
    let size = usize::try_from(ESP_SIZE).expect("fits") - (200 << 10);
    fs::write(&filler, vec![1; size]).expect("writes");
    bases
        .harmed(|image| mcopy(image, &filler))
        .refused(4, &["EFI system", "bytes are missing", "hint:"]);
}

#[test]
fn a_damaged_file_allocation_table_is_refused() {
    let bases = Bases::new();
    lay_a_loader(&bases.workshop);
    let file = bases.workshop.path("file");
    fs::write(&file, vec![1; 100_000]).expect("writes");
    // Cluster 2 leads to itself; to a cluster that there is not; into the middle
    // of the chain.
    for entry in [2_u16, 0xFF00, 20] {
        let harm = |image: &Path| {
            mcopy(image, &file);
            patch(image, table(image) + 4, &entry.to_le_bytes());
        };
        bases
            .harmed(harm)
            .refused(2, &["EFI system", "fsck.vfat", "hint:"]);
    }
    // Both heads are gone.
    bases
        .harmed(|image| patch(image, ESP_START, &[0; 512]))
        .refused(2, &["lay /boot/efi/EFI", "EFI system partition", "hint:"]);
}
