//! Bakes about 400 MB in 3,000 files into an ext4 of 4 GiB, in turn by the
//! engine of this process and through a root loop mount with tar; prints the
//! seconds of each round, the medians, their ratio and the peak memory of the
//! first. Both ways end with the image synced.
//!
//! `bench_ext4 [ROUNDS] [FOLDER]`; as root.

#![allow(clippy::print_stdout)] // What it prints is the result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use nodekiln::volume::{Access, open};
use nodekiln_tests::volumes::{EPOCH, RawFile, at, blank, bytes, must, plain};

const FILES: u64 = 3000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "bake") {
        bake(Path::new(&arguments[2]), Path::new(&arguments[3]));
        return;
    }
    let rounds = arguments
        .get(1)
        .map_or(5, |text| text.parse().expect("a number of rounds"));
    let parent = arguments
        .get(2)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).expect("folder");
    let payload = payload(folder.path());
    let archive = folder.path().join("payload.tar");
    must(
        "tar",
        &["-C", text(&payload), "-cf", text(&archive)],
        Path::new("."),
    );
    let base = blank(folder.path(), "base", 4 << 30);
    must("mkfs.ext4", &["-q", "-F"], &base);
    let (mut ours, mut mounts, mut peak) = (Vec::new(), Vec::new(), 0);
    println!("round  in process  loop mount  ratio  peak");
    for round in 1..=rounds {
        let image = copy(folder.path(), &base);
        let (seconds, kib) = in_process(&image, &payload);
        must("e2fsck", &["-fn"], &image);
        let image = copy(folder.path(), &base);
        let mount = loop_mount(&image, &archive, folder.path());
        println!(
            "{round:>5}  {seconds:>8.3} s  {mount:>8.3} s  {:>5.2}  {} MB",
            seconds / mount,
            kib / 1000
        );
        ours.push(seconds);
        mounts.push(mount);
        peak = peak.max(kib);
    }
    let (our, mount) = (median(&mut ours), median(&mut mounts));
    println!(
        "median {our:>8.3} s  {mount:>8.3} s  {:>5.2}  {} MB",
        our / mount,
        peak / 1000
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Like a node's payload: three large programs, sixty of a megabyte, small
/// files in many folders.
fn payload(folder: &Path) -> PathBuf {
    let root = folder.join("payload");
    for number in 0..FILES {
        let place = root.join(format!("usr/share/part-{:02}", number % 60));
        fs::create_dir_all(&place).expect("folder");
        let size = match number {
            0 => 130 << 20,
            1 => 80 << 20,
            2 => 50 << 20,
            3..63 => 1 << 20,
            _ => 2_000 + (number * 7919 % 40_000) as usize,
        };
        fs::write(place.join(format!("file-{number:04}")), bytes(number, size)).expect("file");
    }
    root
}

fn copy(folder: &Path, base: &Path) -> PathBuf {
    let image = folder.join("image");
    must("cp", &["--sparse=always", text(base)], &image);
    must("sync", &[], &image);
    image
}

/// Runs `bake` as a process of its own; its seconds and peak memory in KiB.
fn in_process(image: &Path, payload: &Path) -> (f64, u64) {
    let itself = std::env::current_exe().expect("own path");
    let printed = Command::new(itself)
        .arg("bake")
        .args([image, payload])
        .output()
        .expect("started");
    assert!(
        printed.status.success(),
        "{}",
        String::from_utf8_lossy(&printed.stderr)
    );
    let printed = String::from_utf8(printed.stdout).expect("text");
    let (seconds, peak) = printed.trim().split_once(' ').expect("two numbers");
    (
        seconds.parse().expect("seconds"),
        peak.parse().expect("KiB"),
    )
}

fn bake(image: &Path, payload: &Path) {
    let started = Instant::now();
    let storage = RawFile::open(image).expect("image opened");
    let mut volume = open(Arc::new(storage), Access::Write, EPOCH).expect("volume opened");
    let mut left = vec![PathBuf::new()];
    while let Some(inside) = left.pop() {
        let mut entries: Vec<_> = fs::read_dir(payload.join(&inside))
            .expect("listed")
            .map(|entry| entry.expect("entry"))
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inside = inside.join(entry.file_name());
            let path = at(&format!("/{}", text(&inside)));
            if entry.file_type().expect("kind").is_dir() {
                volume
                    .create_directory(&path, &plain(0o755))
                    .expect("folder made");
                left.push(inside);
            } else {
                let mut file = File::open(entry.path()).expect("opened");
                let size = file.metadata().expect("size").len();
                volume
                    .write_file(&path, size, &mut file, &plain(0o644))
                    .expect("file written");
            }
        }
    }
    volume.finish().expect("finished");
    let written = started.elapsed();
    if std::env::var_os("BENCH_UNSYNCED").is_none() {
        File::open(image)
            .and_then(|file| file.sync_all())
            .expect("synced");
    } else {
        eprintln!("{written:?}");
    }
    let seconds = started.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next())
        .expect("peak memory");
    println!("{seconds} {peak}");
}

fn loop_mount(image: &Path, archive: &Path, folder: &Path) -> f64 {
    let point = folder.join("mounted");
    fs::create_dir_all(&point).expect("folder");
    let script =
        "set -e; mount -o loop,noatime \"$1\" \"$2\"; tar -C \"$2\" -xf \"$3\"; umount \"$2\"";
    let started = Instant::now();
    let status = Command::new("sh")
        .args(["-c", script, "sh", text(image), text(&point), text(archive)])
        .status()
        .expect("started");
    assert!(status.success());
    if std::env::var_os("BENCH_UNSYNCED").is_none() {
        File::open(image)
            .and_then(|file| file.sync_all())
            .expect("synced");
    }
    started.elapsed().as_secs_f64()
}
