//! A partition of an image file, mounted for as long as a value lives.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::task::Task;
use crate::volume::{Access, FileSystem};

/// How long a mount may stay busy.
const BUSY: Duration = Duration::from_secs(5);

/// A loop device and a mount; both are taken down when it is dropped.
#[derive(Debug)]
pub(super) struct Attached {
    device: Option<PathBuf>,
    folder: Option<tempfile::TempDir>,
    mounted: bool,
}

impl Attached {
    /// Mounts the bytes `range` of `image`.
    pub(super) fn new(
        image: &Path,
        range: &Range<u64>,
        kind: FileSystem,
        access: Access,
    ) -> Result<Self> {
        let mut attached = Self {
            device: None,
            folder: None,
            mounted: false,
        };
        let read_only = access == Access::Read;
        let mut task = Task::new("losetup")
            .args(["--find", "--show", "--offset"])
            .arg(range.start.to_string())
            .arg("--sizelimit")
            .arg((range.end - range.start).to_string());
        if read_only {
            task = task.arg("--read-only");
        }
        let printed = task.arg("--").arg(image).output().map_err(|error| {
            error
                .context(format!("attach {} to a loop device", image.display()))
                .hint(
                    "the mount engine needs root and /dev/loop*; the default engine needs neither",
                )
        })?;
        let device = PathBuf::from(String::from_utf8_lossy(&printed).trim());
        attached.device = Some(device.clone());
        let folder = tempfile::Builder::new()
            .prefix("nodekiln-mount-")
            .tempdir()
            .map_err(|error| Error::io("create a folder to mount on", error))?;
        let (kind, options) = match kind {
            FileSystem::Ext4 => ("ext4", ""),
            FileSystem::Fat => ("vfat", ",utf8=1,shortname=mixed"),
            FileSystem::Xfs => ("xfs", ",nouuid"),
            FileSystem::Btrfs => ("btrfs", ""),
        };
        let mode = if read_only { "ro" } else { "rw" };
        let mount = Task::new("mount")
            .args(["--types", kind, "--options"])
            .arg(format!("{mode},noatime,nodev,nosuid,noexec{options}"))
            .arg("--")
            .arg(&device)
            .arg(folder.path());
        attached.folder = Some(folder);
        mount.output().map_err(|error| {
            error
                .context(format!("mount a partition of {}", image.display()))
                .hint(format!(
                    "does this kernel know {kind}? see /proc/filesystems"
                ))
        })?;
        attached.mounted = true;
        Ok(attached)
    }

    /// Where it is mounted.
    pub(super) fn folder(&self) -> &Path {
        self.folder
            .as_ref()
            .map_or(Path::new("/nonexistent"), tempfile::TempDir::path)
    }

    /// Unmounts and detaches, and says whether that went well.
    pub(super) fn detach(mut self) -> Result<()> {
        self.take_down()
    }

    /// Unmounts. A child that another thread has just started holds our
    /// descriptors until it runs its program, so "busy" gets some more tries.
    fn unmount(&self) -> Result<()> {
        let deadline = Instant::now() + BUSY;
        loop {
            let unmounted = Task::new("umount").arg("--").arg(self.folder()).output();
            if unmounted.is_ok() || Instant::now() > deadline {
                return unmounted.map(drop);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn take_down(&mut self) -> Result<()> {
        let mut result = Ok(());
        if std::mem::take(&mut self.mounted)
            && let Err(error) = self.unmount()
        {
            result = Err(error.context("unmount the image"));
            // Whatever holds it, it must not stay in this machine's tree.
            Task::new("umount")
                .args(["--lazy", "--"])
                .arg(self.folder())
                .output()
                .ok();
        }
        if let Some(device) = self.device.take() {
            let detached = Task::new("losetup")
                .arg("--detach")
                .arg(&device)
                .output()
                .map_err(|error| error.context("detach the loop device"));
            if let Err(error) = detached {
                result = result.and(Err(error));
            }
        }
        self.folder.take();
        result
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.take_down().ok();
    }
}
