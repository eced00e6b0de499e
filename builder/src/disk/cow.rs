//! Copy-on-write: a base that is never touched, and a file that takes what
//! changes.
//!
//! The file has the full virtual size and is sparse. New data go to the very
//! place where the finished raw image has them, so [`CowDisk::materialize`] only
//! has to bring over what was not written: the payload is written once, the base
//! is copied once, and the file then is the image.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::io::Errno;

use super::bits::SparseBits;
use super::{Storage, check_range, is_zero, raw};
use crate::error::{Class, Context as _, Error, Result};
use crate::progress::{Progress, Step};

/// What changes are remembered by, in bytes: the block size of nearly every
/// file system, so that its writes never have to read first.
pub const GRANULE: u64 = 4096;
/// Zeros are left out of the copy in blocks of this size, in bytes.
const SPARSE_BLOCK: usize = 32 << 10;
/// One step of a copy through memory, in bytes.
const COPY_STEP: u64 = 1 << 20;
/// One step of a copy by the kernel, in bytes: as long as a user may wait for an
/// interruption to be heard, or a writer to get its turn.
const KERNEL_COPY_STEP: u64 = 8 << 20;
/// Threads that read a base which has to be decompressed.
const COPY_THREADS: usize = 4;

/// See the module documentation.
#[derive(Debug)]
pub struct CowDisk {
    base: Arc<dyn Storage>,
    delta: File,
    size: u64,
    changed: SparseBits,
    /// Writers share it; a piece of the base is copied alone.
    gate: RwLock<()>,
    /// Held by the one that materializes.
    copying: Mutex<()>,
    given_up: AtomicBool,
    /// Two writers of parts of one granule must not both fill up the rest.
    filling: Mutex<()>,
    complete: AtomicBool,
    /// Others write to the file, past what is known to have changed.
    handed_over: AtomicBool,
}

impl CowDisk {
    /// A disk of `size` bytes that begins with the content of `base` and goes on
    /// with zeros. `delta` must be empty, and open for reading and writing.
    ///
    /// # Errors
    /// [`Class::Input`] when `size` is below the size of `base` or not a multiple
    /// of 512; else what setting the length of `delta` gives.
    pub fn new(base: Arc<dyn Storage>, size: u64, delta: File) -> Result<Self> {
        if size < base.size() {
            return Err(Error::input(format!(
                "make a disk of {size} bytes from a base of {} bytes",
                base.size()
            ))
            .hint("an image can grow but not shrink: ask for a larger size"));
        }
        if !size.is_multiple_of(512) {
            return Err(Error::input(format!("make a disk of {size} bytes"))
                .hint("a disk has whole sectors: ask for a multiple of 512 bytes"));
        }
        let doing = || format!("make the working disk of {size} bytes");
        let present = delta.metadata().doing(doing)?.len();
        if present != 0 {
            return Err(Error::new(
                Class::Internal,
                format!("use a file that holds {present} bytes as an empty working disk"),
            ));
        }
        delta.set_len(size).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => Error::io(doing(), error)
                .hint("the file system has no room for a file of this size"),
            _ => Error::io(doing(), error),
        })?;
        Ok(Self {
            changed: SparseBits::new(size.div_ceil(GRANULE)),
            base,
            delta,
            size,
            gate: RwLock::new(()),
            copying: Mutex::new(()),
            given_up: AtomicBool::new(false),
            filling: Mutex::new(()),
            complete: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
        })
    }

    /// The file behind it; the finished raw image after
    /// [`CowDisk::materialize`].
    pub fn file(&self) -> &File {
        &self.delta
    }

    /// Bytes that were written so far, in whole granules.
    pub fn changed_bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut at = 0;
        while let Some(range) = self.next_changed(at) {
            bytes += range.end - range.start;
            at = range.end;
        }
        bytes
    }

    /// Copies what only the base holds into the file, which is the finished raw
    /// image afterwards. Zeros stay holes. The disk can be read and written
    /// meanwhile. Calling it again waits for the first call, and else does
    /// nothing; interrupted, it can be called again.
    ///
    /// # Errors
    /// [`Class::Interrupted`] on request; [`Class::Environment`] when the space
    /// does not suffice; [`Class::Input`] when the base turns out damaged.
    pub fn materialize(&self, progress: &dyn Progress) -> Result<()> {
        let _one = lock(&self.copying);
        if self.complete.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut total = 0;
        let mut pieces = Pieces::new(self, KERNEL_COPY_STEP);
        while let Some(piece) = pieces.next().map_err(copy_error)? {
            total += piece.end - piece.start;
        }
        progress.begin(Step::Write, "base", Some(total));
        let result = self.copy_base(progress);
        progress.end(Step::Write);
        result?;
        // A writer that began before must not see the change in its middle.
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    /// Materializes, and lets somebody else write to the file: what changes there is
    /// not known here.
    ///
    /// # Errors
    /// As [`CowDisk::materialize`].
    pub fn hand_over(&self, progress: &dyn Progress) -> Result<()> {
        self.handed_over.store(true, Ordering::Release);
        self.materialize(progress)
    }

    /// Ends a [`CowDisk::materialize`] that runs in another thread: nobody wants
    /// the disk any more.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn check_wanted(&self, progress: &dyn Progress) -> Result<()> {
        progress.check()?;
        if self.given_up.load(Ordering::Relaxed) {
            return Err(Error::new(Class::Interrupted, "copy the base: given up"));
        }
        Ok(())
    }

    /// Calls `copy` with every part of `piece` that nobody has written, while
    /// nobody writes: an older byte must never follow a newer one.
    fn copy_unchanged(
        &self,
        piece: &Range<u64>,
        mut copy: impl FnMut(Range<u64>) -> Result<()>,
    ) -> Result<()> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let last = piece.end.div_ceil(GRANULE);
        let mut granule = self.changed.next_gap(piece.start / GRANULE, last);
        while granule < last {
            let end = self.changed.next_member(granule, last);
            copy((granule * GRANULE).max(piece.start)..(end * GRANULE).min(piece.end))?;
            granule = self.changed.next_gap(end, last);
        }
        Ok(())
    }

    fn copy_base(&self, progress: &dyn Progress) -> Result<()> {
        let mut at = 0;
        // Only a base with holes: in a dense one the zeros must be looked for,
        // or the image would take its whole size.
        if let Some(base) = self.base.as_file().filter(|file| has_holes(file)) {
            match self.copy_by_kernel(base, progress)? {
                None => return Ok(()),
                Some(reached) => at = reached,
            }
        }
        self.copy_through_memory(at, progress)
    }

    /// Gives the offset where it had to give up because the kernel cannot copy
    /// between these two files.
    fn copy_by_kernel(&self, base: &File, progress: &dyn Progress) -> Result<Option<u64>> {
        let mut pieces = Pieces::new(self, KERNEL_COPY_STEP);
        while let Some(piece) = pieces.next().map_err(copy_error)? {
            self.check_wanted(progress)?;
            let mut reached = None;
            self.copy_unchanged(&piece, |part| {
                if reached.is_none() {
                    reached = copy_range(base, &self.delta, part, progress)?;
                }
                Ok(())
            })?;
            if reached.is_some() {
                return Ok(reached);
            }
        }
        Ok(None)
    }

    fn copy_through_memory(&self, from: u64, progress: &dyn Progress) -> Result<()> {
        let mut pieces = Pieces::new(self, COPY_STEP);
        pieces.at = from;
        let pieces = Mutex::new(pieces);
        let failed = Mutex::new(None);
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(COPY_THREADS);
        let work = || -> Result<()> {
            let mut buffer = vec![0; COPY_STEP as usize];
            loop {
                self.check_wanted(progress)?;
                if lock(&failed).is_some() {
                    return Ok(());
                }
                let Some(piece) = lock(&pieces).next().map_err(copy_error)? else {
                    return Ok(());
                };
                let bytes = &mut buffer[..(piece.end - piece.start) as usize];
                self.base.read_at(bytes, piece.start).map_err(copy_error)?;
                self.copy_unchanged(&piece, |part| {
                    let inside =
                        (part.start - piece.start) as usize..(part.end - piece.start) as usize;
                    write_sparse(&self.delta, &bytes[inside], part.start).map_err(copy_error)
                })?;
                progress.advance(Step::Write, piece.end - piece.start);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        lock(&failed).get_or_insert(error);
                    }
                });
            }
        });
        match lock(&failed).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn next_changed(&self, offset: u64) -> Option<Range<u64>> {
        let granules = self.size.div_ceil(GRANULE);
        let first = self.changed.next_member(offset / GRANULE, granules);
        if first >= granules {
            return None;
        }
        let end = self.changed.next_gap(first, granules);
        Some((first * GRANULE).max(offset)..(end * GRANULE).min(self.size))
    }

    /// Reads from the base, which may be shorter than the disk.
    fn read_base(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let held = self
            .base
            .size()
            .saturating_sub(offset)
            .min(buffer.len() as u64) as usize;
        let (inside, past) = buffer.split_at_mut(held);
        if !inside.is_empty() {
            self.base.read_at(inside, offset)?;
        }
        past.fill(0);
        Ok(())
    }

    /// Makes the whole granule come from the file, unless it does already.
    fn fill(&self, granule: u64) -> io::Result<()> {
        if self.changed.contains(granule) {
            return Ok(());
        }
        let _filling = lock(&self.filling);
        if self.changed.contains(granule) {
            return Ok(());
        }
        let start = granule * GRANULE;
        let mut bytes = [0; GRANULE as usize];
        let bytes = &mut bytes[..(self.size - start).min(GRANULE) as usize];
        self.read_base(bytes, start)?;
        self.delta.write_all_at(bytes, start)?;
        self.changed.insert(granule);
        Ok(())
    }
}

impl Storage for CowDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = check_range(
            self.size,
            buffer.len(),
            offset,
            io::ErrorKind::UnexpectedEof,
        )?;
        if self.complete.load(Ordering::Acquire) {
            return self.delta.read_exact_at(buffer, offset);
        }
        let last = end.div_ceil(GRANULE);
        let mut at = offset;
        let mut rest = buffer;
        while at < end {
            let granule = at / GRANULE;
            let changed = self.changed.contains(granule);
            let run = if changed {
                self.changed.next_gap(granule, last)
            } else {
                self.changed.next_member(granule, last)
            };
            let length = ((run * GRANULE).min(end) - at) as usize;
            let (now, later) = rest.split_at_mut(length);
            if changed {
                self.delta.read_exact_at(now, at)?;
            } else {
                self.read_base(now, at)?;
            }
            rest = later;
            at += length as u64;
        }
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let end = check_range(self.size, buffer.len(), offset, io::ErrorKind::InvalidInput)?;
        if buffer.is_empty() {
            return Ok(());
        }
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if !self.complete.load(Ordering::Acquire) {
            if !offset.is_multiple_of(GRANULE) {
                self.fill(offset / GRANULE)?;
            }
            if !end.is_multiple_of(GRANULE) && end != self.size {
                self.fill(end / GRANULE)?;
            }
        }
        self.delta.write_all_at(buffer, offset)?;
        self.changed
            .insert_range(offset / GRANULE..end.div_ceil(GRANULE));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if self.complete.load(Ordering::Acquire) {
            return raw::next_data(&self.delta, self.size, offset);
        }
        let changed = self.next_changed(offset);
        let base = self.base.next_data(offset)?;
        Ok(match (changed, base) {
            (Some(changed), Some(base)) if changed.start < base.start => Some(changed),
            (changed, None) => changed,
            (_, base) => base,
        })
    }

    fn zstd_frame(&self, offset: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
        let granules = offset / GRANULE..offset.saturating_add(size).div_ceil(GRANULE);
        let unchanged = self.changed.next_member(granules.start, granules.end) >= granules.end;
        if self.handed_over.load(Ordering::Acquire) || !unchanged {
            return Ok(None);
        }
        self.base.zstd_frame(offset, size)
    }

    fn as_file(&self) -> Option<&File> {
        self.complete.load(Ordering::Acquire).then_some(&self.delta)
    }
}

/// The parts of the base that hold data and were not overwritten, in order, none
/// longer than `step`.
#[derive(Debug)]
struct Pieces<'a> {
    disk: &'a CowDisk,
    step: u64,
    at: u64,
    data: Range<u64>,
}

impl<'a> Pieces<'a> {
    fn new(disk: &'a CowDisk, step: u64) -> Self {
        Self {
            disk,
            step,
            at: 0,
            data: 0..0,
        }
    }

    fn next(&mut self) -> io::Result<Option<Range<u64>>> {
        loop {
            if self.at >= self.data.end {
                match self.disk.base.next_data(self.at)? {
                    Some(data) => self.data = data,
                    None => return Ok(None),
                }
                self.at = self.at.max(self.data.start);
            }
            // Whole granules, so that two pieces never meet within one.
            let changed = &self.disk.changed;
            let last = self.data.end.div_ceil(GRANULE);
            let granule = changed.next_gap(self.at / GRANULE, last);
            let start = (granule * GRANULE).max(self.at);
            if start >= self.data.end {
                self.at = self.data.end;
                continue;
            }
            let end = (changed.next_member(granule, last) * GRANULE)
                .min(self.data.end)
                .min(start.saturating_add(self.step));
            self.at = end;
            return Ok(Some(start..end));
        }
    }
}

/// Copies `part` of one file into the same place of another. Gives the offset
/// where it had to give up because the kernel cannot copy between the two.
fn copy_range(
    from: &File,
    to: &File,
    part: Range<u64>,
    progress: &dyn Progress,
) -> Result<Option<u64>> {
    let (mut read, mut written) = (part.start, part.start);
    while read < part.end {
        let rest = (part.end - read) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), rest) {
            Ok(copied) if copied > 0 => progress.advance(Step::Write, copied as u64),
            Ok(_)
            | Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                return Ok(Some(read));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(copy_error(error.into())),
        }
    }
    Ok(None)
}

/// Writes all blocks of `bytes` that are not zero.
fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let blocks = bytes[at..].chunks(SPARSE_BLOCK);
        let zeros: usize = blocks
            .take_while(|block| is_zero(block))
            .map(<[u8]>::len)
            .sum();
        at += zeros;
        let blocks = bytes[at..].chunks(SPARSE_BLOCK);
        let data: usize = blocks
            .take_while(|block| !is_zero(block))
            .map(<[u8]>::len)
            .sum();
        if data > 0 {
            file.write_all_at(&bytes[at..at + data], offset + at as u64)?;
        }
        at += data;
    }
    Ok(())
}

fn has_holes(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata()
        .is_ok_and(|metadata| metadata.blocks().saturating_mul(512) < metadata.len())
}

fn copy_error(error: io::Error) -> Error {
    let doing = "copy the base into the image";
    if error.kind() == io::ErrorKind::InvalidData {
        Error::input(doing).caused_by(error)
    } else {
        Error::io(doing, error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
