//! Compressed clusters.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::header::Compression;

/// Largest window that a zstd frame may ask for, as a power of two: four times
/// the largest cluster. It bounds the memory that a hostile image can take.
const WINDOW_LOG_MAX: u32 = 23;

/// Decompresses clusters; keeps its state between them, since making it anew
/// costs more than a small cluster.
pub(super) struct Decompressor {
    compression: Compression,
    zlib: Mutex<Vec<Decompress>>,
    zstd: Mutex<Vec<Decoder<'static>>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Decompressor({:?})", self.compression)
    }
}

fn damaged(problem: impl fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a compressed cluster is damaged: {problem}"),
    )
}

impl Decompressor {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            zlib: Mutex::default(),
            zstd: Mutex::default(),
        }
    }

    /// Whether clusters are zstd frames.
    pub(super) fn is_zstd(&self) -> bool {
        self.compression == Compression::Zstd
    }

    /// Fills `cluster` from `compressed`, behind whose stream other bytes may
    /// follow.
    pub(super) fn run(&self, compressed: &[u8], cluster: &mut [u8]) -> io::Result<()> {
        match self.compression {
            Compression::Zlib => {
                let mut state = take(&self.zlib).unwrap_or_else(|| Decompress::new(false));
                state.reset(false);
                inflate(&mut state, compressed, cluster)?;
                give(&self.zlib, state);
            }
            Compression::Zstd => {
                let mut state = match take(&self.zstd) {
                    Some(state) => state,
                    None => zstd_decoder()?,
                };
                state.reinit()?;
                unzstd(&mut state, compressed, cluster)?;
                give(&self.zstd, state);
            }
        }
        Ok(())
    }
}

/// Length of the one zstd frame at the start of `compressed`, if it says that it
/// holds `size` bytes. A cluster may also be several frames, or a frame that does
/// not say its size: these are for the decompressor alone.
pub(super) fn frame_of(compressed: &[u8], size: u64) -> Option<usize> {
    let says = zstd::zstd_safe::get_frame_content_size(compressed).ok()??;
    let length = zstd::zstd_safe::find_frame_compressed_size(compressed).ok()?;
    (says == size && length <= compressed.len()).then_some(length)
}

fn take<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give<T>(pool: &Mutex<Vec<T>>, state: T) {
    pool.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(state);
}

fn zstd_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn inflate(state: &mut Decompress, compressed: &[u8], cluster: &mut [u8]) -> io::Result<()> {
    // With the whole input and output at hand, one call must do it all.
    let status = state
        .decompress(compressed, cluster, FlushDecompress::Finish)
        .map_err(damaged)?;
    // Some writers leave the end marker out: a full cluster is what counts.
    if state.total_out() == cluster.len() as u64 {
        return Ok(());
    }
    Err(damaged(match status {
        Status::StreamEnd => "it is too short",
        _ => "its end is missing",
    }))
}

fn unzstd(state: &mut Decoder<'static>, compressed: &[u8], cluster: &mut [u8]) -> io::Result<()> {
    let mut input = InBuffer::around(compressed);
    let mut output = OutBuffer::around(cluster);
    while output.pos() < output.capacity() {
        let before = (input.pos(), output.pos());
        state.run(&mut input, &mut output).map_err(damaged)?;
        if (input.pos(), output.pos()) == before {
            return Err(damaged("its end is missing"));
        }
    }
    Ok(())
}
