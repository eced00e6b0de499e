//! How much room a bake takes, known before its first write.

use super::refusal::refuse;
use super::{FileSystem, Kind, Problem, Space};
use crate::error::Result;

/// One thing that a bake creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeedOf {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes: of the content, or of a link's target.
    pub size: u64,
    /// Length of its name in bytes.
    pub name: usize,
    /// Sum of the lengths of the names and values of its extended attributes,
    /// in bytes.
    pub xattrs: usize,
}

/// A sum of blocks and inodes: an upper bound, on the side of caution by a few
/// blocks a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    block_size: u64,
    file_system: FileSystem,
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    names: u64,
}

impl Need {
    /// Nothing yet, for a file system with `space`.
    pub fn new(file_system: FileSystem, space: &Space) -> Self {
        Self {
            block_size: u64::from(space.block_size.max(1)),
            file_system,
            bytes: 0,
            inodes: 0,
            names: 0,
        }
    }

    /// Adds one thing. What it may replace is not subtracted: the old content
    /// goes before the new comes, but only after this check.
    pub fn add(&mut self, item: &NeedOf) {
        let blocks = |bytes: u64| bytes.div_ceil(self.block_size);
        let content = match (self.file_system, item.kind) {
            // Targets of up to 59 bytes lie in the inode.
            (FileSystem::Ext4, Kind::Symlink) if item.size < 60 => 0,
            (_, Kind::Directory) => 1,
            (FileSystem::Ext4, Kind::File) => {
                // One block of the extent tree per 340 extents; a file of which
                // every run is only 16 blocks long still fits this bound.
                let content = blocks(item.size);
                content + if content > 64 { content / 1024 + 1 } else { 0 }
            }
            _ => blocks(item.size),
        };
        // About 90 bytes lie in an inode of 256.
        let attributes = u64::from(self.file_system != FileSystem::Fat && item.xattrs > 48);
        self.inodes += 1;
        self.bytes = self.bytes.saturating_add(
            content
                .saturating_add(attributes)
                .saturating_mul(self.block_size),
        );
        if self.file_system.needs_kernel() {
            // Inodes are made where there is room, of 512 bytes as a rule.
            self.bytes = self.bytes.saturating_add(1024);
        }
        self.names += match self.file_system {
            FileSystem::Fat => 32 * (1 + (item.name as u64).div_ceil(13)),
            _ => 8 + (item.name as u64).next_multiple_of(4),
        };
    }

    /// All bytes with what folders need for the names: blocks of folders are
    /// split in half when they are full.
    pub fn total_bytes(&self) -> u64 {
        self.bytes
            .saturating_add((2 * self.names).next_multiple_of(self.block_size))
    }

    /// Refuses when `space` is not enough.
    ///
    /// # Errors
    /// [`Problem::NoSpace`] with the bytes and inodes that are missing.
    pub fn check(&self, space: &Space) -> Result<()> {
        let bytes = self.total_bytes().saturating_sub(space.free);
        let inodes = space
            .free_inodes
            .map_or(0, |free| self.inodes.saturating_sub(free));
        let missing = match (bytes, inodes) {
            (0, 0) => return Ok(()),
            (bytes, 0) => format!("{bytes} bytes are missing"),
            (0, inodes) => format!("{inodes} inodes are missing"),
            (bytes, inodes) => format!("{bytes} bytes and {inodes} inodes are missing"),
        };
        Err(refuse(
            Problem::NoSpace,
            "make room for the bake",
            format!(
                "{missing}: it needs {} bytes and {} inodes, free are {} bytes{}",
                self.total_bytes(),
                self.inodes,
                space.free,
                space
                    .free_inodes
                    .map_or_else(String::new, |free| format!(" and {free} inodes")),
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::problem;

    #[test]
    fn says_what_is_missing() {
        let space = Space {
            block_size: 4096,
            total: 1 << 20,
            free: 100 * 4096,
            free_inodes: Some(10),
        };
        let mut need = Need::new(FileSystem::Ext4, &space);
        let file = NeedOf {
            kind: Kind::File,
            size: 5000,
            name: 10,
            xattrs: 0,
        };
        for _ in 0..10 {
            need.add(&file);
        }
        need.check(&space).expect("enough");
        need.add(&file);
        let error = need.check(&space).expect_err("one inode too many");
        assert_eq!(problem(&error), Some(Problem::NoSpace));
        let text = std::error::Error::source(&error)
            .expect("cause")
            .to_string();
        assert!(text.starts_with("1 inodes are missing"), "{text}");
        let mut large = Need::new(FileSystem::Ext4, &space);
        large.add(&NeedOf {
            size: 101 * 4096,
            ..file
        });
        let text = format!("{:?}", large.check(&space).expect_err("too large"));
        assert!(text.contains("bytes are missing"), "{text}");
    }
}
