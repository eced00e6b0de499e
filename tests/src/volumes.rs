//! Volumes for tests: file systems made by mkfs, edited through an engine, and
//! taken apart again by somebody else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::ImagePath;
use nodekiln::disk::Storage;
use nodekiln::os::Image;
use nodekiln::plan::Target;
use nodekiln::task::{Finished, Task};
use nodekiln::volume::mount::Mount;
use nodekiln::volume::{Access, Attributes, Kind, Metadata, Timestamp, Volume, open, read_to_vec};
use sha2::{Digest as _, Sha256};

/// The present of every volume that tests open.
pub const EPOCH: Timestamp = Timestamp {
    seconds: 1_760_000_000,
    nanoseconds: 0,
};

/// A raw file as storage.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    size: u64,
}

impl RawFile {
    /// Opens `path` for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Storage for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.write_all_at(buffer, offset)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok((offset < self.size).then_some(offset..self.size))
    }
}

/// An empty image file of `size` bytes.
pub fn blank(folder: &Path, name: &str, size: u64) -> PathBuf {
    let path = folder.join(name);
    let file = File::create(&path).expect("image file created");
    file.set_len(size).expect("image file sized");
    path
}

/// Gives a file system the folder `/old`, which hands its group on, with 300 files.
///
/// # Panics
/// When the volume refuses.
pub fn fill_old(volume: &mut dyn Volume) {
    for (folder, mode) in [("/old", 0o2755), ("/old/lib", 0o755)] {
        volume
            .create_directory(&at(folder), &plain(mode))
            .expect("folder");
    }
    for number in 0..300u64 {
        let path = at(&format!("/old/entry-{number:03}"));
        let data = bytes(number, (number * 97 % 9000) as usize);
        volume
            .write_file(&path, data.len() as u64, &mut &data[..], &plain(0o644))
            .expect("file");
    }
}

/// Takes every third of those files away: holes in the folder and in the free space.
///
/// # Panics
/// When the volume refuses.
pub fn thin_old(volume: &mut dyn Volume) {
    for number in (0..300).step_by(3) {
        volume
            .remove_file(&at(&format!("/old/entry-{number:03}")))
            .expect("removed");
    }
}

/// Runs a program that must be installed; gives how it ended.
pub fn run(program: &str, arguments: &[&str], path: &Path) -> Finished {
    Task::new(program)
        .args(arguments)
        .arg(path)
        .env("E2FSPROGS_FAKE_TIME", EPOCH.seconds.to_string())
        .env("SOURCE_DATE_EPOCH", EPOCH.seconds.to_string())
        .run()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"))
}

/// Runs a program that must succeed.
pub fn must(program: &str, arguments: &[&str], path: &Path) -> String {
    let finished = run(program, arguments, path);
    let printed = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(
        finished.code,
        Some(0),
        "{program} {arguments:?} {}:\n{printed}{}",
        path.display(),
        finished.stderr
    );
    printed
}

/// Opens an image with the engine that works in process.
pub fn in_process(image: &Path) -> nodekiln::Result<Box<dyn Volume>> {
    let storage = RawFile::open(image).expect("image opened");
    open(Arc::new(storage), Access::Write, EPOCH)
}

/// A root file system with the files of the folder `root`, and nothing else.
pub fn image_of(root: &Path) -> Image {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = blank(folder.path(), "root.ext4", 256 << 20);
    let root = root.to_str().expect("paths of tests are UTF-8");
    must("mke2fs", &["-q", "-F", "-t", "ext4", "-d", root], &disk);
    // The file outlives its name.
    let volume = in_process(&disk).expect("a file system");
    Image::new([(Target::Root, volume)].into()).expect("has a root")
}

/// Opens an image through the kernel.
pub fn through_kernel(image: &Path, access: Access) -> Box<dyn Volume> {
    let size = std::fs::metadata(image).expect("image is there").len();
    Box::new(Mount::open(image, 0..size, access, EPOCH).expect("image mounted"))
}

/// One path of a tree, in all that a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Kind, links, attributes; the inode number is not compared, and the size
    /// of folders is not either.
    pub metadata: Metadata,
    /// SHA-256 of the content, or the target of a link.
    pub content: Vec<u8>,
}

/// Every path of a volume.
pub fn tree(volume: &mut dyn Volume) -> BTreeMap<ImagePath, Node> {
    let mut found = BTreeMap::new();
    let mut left = vec![ImagePath::root()];
    while let Some(path) = left.pop() {
        let mut metadata = volume
            .metadata(&path)
            .expect("metadata read")
            .unwrap_or_else(|| panic!("{path} was listed"));
        metadata.inode = 0;
        let content = match metadata.kind {
            Kind::File => {
                let mut hash = Hashing(Sha256::new());
                let read = volume.read_file(&path, &mut hash).expect("file read");
                assert_eq!(read, metadata.size, "size of {path}");
                hash.0.finalize().to_vec()
            }
            Kind::Symlink => volume.read_link(&path).expect("link read"),
            Kind::Special => Vec::new(),
            Kind::Directory => {
                metadata.size = 0;
                for entry in volume.read_directory(&path).expect("folder listed") {
                    left.push(path.join(&entry.name).expect("sound name"));
                }
                Vec::new()
            }
        };
        found.insert(path, Node { metadata, content });
    }
    found
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asserts that two trees are equal, and names the first differences.
pub fn assert_same(
    what: &str,
    left: &BTreeMap<ImagePath, Node>,
    right: &BTreeMap<ImagePath, Node>,
) {
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let different: Vec<String> = paths
        .into_iter()
        .filter(|path| left.get(*path) != right.get(*path))
        .take(5)
        .map(|path| format!("{path}:\n  {:?}\n  {:?}", left.get(path), right.get(path)))
        .collect();
    assert!(different.is_empty(), "{what}:\n{}", different.join("\n"));
}

/// A small file's content.
pub fn content(volume: &mut dyn Volume, path: &str) -> Vec<u8> {
    read_to_vec(volume, &at(path), 64 << 20).expect("file read")
}

/// An image path that is known to be sound.
pub fn at(path: &str) -> ImagePath {
    ImagePath::new(path).expect("a sound path")
}

/// Attributes with `mode`, of root, at the epoch.
pub fn plain(mode: u32) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        modified: EPOCH,
        xattrs: BTreeMap::new(),
    }
}

/// Numbers that are the same on every run (xorshift64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.draw() >> 11) % limit
    }
}

/// Bytes that compress about as well as programs do, the same for a seed.
pub fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut result = Vec::with_capacity(size + 16);
    while result.len() < size {
        let number = numbers.draw();
        if number.is_multiple_of(4) {
            result.extend_from_slice(b"0123456789abcdef");
        } else {
            result.extend_from_slice(&number.to_le_bytes());
        }
    }
    result.truncate(size);
    result
}
