//! Disk images against the programs that everybody uses: `qemu-img` and
//! `qemu-io` for qcow2, `sgdisk` for partition tables, `cmp` for bytes.

mod outputs;
mod partitions;
mod reading;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::disk::{OpenOptions, Storage, open_base};
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
