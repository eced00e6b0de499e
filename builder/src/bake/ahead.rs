//! Reads content ahead of what writes it.
//!
//! Done in turn, one of the two waits for the other; here the next piece is read
//! while the last one is written. Memory is bounded by the pieces on their way.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::PIECE;

/// Pieces on their way: one is read, one waits, one is written.
const PIECES: usize = 3;
/// Contents of at least this many bytes are read ahead: below, a thread costs more
/// than it gains.
pub(super) const LEAST: u64 = 1 << 20;

/// Calls `write` with a reader of `source`, which another thread reads; gives what
/// `write` gave.
pub(super) fn read_ahead<T>(source: impl Read + Send, write: impl FnOnce(&mut dyn Read) -> T) -> T {
    let (give_full, take_full) = sync_channel(PIECES);
    let (give_empty, take_empty) = channel();
    for _ in 0..PIECES {
        // The other end is in this function: it cannot be gone.
        give_empty.send(Vec::new()).ok();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || read_all(source, &take_empty, &give_full));
        let mut pieces = Pieces {
            take_full,
            give_empty,
            piece: Vec::new(),
            at: 0,
        };
        // A writer that failed wants no more: the thread ends when `pieces` goes.
        write(&mut pieces)
    })
}

fn read_all(
    mut source: impl Read,
    take_empty: &Receiver<Vec<u8>>,
    give_full: &SyncSender<io::Result<Vec<u8>>>,
) {
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_byte_arrives_in_order() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 3] {
            let bytes: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
            let read = read_ahead(bytes.as_slice(), |pieces| {
                let mut read = Vec::new();
                pieces.read_to_end(&mut read).map(|_| read)
            });
            assert!(read.expect("reads") == bytes, "{size}");
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
        let read = read_ahead(start.chain(Broken), |pieces| {
            let mut read = Vec::new();
            pieces.read_to_end(&mut read)
        });
        assert_eq!(read.expect_err("broken").to_string(), "the disk is gone");
    }

    #[test]
    fn a_writer_that_stops_ends_the_thread() {
        struct Endless<'a>(&'a AtomicUsize);
        impl Read for Endless<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.fetch_add(buffer.len(), Ordering::Relaxed);
                Ok(buffer.len())
            }
        }
        let given = AtomicUsize::new(0);
        let count = read_ahead(Endless(&given), |pieces| {
            let mut piece = [0; 100];
            pieces.read(&mut piece).expect("reads")
        });
        assert_eq!(count, 100);
        assert!(given.load(Ordering::Relaxed) <= (PIECES + 1) * PIECE);
    }
}
