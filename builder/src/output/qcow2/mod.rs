//! The qcow2 image: a sequential writer of version 3.
//!
//! The bytes depend on nothing but the content of the disk, the options, and how a
//! zstd base has compressed the clusters that did not change (they are taken as
//! they are): clusters come in the order of the disk, zeros are left out by content,
//! tables follow what they describe. Reading, finding zeros and compressing happen in
//! threads; one thread lays out the file, in order. Memory is bounded by the
//! number of batches on their way, whatever the size of the disk.

mod batch;
mod layout;

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use super::digest::Linear;
use crate::disk::Storage;
use crate::error::{Class, Context as _, Error, Result};
use crate::progress::{Progress, Step};
use crate::store::Digest;
use batch::{Batch, Batches, Worker};
use layout::Layout;

/// Most threads that compress: with their batches they stay below 32 MB.
const THREADS_MAX: usize = 8;

/// How clusters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As they are: as fast as a copy, for every QEMU since 1.1.
    None,
    /// zstd, for QEMU since 5.1.
    #[default]
    Zstd,
}

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How clusters are stored.
    pub compression: Compression,
    /// Size of a cluster in bytes: a power of two from 4 KiB to 2 MiB.
    pub cluster_size: u32,
    /// Threads that read and compress; by default one a processor. It does not
    /// change the file.
    pub threads: Option<NonZeroUsize>,
    /// Whether the linear digest of the disk is computed on the way
    /// ([`super::linear`]).
    pub linear: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            cluster_size: 64 << 10,
            threads: None,
            linear: false,
        }
    }
}

/// What an image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of the file, in bytes.
    pub size: u64,
    /// Size of the disk, in bytes.
    pub virtual_size: u64,
    /// Clusters that are stored as they are.
    pub plain_clusters: u64,
    /// Clusters that are stored compressed.
    pub compressed_clusters: u64,
    /// The linear digest of the disk, if it was asked for.
    pub linear: Option<Digest>,
}

/// Writes the whole of `storage` to `file`, which must be empty. The file is not
/// synced: [`super::Pending::finish`] does.
///
/// # Errors
/// [`Class::Input`] for a cluster size that is not possible, or a damaged base
/// below `storage`; [`Class::Environment`] when the space does not suffice;
/// [`Class::Interrupted`] on request.
pub fn write(
    storage: &dyn Storage,
    file: &File,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Written> {
    let present = file
        .metadata()
        .doing(|| "write the qcow2 image".to_owned())?
        .len();
    if present != 0 {
        return Err(Error::new(
            Class::Internal,
            format!("write the qcow2 image to a file that holds {present} bytes"),
        ));
    }
    let layout = Layout::new(file, storage.size(), options)?;
    let total = Batches::new(storage, options.cluster_size.into()).total()?;
    progress.begin(Step::Write, "qcow2", Some(total));
    let result = write_clusters(storage, layout, options, progress);
    progress.end(Step::Write);
    result
}

fn write_clusters(
    storage: &dyn Storage,
    mut layout: Layout<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Written> {
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
        .min(THREADS_MAX);
    let pool = Pool {
        batches: Mutex::new(Batches::new(storage, options.cluster_size.into())),
        stopped: AtomicBool::new(false),
    };
    // An empty batch is the permission to fill it: their number bounds memory.
    let (give_empty, take_empty) = mpsc::channel();
    for _ in 0..threads + 2 {
        give_empty.send(Batch::default()).ok();
    }
    let take_empty = Mutex::new(take_empty);
    let (give_full, take_full) = mpsc::channel();
    let mut linear = options.linear.then(Linear::new);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let give_full = give_full.clone();
            let (pool, take_empty) = (&pool, &take_empty);
            scope.spawn(move || pool.run(storage, options, take_empty, &give_full));
        }
        drop(give_full);
        let result = lay_out(
            &mut layout,
            linear.as_mut(),
            &take_full,
            &give_empty,
            progress,
        );
        pool.stopped.store(true, Ordering::Relaxed);
        // Ends the threads that wait for an empty batch.
        drop(give_empty);
        result
    })?;
    let written = layout.finish()?;
    Ok(Written {
        linear: linear.map(|linear| linear.finish(storage.size())),
        ..written
    })
}

/// Takes the batches as they come and lays them out in their order.
fn lay_out(
    layout: &mut Layout<'_>,
    mut linear: Option<&mut Linear>,
    take_full: &mpsc::Receiver<Result<Batch>>,
    give_empty: &mpsc::Sender<Batch>,
    progress: &dyn Progress,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    while let Ok(batch) = take_full.recv() {
        let batch = batch?;
        early.insert(batch.number, batch);
        while let Some(batch) = early.remove(&next) {
            progress.check()?;
            layout.add(&batch)?;
            if let Some(linear) = &mut linear {
                for (number, digest) in &batch.blocks {
                    linear.add(*number, digest);
                }
            }
            progress.advance(Step::Write, batch.length() as u64);
            next += 1;
            // Nobody waits for it when all threads are done.
            give_empty.send(batch).ok();
        }
    }
    Ok(())
}

/// What the threads share.
#[derive(Debug)]
struct Pool<'a> {
    batches: Mutex<Batches<'a>>,
    stopped: AtomicBool,
}

impl Pool<'_> {
    fn run(
        &self,
        storage: &dyn Storage,
        options: &Options,
        take_empty: &Mutex<mpsc::Receiver<Batch>>,
        give_full: &mpsc::Sender<Result<Batch>>,
    ) {
        let result = self.fill_batches(storage, options, take_empty, give_full);
        if let Err(error) = result {
            give_full.send(Err(error)).ok();
        }
    }

    fn fill_batches(
        &self,
        storage: &dyn Storage,
        options: &Options,
        take_empty: &Mutex<mpsc::Receiver<Batch>>,
        give_full: &mpsc::Sender<Result<Batch>>,
    ) -> Result<()> {
        let mut worker = Worker::new(options)?;
        loop {
            // The batch first, then its number: so the lowest number on its way
            // always has a batch, and the writer never waits in vain.
            let empty = lock(take_empty).recv();
            let Ok(mut batch) = empty else {
                return Ok(());
            };
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let Some((number, range)) = lock(&self.batches).next()? else {
                return Ok(());
            };
            worker.fill(&mut batch, number, range, storage)?;
            if give_full.send(Ok(batch)).is_err() {
                return Ok(());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
