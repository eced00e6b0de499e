//! Digests of finished images.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::disk::Storage;
use crate::error::{Class, Context as _, Error, Result};
use crate::progress::Progress;
use crate::store::Digest;

/// Bytes read at once.
const STEP: usize = 1 << 20;
/// Size of a block of an EBS snapshot, in bytes.
pub const BLOCK: u64 = 512 << 10;
/// Bytes that a thread takes at once for the linear digest.
const STRETCH: u64 = 8 * BLOCK;
/// Threads for the linear digest.
const THREADS: usize = 4;

/// The sha256 of the file at `path`, as `sha256sum` gives it. It reads holes
/// too: for a sparse raw image its cost follows the virtual size.
///
/// # Errors
/// What reading gives; [`Class::Interrupted`] on request.
pub fn file_sha256(path: &Path, progress: &dyn Progress) -> Result<Digest> {
    let doing = || format!("compute the sha256 of '{}'", path.display());
    let file = File::open(path).doing(doing)?;
    open_file_sha256(&file, progress).map_err(|error| match error.class() {
        Class::Interrupted => error,
        _ => error.context(doing()),
    })
}

/// The same of a file that is open for reading; its position does not matter.
///
/// # Errors
/// As [`file_sha256`].
pub fn open_file_sha256(file: &File, progress: &dyn Progress) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        progress.check()?;
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read the file to hash it", error)),
        }
    }
}

/// The linear digest of a disk: the sha256 of the sha256 of every block of
/// 512 KiB, in their order. A last block that is shorter counts as filled up
/// with zeros, as EBS holds it. Blocks of zeros cost nothing to find and have a
/// known digest, so the cost follows the content.
///
/// It is how the EBS direct APIs aggregate checksums
/// (`ChecksumAggregationMethod: LINEAR` of `CompleteSnapshot`), over all blocks.
///
/// # Errors
/// What reading gives; [`Class::Interrupted`] on request.
pub fn linear(disk: &dyn Storage, progress: &dyn Progress) -> Result<Digest> {
    let present = data_blocks(disk).map_err(read_error)?;
    let digests = hash_blocks(disk, &present, progress)?;
    let mut linear = Linear::new();
    for (number, digest) in present.into_iter().zip(digests) {
        linear.add(number, &digest);
    }
    Ok(linear.finish(disk.size()))
}

/// The linear digest of a disk whose blocks come in their order, for those that
/// read the whole disk anyway: see [`linear`].
#[derive(Debug, Clone)]
pub(super) struct Linear {
    hasher: Sha256,
    /// Blocks that are in it.
    blocks: u64,
    /// The digest of a block of zeros.
    zero: [u8; 32],
}

impl Linear {
    /// That of an empty disk.
    pub(super) fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            blocks: 0,
            zero: Sha256::digest(vec![0; BLOCK as usize]).into(),
        }
    }

    /// Adds the digest of block `number`; those between it and the last one that
    /// was added are zeros.
    pub(super) fn add(&mut self, number: u64, digest: &[u8; 32]) {
        self.zeros_up_to(number);
        self.hasher.update(digest);
        self.blocks = number + 1;
    }

    /// The digest of a disk of `size` bytes; what was not added is zeros.
    pub(super) fn finish(mut self, size: u64) -> Digest {
        self.zeros_up_to(size.div_ceil(BLOCK));
        Digest::from_bytes(self.hasher.finalize().into())
    }

    fn zeros_up_to(&mut self, block: u64) {
        for _ in self.blocks..block {
            self.hasher.update(self.zero);
        }
    }
}

/// The numbers of the blocks that may hold something, in order.
fn data_blocks(disk: &dyn Storage) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut at = 0;
    while let Some(data) = disk.next_data(at)? {
        let end = data.end.div_ceil(BLOCK);
        numbers.extend(data.start / BLOCK..end);
        at = end * BLOCK;
    }
    Ok(numbers)
}

fn hash_blocks(
    disk: &dyn Storage,
    numbers: &[u64],
    progress: &dyn Progress,
) -> Result<Vec<[u8; 32]>> {
    let mut digests = vec![[0; 32]; numbers.len()];
    let stretch = (STRETCH / BLOCK) as usize;
    let work = Mutex::new(numbers.chunks(stretch).zip(digests.chunks_mut(stretch)));
    let failed = Mutex::new(None::<Error>);
    let run = || -> Result<()> {
        let mut buffer = vec![0; BLOCK as usize];
        loop {
            progress.check()?;
            let next = lock(&work).next();
            let Some((numbers, digests)) = next.filter(|_| lock(&failed).is_none()) else {
                return Ok(());
            };
            for (number, digest) in numbers.iter().zip(digests) {
                let start = number * BLOCK;
                let held = (disk.size() - start).min(BLOCK) as usize;
                let (inside, past) = buffer.split_at_mut(held);
                disk.read_at(inside, start).map_err(read_error)?;
                past.fill(0);
                *digest = Sha256::digest(&buffer).into();
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(THREADS) {
            scope.spawn(|| {
                if let Err(error) = run() {
                    lock(&failed).get_or_insert(error);
                }
            });
        }
    });
    match lock(&failed).take() {
        Some(error) => Err(error),
        None => Ok(digests),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_error(error: io::Error) -> Error {
    let doing = "compute the digest of the disk";
    if error.kind() == io::ErrorKind::InvalidData {
        Error::new(Class::Input, doing).caused_by(error)
    } else {
        Error::io(doing, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::raw::RawFile;
    use crate::progress::Silent;

    #[test]
    fn is_the_digest_of_the_digests_of_all_blocks() {
        let size = 20 * BLOCK + 512;
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(size).expect("grow");
        for at in [5 * BLOCK + 7, 12 * BLOCK - 1, 20 * BLOCK + 511] {
            file.write_all_at(b"x", at).expect("write");
        }
        let mut whole = vec![0; 21 * BLOCK as usize];
        file.read_exact_at(&mut whole[..size as usize], 0)
            .expect("read");
        let mut expected = Sha256::new();
        for block in whole.chunks(BLOCK as usize) {
            expected.update(Sha256::digest(block));
        }
        let raw = RawFile::read_only(file).expect("open");
        let linear = linear(&raw, &Silent).expect("digest");
        assert_eq!(linear.as_bytes()[..], expected.finalize()[..]);
    }

    #[test]
    fn gives_what_sha256sum_gives() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "abc").expect("write");
        let digest = file_sha256(file.path(), &Silent).expect("digest");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
