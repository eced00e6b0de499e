//! The payload as it is gathered: contents go to a file at once, operations to the list.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln_agent::{BLOCK, Content, Header, INLINE, Operation};
use sha2::{Digest as _, Sha256};

use crate::error::{Context as _, Error, Result};
use crate::volume::Problem;
use crate::volume::content::{at_its_end, read_exactly};
use crate::volume::refusal::refuse;

/// Name of the payload's file.
const PAYLOAD: &str = "payload";
/// Bytes copied at once.
const PIECE: usize = 1 << 20;
/// Longest list that is kept in memory, in bytes: a million files.
const LONGEST: usize = 512 << 20;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Spool {
    folder: tempfile::TempDir,
    file: File,
    /// Where the next content goes.
    next: u64,
    contents: u64,
    list: Vec<u8>,
    operations: u64,
}

/// The finished payload.
#[derive(Debug)]
pub(super) struct Payload {
    /// Its name in the folder.
    pub name: &'static str,
    /// What the answer must name.
    pub identity: [u8; 32],
    /// Number of operations.
    pub operations: u64,
    /// Bytes of contents.
    pub contents: u64,
}

impl Spool {
    /// An empty payload, in a folder of its own below `work`.
    pub(super) fn new(work: &Path) -> Result<Self> {
        let doing = || format!("create a folder in {}", work.display());
        let folder = tempfile::Builder::new()
            .prefix("nodekiln-agent-")
            .tempdir_in(work)
            .doing(doing)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join(PAYLOAD))
            .doing(doing)?;
        Ok(Self {
            folder,
            file,
            next: BLOCK as u64,
            contents: 0,
            list: Vec::new(),
            operations: 0,
        })
    }

    /// A folder that goes with this value.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Adds an operation.
    pub(super) fn push(&mut self, operation: &Operation) -> Result<()> {
        if self.list.len() > LONGEST {
            return Err(refuse(
                Problem::NotSupported,
                operation.doing(),
                format!("the list of changes has more than {LONGEST} bytes"),
            ));
        }
        operation
            .write(&mut self.list)
            .doing(|| operation.doing())?;
        self.operations += 1;
        Ok(())
    }

    /// Takes a content of exactly `size` bytes.
    ///
    /// # Errors
    /// [`Class::Dependency`] when it has another length; else what reading or writing
    /// gives.
    pub(super) fn take(
        &mut self,
        size: u64,
        content: &mut dyn Read,
        doing: &str,
    ) -> Result<Content> {
        let taken = if size <= INLINE {
            let mut bytes = vec![0; size as usize];
            read_exactly(content, &mut bytes, doing)?;
            Content::Inline(bytes)
        } else {
            let offset = self.next;
            let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
            let mut at = 0;
            while at < size {
                let left = usize::try_from(size - at).unwrap_or(PIECE);
                let piece = &mut buffer[..left.min(PIECE)];
                read_exactly(content, piece, doing)?;
                self.file
                    .write_all_at(piece, offset + at)
                    .doing(|| format!("{doing}: keep its content"))?;
                at += piece.len() as u64;
            }
            Content::Area { offset, size }
        };
        at_its_end(content, size, doing)?;
        if let Content::Area { offset, size } = &taken {
            self.next = (offset + size).next_multiple_of(BLOCK as u64);
        }
        self.contents += size;
        Ok(taken)
    }

    /// A content that was taken, from its beginning.
    pub(super) fn reader<'a>(&'a self, content: &'a Content) -> Box<dyn Read + 'a> {
        match content {
            Content::Inline(bytes) => Box::new(bytes.as_slice()),
            Content::Area { offset, size } => Box::new(Area {
                file: &self.file,
                at: *offset,
                end: offset + size,
            }),
        }
    }

    /// Copies a content that was taken.
    pub(super) fn copy(
        &self,
        content: &Content,
        sink: &mut dyn std::io::Write,
        doing: &str,
    ) -> Result<()> {
        let failed = |error| Error::io(doing, error);
        let (mut offset, size) = match content {
            Content::Inline(bytes) => return sink.write_all(bytes).map_err(failed),
            Content::Area { offset, size } => (*offset, *size),
        };
        let end = offset + size;
        let mut buffer = vec![0; PIECE];
        while offset < end {
            let left = usize::try_from(end - offset).unwrap_or(PIECE);
            let piece = &mut buffer[..left.min(PIECE)];
            self.file.read_exact_at(piece, offset).map_err(failed)?;
            sink.write_all(piece).map_err(failed)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// The operations so far.
    #[cfg(test)]
    pub(super) fn operations(&self) -> Vec<Operation> {
        let mut list = self.list.as_slice();
        (0..self.operations)
            .map(|_| Operation::read(&mut list).expect("as it was written"))
            .collect()
    }

    /// Writes list and header.
    pub(super) fn finish(&mut self, mut header: Header) -> Result<Payload> {
        let doing = || "write the list of changes".to_owned();
        let identity: [u8; 32] = Sha256::digest(&self.list).into();
        header.identity = identity;
        header.operations = self.operations;
        header.list = self.next;
        header.length = self.list.len() as u64;
        self.file
            .write_all_at(&self.list, header.list)
            .doing(doing)?;
        let end = (header.list + header.length).next_multiple_of(BLOCK as u64);
        self.file.set_len(end).doing(doing)?;
        self.file.write_all_at(&header.encode(), 0).doing(doing)?;
        self.file.flush().doing(doing)?;
        Ok(Payload {
            name: PAYLOAD,
            identity,
            operations: self.operations,
            contents: self.contents,
        })
    }
}

/// A part of a file, read from its beginning.
struct Area<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Area<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let piece = buffer.len().min(left);
        let got = self.file.read_at(&mut buffer[..piece], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
