//! The content of files.
//!
//! Blocks come from the driver's allocator as runs that are allocated but not
//! yet initialised; the content then goes into them in large pieces, past the
//! driver's one-block-at-a-time path, and the run is marked initialised. When a
//! file system is so fragmented that a file needs many runs, the driver writes
//! the rest itself.

use std::io::{Read, Write};

use fs_ext4::error::Error as Ext4Error;

use super::inode::{RawInode, kind_of};
use super::{Ext4, translate};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::volume::content::{at_its_end, read_exactly};
use crate::volume::refusal::{refuse, regular_file};
use crate::volume::{Problem, Volume as _};

/// Bytes read or written at once.
const PIECE: usize = 1 << 20;
/// Longest run of blocks that one extent holds while it is not initialised
/// (`EXT_UNWRITTEN_MAX_LEN` in fs/ext4/ext4_extents.h).
const LONGEST_RUN: u64 = 0x7FFF;
/// Shorter runs than this many blocks are left to the driver.
const SHORTEST_RUN: u64 = 16;
/// Largest file, in bytes, that is read though the file system could not hold it
/// without holes.
const LARGEST_HOLE: u64 = 4 << 30;

impl Ext4 {
    /// Refuses content for which there is no room, before anything is written.
    pub(super) fn room_for(&mut self, path: &ImagePath, size: u64, doing: &str) -> Result<()> {
        let space = self.space()?;
        if size <= space.free {
            return Ok(());
        }
        // What is replaced makes room, if this was its last name.
        let freed = match self.find(path, doing)? {
            Some(number) => {
                let inode = self.inode(number, doing)?.0;
                if inode.links_count == 1 {
                    inode.blocks * 512
                } else {
                    0
                }
            }
            None => 0,
        };
        let free = space.free.saturating_add(freed);
        if size <= free {
            return Ok(());
        }
        Err(refuse(
            Problem::NoSpace,
            doing,
            format!(
                "{} bytes are missing: it has {size}, {free} are free",
                size - free
            ),
        ))
    }

    /// Writes exactly `size` bytes of `content` into the new, empty file
    /// `number`, whose size field is left for later.
    pub(super) fn copy_in(
        &mut self,
        number: u32,
        size: u64,
        content: &mut dyn Read,
        doing: &str,
    ) -> Result<()> {
        let block = u64::from(self.superblock.block_size);
        let blocks = size.div_ceil(block);
        let mut done = 0;
        let mut buffer = Vec::new();
        while done < blocks {
            let Some((first, length)) = self.take_run(number, done, blocks - done, doing)? else {
                break;
            };
            let mut at = first * block;
            let mut left = (size - done * block).min(length * block);
            while left > 0 {
                let piece = left.min(PIECE as u64) as usize;
                buffer.resize(piece.next_multiple_of(block as usize), 0);
                read_exactly(content, &mut buffer[..piece], doing)?;
                buffer[piece..].fill(0);
                self.driver
                    .dev
                    .write_at(at, &buffer)
                    .map_err(|error| translate(doing, error))?;
                at += buffer.len() as u64;
                left -= piece as u64;
            }
            done += length;
        }
        let mut offset = done * block;
        while offset < size {
            buffer.resize((size - offset).min(PIECE as u64) as usize, 0);
            read_exactly(content, &mut buffer, doing)?;
            self.driver
                .apply_pwrite_ino(number, offset, &buffer)
                .map_err(|error| translate(doing, error))?;
            offset += buffer.len() as u64;
        }
        at_its_end(content, size, doing)
    }

    /// Allocates a run of at most `wanted` blocks for logical block `logical`:
    /// its first physical block and its length. `None` when only scraps are left
    /// or the inode holds no further extent.
    fn take_run(
        &mut self,
        number: u32,
        logical: u64,
        wanted: u64,
        doing: &str,
    ) -> Result<Option<(u64, u64)>> {
        let block = u64::from(self.superblock.block_size);
        let mut raw = self.inode(number, doing)?.1;
        if !RawInode(&mut raw).takes_extent() {
            return Ok(None);
        }
        let mut length = wanted.min(LONGEST_RUN);
        loop {
            match self
                .driver
                .apply_fallocate_keep_size(number, logical * block, length * block)
            {
                Ok(()) => break,
                Err(Ext4Error::Corrupt("no group has a contiguous free run of this size")) => {
                    length /= 2;
                    if length < SHORTEST_RUN {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(translate(doing, error)),
            }
        }
        let (_, mut raw) = self.inode(number, doing)?;
        let Some((first, taken)) = RawInode(&mut raw).initialise_extent() else {
            return Err(refuse(
                Problem::Damaged,
                doing,
                "an allocation left no extent",
            ));
        };
        self.write_inode(number, &mut raw)
            .map_err(|error| translate(doing, error))?;
        Ok(Some((first, u64::from(taken))))
    }

    /// Adds to the end of a file; its modification time stays.
    pub(super) fn append(&mut self, number: u32, content: &[u8], doing: &str) -> Result<()> {
        let (inode, before) = self.inode(number, doing)?;
        regular_file(kind_of(inode.mode), doing)?;
        self.admit(number, doing)?;
        let free = self.space()?.free;
        if content.len() as u64 > free {
            return Err(refuse(
                Problem::NoSpace,
                doing,
                format!("{} bytes are missing", content.len() as u64 - free),
            ));
        }
        let mut offset = inode.size;
        for piece in content.chunks(PIECE) {
            let written = self.driver.apply_pwrite_ino(number, offset, piece);
            if let Err(error) = written {
                self.driver.apply_truncate_ino(number, inode.size).ok();
                return Err(translate(doing, error));
            }
            offset += piece.len() as u64;
        }
        let (_, mut raw) = self.inode(number, doing)?;
        // Seconds and their companion, exactly as they were.
        for range in [0x10..0x14, 0x88..0x8C] {
            if let (Some(now), Some(then)) = (raw.get_mut(range.clone()), before.get(range)) {
                now.copy_from_slice(then);
            }
        }
        self.write_inode(number, &mut raw)
            .map_err(|error| translate(doing, error))
    }

    /// Copies a file's content out.
    pub(super) fn copy_out(
        &mut self,
        number: u32,
        doing: &str,
        sink: &mut dyn Write,
    ) -> Result<u64> {
        let inode = self.inode(number, doing)?.0;
        regular_file(kind_of(inode.mode), doing)?;
        let whole = self.superblock.blocks * u64::from(self.superblock.block_size);
        if inode.size > whole.max(LARGEST_HOLE) {
            return Err(refuse(
                Problem::NotSupported,
                doing,
                format!(
                    "it says that it has {} bytes, the file system has {whole}",
                    inode.size
                ),
            ));
        }
        let mut buffer = vec![0; (inode.size.min(PIECE as u64)) as usize];
        let mut offset = 0;
        while offset < inode.size {
            let got = self
                .driver
                .read_ino(number, offset, &mut buffer)
                .map_err(|error| translate(doing, error))?;
            if got == 0 {
                return Err(refuse(
                    Problem::Damaged,
                    doing,
                    "it is shorter than its size",
                ));
            }
            sink.write_all(&buffer[..got])
                .map_err(|error| Error::io(doing, error))?;
            offset += got as u64;
        }
        Ok(offset)
    }
}
