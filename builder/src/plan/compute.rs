//! From the wish and what was found to the whole change.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::overlay::Overlay;
use super::{
    Content, FORMAT, Plan, Target, boot_time, command_line, components, firstboot, hygiene, kernel,
    overlay, packages, release, selinux, services, users,
};
use crate::error::{Class, Error, Result};
use crate::lock::model::LockedProfile;
use crate::os::{Image, Os};
use crate::packages::Package;
use crate::profile::model::{Profile, Services};
use crate::volume::{FileSystem, FirstMount};

/// Everything that a plan depends on, beside the image itself.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The wish.
    pub profile: &'a Profile,
    /// Its pins.
    pub locked: &'a LockedProfile,
    /// What was found in the base.
    pub os: &'a Os,
    /// The partitions of the volumes that are open; root is one of them.
    pub partitions: BTreeMap<Target, Partition>,
    /// The packages to install, read.
    pub packages: &'a [Package],
    /// The trees to lay, in order, the shipped ones first.
    pub overlays: &'a [Overlay],
    /// The first-boot program.
    pub firstboot: Content,
    /// Version of the kubelet that is baked, without `v`, if it is known.
    pub kubelet_version: Option<String>,
    /// Time stamp of everything that is written, in seconds since 1970.
    pub epoch: i64,
    /// Size of the disk in bytes, if it has to be larger than the base.
    pub disk_size: Option<u64>,
}

/// A partition that changes are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// Kind of its file system.
    pub file_system: FileSystem,
    /// What the file system leaves to its first mount.
    pub first_mount: BTreeSet<FirstMount>,
}

impl Partition {
    /// A partition whose file system leaves nothing to its first mount.
    pub fn new(number: u32, file_system: FileSystem) -> Self {
        Self {
            number,
            file_system,
            first_mount: BTreeSet::new(),
        }
    }
}

/// Computes the change. The image is only read.
///
/// # Errors
/// [`Class::Input`] when two parts of the wish contradict each other or the
/// image lacks what the wish builds upon; else what the volume gives.
pub fn compute(inputs: &Inputs<'_>, image: &mut Image) -> Result<Plan> {
    check_inputs(inputs)?;
    let spec = &inputs.profile.spec;
    let mut draft = Draft::new(image, inputs.epoch);
    // First: components may build upon what a package brings.
    let wishes = packages::plan(&mut draft, inputs)?;
    components::plan(&mut draft, inputs)?;
    firstboot::plan(&mut draft, &inputs.firstboot)?;
    overlay::plan(&mut draft, inputs.overlays, inputs.profile)?;
    let is_node = components::has_kubelet(inputs);
    kernel::plan(&mut draft, &spec.kernel, &inputs.os.kernels, is_node)?;
    command_line::plan(&mut draft, &spec.kernel.command_line)?;
    users::plan(&mut draft, &spec.users, spec.ssh.as_ref())?;
    let named = with_packages(&spec.services, &wishes.enable);
    services::plan(&mut draft, &with_firstboot(&named))?;
    packages::record_units(&mut draft, &wishes)?;
    let exceptions = hygiene::plan(&mut draft)?;
    boot_time::plan(&mut draft, spec.architecture)?;
    release::reserve(&mut draft)?;
    // Last, so that nothing is laid after it.
    selinux::plan(&mut draft, &inputs.partitions)?;

    let unkeyed = release::manifest(inputs, &exceptions, None);
    let mut plan = Plan {
        format: FORMAT,
        manifest: Content::inline(unkeyed.to_json()).sha256,
        profile: inputs.profile.metadata.name.clone(),
        architecture: spec.architecture,
        base: inputs.locked.base.sha256,
        epoch: inputs.epoch,
        disk_size: inputs.disk_size,
        by_kernel: false,
        volumes: draft.into_volumes(&inputs.partitions),
        exceptions,
        outputs: spec.outputs.clone(),
    };
    release::fill(&mut plan, inputs);
    Ok(plan)
}

fn check_inputs(inputs: &Inputs<'_>) -> Result<()> {
    if !inputs.partitions.contains_key(&Target::Root) {
        return Err(Error::new(
            Class::Internal,
            "plan a change without a root partition",
        ));
    }
    let wanted = inputs.profile.spec.architecture;
    if inputs.os.architecture != wanted {
        return Err(Error::input(format!(
            "plan {}: the profile asks for {}, the base is for {}",
            inputs.profile.metadata.name,
            wanted.name(),
            inputs.os.architecture.name()
        ))
        .hint("set spec.architecture to that of the base, or take another base"));
    }
    if inputs.locked.architecture != wanted {
        return Err(Error::input(format!(
            "plan {}: the lock is for {}, the profile for {}",
            inputs.profile.metadata.name,
            inputs.locked.architecture.name(),
            wanted.name()
        ))
        .hint("run: nodekiln lock"));
    }
    Ok(())
}

/// The user's services, and those that packages enable unless the user said otherwise.
fn with_packages(wish: &Services, units: &BTreeSet<String>) -> Services {
    let mut services = wish.clone();
    let stem = |name: &str| name.strip_suffix(".service").unwrap_or(name).to_owned();
    let named: BTreeSet<String> = [&wish.enable, &wish.disable, &wish.mask]
        .into_iter()
        .flatten()
        .map(|name| stem(name))
        .collect();
    let unnamed = units.iter().filter(|unit| !named.contains(&stem(unit)));
    services.enable.extend(unnamed.cloned());
    services
}

/// The user's services, and nodekiln's own unless the user said otherwise.
fn with_firstboot(wish: &Services) -> Services {
    let mut services = wish.clone();
    let is_named = [&wish.enable, &wish.disable, &wish.mask]
        .into_iter()
        .flatten()
        .any(|name| name.strip_suffix(".service").unwrap_or(name) == firstboot::UNIT_STEM);
    if !is_named {
        services.enable.insert(0, firstboot::UNIT_STEM.to_owned());
    }
    services
}
