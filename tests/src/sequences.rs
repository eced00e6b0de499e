//! Random operations on a volume, the same for a seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln::ImagePath;
use nodekiln::volume::{Attributes, Problem, Timestamp, Volume, problem, remove_tree};

use crate::volumes::{Numbers, bytes};

/// One call of a volume.
#[derive(Debug, Clone)]
pub enum Operation {
    /// `create_directory`
    Folder(ImagePath, Attributes),
    /// `write_file`: seed and size of the content.
    Write(ImagePath, u64, usize, Attributes),
    /// `append_file`
    Append(ImagePath, u64, usize),
    /// `create_symlink`
    Link(ImagePath, Vec<u8>, Attributes),
    /// `create_hard_link`
    Name(ImagePath, ImagePath),
    /// `set_attributes`
    Dress(ImagePath, Attributes),
    /// `remove_file`
    Remove(ImagePath),
    /// `remove_directory`
    RemoveFolder(ImagePath),
    /// `remove_tree`
    RemoveTree(ImagePath),
    /// `rename`
    Rename(ImagePath, ImagePath),
}

/// What a file system can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abilities {
    /// All of Linux.
    Linux,
    /// No links, owners, modes, attributes; names without regard to case.
    Fat,
}

/// The operations of `seed`.
pub fn sequence(seed: u64, steps: usize, abilities: Abilities) -> Vec<Operation> {
    let mut numbers = Numbers::new(seed);
    let mut operations: Vec<Operation> = FOLDERS
        .iter()
        .map(|name| {
            let path = ImagePath::root().join(name).expect("sound");
            Operation::Folder(path, attributes(&mut numbers, false, false))
        })
        .collect();
    operations.extend((0..steps).map(|_| operation(&mut numbers, abilities)));
    operations
}

/// Folders that are there from the start, until an operation takes them.
const FOLDERS: &[&str] = &["old", "bin", "conf.d", "lib"];

fn operation(numbers: &mut Numbers, abilities: Abilities) -> Operation {
    let linux = abilities == Abilities::Linux;
    let path = path(numbers, abilities);
    match numbers.below(if linux { 100 } else { 70 }) {
        0..16 => Operation::Folder(path, attributes(numbers, linux, true)),
        16..40 => Operation::Write(
            path,
            numbers.draw(),
            size(numbers),
            attributes(numbers, linux, true),
        ),
        40..46 => Operation::Append(path, numbers.draw(), size(numbers)),
        46..53 => Operation::Remove(path),
        53..57 => Operation::RemoveFolder(path),
        57..60 => Operation::RemoveTree(path),
        60..70 => Operation::Rename(path, self::path(numbers, abilities)),
        70..80 => Operation::Link(path, target(numbers), attributes(numbers, true, false)),
        80..86 => Operation::Name(self::path(numbers, abilities), path),
        _ => Operation::Dress(path, attributes(numbers, true, false)),
    }
}

fn path(numbers: &mut Numbers, abilities: Abilities) -> ImagePath {
    const NAMES: &[&[u8]] = &[
        b"a",
        b"x1",
        b"x2",
        b"x3",
        b"x4",
        b"a longer name of a file",
        b"z",
    ];
    // Most names in the middle are folders that `sequence` makes first.
    let mut path = ImagePath::root();
    for _ in 0..[0, 0, 1, 1, 2][numbers.below(5) as usize] {
        let name = FOLDERS[numbers.below(FOLDERS.len() as u64) as usize];
        path = path.join(name).expect("sound");
    }
    let name = match numbers.below(24) {
        0 if abilities == Abilities::Linux => b"\xff\xfe not utf-8".to_vec(),
        1 => vec![b'n'; 200],
        2..8 => format!("entry-{:03}", numbers.below(300)).into_bytes(),
        8..12 => FOLDERS[numbers.below(FOLDERS.len() as u64) as usize]
            .as_bytes()
            .to_vec(),
        _ => NAMES[numbers.below(NAMES.len() as u64) as usize].to_vec(),
    };
    path.join(name).expect("sound")
}

fn size(numbers: &mut Numbers) -> usize {
    let limit = match numbers.below(10) {
        0 => 1,
        1..5 => 200,
        5..8 => 20_000,
        8 => 200_000,
        _ => 1_500_000,
    };
    numbers.below(limit) as usize
}

fn target(numbers: &mut Numbers) -> Vec<u8> {
    let length = match numbers.below(4) {
        0 => 59 + numbers.below(3),
        1 => 61 + numbers.below(500),
        _ => 1 + numbers.below(30),
    };
    (0..length)
        .map(|_| b"/.abc"[numbers.below(5) as usize])
        .collect()
}

fn attributes(numbers: &mut Numbers, linux: bool, may_be_user: bool) -> Attributes {
    let mut xattrs = BTreeMap::new();
    if linux {
        if numbers.below(3) == 0 {
            xattrs.insert(
                "security.selinux".to_owned(),
                b"system_u:object_r:bin_t:s0\0".to_vec(),
            );
        }
        if numbers.below(8) == 0 {
            let length = numbers.below(400) as usize;
            xattrs.insert("trusted.large".to_owned(), bytes(numbers.draw(), length));
        }
        if may_be_user && numbers.below(10) == 0 {
            let seed = numbers.draw();
            xattrs.insert("user.note".to_owned(), bytes(seed, (seed % 90) as usize));
        }
    }
    let mode = [0o644, 0o755, 0o600, 0o4755, 0o2770, 0o1777, 0][numbers.below(7) as usize];
    Attributes {
        mode,
        uid: [0, 1000, 70_000][numbers.below(3) as usize],
        gid: [0, 100, 70_001][numbers.below(3) as usize],
        modified: Timestamp {
            seconds: 400_000_000 + 2 * numbers.below(700_000_000) as i64,
            nanoseconds: numbers.below(1_000_000_000) as u32,
        },
        xattrs,
    }
}

/// Applies all of them.
///
/// # Panics
/// When one of them is refused.
pub fn apply_all(volume: &mut dyn Volume, list: &[Operation]) {
    for operation in list {
        if let Some(refusal) = apply(volume, operation) {
            panic!("{operation:?}: {}", refusal.text);
        }
    }
}

/// Applies one operation; `None` when it was done, else why it was refused.
pub fn apply(volume: &mut dyn Volume, operation: &Operation) -> Option<Refusal> {
    let done = match operation {
        Operation::Folder(path, attributes) => volume.create_directory(path, attributes),
        Operation::Write(path, seed, size, attributes) => {
            let content = bytes(*seed, *size);
            volume.write_file(path, *size as u64, &mut &content[..], attributes)
        }
        Operation::Append(path, seed, size) => volume.append_file(path, &bytes(*seed, *size)),
        Operation::Link(path, target, attributes) => {
            volume.create_symlink(path, target, attributes)
        }
        Operation::Name(existing, path) => volume.create_hard_link(existing, path),
        Operation::Dress(path, attributes) => volume.set_attributes(path, attributes),
        Operation::Remove(path) => volume.remove_file(path),
        Operation::RemoveFolder(path) => volume.remove_directory(path),
        Operation::RemoveTree(path) => remove_tree(volume, path),
        Operation::Rename(from, to) => volume.rename(from, to),
    };
    done.err().map(|error| Refusal {
        problem: problem(&error),
        text: format!("{error:?}"),
    })
}

/// Why an operation was refused: equal when the [`Problem`] is.
#[derive(Debug)]
pub struct Refusal {
    /// The reason.
    pub problem: Option<Problem>,
    /// All of the error.
    pub text: String,
}

impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        self.problem == other.problem
    }
}

/// The seeds to try: `NODEKILN_SEQUENCES` of them, `usual` without; or the one that
/// `NODEKILN_SEED` names, to look at a failure again.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("NODEKILN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NODEKILN_SEQUENCES").unwrap_or(usual),
    }
}

/// Runs `compare` for every seed, in some threads, with the base that is its turn.
///
/// # Panics
/// With all seeds for which it panicked.
pub fn for_each_seed<B>(
    usual: u64,
    threads: usize,
    bases: &[(&str, B)],
    compare: impl Fn(u64, &B) + Sync + RefUnwindSafe,
) where
    B: Sync + RefUnwindSafe,
{
    let seeds = seeds(usual);
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let (name, base) = &bases[(seed % bases.len() as u64) as usize];
                    if catch_unwind(|| compare(seed, base)).is_err() {
                        let failure = format!("seed {seed} on {name}");
                        failures.lock().expect("not poisoned").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("not poisoned");
    assert!(failures.is_empty(), "{failures:#?}");
}
