//! Reads and hashes content ahead of what writes it.
//!
//! Hashing and writing take about the same time. Done in turn, one processor
//! idles; here the hash of the next piece is computed while the last one is
//! written. Memory is bounded by the pieces on their way.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::{Checked, PIECE};

/// Pieces on their way: one is hashed, one waits, one is written.
const PIECES: usize = 3;
/// Contents of at least this many bytes are read ahead: below, a thread costs more
/// than it gains.
pub(super) const LEAST: u64 = 1 << 20;

/// Calls `write` with a reader of `source`, which another thread reads and hashes;
/// gives what `write` gave, and the source with all that was read in it.
pub(super) fn read_ahead<T>(
    source: Checked<'_>,
    write: impl FnOnce(&mut dyn Read) -> T,
) -> (T, Checked<'_>) {
    let (give_full, take_full) = sync_channel(PIECES);
    let (give_empty, take_empty) = channel();
    for _ in 0..PIECES {
        // The other end is in this function: it cannot be gone.
        give_empty.send(Vec::new()).ok();
    }
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_all(source, &take_empty, &give_full));
        let mut pieces = Pieces {
            take_full,
            give_empty,
            piece: Vec::new(),
            at: 0,
        };
        let written = write(&mut pieces);
        // A writer that failed wants no more: the thread ends by that.
        drop(pieces);
        let source = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (written, source)
    })
}

fn read_all<'a>(
    mut source: Checked<'a>,
    take_empty: &Receiver<Vec<u8>>,
    give_full: &SyncSender<io::Result<Vec<u8>>>,
) -> Checked<'a> {
    while let Ok(mut piece) = take_empty.recv() {
        piece.resize(PIECE, 0);
        let read = fill(&mut source, &mut piece);
        let is_last = !matches!(read, Ok(PIECE));
        let read = read.map(|count| {
            piece.truncate(count);
            piece
        });
        if give_full.send(read).is_err() || is_last {
            break;
        }
    }
    source
}

/// Reads until `piece` is full or the source ends; gives the count of bytes.
fn fill(source: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < piece.len() {
        match source.read(&mut piece[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The pieces as one reader.
struct Pieces {
    take_full: Receiver<io::Result<Vec<u8>>>,
    give_empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // Without a next piece the source has ended.
            let next = self.take_full.recv().unwrap_or(Ok(Vec::new()))?;
            let read = std::mem::replace(&mut self.piece, next);
            self.at = 0;
            // The thread has ended when nobody takes it.
            self.give_empty.send(read).ok();
        }
        let count = (&self.piece[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::progress::Silent;

    fn source(inner: impl Read + Send + 'static) -> Checked<'static> {
        Checked {
            inner: Box::new(inner),
            hash: Sha256::new(),
            size: 0,
            progress: &Silent,
        }
    }

    #[test]
    fn every_byte_arrives_in_order_and_is_hashed() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 3] {
            let bytes: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
            let (read, source) = read_ahead(source(io::Cursor::new(bytes.clone())), |pieces| {
                let mut read = Vec::new();
                pieces.read_to_end(&mut read).map(|_| read)
            });
            assert!(read.expect("reads") == bytes, "{size}");
            assert_eq!(source.size, size as u64);
            assert_eq!(source.hash.finalize()[..], Sha256::digest(&bytes)[..]);
        }
    }

    #[test]
    fn an_error_of_the_source_reaches_the_writer() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let start = io::Cursor::new(vec![1; 3 * PIECE / 2]);
        let (read, _) = read_ahead(source(start.chain(Broken)), |pieces| {
            let mut read = Vec::new();
            pieces.read_to_end(&mut read)
        });
        assert_eq!(read.expect_err("broken").to_string(), "the disk is gone");
    }

    #[test]
    fn a_writer_that_stops_ends_the_thread() {
        let (count, source) = read_ahead(source(io::repeat(7)), |pieces| {
            let mut piece = [0; 100];
            pieces.read(&mut piece).expect("reads")
        });
        assert_eq!(count, 100);
        assert!(source.size <= ((PIECES + 1) * PIECE) as u64);
    }
}
