//! The files of a build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::place::MANIFEST;
use crate::disk::{CowDisk, Storage as _};
use crate::error::{Class, Context as _, Error, Result};
use crate::output::{self, Pending, qcow2};
use crate::plan::Plan;
use crate::profile::model::{Compression, Format, Output};
use crate::progress::Progress;
use crate::report::{ImageFile, Manifest, sha256sums};
use crate::store::Digest;

/// Whether the plan asks for a raw image.
pub fn has_raw(plan: &Plan) -> bool {
    plan.outputs
        .iter()
        .any(|output| output.format == Format::Raw)
}

/// Writes every image that the plan names, and hashes it. `raw` is the working
/// disk; it becomes the raw image, or goes. `check` runs while a file that is
/// written is hashed: the one takes a processor, the other takes another.
///
/// # Errors
/// As the formats and `check`.
pub fn images(
    plan: &Plan,
    disk: &Arc<CowDisk>,
    raw: Pending,
    work: &Path,
    check: impl FnOnce() -> Result<()> + Send,
    progress: &dyn Progress,
) -> Result<Vec<ImageFile>> {
    let wanted = |format| plan.outputs.iter().find(|output| output.format == format);
    if has_raw(plan) {
        disk.materialize(progress)?;
    }
    let (qcow2, has_raw) = (wanted(Format::Qcow2), has_raw(plan));
    std::thread::scope(|scope| {
        let Some(wish) = qcow2 else {
            let check = scope.spawn(check);
            let raw = raw_image(plan, disk, None, raw, progress);
            joined(check.join(), "check the image")?;
            return Ok(vec![raw?]);
        };
        // The raw image goes to the device while the other one is compressed.
        let synced = raw.file().try_clone();
        let synced = synced.doing(|| "open the working disk".to_owned())?;
        let sync = has_raw.then(|| scope.spawn(move || synced.sync_data()));
        let (image, linear) = qcow2_image(plan, disk, wish, work, check, progress)?;
        let mut images = vec![image];
        if let Some(sync) = sync {
            let synced = sync.join().unwrap_or_else(|_| Err(panicked()));
            synced.doing(|| "bring the raw image to the device".to_owned())?;
            images.push(raw_image(plan, disk, linear, raw, progress)?);
        }
        Ok(images)
    })
}

fn panicked() -> io::Error {
    io::Error::other("its thread panicked")
}

fn raw_image(
    plan: &Plan,
    disk: &CowDisk,
    linear: Option<Digest>,
    pending: Pending,
    progress: &dyn Progress,
) -> Result<ImageFile> {
    let linear = match linear {
        Some(linear) => linear,
        None => on_device(pending.file(), || output::linear(disk, progress))?,
    };
    let written = output::raw::finish(disk, pending, progress)?;
    Ok(ImageFile {
        name: format!("{}.raw", plan.profile),
        format: "raw".to_owned(),
        size: written.size,
        virtual_size: written.size,
        sha256: None,
        linear_sha256: Some(linear.to_string()),
    })
}

/// The linear digest of the disk comes along when a raw image is wanted too: both
/// have to read the whole disk.
fn qcow2_image(
    plan: &Plan,
    disk: &CowDisk,
    wish: &Output,
    work: &Path,
    check: impl FnOnce() -> Result<()> + Send,
    progress: &dyn Progress,
) -> Result<(ImageFile, Option<Digest>)> {
    let name = format!("{}.qcow2", plan.profile);
    let pending = Pending::create(&work.join(&name))?;
    let options = qcow2::Options {
        compression: match wish.compression {
            Compression::None => qcow2::Compression::None,
            Compression::Zstd => qcow2::Compression::Zstd,
        },
        linear: has_raw(plan),
        ..qcow2::Options::default()
    };
    let (written, sha256) = on_device(pending.file(), || {
        let written = qcow2::write(disk, pending.file(), &options, progress)?;
        std::thread::scope(|scope| {
            let check = scope.spawn(check);
            let sha256 = output::open_file_sha256(pending.file(), progress);
            joined(check.join(), "check the image")?;
            Ok((written, sha256?))
        })
    })?;
    drop(pending.finish()?);
    let image = ImageFile {
        name,
        format: "qcow2".to_owned(),
        size: written.size,
        virtual_size: disk.size(),
        sha256: Some(sha256.to_string()),
        linear_sha256: None,
    };
    Ok((image, written.linear))
}

/// How long writes gather before they are sent to the device.
const GATHER: Duration = Duration::from_millis(200);

/// Does `work`, which writes to `file`, and has everything on the device at its
/// end. What is written goes there on the way: the device would else be idle while
/// the processor works, and the processor while the device does.
pub fn on_device<T>(file: &File, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let sync = scope.spawn(move || {
            loop {
                match end.recv_timeout(GATHER) {
                    Err(mpsc::RecvTimeoutError::Timeout) => file.sync_data()?,
                    // The end: all that is left goes there too.
                    Err(mpsc::RecvTimeoutError::Disconnected) => return file.sync_data(),
                    // It failed: nobody wants the file.
                    Ok(()) => return Ok(()),
                }
            }
        });
        let result = work();
        if result.is_err() {
            ended.send(()).ok();
        }
        drop(ended);
        let synced = sync.join().unwrap_or_else(|_| Err(panicked()));
        let result = result?;
        synced.doing(|| "bring an image to the device".to_owned())?;
        Ok(result)
    })
}

/// What a thread gave.
pub fn joined<T>(outcome: std::thread::Result<Result<T>>, doing: &str) -> Result<T> {
    outcome.unwrap_or_else(|_| {
        Err(Error::new(
            Class::Internal,
            format!("{doing}: its thread panicked"),
        ))
    })
}

/// Writes the manifest and the list of checksums.
pub fn documents(work: &Path, manifest: &Manifest) -> Result<()> {
    let save = |name: &str, text: &str| {
        let path = work.join(name);
        let pending = Pending::create(&path)?;
        std::io::Write::write_all(&mut pending.file(), text.as_bytes())
            .doing(|| format!("write {}", path.display()))?;
        pending.finish().map(drop)
    };
    let text = manifest.to_json();
    save(MANIFEST, &text)?;
    let mut sums = BTreeMap::new();
    sums.insert(
        MANIFEST.to_owned(),
        crate::plan::Content::inline(text.as_str()).sha256,
    );
    for image in &manifest.images {
        if let Some(sum) = &image.sha256 {
            sums.insert(image.name.clone(), Digest::from_hex(sum)?);
        }
    }
    save("SHA256SUMS", &sha256sums(&sums)?)
}
