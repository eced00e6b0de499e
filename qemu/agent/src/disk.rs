//! The payload, read past the page cache: what passes through a guest's cache is
//! copied once more, and that is what is slow there.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nodekiln_agent::{BLOCK, Header};
use rustix::fs::OFlags;

/// Bytes read at once.
pub const PIECE: usize = 4 << 20;

/// Memory that begins at a multiple of [`BLOCK`], as the kernel wants it for this.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// `size` zeros.
    pub fn new(size: usize) -> Self {
        let memory = vec![0; size + BLOCK];
        // The memory stays where it is: the vector never grows.
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { memory, start }
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        let size = self.memory.len() - BLOCK;
        &mut self.memory[self.start..self.start + size]
    }
}

/// The payload's disk.
#[derive(Debug)]
pub struct Payload {
    disk: File,
}

impl Payload {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let disk = File::options()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)?;
        Ok(Self { disk })
    }

    /// Its header.
    pub fn header(&self) -> io::Result<Header> {
        let mut block = Aligned::new(BLOCK);
        self.read(block.bytes(), 0)?;
        Header::decode(block.bytes()).map_err(io::Error::other)
    }

    /// Fills `buffer` from `offset`; both must be aligned.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_exact_at(buffer, offset)
    }

    /// The list of operations.
    pub fn list(&self, header: &Header) -> io::Result<List> {
        Ok(List {
            payload: Self {
                disk: self.disk.try_clone()?,
            },
            next: header.list,
            left: header.length,
            buffer: Aligned::new(PIECE),
            held: 0,
            at: 0,
        })
    }
}

/// The contents of the payload. They are used in the order in which they lie: whatever is
/// asked for, what follows is read with it.
#[derive(Debug)]
pub struct Contents {
    payload: Payload,
    /// Size of the payload, in bytes.
    end: u64,
    buffer: Aligned,
    /// Bytes of the payload that the buffer holds.
    held: Range<u64>,
}

impl Contents {
    /// Those of `payload`.
    pub fn new(payload: Payload) -> io::Result<Self> {
        let end = (&payload.disk).seek(SeekFrom::End(0))?;
        Ok(Self {
            payload,
            end,
            buffer: Aligned::new(PIECE),
            held: 0..0,
        })
    }

    /// `size` bytes from `offset` on, at most [`PIECE`]. They lie as aligned in memory as
    /// on the disk.
    pub fn read(&mut self, offset: u64, size: u64) -> io::Result<&[u8]> {
        let last = offset.saturating_add(size);
        if offset < self.held.start || last > self.held.end {
            let start = offset - offset % BLOCK as u64;
            let piece = self.end.saturating_sub(start).min(PIECE as u64);
            self.held = 0..0;
            self.payload
                .read(&mut self.buffer.bytes()[..piece as usize], start)?;
            self.held = start..start + piece;
        }
        let from = (offset - self.held.start) as usize;
        let found = self.buffer.bytes().get(from..from + size as usize);
        // The header's promise, and no more, was kept.
        found
            .filter(|_| last <= self.held.end)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// The list of operations as a stream.
#[derive(Debug)]
pub struct List {
    payload: Payload,
    next: u64,
    left: u64,
    buffer: Aligned,
    held: usize,
    at: usize,
}

impl Read for List {
    fn read(&mut self, sink: &mut [u8]) -> io::Result<usize> {
        if self.at == self.held {
            let piece = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
            if piece == 0 {
                return Ok(0);
            }
            let whole = piece.next_multiple_of(BLOCK);
            self.payload
                .read(&mut self.buffer.bytes()[..whole], self.next)?;
            self.next += whole as u64;
            self.left -= piece as u64;
            (self.held, self.at) = (piece, 0);
        }
        let count = sink.len().min(self.held - self.at);
        sink[..count].copy_from_slice(&self.buffer.bytes()[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
