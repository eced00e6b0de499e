//! The edge of a volume: a panic of what edits it becomes an error.
//!
//! A driver of others reads what somebody else wrote. Where it does not expect
//! something, it may panic; a build must then end with an error like any other.
//! What a panic leaves behind is unknown, so the volume takes no further call.

use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::refusal::refuse;
use super::{Attributes, DirectoryEntry, Identity, Metadata, Problem, Space, Volume};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::progress::{Progress, Silent};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would now become an error of a volume: a panic
/// hook need not tell the user of it.
pub fn panics_are_errors() -> bool {
    INSIDE.get()
}

/// A volume, and what it says of itself without looking.
#[derive(Debug)]
struct Guarded {
    /// `None` after a panic.
    inner: Option<Box<dyn Volume>>,
    identity: Identity,
}

/// Opens a volume with `open`; no call to it, and not opening it either, panics.
///
/// # Errors
/// Those of `open`; [`Problem::Damaged`] for a panic.
pub(super) fn open(
    doing: &str,
    open: impl FnOnce() -> Result<Box<dyn Volume>>,
) -> Result<Box<dyn Volume>> {
    catch(doing, || {
        let inner = open()?;
        Ok(Box::new(Guarded {
            identity: inner.identity(),
            inner: Some(inner),
        }) as Box<dyn Volume>)
    })
}

pub(super) fn catch<T>(doing: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let outside = INSIDE.replace(true);
    let done = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(outside);
    done.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it does not say why");
        let first = said.lines().next().unwrap_or_default();
        Err(damaged(doing, &format!(" (its driver stopped: {first})")))
    })
}

fn damaged(doing: &str, why: &str) -> Error {
    refuse(
        Problem::Damaged,
        doing,
        format!("the file system is damaged or hostile{why}"),
    )
    .hint("run e2fsck -fn (ext4), fsck.vfat -n (FAT), xfs_repair -n (XFS) or btrfs check --readonly (btrfs) on a copy of the partition")
}

impl Guarded {
    fn call<T>(
        &mut self,
        doing: &str,
        call: impl FnOnce(&mut dyn Volume) -> Result<T>,
    ) -> Result<T> {
        let Some(mut inner) = self.inner.take() else {
            return Err(damaged(doing, ": an earlier call to it broke off"));
        };
        let mut finished = false;
        let done = catch(doing, || {
            let done = call(inner.as_mut());
            finished = true;
            done
        });
        if finished {
            self.inner = Some(inner);
        } else {
            // Its last words may panic, too.
            catch(doing, || {
                drop(inner);
                Ok(())
            })
            .ok();
        }
        done
    }
}

impl Volume for Guarded {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn space(&mut self) -> Result<Space> {
        self.call("read the free space", |inner| inner.space())
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        self.call(&format!("look at {path}"), |inner| inner.metadata(path))
    }

    fn part(&self, inode: u64) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.part(inode))
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        self.call(&format!("list {path}"), |inner| inner.read_directory(path))
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        self.call(&format!("read {path}"), |inner| inner.read_file(path, sink))
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        self.call(&doing, |inner| inner.read_link(path))
    }

    fn create_directory(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("create the folder {path}");
        self.call(&doing, |inner| inner.create_directory(path, attributes))
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        size: u64,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        self.call(&format!("write {path}"), |inner| {
            inner.write_file(path, size, content, attributes)
        })
    }

    fn append_file(&mut self, path: &ImagePath, content: &[u8]) -> Result<()> {
        let doing = format!("append to {path}");
        self.call(&doing, |inner| inner.append_file(path, content))
    }

    fn create_symlink(
        &mut self,
        path: &ImagePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.call(&format!("create the link {path}"), |inner| {
            inner.create_symlink(path, target, attributes)
        })
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        let doing = format!("link {path} to {existing}");
        self.call(&doing, |inner| inner.create_hard_link(existing, path))
    }

    fn set_attributes(&mut self, path: &ImagePath, attributes: &Attributes) -> Result<()> {
        let doing = format!("set the attributes of {path}");
        self.call(&doing, |inner| inner.set_attributes(path, attributes))
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        self.call(&format!("remove {path}"), |inner| inner.remove_file(path))
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        let doing = format!("remove the folder {path}");
        self.call(&doing, |inner| inner.remove_directory(path))
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        let doing = format!("rename {from} to {to}");
        self.call(&doing, |inner| inner.rename(from, to))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.finish_stoppable(&Silent)
    }

    fn finish_stoppable(mut self: Box<Self>, progress: &dyn Progress) -> Result<()> {
        let doing = "finish the file system";
        match self.inner.take() {
            Some(inner) => catch(doing, || inner.finish_stoppable(progress)),
            None => Err(damaged(doing, ": an earlier call to it broke off")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::volume::Timestamp;
    use crate::volume::model::MemoryVolume;
    use crate::volume::problem;

    /// Stands for a driver that meets what it does not expect.
    struct Panics;

    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let empty: &[u8] = &[];
            Ok(usize::from(empty[0]))
        }
    }

    fn text(error: &Error) -> String {
        let cause = std::error::Error::source(error).expect("a cause");
        format!("{error}: {cause}")
    }

    #[test]
    fn a_panic_becomes_an_error_and_the_volume_takes_no_further_call() {
        let model = MemoryVolume::new()
            .with_file("/etc/hosts", "x")
            .expect("made");
        let mut volume = open("open it", || Ok(Box::new(model))).expect("opened");
        let path = ImagePath::new("/etc/motd").expect("sound");
        let attributes = Attributes {
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: Timestamp::default(),
            xattrs: BTreeMap::new(),
        };
        let error = volume
            .write_file(&path, 5, &mut Panics, &attributes)
            .expect_err("the panic is an error");
        assert_eq!(problem(&error), Some(Problem::Damaged));
        assert_eq!(error.class(), crate::Class::Input);
        let said = text(&error);
        assert!(said.contains("write /etc/motd"), "{said}");
        assert!(said.contains("damaged or hostile"), "{said}");
        assert!(error.hint_text().expect("a hint").contains("run e2fsck"));
        assert!(!panics_are_errors());

        let hosts = ImagePath::new("/etc/hosts").expect("sound");
        let after = volume.metadata(&hosts).expect_err("poisoned");
        assert!(text(&after).contains("broke off"), "{}", text(&after));
        assert!(volume.finish().is_err());
    }

    #[test]
    fn an_error_leaves_the_volume_usable() {
        let model = MemoryVolume::new()
            .with_file("/etc/hosts", "x")
            .expect("made");
        let mut volume = open("open it", || Ok(Box::new(model))).expect("opened");
        let path = ImagePath::new("/none").expect("sound");
        assert!(volume.remove_file(&path).is_err());
        let hosts = ImagePath::new("/etc/hosts").expect("sound");
        assert!(volume.metadata(&hosts).expect("usable").is_some());
    }

    #[test]
    fn a_panic_while_opening_is_an_error() {
        let error = open("open it", || {
            Panics
                .read(&mut [])
                .map_err(|error| Error::io("never", error))?;
            Ok(Box::new(MemoryVolume::new()))
        })
        .expect_err("the panic is an error");
        assert_eq!(problem(&error), Some(Problem::Damaged));
    }
}
