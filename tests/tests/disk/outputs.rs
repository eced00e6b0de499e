//! Outputs: `qemu-img` finds them sound and equal, `cmp` finds no difference.

use std::fs::File;
use std::path::{Path, PathBuf};

use nodekiln::Class;
use nodekiln::disk::raw::RawFile;
use nodekiln::disk::{CowDisk, Storage};
use nodekiln::output::qcow2::{Compression, Options};
use nodekiln::output::{self, Pending};
use nodekiln::progress::Silent;
use nodekiln::task::Task;

use crate::{Folder, MIB, Noise, assert_same, chain, content, data_content, open, run, text};

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
                    linear: false,
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
