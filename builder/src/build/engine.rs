//! Which code edits which file system, and why.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Engine;
use super::layout::{Layout, Part};
use crate::disk::{CowDisk, Storage};
use crate::error::{Context as _, Result};
use crate::plan::{Plan, Target};
use crate::progress::Progress;
use crate::volume::agent::{Kernel, Place};
use crate::volume::{self, Access, Timestamp, Volume};

/// Whether a kernel edits a file system of `layout`: what it writes differs from time to
/// time, and it wants the whole disk in a file.
pub(super) fn is_kernel(engine: Engine, layout: &Layout) -> bool {
    match engine {
        Engine::Mount | Engine::Agent => true,
        Engine::Auto | Engine::InProcess => layout
            .parts()
            .any(|(_, part)| part.file_system.needs_kernel()),
    }
}

/// Opens the volumes for the changes of `plan`. `work` is a folder for files of this
/// build.
pub(super) fn open(
    engine: Engine,
    plan: &Plan,
    disk: &Arc<CowDisk>,
    layout: &Layout,
    work: &Path,
    progress: &dyn Progress,
) -> Result<BTreeMap<Target, Box<dyn Volume>>> {
    let epoch = Timestamp {
        seconds: plan.epoch,
        nanoseconds: 0,
    };
    let wanted = |target: Target| plan.volumes.contains_key(&target);
    let storage: Arc<dyn Storage> = disk.clone();
    let choice = choose(engine, plan, layout)?;
    progress.note(&choice.to_string());
    let kernel = match choice {
        Choice::InProcess => return layout.open(&storage, Access::Write, epoch),
        Choice::Mount(_) => {
            disk.hand_over(progress)?;
            return layout.mount(disk.file(), wanted, epoch);
        }
        Choice::Agent(kernel, _) => kernel,
    };
    disk.hand_over(progress)?;
    // A name that lasts as long as the file is open, and holds nothing that the guest
    // kernel takes for the end of a name.
    let image = PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        disk.file().as_raw_fd()
    ));
    let open = |target: Target, part: &Part| {
        let slice: Arc<dyn Storage> = Arc::new(layout.slice(&storage, target)?);
        if !wanted(target) {
            return volume::open(slice, Access::Read, epoch);
        }
        if !part.file_system.needs_kernel() && engine != Engine::Agent {
            return volume::open(slice, Access::Write, epoch);
        }
        let place = Place {
            image: image.clone(),
            range: part.bytes.clone(),
            work: work.to_owned(),
            kernel: kernel.clone(),
        };
        let grows =
            target == Target::Root && plan.disk_size.is_some() && part.file_system.needs_kernel();
        volume::open_for_agent(&slice, place, epoch, grows)
    };
    layout
        .parts()
        .map(|(target, part)| {
            let volume =
                open(target, part).doing(|| format!("open the {} partition", target.name()))?;
            Ok((target, volume))
        })
        .collect()
}

/// What edits, and why.
#[derive(Debug)]
enum Choice {
    InProcess,
    Agent(Kernel, String),
    Mount(String),
}

impl std::fmt::Display for Choice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InProcess => {
                formatter.write_str("this process edits the file systems: they are ext4 and FAT")
            }
            Self::Agent(kernel, why) => {
                let name = kernel.name();
                write!(
                    formatter,
                    "a guest kernel ({name}) edits the file systems: {why}"
                )?;
                match kernel.instead() {
                    Some(instead) => write!(formatter, "; a machine, since {instead}"),
                    None => Ok(()),
                }
            }
            Self::Mount(why) => write!(formatter, "the kernel edits the file systems: {why}"),
        }
    }
}

fn choose(engine: Engine, plan: &Plan, layout: &Layout) -> Result<Choice> {
    let needs_kernel = layout.parts().find(|(target, part)| {
        part.file_system.needs_kernel() && plan.volumes.contains_key(target)
    });
    Ok(match engine {
        Engine::Mount => Choice::Mount("asked for".to_owned()),
        Engine::Agent => Choice::Agent(Kernel::find()?, "asked for".to_owned()),
        Engine::InProcess => Choice::InProcess,
        Engine::Auto => match needs_kernel {
            None => Choice::InProcess,
            Some((_, part)) => for_us(engine, part.file_system.name())?,
        },
    })
}

/// A kernel for a file system that this process does not edit.
fn for_us(engine: Engine, file_system: &str) -> Result<Choice> {
    Ok(match editor(engine)? {
        Editor::Agent(kernel) => {
            Choice::Agent(kernel, format!("no library writes {file_system} rightly"))
        }
        Editor::Mount => {
            Choice::Mount(format!("it is {file_system}, and no guest kernel is there"))
        }
    })
}

/// A kernel that mounts file systems for us.
#[derive(Debug)]
pub(super) enum Editor {
    /// A guest.
    Agent(Kernel),
    /// That of this machine.
    Mount,
}

/// The kernel for what this process does not do.
///
/// # Errors
/// As [`Kernel::find`], where root cannot do without.
pub(super) fn editor(engine: Engine) -> Result<Editor> {
    if engine == Engine::Mount {
        return Ok(Editor::Mount);
    }
    match Kernel::find() {
        Ok(kernel) => Ok(Editor::Agent(kernel)),
        Err(_) if engine != Engine::Agent && rustix::process::geteuid().is_root() => {
            Ok(Editor::Mount)
        }
        Err(error) => Err(error),
    }
}
