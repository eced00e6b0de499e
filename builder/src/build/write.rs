//! The files of a build.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

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
/// disk; it becomes the raw image, or goes.
pub fn images(
    plan: &Plan,
    disk: &Arc<CowDisk>,
    raw: Pending,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Vec<ImageFile>> {
    let wanted = |format| plan.outputs.iter().find(|output| output.format == format);
    if has_raw(plan) {
        disk.materialize(progress)?;
    }
    // Bringing the raw image to the device waits for the device; compressing and
    // hashing for the processor: side by side they cost the longer of the two.
    std::thread::scope(|scope| {
        let raw = wanted(Format::Raw).map(|_| scope.spawn(|| raw_image(plan, disk, raw, progress)));
        let qcow2 = wanted(Format::Qcow2).map(|wish| qcow2_image(plan, disk, wish, work, progress));
        let mut images = Vec::new();
        images.extend(qcow2.transpose()?);
        if let Some(raw) = raw {
            images.push(raw.join().map_err(|_| {
                Error::new(Class::Internal, "write the raw image: its thread panicked")
            })??);
        }
        Ok(images)
    })
}

fn raw_image(
    plan: &Plan,
    disk: &CowDisk,
    pending: Pending,
    progress: &dyn Progress,
) -> Result<ImageFile> {
    let linear = beside_sync(pending.file(), || output::linear(disk, progress))?;
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

fn qcow2_image(
    plan: &Plan,
    disk: &CowDisk,
    wish: &Output,
    work: &Path,
    progress: &dyn Progress,
) -> Result<ImageFile> {
    let name = format!("{}.qcow2", plan.profile);
    let pending = Pending::create(&work.join(&name))?;
    let options = qcow2::Options {
        compression: match wish.compression {
            Compression::None => qcow2::Compression::None,
            Compression::Zstd => qcow2::Compression::Zstd,
        },
        ..qcow2::Options::default()
    };
    let written = qcow2::write(disk, pending.file(), &options, progress)?;
    let sha256 = beside_sync(pending.file(), || {
        output::open_file_sha256(pending.file(), progress)
    })?;
    drop(pending.finish()?);
    Ok(ImageFile {
        name,
        format: "qcow2".to_owned(),
        size: written.size,
        virtual_size: disk.size(),
        sha256: Some(sha256.to_string()),
        linear_sha256: None,
    })
}

/// Brings `file` to the device while `work` runs: the one waits for the device,
/// the other needs the processor.
fn beside_sync<T>(file: &File, work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_data());
        let result = work()?;
        sync.join()
            .map_err(|_| Error::new(Class::Internal, "sync an image: its thread panicked"))?
            .doing(|| "bring an image to the device".to_owned())?;
        Ok(result)
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
    save("manifest.json", &text)?;
    let mut sums = BTreeMap::new();
    sums.insert(
        "manifest.json".to_owned(),
        crate::plan::Content::inline(text.as_str()).sha256,
    );
    for image in &manifest.images {
        if let Some(sum) = &image.sha256 {
            sums.insert(image.name.clone(), Digest::from_hex(sum)?);
        }
    }
    save("SHA256SUMS", &sha256sums(&sums)?)
}
