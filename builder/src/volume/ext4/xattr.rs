//! Extended attributes: made exactly those that are wanted, on anything.
//!
//! The driver sets attributes by path and one at a time. A bake sets them on
//! links and on names that are not UTF-8 too, and knows the whole set, so it is
//! laid out here at once: what fits goes into the inode, the rest into one block
//! behind it. The encoding of both areas is the driver's.

use std::collections::BTreeMap;

use fs_ext4::error::Error as Ext4Error;
use fs_ext4::inode::Inode;
use fs_ext4::xattr as driver;

use super::inode::RawInode;
use super::{Ext4, acl, translate};
use crate::error::Result;
use crate::volume::Problem;
use crate::volume::refusal::refuse;

/// A name that no tree holds: it exists only within one call.
const LENDER: &[u8] = b".nodekiln-block-for-attributes";

/// `XATTR_SIZE_MAX` of Linux, in bytes.
const LONGEST_VALUE: u32 = 64 << 10;

/// Where each attribute goes.
#[derive(Debug)]
pub(super) struct Layout {
    area: Vec<u8>,
    block: Option<Vec<u8>>,
}

impl Ext4 {
    /// The attributes of an inode, access control lists as programs see them.
    pub(super) fn attributes_of(
        &self,
        inode: &Inode,
        raw: &[u8],
        doing: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let size = (self.superblock.inode_size, self.superblock.block_size);
        let mut found = driver::read_all(self.driver.dev.as_ref(), inode, raw, size.0, size.1)
            .map_err(|error| translate(doing, error))?;
        if inode.file_acl != 0 || found.iter().any(|entry| entry.value_inum != 0) {
            admit_values(&found, doing)?;
            found = driver::read_all_resolved(&self.driver, inode, raw)
                .map_err(|error| translate(doing, error))?;
        }
        found
            .into_iter()
            .map(|entry| {
                let value = if acl::is_list(&entry.name) {
                    acl::shown(&entry.value).ok_or_else(|| {
                        refuse(
                            Problem::Damaged,
                            doing,
                            "its access control list is malformed",
                        )
                    })?
                } else {
                    entry.value
                };
                Ok((entry.name, value))
            })
            .collect()
    }

    /// Lays out `wanted` for an inode with `area` bytes of room.
    pub(super) fn lay_out(
        &self,
        wanted: &BTreeMap<String, Vec<u8>>,
        area: usize,
        doing: &str,
    ) -> Result<Layout> {
        let mut layout = Layout {
            area: vec![0; area],
            block: None,
        };
        for (name, value) in wanted {
            let converted = acl::is_list(name).then(|| acl::stored(value));
            let value = match &converted {
                Some(Some(list)) => list,
                Some(None) => {
                    return Err(refuse(
                        Problem::NotSupported,
                        doing,
                        format!("the value of {name} is no access control list"),
                    ));
                }
                None => value,
            };
            match driver::plan_set_in_inode_region(&mut layout.area, name, value) {
                Ok(_) => continue,
                Err(Ext4Error::NoSpaceLeftOnDevice) => {}
                Err(error) => return Err(translate(doing, error)),
            }
            let block = layout
                .block
                .get_or_insert_with(|| vec![0; self.superblock.block_size as usize]);
            driver::plan_set_in_external_block(block, name, value, 1).map_err(
                |error| match error {
                    Ext4Error::NoSpaceLeftOnDevice => refuse(
                        Problem::NotSupported,
                        doing,
                        format!(
                            "its extended attributes do not fit into {} bytes",
                            self.superblock.block_size
                        ),
                    ),
                    error => translate(doing, error),
                },
            )?;
        }
        Ok(layout)
    }

    /// Puts `layout` in place of all attributes of `inode`. `raw` is changed and
    /// not written; blocks are.
    pub(super) fn place(&mut self, raw: &mut [u8], layout: Layout, doing: &str) -> Result<()> {
        let area = RawInode(raw).attribute_area();
        raw[area].copy_from_slice(&layout.area);
        let mut inode = RawInode(raw);
        let sectors = u64::from(self.superblock.block_size / 512);
        let old = inode.attribute_block();
        if old != 0 {
            // Whether others share the block does not matter: giving it up
            // counts one owner less, and the last one frees it.
            inode.set_attribute_block(0);
            inode.set_sectors(inode.sectors().saturating_sub(sectors));
            self.give_up_block(old, doing)?;
        }
        if let Some(mut block) = layout.block {
            let number = self.take_block(doing)?;
            self.driver.csum.patch_xattr_block(number, &mut block);
            self.driver
                .dev
                .write_at(number * u64::from(self.superblock.block_size), &block)
                .map_err(|error| translate(doing, error))?;
            inode.set_attribute_block(number);
            inode.set_sectors(inode.sectors() + sectors);
        }
        Ok(())
    }

    /// Allocates one block for attributes: a file that lives for this call takes
    /// it from the allocator and passes it on.
    fn take_block(&mut self, doing: &str) -> Result<u64> {
        let lender = self.lend(doing)?;
        let taken = (|| {
            let size = u64::from(self.superblock.block_size);
            self.driver.apply_fallocate_keep_size(lender, 0, size)?;
            let mut raw = self.driver.read_inode_raw(lender)?;
            let mut inode = RawInode(&mut raw);
            let block = inode.initialise_extent().map(|(first, _)| first);
            inode.clear_extents();
            inode.set_sectors(0);
            self.write_inode(lender, &mut raw)?;
            block.ok_or(Ext4Error::Corrupt("an allocation left no extent"))
        })();
        let returned = self.driver.apply_unlink_at(super::ROOT, LENDER).and(Ok(()));
        let block = taken.map_err(|error| translate(doing, error))?;
        returned.map_err(|error| translate(doing, error))?;
        Ok(block)
    }

    /// Gives one ownership of an attribute block back to the allocator.
    fn give_up_block(&mut self, block: u64, doing: &str) -> Result<()> {
        let lender = self.lend(doing)?;
        (|| {
            let mut raw = self.driver.read_inode_raw(lender)?;
            let mut inode = RawInode(&mut raw);
            inode.set_attribute_block(block);
            inode.set_sectors(u64::from(self.superblock.block_size / 512));
            self.write_inode(lender, &mut raw)?;
            self.driver.apply_unlink_at(super::ROOT, LENDER)
        })()
        .map_err(|error| translate(doing, error))
    }

    fn lend(&mut self, doing: &str) -> Result<u32> {
        self.driver
            .apply_create_at(super::ROOT, LENDER, 0)
            .map_err(|error| translate(doing, error))
    }
}

/// Refuses values in inodes of their own (`ea_inode`) that are longer than Linux
/// has them: the driver makes room for what they say.
fn admit_values(found: &[driver::XattrEntry], doing: &str) -> Result<()> {
    let long = found
        .iter()
        .find(|entry| entry.value_inum != 0 && entry.value_size > LONGEST_VALUE);
    long.map_or(Ok(()), |entry| {
        Err(refuse(
            Problem::Damaged,
            doing,
            format!(
                "its attribute '{}' says that it has {} bytes",
                entry.name.escape_default(),
                entry.value_size
            ),
        ))
    })
}
