//! The storage as the driver's device, for reading.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_core::BlockRead;

use crate::disk::Storage;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct ReadDevice {
    storage: Arc<dyn Storage>,
    damaged: AtomicBool,
}

impl ReadDevice {
    /// The device over `storage`.
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            damaged: AtomicBool::new(false),
        }
    }

    /// Whether a read failed because of what the image says, and not because of this
    /// machine: the driver keeps the text of an error alone.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.storage.read_at(buffer, offset)
    }
}

impl BlockRead for ReadDevice {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> fs_core::Result<()> {
        self.storage.read_at(buffer, offset).map_err(|error| {
            use io::ErrorKind::{InvalidData, UnexpectedEof};
            if matches!(error.kind(), InvalidData | UnexpectedEof) {
                self.damaged.store(true, Ordering::Relaxed);
            }
            error.into()
        })
    }

    fn size_bytes(&self) -> u64 {
        self.storage.size()
    }
}
