//! Logs that a running system left in a base: a kernel replays them before the base is
//! read.
//!
//! XFS and btrfs are read in this process by code that looks at blocks in their places
//! alone. A partition whose log holds more than those is copied into a temporary file, where
//! a kernel mounts and unmounts it; that copy stands for the partition from then on. The
//! base is not touched.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::Engine;
use super::engine::{self, Editor};
use crate::disk::{CowDisk, Replaced, Slice, Storage, gpt};
use crate::error::{Context as _, Result};
use crate::progress::Progress;
use crate::volume::agent::{self, Place};
use crate::volume::mount::Mount;
use crate::volume::{self, Access, FileSystem, Timestamp, Volume as _};

/// `disk` with every log replayed. Without one that waits it is `disk` itself.
///
/// # Errors
/// What making room for a copy gives; [`crate::Class::Unsupported`] when the engine is to
/// be this process alone; what the kernel says.
pub(super) fn all(
    mut disk: Arc<dyn Storage>,
    engine: Engine,
    progress: &dyn Progress,
) -> Result<Arc<dyn Storage>> {
    // Who reads the table next tells what is wrong with it.
    let Ok(table) = gpt::read(disk.as_ref()) else {
        return Ok(disk);
    };
    for partition in table.partitions() {
        let bytes = partition.bytes();
        let Ok(slice) = Slice::new(Arc::clone(&disk), bytes.clone()) else {
            continue;
        };
        let slice: Arc<dyn Storage> = Arc::new(slice);
        // A file system that cannot be read may not be needed.
        let waits = volume::needs_replay(&slice).unwrap_or(None);
        let (Some(file_system), true) = (waits, engine != Engine::InProcess) else {
            continue;
        };
        let doing = || format!("replay the log of partition {}", partition.number);
        progress.warn(&format!(
            "partition {} was not unmounted: a kernel replays its log",
            partition.number
        ));
        let replayed = one(slice, file_system, engine, progress).doing(doing)?;
        disk = Arc::new(Replaced::new(disk, bytes.start, replayed)?);
    }
    Ok(disk)
}

/// A copy of `partition` with its log replayed.
fn one(
    partition: Arc<dyn Storage>,
    file_system: FileSystem,
    engine: Engine,
    progress: &dyn Progress,
) -> Result<Arc<dyn Storage>> {
    let editor = engine::editor(engine)?;
    let file = tempfile::tempfile().doing(|| "create a temporary file".to_owned())?;
    let size = partition.size();
    let copy = CowDisk::new(partition, size, file)?;
    copy.hand_over(progress)?;
    let image = PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        copy.file().as_raw_fd()
    ));
    match editor {
        Editor::Agent(kernel) => {
            let place = Place {
                image,
                range: 0..size,
                work: std::env::temp_dir(),
                kernel,
            };
            agent::replay(&place, file_system, Timestamp::default(), progress)?;
        }
        Editor::Mount => {
            let mount = Mount::open(&image, 0..size, Access::Write, Timestamp::default())?;
            Box::new(mount).finish()?;
        }
    }
    Ok(Arc::new(copy))
}
