//! Disk images against the programs that everybody uses: `qemu-img` and
//! `qemu-io` for qcow2, `sgdisk` for partition tables, `cmp` for bytes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::disk::gpt::{self, Guid, Origin};
use nodekiln::disk::raw::RawFile;
use nodekiln::disk::{CowDisk, Format, OpenOptions, Storage, open_base};
use nodekiln::output::qcow2::{Compression, Options};
use nodekiln::output::{self, Pending};
use nodekiln::progress::Silent;
use nodekiln::task::Task;
use nodekiln::{Class, Error};

const MIB: u64 = 1 << 20;

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    match Task::new(program).args(arguments).output() {
        Ok(output) => String::from_utf8_lossy(&output).into_owned(),
        Err(error) => panic!("{program} {arguments:?}: {}", chain(&error)),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// An error with all its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Numbers without any pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A sparse raw disk with noise, text, zeros and holes in stretches of 1 to
    /// 160 KiB.
    fn raw(&self, name: &str, size: u64, seed: u64) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).expect("create");
        file.set_len(size).expect("grow");
        let mut noise = Noise(seed);
        let mut at = 0;
        while at < size {
            let length = ((1 + noise.next() % 160) << 10).min(size - at);
            let bytes = match noise.next() % 5 {
                0 => noise.bytes(length as usize),
                1 => b"the quick brown fox\n".repeat(length as usize / 20),
                2 => vec![0; length as usize],
                _ => Vec::new(),
            };
            file.write_all_at(&bytes, at).expect("write");
            at += length;
        }
        path
    }

    fn convert(&self, from: &Path, name: &str, arguments: &[&str]) -> PathBuf {
        let to = self.path(name);
        let mut all = vec!["convert", "-f", "raw", "-O", "qcow2"];
        all.extend(arguments);
        all.extend([text(from), text(&to)]);
        run("qemu-img", &all);
        to
    }

    fn create(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut all = vec!["create", "-q", "-f", "qcow2"];
        all.extend(arguments);
        all.insert(all.len() - 1, text(&path));
        run("qemu-img", &all);
        path
    }
}

fn open(path: &Path, allow_backing_file: bool) -> Result<Arc<dyn Storage>, Error> {
    open_base(path, &OpenOptions { allow_backing_file }).map(|base| base.storage)
}

/// The whole disk, in reads of unequal length that cross clusters.
fn content(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0xEE; disk.size() as usize];
    let mut at = 0;
    let mut length = 1;
    while at < bytes.len() {
        let end = (at + length).min(bytes.len());
        disk.read_at(&mut bytes[at..end], at as u64).expect("read");
        at = end;
        length = length * 7 % 300_007 + 1;
    }
    bytes
}

/// The disk as its data ranges tell; what they leave out must be zeros.
fn data_content(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    let mut at = 0;
    while let Some(data) = disk.next_data(at).expect("next data") {
        assert!(data.start >= at && data.start < data.end && data.end <= disk.size());
        let part = &mut bytes[data.start as usize..data.end as usize];
        disk.read_at(part, data.start).expect("read");
        at = data.end;
    }
    bytes
}

#[track_caller]
fn assert_same(image: &Path, raw: &Path) {
    let expected = std::fs::read(raw).expect("read");
    let disk = open(image, true).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(disk.size(), expected.len() as u64, "{}", image.display());
    assert!(content(&*disk) == expected, "{}", image.display());
    assert!(data_content(&*disk) == expected, "{}", image.display());
}

#[track_caller]
fn assert_refused(path: &Path, class: Class, words: &str) {
    let error = open(path, false).expect_err("must be refused");
    assert_eq!(error.class(), class, "{}", chain(&error));
    assert!(chain(&error).contains(words), "{}", chain(&error));
    assert!(error.hint_text().is_some(), "no hint: {}", chain(&error));
}

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

fn write_qcow2(disk: &dyn Storage, path: &Path, options: &Options) -> Vec<u8> {
    let pending = Pending::create(path).expect("create");
    let written = output::qcow2::write(disk, pending.file(), options, &Silent).expect("write");
    pending.finish().expect("finish");
    let bytes = std::fs::read(path).expect("read");
    assert_eq!(written.size, bytes.len() as u64);
    bytes
}

#[test]
fn writes_qcow2_that_qemu_finds_sound_and_equal() {
    let folder = Folder::new();
    for (size, seed) in [
        (7 * MIB + 512, 0x7234_5678),
        (64 * MIB, 0x8234_5678),
        (512, 0x9234_5678),
    ] {
        let raw = folder.raw("disk.raw", size, seed);
        let disk = RawFile::read_only(File::open(&raw).expect("open")).expect("open");
        for compression in [Compression::None, Compression::Zstd] {
            for cluster_size in [4 << 10, 64 << 10, 2 << 20] {
                let options = Options {
                    compression,
                    cluster_size,
                    threads: None,
                };
                let image = folder.path("out.qcow2");
                write_qcow2(&disk, &image, &options);
                let report = run("qemu-img", &["check", text(&image)]);
                assert!(report.contains("No errors"), "{report}");
                let compare = ["compare", "-f", "raw", "-F", "qcow2"];
                run(
                    "qemu-img",
                    &[&compare[..], &[text(&raw), text(&image)]].concat(),
                );
                assert_same(&image, &raw);
            }
        }
    }
}

#[test]
fn bakes_over_raw_and_qcow2_without_touching_them() {
    let folder = Folder::new();
    let raw = folder.raw("disk.raw", 16 * MIB, 0xA234_5678);
    let zstd = ["-c", "-o", "compression_type=zstd"];
    let bases = [
        raw.clone(),
        folder.convert(&raw, "plain.qcow2", &[]),
        folder.convert(&raw, "packed.qcow2", &zstd),
    ];
    let mut expected = std::fs::read(&raw).expect("read");
    expected.resize(40 << 20, 0);
    let mut noise = Noise(0xB234_5678);
    let mut writes = Vec::new();
    for _ in 0..200 {
        let length = noise.next() % 50_000 + 1;
        let at = noise.next() % (40 * MIB - length);
        writes.push((at, noise.bytes(length as usize)));
    }
    for (at, bytes) in &writes {
        expected[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
    }
    let model = folder.path("model.raw");
    std::fs::write(&model, &expected).expect("write");

    for base in bases {
        let before = std::fs::read(&base).expect("read");
        let pending = Pending::create(&folder.path("out.raw")).expect("create");
        let delta = pending.file().try_clone().expect("second handle");
        let disk = CowDisk::new(open(&base, false).expect("opens"), 40 * MIB, delta).expect("make");
        for (at, bytes) in &writes {
            disk.write_at(bytes, *at).expect("write");
        }
        assert!(content(&disk) == expected);
        assert!(data_content(&disk) == expected);
        let options = Options::default();
        let early = write_qcow2(&disk, &folder.path("early.qcow2"), &options);
        let linear = output::digest::linear(&disk, &Silent).expect("digest");

        let written = output::raw::finish(&disk, pending, &Silent).expect("finish");
        assert_eq!(written.size, 40 * MIB);
        assert!(written.allocated < 40 * MIB, "holes stay: {written:?}");
        run("cmp", &[text(&folder.path("out.raw")), text(&model)]);
        // The order of outputs changes nothing.
        assert!(early == write_qcow2(&disk, &folder.path("late.qcow2"), &options));
        let later = output::digest::linear(&disk, &Silent).expect("digest");
        assert_eq!(linear, later);
        assert!(std::fs::read(&base).expect("read") == before);
    }
}

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
        let mut old = [1; 33 * 512];
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

/// Unmounts whatever happens to the test.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], on: &Path) -> Self {
        run("mount", &[arguments, &[text(on)]].concat());
        Self(on.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Task::new("umount").arg(&self.0).run().ok();
    }
}

#[test]
fn says_what_is_wrong_with_the_output_folder() {
    let folder = Folder::new();
    let raw = folder.raw("disk.raw", 8 * MIB, 0xD234_5678);
    let small = folder.path("small");
    std::fs::create_dir(&small).expect("folder");
    let _small = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &small);

    let pending = Pending::create(&small.join("out.raw")).expect("create");
    let delta = pending.file().try_clone().expect("second handle");
    let disk = CowDisk::new(open(&raw, false).expect("opens"), 8 * MIB, delta).expect("make");
    let error = output::raw::finish(&disk, pending, &Silent).expect_err("full");
    assert_eq!(error.class(), Class::Environment, "{}", chain(&error));
    assert!(error.hint_text().expect("a hint").contains("space"));
    drop(disk);
    assert_eq!(std::fs::read_dir(&small).expect("read").count(), 0);

    // A file with another file system mounted on it cannot be replaced.
    let taken = small.join("taken.raw");
    std::fs::write(&taken, "").expect("write");
    let bound = Mount::new(&["--bind", text(&raw)], &taken);
    let error = Pending::create(&taken).expect("create").finish();
    let error = error.expect_err("another file system");
    assert_eq!(error.class(), Class::Environment, "{}", chain(&error));
    assert!(error.hint_text().expect("a hint").contains("mounted"));
    drop(bound);

    run("mount", &["-o", "remount,ro", text(&small)]);
    let error = Pending::create(&small.join("out.raw")).expect_err("read-only");
    assert_eq!(error.class(), Class::Environment, "{}", chain(&error));
    assert!(error.hint_text().is_some());
}
