//! Reading qcow2: whatever `qemu-img` and `qemu-io` make, and what they would
//! refuse.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln::Class;
use nodekiln::disk::{Format, OpenOptions, open_base};

use crate::{Folder, MIB, Noise, assert_refused, assert_same, chain, open, run, text};

#[test]
fn reads_every_kind_of_qcow2_that_qemu_makes() {
    let folder = Folder::new();
    let raw = folder.raw("disk.raw", 9 * MIB + 3 * 512, 0x1234_5678);
    let variants: [&[&str]; 13] = [
        &["-o", "compat=0.10"],
        &["-o", "compat=0.10,cluster_size=512"],
        &["-o", "compat=0.10", "-c"],
        &["-o", "compat=1.1"],
        &["-o", "compat=1.1", "-c"],
        &["-o", "compat=1.1,cluster_size=512", "-c"],
        &["-o", "compat=1.1,cluster_size=4k", "-c"],
        &["-o", "compat=1.1,cluster_size=2M", "-c"],
        &["-o", "compression_type=zstd", "-c", "-W"],
        &["-o", "compression_type=zstd,cluster_size=512", "-c"],
        &["-o", "compression_type=zstd,cluster_size=2M", "-c"],
        &["-o", "preallocation=metadata,lazy_refcounts=on"],
        &["-o", "cluster_size=2M", "-S", "0"],
    ];
    for (number, arguments) in variants.iter().enumerate() {
        let image = folder.convert(&raw, &format!("{number}.qcow2"), arguments);
        assert_same(&image, &raw);
    }
    let base = open_base(&folder.path("3.qcow2"), &OpenOptions::default()).expect("opens");
    assert_eq!(base.format, Format::Qcow2);
    assert_eq!(base.virtual_size, 9 * MIB + 3 * 512);
}

#[test]
fn reads_zero_clusters_snapshots_and_backing_chains() {
    let folder = Folder::new();
    folder.raw("bottom.raw", 5 * MIB, 0x2234_5678);
    let middle = folder.create("middle.qcow2", &["-F", "raw", "-b", "bottom.raw", "7M"]);
    let write = |image: &Path, command: &str| run("qemu-io", &["-c", command, text(image)]);
    write(&middle, "write -z 1M 1M");
    write(&middle, "write -P 3 100k 9k");
    write(&middle, "write -P 4 6M 64k");
    run("qemu-img", &["snapshot", "-c", "before", text(&middle)]);
    write(&middle, "write -P 5 3M 70k");
    let top = folder.create("top.qcow2", &["-F", "qcow2", "-b", "middle.qcow2", "7M"]);
    write(&top, "write -P 6 1500k 1k");
    for image in [&middle, &top] {
        let whole = folder.path("whole.raw");
        run(
            "qemu-img",
            &["convert", "-O", "raw", text(image), text(&whole)],
        );
        assert_same(image, &whole);
        assert_refused(image, Class::Unsupported, "needs another file");
    }
}

#[test]
fn keeps_backing_files_within_the_folder_of_the_image() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("inside")).expect("folder");
    let secret = folder.raw("secret.raw", MIB, 0x3234_5678);
    std::os::unix::fs::symlink(&secret, folder.path("inside/link.raw")).expect("link");
    for (name, words) in [
        ("../secret.raw", "outside"),
        (text(&secret), "outside"),
        ("link.raw", "outside"),
        ("absent.raw", "absent.raw"),
        ("nbd://127.0.0.1/disk", "protocol"),
        ("json:{\"driver\":\"file\"}", "protocol"),
        ("image.qcow2", "leads back to itself"),
    ] {
        let image = folder.create("inside/image.qcow2", &["-F", "raw", "-u", "-b", name, "1M"]);
        let error = open(&image, true).expect_err(name);
        assert!(chain(&error).contains(words), "{name}: {}", chain(&error));
    }
    for (image, backing) in [("a.qcow2", "b.qcow2"), ("b.qcow2", "a.qcow2")] {
        folder.create(image, &["-F", "qcow2", "-u", "-b", backing, "1M"]);
    }
    let error = open(&folder.path("a.qcow2"), true).expect_err("a cycle");
    assert!(chain(&error).contains("leads back"), "{}", chain(&error));
}

#[test]
fn refuses_features_that_it_does_not_read() {
    let folder = Folder::new();
    let data = format!("data_file={}", text(&folder.path("data.raw")));
    let external = folder.create("external.qcow2", &["-o", &data, "8M"]);
    assert_refused(&external, Class::Unsupported, "external data file");
    let extended = folder.create("extended.qcow2", &["-o", "extended_l2=on", "8M"]);
    assert_refused(&extended, Class::Unsupported, "extended L2");
    let secret = "secret,id=key,data=secret";
    let luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let encrypted = folder.create("luks.qcow2", &["--object", secret, "-o", luks, "8M"]);
    assert_refused(&encrypted, Class::Unsupported, "encrypted");
}

#[test]
fn refuses_qcow2_headers_and_tables_that_lead_astray() {
    const L1: u64 = 0x3_0000;
    let folder = Folder::new();
    let plain = folder.create("plain.qcow2", &["8M"]);
    for (offset, bytes, class, words) in [
        (4, &[0, 0, 0, 4][..], Class::Unsupported, "version 4"),
        (23, &[8], Class::Input, "2^8"),
        (23, &[22], Class::Input, "2^22"),
        (36, &[0x7F, 0xFF, 0xFF, 0xFF], Class::Input, "L1 table"),
        (36, &[0, 0, 0, 0], Class::Input, "L1 table"),
        (40, &[0xFF; 8], Class::Input, "L1 table"),
        (40, &[0; 8], Class::Input, "L1 table"),
        (24, &[0xFF; 8], Class::Input, "its disk has"),
        (24, &[0; 8], Class::Input, "its disk has"),
        (79, &[1], Class::Input, "not closed"),
        (79, &[2], Class::Input, "corrupt"),
        (79, &[8], Class::Input, "compression type"),
        (72, &[0x80], Class::Unsupported, "not known"),
        (100, &[0xFF], Class::Input, "header claims"),
        // The first L1 entry leads to the L1 table itself.
        (L1, &[0, 0, 0, 0, 0, 3, 0, 0], Class::Input, "overlaps"),
        (
            L1,
            &[0, 0, 0, 0, 0xF, 0, 0, 0],
            Class::Input,
            "past the end",
        ),
        (
            L1,
            &[0, 0, 0, 0, 0, 1, 2, 0],
            Class::Input,
            "within a cluster",
        ),
    ] {
        let damaged = folder.path("damaged.qcow2");
        std::fs::copy(&plain, &damaged).expect("copy");
        let file = File::options().write(true).open(&damaged).expect("open");
        // Room for the cluster that an entry leads to.
        file.set_len(0x5_0000).expect("grow");
        file.write_all_at(bytes, offset).expect("write");
        assert_refused(&damaged, class, words);
    }
}

#[test]
fn finds_qcow2_files_that_were_cut_off_anywhere() {
    let folder = Folder::new();
    let raw = folder.raw("disk.raw", 3 * MIB, 0x4234_5678);
    for (name, arguments) in [("plain", &["-o", "compat=1.1"][..]), ("packed", &["-c"])] {
        let image = folder.convert(&raw, name, arguments);
        let whole = std::fs::read(&image).expect("read");
        for length in (0..whole.len() - 4096).step_by(whole.len() / 37) {
            let cut = folder.path("cut.qcow2");
            std::fs::write(&cut, &whole[..length]).expect("write");
            let error = open(&cut, false).expect_err("cut off");
            assert_eq!(error.class(), Class::Input, "{length}: {}", chain(&error));
        }
    }
}

#[test]
fn survives_damage_anywhere_in_a_qcow2_file() {
    let folder = Folder::new();
    let raw = folder.raw("disk.raw", MIB, 0x5234_5678);
    let mut noise = Noise(0x6234_5678);
    for kind in ["zlib", "zstd"] {
        let options = format!("compression_type={kind},cluster_size=4k");
        let image = folder.convert(&raw, kind, &["-c", "-o", &options]);
        let whole = std::fs::read(&image).expect("read");
        let mut opened = 0;
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..8 {
                let at = noise.next() as usize % damaged.len();
                damaged[at] = noise.next() as u8;
            }
            let path = folder.path("damaged.qcow2");
            std::fs::write(&path, &damaged).expect("write");
            let Ok(disk) = open(&path, false) else {
                continue;
            };
            opened += 1;
            let mut buffer = vec![0; 65536];
            let mut at = 0;
            while let Ok(Some(data)) = disk.next_data(at) {
                let length = (data.end - data.start).min(65536);
                let result = disk.read_at(&mut buffer[..length as usize], data.start);
                if let Err(error) = result {
                    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                }
                at = data.start + length;
            }
        }
        assert!(opened > 50, "the data, not the tables, must be hit mostly");
    }
}
