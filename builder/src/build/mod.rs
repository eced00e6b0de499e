//! A build from end to end: open, plan, bake, verify, write.
//!
//! [`prepare`] reads the base and computes the plan; nothing is written.
//! [`run`] does that and makes the images in a hidden folder beside their final place, and
//! renames that folder when everything in it is complete and on the device. A
//! build that fails, is stopped or is killed leaves no folder that looks
//! finished; the next build of the profile removes what it left.

mod engine;
mod kubelet_version;
mod labels;
pub mod layout;
mod log;
mod place;
mod replay;
pub mod verify;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::bake::{self, LocalContents};
use crate::disk::{self, BaseImage, CowDisk, Slice, Storage};
use crate::error::{Class, Context as _, Error, Result};
use crate::lock::model::LockedProfile;
use crate::os::{self, Image, Os};
use crate::output::Pending;
use crate::plan::{self, Plan, Target};
use crate::profile::model::Profile;
use crate::profile::{Loaded, size};
use crate::progress::{Progress, Step};
use crate::report::Manifest;
use crate::store::{Store, Verification, shown};
use crate::volume::{self, Access, Timestamp};
use crate::{environment, firstboot, packages};

use layout::Layout;
use log::Log;
use place::Place;
pub use place::{MANIFEST, read_manifest};

/// Which code edits the file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// The first that is right for what was found.
    #[default]
    Auto,
    /// This process.
    InProcess,
    /// A guest kernel, for ext4, FAT, XFS and btrfs: user-mode Linux or one in QEMU. Needs no root.
    Agent,
    /// The kernel, through loop devices and mounts: needs root.
    Mount,
}

/// What to build.
#[derive(Debug)]
pub struct Request<'a> {
    /// The wish.
    pub loaded: &'a Loaded,
    /// Its pins.
    pub locked: &'a LockedProfile,
    /// Where the inputs lie.
    pub store: &'a Store,
    /// The first-boot program, if not the one that came along.
    pub firstboot: Option<&'a Path>,
    /// Which code edits the file systems.
    pub engine: Engine,
    /// Whether a base is taken that is not supported.
    pub allow_unsupported: bool,
}

/// A base that was read, and the plan for it.
#[derive(Debug)]
pub struct Prepared {
    /// The whole change.
    pub plan: Plan,
    /// The base's volumes, for reading.
    pub image: Image,
    manifest: Manifest,
    base: BaseImage,
    layout: Layout,
    verification: Option<Verification>,
}

/// What a build gave.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The folder with the images and the manifest.
    pub folder: PathBuf,
    /// The build key.
    pub key: String,
    /// Whether it was there already.
    pub present: bool,
    /// The manifest.
    pub manifest: Manifest,
}

impl Prepared {
    /// Waits until the base is known to be what was pinned.
    ///
    /// # Errors
    /// [`Class::Dependency`] when it is not.
    pub fn verify_base(&mut self) -> Result<()> {
        let running = self.verification.take();
        running.map_or(Ok(()), |running| running.finish().map(drop))
    }
}

/// Reads the base and computes the plan. The base's hash is computed meanwhile;
/// [`run`] wants it before anything gets its final name.
///
/// # Errors
/// [`Class::Dependency`] when the store lacks an input; else what the
/// base and the plan give.
pub fn prepare(request: &Request<'_>, progress: &dyn Progress) -> Result<Prepared> {
    progress.begin(Step::Plan, &request.loaded.profile.metadata.name, None);
    let result = read_base(request, progress);
    progress.end(Step::Plan);
    result
}

fn read_base(request: &Request<'_>, progress: &dyn Progress) -> Result<Prepared> {
    let (profile, locked) = (&request.loaded.profile, request.locked);
    let verification = request
        .store
        .verify_in_thread(&locked.base.sha256)
        .map_err(|error| {
            error.hint(format!(
                "run: nodekiln fetch {}",
                request.loaded.file.display()
            ))
        })?;
    let Base {
        disk: base,
        layout,
        mut image,
        os,
    } = match Base::read(verification.path(), request.engine, progress) {
        Ok(base) => base,
        Err(error) => {
            let error = error.context(format!("use the base {}", base_name(profile)));
            return judged(Err(error), verification);
        }
    };
    let epoch = match environment::source_date_epoch()? {
        Some(epoch) => epoch,
        None => image.last_written().seconds,
    };
    progress.note(&format!(
        "found {} in a disk of {}",
        os.pretty_name,
        plan::text::size_text(base.virtual_size)
    ));
    let packages = packages::read_all(request.store, profile, locked, progress)?;
    let names: Vec<&str> = packages.iter().map(packages::Package::name).collect();
    let notes = os::support::check(&os, profile, request.allow_unsupported)
        .map_err(|error| error.context(format!("use the base {}", base_name(profile))))?;
    let more = os::support::notes(&os, profile, &names);
    notes
        .iter()
        .chain(&more)
        .for_each(|note| progress.warn(note));
    if let Some(text) = advice(&mut image, profile)? {
        progress.note(&text);
    }
    let wish = &profile.spec.kubernetes.version;
    let kubelet_version = kubelet_version::find(request.store, locked, wish)?;
    if let Some(found) = kubelet_version.as_ref().filter(|found| !is_of(found, wish)) {
        progress.warn(&format!(
            "the kubelet is of version {found}, the profile wishes {wish}"
        ));
    }
    let inputs = plan::Inputs {
        kubelet_version,
        profile,
        locked,
        os: &os,
        partitions: layout.partitions(),
        packages: &packages,
        overlays: &bake::overlay::collect(profile, &request.loaded.folder)?,
        firstboot: firstboot::find(profile.spec.architecture, request.firstboot)?,
        epoch,
        disk_size: disk_size(request.loaded, base.virtual_size)?,
    };
    let mut plan = plan::compute(&inputs, &mut image)?;
    plan.by_kernel = engine::is_kernel(request.engine, &layout);
    layout.check_esp(&plan)?;
    let manifest = plan::release::manifest(&inputs, &plan.exceptions, Some(plan.key()));
    Ok(Prepared {
        plan,
        image,
        manifest,
        base,
        layout,
        verification: Some(verification),
    })
}

/// What the profile could say for a faster first boot.
fn advice(image: &mut Image, profile: &Profile) -> Result<Option<String>> {
    let needless = plan::boot_time::needless(image, &profile.spec.services)?;
    if needless.is_empty() {
        return Ok(None);
    }
    let told: Vec<String> = needless
        .iter()
        .map(|needless| format!("{} ({})", needless.unit, needless.does))
        .collect();
    Ok(Some(format!(
        "a node boots sooner without: {}; spec.services.disable takes them, enable keeps them",
        told.join(", ")
    )))
}

/// Whether a program of version `found` is what is meant by `wish`: a distributor
/// may add to it (`1.34.4-eks-1a2b3c4`).
fn is_of(found: &str, wish: &str) -> bool {
    found
        .strip_prefix(wish)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+']))
}

/// A base and what was found in it.
struct Base {
    disk: BaseImage,
    layout: Layout,
    image: Image,
    os: Os,
}

impl Base {
    fn read(path: &Path, engine: Engine, progress: &dyn Progress) -> Result<Self> {
        // What lies in the store needs no other file.
        let mut disk = disk::open_base(path, &disk::OpenOptions::default())?;
        disk.storage = replay::all(disk.storage, engine, progress)?;
        let layout = layout::find(&disk.storage, progress)?;
        let volumes = layout.open(&disk.storage, Access::Read, Timestamp::default())?;
        let mut image = Image::new(volumes)?;
        let os = os::detect(&mut image)?;
        let layout = layout.with_first_mount(&disk.storage)?;
        Ok(Self {
            disk,
            layout,
            image,
            os,
        })
    }
}

/// The base as the profile names it: what is wrong with it is wrong there, and
/// not in the store.
fn base_name(profile: &Profile) -> String {
    let base = &profile.spec.base;
    match (&base.path, &base.url) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(url)) => shown(url),
        (None, None) => "from packages".to_owned(),
    }
}

/// What a reader of the base gave, now that all of it was hashed: a base that was
/// damaged in the store explains whatever seems to be wrong in it.
fn judged<T>(outcome: Result<T>, verification: Verification) -> Result<T> {
    match &outcome {
        // Nobody waits for a hash to hear of this.
        Err(error) if !matches!(error.class(), Class::Input | Class::Unsupported) => {}
        _ => {
            verification.finish()?;
        }
    }
    outcome
}

/// The wished size of the disk, if it is not the base's.
fn disk_size(loaded: &Loaded, base: u64) -> Result<Option<u64>> {
    let Some(wish) = &loaded.profile.spec.disk_size else {
        return Ok(None);
    };
    let size = size::parse(wish)?;
    if size < base {
        return Err(Error::input(format!(
            "the disk cannot have {wish}: the base has {}",
            plan::text::size_text(base)
        ))
        .at(loaded.place(&["spec", "diskSize"]))
        .hint("give a larger diskSize, or leave it away"));
    }
    Ok((size > base).then_some(size))
}

/// Makes the images of a profile below `output`, unless they are there.
///
/// # Errors
/// As [`prepare`], [`bake::apply`], [`bake::verify`] and the output formats;
/// [`Class::Environment`] when the output folder cannot be used.
pub fn run(request: &Request<'_>, output: &Path, progress: &dyn Progress) -> Result<Built> {
    let log = Log::new(progress);
    let prepared = prepare(request, &log)?;
    let key = prepared.plan.key();
    let place = Place::take(output, &prepared.plan.profile, &key, &log)?;
    let built = |manifest, present| Built {
        folder: place.folder().to_owned(),
        key: key.to_string(),
        present,
        manifest,
    };
    if let Some(manifest) = place.present()? {
        return Ok(built(manifest, true));
    }
    let work = place.begin()?;
    let outcome = make(request, prepared, &work, &log).and_then(|manifest| {
        log.write(&work.join("build.log"))?;
        place.finish(&work)?;
        Ok(built(manifest, false))
    });
    outcome.map_err(|error| {
        // The error that matters is the first one.
        std::fs::remove_dir_all(&work).ok();
        let image_is_full = volume::problem(&error) == Some(volume::Problem::NoSpace);
        if error.class() == Class::Environment && !image_is_full {
            error.context(format!("write images to {}", place.folder().display()))
        } else {
            error
        }
    })
}

fn make(
    request: &Request<'_>,
    prepared: Prepared,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Manifest> {
    let Prepared {
        plan,
        image,
        mut manifest,
        base,
        mut layout,
        verification,
    } = prepared;
    drop(image);
    let raw = Pending::create(&work.join(format!("{}.raw", plan.profile)))?;
    let delta = raw
        .file()
        .try_clone()
        .doing(|| "open the working disk".to_owned())?;
    let size = plan.disk_size.unwrap_or(base.virtual_size);
    let disk = Arc::new(CowDisk::new(Arc::clone(&base.storage), size, delta)?);
    let storage: Arc<dyn Storage> = disk.clone();
    if plan.disk_size.is_some() {
        layout = grow(request.engine, &storage, layout, size, progress)?;
    } else {
        layout = layout.mend_table(storage.as_ref())?;
    }

    manifest.partitions = layout.entries();
    // What is not sound never gets a name: the files are in the hidden folder of
    // the build.
    let check = || check(request, &plan, &storage, &layout, progress);
    let images = copy_and_bake(request, &plan, &disk, &layout, work, progress)
        .and_then(|()| write::images(&plan, &disk, raw, work, check, progress));
    // Nothing gets its final name before the base is known to be what was pinned.
    manifest.images = match verification {
        Some(running) => judged(images, running)?,
        None => images?,
    };
    write::documents(work, &manifest)?;
    Ok(manifest)
}

/// Bakes, while the base's own bytes already go to their places in the raw image
/// and on to the device.
fn copy_and_bake(
    request: &Request<'_>,
    plan: &Plan,
    disk: &Arc<CowDisk>,
    layout: &Layout,
    work: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    if plan.by_kernel || !write::has_raw(plan) {
        return bake(request, plan, disk, layout, work, progress);
    }
    let copy_and_bake = || {
        std::thread::scope(|scope| {
            let copy = scope.spawn(|| disk.materialize(progress));
            let baked = bake(request, plan, disk, layout, work, progress);
            if baked.is_err() {
                disk.give_up();
            }
            let copied = write::joined(copy.join(), "copy the base");
            baked.and(copied)
        })
    };
    write::on_device(disk.file(), copy_and_bake)
}

/// Grows table, root partition and root file system to a disk of `size` bytes; XFS and
/// btrfs grow when the guest kernel has mounted them.
fn grow(
    engine: Engine,
    storage: &Arc<dyn Storage>,
    layout: Layout,
    size: u64,
    progress: &dyn Progress,
) -> Result<Layout> {
    let root = layout.root();
    if layout.last() != root.number {
        return Err(Error::unsupported(format!(
            "grow the disk: partition {} with the root file system is not the last one",
            root.number
        ))
        .hint("leave diskSize away"));
    }
    let is_grown_by_guest = root.file_system.needs_kernel();
    if is_grown_by_guest && engine == Engine::Mount {
        return Err(Error::unsupported(format!(
            "grow the disk: the mount engine does not grow {}",
            root.file_system.name()
        ))
        .hint("leave --engine away, or leave diskSize away"));
    }
    let gpt = disk::gpt::grow(storage.as_ref(), size, root.number)?;
    let layout = layout.with_table(&gpt)?;
    if is_grown_by_guest {
        return Ok(layout);
    }
    let slice = layout.slice(storage, Target::Root)?;
    let growth = volume::ext4::grow::grow(&slice)?;
    progress.note(&format!(
        "grew the root file system from {} to {}",
        plan::text::size_text(growth.from),
        plan::text::size_text(growth.to)
    ));
    Ok(layout)
}

fn bake(
    request: &Request<'_>,
    plan: &Plan,
    disk: &Arc<CowDisk>,
    layout: &Layout,
    work: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let mut volumes = engine::open(request.engine, plan, disk, layout, work, progress)
        .doing(|| format!("edit the base {}", base_name(&request.loaded.profile)))?;
    let applied = bake::apply(plan, &mut volumes, &contents(request), progress)?;
    progress.note(&format!(
        "baked {} files with {}",
        applied.files,
        plan::text::size_text(applied.bytes)
    ));
    for (target, volume) in volumes {
        volume
            .finish_stoppable(progress)
            .doing(|| format!("finish the {} file system", target.name()))?;
    }
    let storage: Arc<dyn Storage> = disk.clone();
    for (target, changes) in &plan.volumes {
        let slice = layout.slice(&storage, *target)?;
        volume::first_mount::settle(&slice, changes.file_system, &changes.first_mount)
            .doing(|| format!("finish the {} file system", target.name()))?;
    }
    Ok(())
}

/// Files of this machine, and what lies in the store.
fn contents(request: &Request<'_>) -> impl bake::Contents {
    let store = request.store.clone();
    LocalContents::new(move |digest| {
        store
            .open_object(digest)
            .map(|file| Box::new(file) as Box<dyn std::io::Read + Send>)
    })
}

/// Reads the plan back and checks every file system that was opened for writing.
fn check(
    request: &Request<'_>,
    plan: &Plan,
    storage: &Arc<dyn Storage>,
    layout: &Layout,
    progress: &dyn Progress,
) -> Result<()> {
    let mut image = Image::new(layout.open(storage, Access::Read, Timestamp::default())?)?;
    bake::verify(plan, &mut image, &contents(request), progress)?;
    drop(image);
    for (target, changes) in &plan.volumes {
        let left = layout.first_mount(storage, *target)?;
        if let Some(left) = left.intersection(&changes.first_mount).next() {
            return Err(Error::check_failed(format!(
                "verify the {} file system: it lacks what was planned: {}",
                target.name(),
                left.remedy()
            )));
        }
    }
    for target in layout.partitions().keys() {
        let slice: Slice = layout.slice(storage, *target)?;
        let doing = || format!("check the {} file system", target.name());
        let findings = match volume::check_partition(Arc::new(slice)) {
            Ok(findings) => findings,
            // A kernel may write what is not known here: it is not a failure, but
            // nobody may take it for a check that passed.
            Err(error) if error.class() == Class::Unsupported => {
                progress.warn(&format!(
                    "{} could not run: {}",
                    doing(),
                    verify::flat(&error)
                ));
                continue;
            }
            Err(error) => return Err(error.context(doing())),
        };
        if !findings.is_empty() {
            let others = findings.into_iter().map(Error::check_failed).collect();
            return Err(Error::check_failed(format!(
                "the {} file system is not sound after the bake",
                target.name()
            ))
            .hint("this is a defect of nodekiln: please report it with the base image")
            .and(others));
        }
    }
    Ok(())
}
