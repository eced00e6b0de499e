//! The steps from a checked NodeConfig to a running kubelet.

use std::collections::BTreeSet;
use std::time::Duration;

use super::journal::digest;
use super::{Error, Phase, Work, unit};
use crate::credentials::{self, Finding, Provider};
use crate::node_config::NodeConfig;
use crate::render::{self, Facts, File, Part, SIGNING_HELPER_UNIT};
use crate::system::{NewFile, Task, Variables, is_current, write_if_changed};

/// What every step works from.
pub(super) struct Node<'a> {
    pub config: &'a NodeConfig,
    pub facts: &'a Facts,
    pub files: &'a [File],
    pub variables: &'a Variables,
}

impl Node<'_> {
    /// Digest of the files that something reads.
    fn digest_of(&self, part: Part) -> String {
        let files = self.files.iter().filter(|file| file.part == part);
        digest(files.flat_map(|file| [file.path.as_bytes(), file.content.as_slice()]))
    }

    fn wants_credentials_file(&self) -> bool {
        self.config.spec.hybrid.as_ref().is_some_and(|hybrid| {
            hybrid.enable_credentials_file && hybrid.iam_roles_anywhere.is_some()
        })
    }
}

/// One step.
pub(super) struct Step {
    pub phase: Phase,
    /// Digest of what it works from.
    pub inputs: fn(&Node<'_>) -> String,
    /// Does it. Done already with the same inputs, it changes nothing but what went
    /// astray since.
    pub act: fn(&mut Work<'_>, &Node<'_>, &str) -> Result<(), Error>,
}

/// All steps in their order.
pub(super) const STEPS: &[Step] = &[
    Step {
        phase: Phase::Credentials,
        inputs: |_| String::new(),
        act: credentials,
    },
    Step {
        phase: Phase::Files,
        inputs: all_files,
        act: files,
    },
    Step {
        phase: Phase::Kernel,
        inputs: |node| {
            [Part::Kernel, Part::Manager, Part::Resolver]
                .map(|part| node.digest_of(part))
                .join("")
        },
        act: kernel,
    },
    Step {
        phase: Phase::CredentialsFile,
        inputs: |node| {
            if node.wants_credentials_file() {
                node.digest_of(Part::Credentials)
            } else {
                String::new()
            }
        },
        act: credentials_file,
    },
    Step {
        phase: Phase::Containerd,
        inputs: |node| node.digest_of(Part::Containerd),
        act: containerd,
    },
    Step {
        phase: Phase::Kubelet,
        inputs: |node| node.digest_of(Part::Kubelet),
        act: kubelet,
    },
];

/// Programs without which a node starts but does not work.
const PROGRAMS: [&str; 2] = [
    "/usr/local/bin/aws-iam-authenticator",
    "/usr/local/bin/aws_signing_helper",
];

fn credentials(work: &mut Work<'_>, node: &Node<'_>, _: &str) -> Result<(), Error> {
    if let Provider::IamRolesAnywhere(settings) = credentials::provider(node.config)? {
        let now = work.system.now();
        for finding in credentials::inspect_files(&settings, work.system, now)? {
            match finding {
                Finding::Fatal {
                    problem,
                    hint,
                    may_pass,
                } => {
                    return Err(Error::Credentials {
                        problem,
                        hint,
                        may_pass,
                    });
                }
                Finding::Warning(text) => work.warn(&text),
            }
        }
    }
    for program in PROGRAMS {
        if work.system.resolve(program).is_none() {
            work.warn(&format!(
                "{program} is not installed: the kubelet cannot prove who it is"
            ));
        }
    }
    if node.facts.credential_provider.is_none() {
        work.warn("no image credential provider is installed: images in ECR cannot be pulled");
    }
    if node.facts.sandbox_image.is_none() {
        work.warn("the image holds no pause image: it is pulled from ECR without credentials");
    }
    Ok(())
}

fn all_files(node: &Node<'_>) -> String {
    digest(
        node.files
            .iter()
            .flat_map(|file| [file.path.as_bytes(), file.content.as_slice()]),
    )
}

/// The phase that a changed file calls for.
fn phase_of(part: Part) -> Phase {
    match part {
        Part::Credentials => Phase::CredentialsFile,
        Part::Kernel | Part::Manager | Part::Resolver => Phase::Kernel,
        Part::Containerd => Phase::Containerd,
        Part::Kubelet => Phase::Kubelet,
    }
}

fn files(work: &mut Work<'_>, node: &Node<'_>, _: &str) -> Result<(), Error> {
    let system = work.system;
    let mut stale = Vec::new();
    for file in node.files {
        if !is_current(system, &file.path, &file.content, file.mode)? {
            stale.push(file);
        }
    }
    let wanted: BTreeSet<&str> = node.files.iter().map(|file| file.path.as_str()).collect();
    let obsolete: Vec<String> = work
        .journal
        .files
        .iter()
        .filter(|path| !wanted.contains(path.as_str()))
        .cloned()
        .collect();
    if stale.is_empty() && obsolete.is_empty() && work.journal.files.len() == wanted.len() {
        return Ok(());
    }

    // First it is noted what will be ours and who has to read it anew; then it is
    // written. Cut off in between, the next start does it all again.
    for file in &stale {
        work.reopen(phase_of(file.part));
    }
    if !obsolete.is_empty() {
        work.reopen(Phase::Containerd);
        work.reopen(Phase::Kubelet);
    }
    work.reopen(Phase::Files);
    work.journal.files = wanted
        .iter()
        .map(ToString::to_string)
        .chain(obsolete.iter().cloned())
        .collect();
    work.save()?;

    let mut retired = false;
    for path in &obsolete {
        // A drop-in lies in a folder of its own; a unit does not.
        if let Some(unit) = path
            .strip_prefix("/etc/systemd/system/")
            .filter(|name| !name.contains('/'))
        {
            // Of a killed run the unit may be gone already: then there is nothing to stop.
            if system.status(path)?.is_some() {
                unit::retire(system, unit)?;
                retired = true;
            }
        }
        system.remove(path)?;
    }
    if retired {
        unit::reload_manager(system)?;
    }
    let new: Vec<NewFile<'_>> = stale
        .iter()
        .map(|file| NewFile {
            path: &file.path,
            content: &file.content,
            mode: file.mode,
        })
        .collect();
    system.write_all(&new)?;
    work.journal.files = wanted.iter().map(ToString::to_string).collect();
    work.info(&format!(
        "{} of {} files were written",
        stale.len(),
        node.files.len()
    ));
    Ok(())
}

fn kernel(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    if !work.journal.is_done(Phase::Kernel, inputs) {
        load_modules(work)?;
        unit::restart(work.system, "systemd-sysctl.service")?;
        let has = |part| node.files.iter().any(|file| file.part == part);
        if has(Part::Manager) {
            unit::reload_manager(work.system)?;
        }
        if has(Part::Resolver) {
            unit::restart(work.system, "systemd-resolved.service")?;
        }
    }
    turn_off_swap(work, node)
}

fn load_modules(work: &Work<'_>) -> Result<(), Error> {
    let Err(error) = unit::restart(work.system, "systemd-modules-load.service") else {
        return Ok(());
    };
    // The unit fails for any module of anybody's; only ours matter here.
    for module in render::MODULES {
        if work
            .system
            .resolve(&format!("/sys/module/{module}"))
            .is_none()
        {
            return Err(Error::Machine {
                problem: format!("the kernel module {module} cannot be loaded"),
                hint: "give the machine a kernel that has it".into(),
            });
        }
    }
    work.warn(&format!(
        "not all kernel modules could be loaded: {}",
        error.chain()
    ));
    Ok(())
}

fn turn_off_swap(work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
    const LIMIT: usize = 1 << 20;
    const TIME: Duration = Duration::from_secs(300);
    let system = work.system;
    let text = |path: &str| -> Result<Option<String>, Error> {
        Ok(system
            .read(path, LIMIT)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let swaps = node
        .variables
        .get("ACTIVE_SWAP_AREAS")
        .unwrap_or("/proc/swaps");
    for area in render::active_swap(&text(swaps)?.unwrap_or_default()) {
        if !area.is_file {
            return Err(Error::Machine {
                problem: format!("swap is on at {}, which is not a file", area.path),
                hint: "build the image without swap partitions and zram, or set failSwapOn there"
                    .into(),
            });
        }
        let ended = system.run(&Task::new("swapoff", &["--", &area.path], TIME))?;
        if !ended.success {
            return Err(Error::Machine {
                problem: format!("swap at {} cannot be turned off", area.path),
                hint: "give the machine enough memory to hold what was swapped out".into(),
            });
        }
    }
    if let Some(fstab) = system.read("/etc/fstab", LIMIT)?
        && let Ok(text) = String::from_utf8(fstab)
        && let Some(without) = render::fstab_without_swap(&text)
    {
        let mode = system
            .status("/etc/fstab")?
            .map_or(0o644, |status| status.mode);
        write_if_changed(system, "/etc/fstab", without.as_bytes(), mode)?;
    }
    Ok(())
}

fn credentials_file(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    const CREDENTIALS: &str = "/eks-hybrid/.aws/credentials";
    const LIMIT: Duration = Duration::from_secs(120);
    const STEP: Duration = Duration::from_millis(500);
    if !node.wants_credentials_file() {
        return Ok(());
    }
    let system = work.system;
    let anew = !work.journal.is_done(Phase::CredentialsFile, inputs);
    let ran_before = unit::is_up(system, SIGNING_HELPER_UNIT)?;
    if anew {
        unit::reload_manager(system)?;
    }
    unit::ensure_active(system, SIGNING_HELPER_UNIT, anew, ran_before)?;
    let started = system.elapsed();
    while system.status(CREDENTIALS)?.is_none() {
        if system.elapsed().saturating_sub(started) > LIMIT {
            return Err(Error::Unit {
                unit: SIGNING_HELPER_UNIT.into(),
                detail: format!("{CREDENTIALS} did not appear within {} s", LIMIT.as_secs()),
            });
        }
        system.pause(STEP);
    }
    Ok(())
}

fn containerd(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    const UNIT: &str = "containerd.service";
    let system = work.system;
    // Asked before anything is let go: what runs now runs on the old files.
    let ran_before = unit::is_up(system, UNIT)?;
    // From here on the units that are ordered after this one may start. They must:
    // this program waits for them now.
    system.ready();
    let anew = !work.journal.is_done(Phase::Containerd, inputs);
    unit::ensure_active(system, UNIT, anew, ran_before)?;
    system.milestone("containerd is active");
    work.info("containerd is active");
    Ok(())
}

fn kubelet(work: &mut Work<'_>, _: &Node<'_>, inputs: &str) -> Result<(), Error> {
    const UNIT: &str = "kubelet.service";
    let anew = !work.journal.is_done(Phase::Kubelet, inputs);
    // By now it may have been started on the new files by the manager; once more
    // does no harm, too little would.
    unit::ensure_active(work.system, UNIT, anew, true)?;
    work.system.milestone("kubelet is active");
    work.info("kubelet is active");
    Ok(())
}
