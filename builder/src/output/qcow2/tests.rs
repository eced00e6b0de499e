use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::*;
use crate::disk::CowDisk;
use crate::disk::qcow2::Qcow2;
use crate::disk::raw::RawFile;
use crate::progress::Silent;

/// A sparse disk with text, noise and zeros in clusters of `cluster`.
fn disk(size: u64, cluster: u64) -> RawFile {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(size).expect("grow");
    let mut state = 1_u64;
    let mut at = 0;
    while at < size {
        let length = cluster.min(size - at) as usize;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(7);
        let mut noise = state;
        let bytes: Option<Vec<u8>> = match state >> 61 {
            0..2 => Some(
                (0..length)
                    .map(|_| {
                        noise ^= noise << 13;
                        noise ^= noise >> 7;
                        noise ^= noise << 17;
                        noise as u8
                    })
                    .collect(),
            ),
            2..4 => Some((0..length).map(|byte| (byte / 100) as u8).collect()),
            4 => Some(vec![0; length]),
            _ => None,
        };
        if let Some(bytes) = bytes {
            file.write_all_at(&bytes, at).expect("write");
        }
        at += cluster;
    }
    RawFile::read_only(file).expect("open")
}

fn written(disk: &RawFile, options: &Options) -> (Written, Vec<u8>) {
    let file = tempfile::tempfile().expect("temporary file");
    let written = write(disk, &file, options, &Silent).expect("write");
    let mut bytes = vec![0; file.metadata().expect("metadata").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert_eq!(written.size, bytes.len() as u64);
    let image = RawFile::read_only(file).expect("open");
    let image = Qcow2::open_storage(Arc::new(image)).expect("opens");
    assert_eq!(image.size(), disk.size());
    let mut expected = vec![0; disk.size() as usize];
    disk.read_at(&mut expected, 0).expect("read");
    let mut found = vec![1; disk.size() as usize];
    image.read_at(&mut found, 0).expect("read");
    assert!(found == expected, "{options:?}");
    (written, bytes)
}

fn options(compression: Compression, cluster_size: u32, threads: usize) -> Options {
    Options {
        compression,
        cluster_size,
        threads: NonZeroUsize::new(threads),
        linear: false,
    }
}

#[test]
fn the_linear_digest_on_the_way_is_that_of_a_reader_of_its_own() {
    for size in [9 * (1 << 20) + 512, 512 << 10, 4096, 24 << 20] {
        let disk = disk(size, 16 << 10);
        let expected = super::super::linear(&disk, &Silent).expect("reads");
        for cluster_size in [4 << 10, 64 << 10, 2 << 20] {
            let options = Options {
                linear: true,
                ..options(Compression::Zstd, cluster_size, 2)
            };
            let (with, bytes) = written(&disk, &options);
            assert_eq!(with.linear, Some(expected), "{size} {cluster_size}");
            let without = Options {
                linear: false,
                ..options
            };
            assert!(written(&disk, &without).1 == bytes, "the file is the same");
        }
    }
}

#[test]
fn gives_the_same_bytes_however_many_threads_work() {
    for (compression, cluster_size) in [
        (Compression::None, 64 << 10),
        (Compression::Zstd, 64 << 10),
        (Compression::Zstd, 4 << 10),
        (Compression::Zstd, 2 << 20),
    ] {
        let disk = disk(9 * (1 << 20) + 512, 16 << 10);
        let (one, expected) = written(&disk, &options(compression, cluster_size, 1));
        for threads in [2, 7] {
            let (other, bytes) = written(&disk, &options(compression, cluster_size, threads));
            assert_eq!(one, other);
            assert!(bytes == expected);
        }
    }
}

#[test]
fn stores_what_does_not_shrink_as_it_is() {
    let disk = disk(4 << 20, 64 << 10);
    let (plain, _) = written(&disk, &options(Compression::None, 64 << 10, 2));
    let (zstd, _) = written(&disk, &options(Compression::Zstd, 64 << 10, 2));
    assert_eq!(plain.compressed_clusters, 0);
    assert!(zstd.compressed_clusters > 0 && zstd.plain_clusters > 0);
    assert_eq!(
        zstd.compressed_clusters + zstd.plain_clusters,
        plain.plain_clusters
    );
}

#[test]
fn costs_little_for_an_empty_disk() {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(1 << 40).expect("grow");
    let disk = RawFile::read_only(file).expect("open");
    let file = tempfile::tempfile().expect("temporary file");
    let written = write(&disk, &file, &Options::default(), &Silent).expect("write");
    assert!(written.size <= 5 * 65536, "{written:?}");
}

#[test]
fn refuses_impossible_options() {
    let disk = disk(1 << 20, 64 << 10);
    for cluster_size in [0, 512, 65_535, 4 << 20] {
        let file = tempfile::tempfile().expect("temporary file");
        let error = write(
            &disk,
            &file,
            &options(Compression::None, cluster_size, 1),
            &Silent,
        )
        .expect_err("refused");
        assert_eq!(error.class(), Class::Input, "{cluster_size}");
    }
}

#[test]
fn tells_that_the_space_does_not_suffice() {
    let disk = disk(1 << 20, 64 << 10);
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device that is always full");
    let error = write(&disk, &full, &Options::default(), &Silent).expect_err("full");
    assert_eq!(error.class(), Class::Environment);
    assert!(error.hint_text().expect("a hint").contains("space"));
}

/// A disk of text over a zstd base that an independent program has compressed, with
/// a change in one cluster of it.
fn disk_over_a_zstd_base(cluster_size: u32) -> (CowDisk, Vec<u8>) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (raw, base) = (folder.path().join("raw"), folder.path().join("base.qcow2"));
    let mut content: Vec<u8> = (0..8_u32 << 20).map(|byte| (byte / 100) as u8).collect();
    std::fs::write(&raw, &content).expect("write");
    let options = format!("compression_type=zstd,cluster_size={cluster_size}");
    let status = std::process::Command::new("qemu-img")
        .args(["convert", "-c", "-O", "qcow2", "-o", &options])
        .args([&raw, &base])
        .status()
        .expect("qemu-img runs");
    assert!(status.success());
    let base = RawFile::read_only(File::open(&base).expect("open")).expect("open");
    let base = Qcow2::open_storage(Arc::new(base)).expect("opens");
    let size = base.size();
    let delta = tempfile::tempfile().expect("temporary file");
    let disk = CowDisk::new(Arc::new(base), size, delta).expect("opens");
    disk.write_at(b"changed", 1_000_000).expect("writes");
    content[1_000_000..1_000_007].copy_from_slice(b"changed");
    (disk, content)
}

fn content_of(file: File) -> Vec<u8> {
    let image = RawFile::read_only(file).expect("open");
    let image = Qcow2::open_storage(Arc::new(image)).expect("opens");
    let mut found = vec![1; image.size() as usize];
    image.read_at(&mut found, 0).expect("read");
    found
}

#[test]
fn what_a_zstd_base_has_compressed_is_taken_as_it_is_unless_it_changed() {
    let cluster = 64 << 10;
    let (disk, content) = disk_over_a_zstd_base(cluster);
    let file = tempfile::tempfile().expect("temporary file");
    let options = options(Compression::Zstd, cluster, 2);
    write(&disk, &file, &options, &Silent).expect("write");
    let mut bytes = vec![0; file.metadata().expect("metadata").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    let changed = 1_000_000 / u64::from(cluster);
    for number in 0..disk.size() / u64::from(cluster) {
        let frame = disk
            .zstd_frame(number * u64::from(cluster), cluster.into())
            .expect("reads");
        assert_eq!(frame.is_none(), number == changed, "cluster {number}");
        if let Some(frame) = frame {
            let found = bytes.windows(frame.len()).any(|window| window == frame);
            assert!(found, "cluster {number}");
        }
    }
    assert!(content_of(file) == content);
}

#[test]
fn clusters_of_another_size_are_compressed_anew() {
    let (disk, content) = disk_over_a_zstd_base(32 << 10);
    assert_eq!(disk.zstd_frame(0, 64 << 10).expect("reads"), None);
    let file = tempfile::tempfile().expect("temporary file");
    let options = options(Compression::Zstd, 64 << 10, 2);
    write(&disk, &file, &options, &Silent).expect("write");
    assert!(content_of(file) == content);
}

#[test]
fn a_disk_that_others_write_to_gives_no_frame_of_its_base() {
    let (disk, _) = disk_over_a_zstd_base(64 << 10);
    assert!(disk.zstd_frame(0, 64 << 10).expect("reads").is_some());
    disk.hand_over(&Silent).expect("materializes");
    assert_eq!(disk.zstd_frame(0, 64 << 10).expect("reads"), None);
}
