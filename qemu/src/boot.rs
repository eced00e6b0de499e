//! Boots an image: what to boot and how ([`BootOptions`]), who watches
//! ([`Observer`]), and [`boot`] itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::accelerator::{self, AcceleratorChoice};
use crate::command::{self, Files};
use crate::error::{Error, Result};
use crate::firmware::{self, Firmware, FirmwareChoice, FirmwarePlaces};
use crate::guest::{self, Collector, GuestCommand};
use crate::machine::Architecture;
use crate::milestone::{Milestones, Tracker};
use crate::report::{REPORT_VERSION, Reached, Report};
use crate::seed::{Format, Seed};
use crate::session::{Ending, Session, Sockets};
use crate::{image, process};

/// Flash of the machine virt is exactly this large (QEMU, `hw/arm/virt.c`).
const ARM_FLASH: u64 = 64 << 20;

/// A host port on the loopback address that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostForward {
    /// TCP port on 127.0.0.1.
    pub host_port: u16,
    /// TCP port of the guest.
    pub guest_port: u16,
}

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// No network card.
    None,
    /// A network in user space: the guest gets 10.0.2.15 and finds the host at
    /// 10.0.2.2.
    User {
        /// Ports of the host that lead into the guest.
        forwards: Vec<HostForward>,
        /// Whether the guest is cut off from everything outside.
        restricted: bool,
    },
    /// An interface of this machine: the guest is in the network that it is in, a
    /// bridge for example. Without root that takes a network namespace of one's own,
    /// such as `unshare -rn` makes.
    Tap {
        /// The interface, of kind tap; made if there is none of this name.
        name: String,
        /// Address of the guest's network card; QEMU's own choice otherwise, which is
        /// the same for every guest.
        mac: Option<String>,
    },
}

impl Default for Network {
    fn default() -> Self {
        Self::User {
            forwards: Vec::new(),
            restricted: false,
        }
    }
}

/// How the guest sees its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeedBus {
    /// A virtio disk: every cloud kernel has the driver.
    #[default]
    Virtio,
    /// A CD-ROM, as most hypervisors attach it.
    Cdrom,
}

/// A kernel that QEMU loads itself, without firmware and boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
}

/// What to boot, and how.
#[derive(Debug, Clone)]
pub struct BootOptions {
    /// The image. It is never written: an overlay takes all changes and is
    /// thrown away. `None` only with a kernel alone.
    pub image: Option<PathBuf>,
    /// Where the overlay is kept, mode 0600: made by the first boot, and continued by
    /// those after it, which find the disk as the guest left it. It needs its image,
    /// where it was.
    pub overlay: Option<PathBuf>,
    /// A second disk, in the format raw: the guest writes it, and what it wrote stays. It
    /// outlives the image.
    pub second_disk: Option<PathBuf>,
    /// The guest's instruction set.
    pub architecture: Architecture,
    /// The seed and its format.
    pub seed: Option<(Seed, Format)>,
    /// How the guest sees the seed.
    pub seed_bus: SeedBus,
    /// Which firmware.
    pub firmware: FirmwareChoice,
    /// A folder for a downloaded firmware, kept between boots; without it,
    /// nothing is downloaded.
    pub cache: Option<PathBuf>,
    /// What runs the guest's instructions.
    pub accelerator: AcceleratorChoice,
    /// The QEMU to use; otherwise it is looked for.
    pub emulator: Option<PathBuf>,
    /// What the console must show.
    pub milestones: Milestones,
    /// All deadlines are multiplied by this.
    pub timeout_scale: f64,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The guest's disk in bytes, if it is to be larger than the image.
    pub disk_size: Option<u64>,
    /// Who made the machine (SMBIOS type 1): by it a guest knows its cloud.
    pub manufacturer: Option<String>,
    /// UUID of the machine (SMBIOS type 1), by which a guest knows itself again; none
    /// otherwise.
    pub uuid: Option<String>,
    /// Serial number of the machine (SMBIOS type 1).
    pub serial_number: Option<String>,
    /// What the guest's hardware clock shows at power-on, in UTC:
    /// `2026-01-31T12:00:00`; the time of this machine otherwise.
    pub clock: Option<String>,
    /// The network.
    pub network: Network,
    /// A kernel to load without firmware.
    pub direct_kernel: Option<DirectKernel>,
    /// Where the console is written, clean and with times, mode 0600.
    pub console_log: Option<PathBuf>,
    /// Keep the guest running after the last milestone, until the observer asks
    /// to stop or the guest powers off.
    pub keep: bool,
    /// Commands that cloud-init runs in the guest once first boot is done.
    pub guest_commands: Vec<GuestCommand>,
    /// Longest time for all guest commands after the last milestone, before
    /// scaling.
    pub guest_limit: Duration,
}

impl Default for BootOptions {
    fn default() -> Self {
        Self {
            image: None,
            overlay: None,
            second_disk: None,
            architecture: Architecture::HOST.unwrap_or(Architecture::X86_64),
            seed: None,
            seed_bus: SeedBus::default(),
            firmware: FirmwareChoice::default(),
            cache: None,
            accelerator: AcceleratorChoice::default(),
            emulator: None,
            milestones: Milestones::node(),
            timeout_scale: 1.0,
            memory_mib: 2048,
            cpus: 2,
            disk_size: None,
            manufacturer: None,
            uuid: None,
            serial_number: None,
            clock: None,
            network: Network::default(),
            direct_kernel: None,
            console_log: None,
            keep: false,
            guest_commands: Vec::new(),
            guest_limit: Duration::from_secs(120),
        }
    }
}

impl BootOptions {
    /// Boots `image` as a node.
    pub fn of_image(image: impl Into<PathBuf>) -> Self {
        Self {
            image: Some(image.into()),
            ..Self::default()
        }
    }

    /// What is booted, for messages.
    pub(crate) fn what(&self) -> String {
        let direct = || self.direct_kernel.as_ref().map(|direct| &direct.kernel);
        self.image
            .as_ref()
            .or_else(direct)
            .map_or("nothing".to_owned(), |path| path.display().to_string())
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String, reason: &str| Err(Error::option(what, reason));
        if self.image.is_none() && self.direct_kernel.is_none() {
            return refuse("the boot".to_owned(), "has neither an image nor a kernel");
        }
        if !(0.01..=1000.0).contains(&self.timeout_scale) {
            return refuse(
                format!("timeout scale {}", self.timeout_scale),
                "is not between 0.01 and 1000",
            );
        }
        if !(64..=1 << 20).contains(&self.memory_mib) {
            return refuse(
                format!("memory of {} MiB", self.memory_mib),
                "is not between 64 MiB and 1 TiB",
            );
        }
        if !(1..=64).contains(&self.cpus) {
            return refuse(format!("{} CPUs", self.cpus), "are not 1 to 64");
        }
        if self.overlay.is_some() && self.image.is_none() {
            return refuse("an overlay".to_owned(), "needs an image to lie over");
        }
        if !self.guest_commands.is_empty() && self.seed.is_none() {
            return refuse(
                "guest commands".to_owned(),
                "need a seed, by which cloud-init gets them",
            );
        }
        let direct = self.direct_kernel.iter();
        for path in direct.flat_map(|direct| direct.initrd.iter().chain([&direct.kernel])) {
            std::fs::File::open(path)
                .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        }
        Ok(())
    }
}

/// Watches a boot while it runs. All methods are optional.
pub trait Observer: Send {
    /// A line of the console, clean, with the time since power-on.
    fn on_line(&mut self, time: Duration, line: &str) {
        let _ = (time, line);
    }

    /// A milestone was seen.
    fn on_milestone(&mut self, milestone: &Reached) {
        let _ = milestone;
    }

    /// A decision or fact that the user should see: which accelerator, which
    /// firmware.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// All is done, and the guest keeps running ([`BootOptions::keep`]).
    fn on_keep(&mut self, report: &Report) {
        let _ = report;
    }

    /// Whether the user asked to stop; asked ten times a second.
    fn stopped(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Observer for Unwatched {}

/// Boots an image and follows it to its last milestone. When this returns, QEMU
/// is gone, and all temporary files with it; they and QEMU are gone, too, when
/// the process is killed meanwhile.
///
/// Blocks the calling thread; may be called inside and outside of a runtime.
///
/// # Errors
/// [`crate::Kind::Milestone`] when the guest does not do what it should, with
/// the report and the last lines of its console; other kinds when it could not
/// be started.
pub fn boot(options: &BootOptions, observer: &mut dyn Observer) -> Result<Report> {
    options.check()?;
    process::on_own_thread(|| boot_here(options, observer))
}

async fn boot_here(options: &BootOptions, observer: &mut dyn Observer) -> Result<Report> {
    let emulator = match &options.emulator {
        Some(emulator) => emulator.clone(),
        None => options.architecture.find_emulator()?,
    };
    let firmware = match &options.direct_kernel {
        Some(_) => Firmware::DirectKernel,
        None => firmware::find(
            &options.firmware,
            options.architecture,
            &FirmwarePlaces {
                cache: options.cache.clone(),
                root: None,
            },
        )?,
    };
    observer.note(&format!("firmware: {firmware}"));
    let accelerator =
        accelerator::choose(options.accelerator, options.architecture, &emulator).await?;
    observer.note(&format!("accelerator: {accelerator}"));

    // Mode 0700: what is in here may be secret.
    let folder = tempfile::Builder::new()
        .prefix("nodekiln-boot-")
        .tempdir()
        .map_err(|error| Error::io("create a temporary folder", error))?;
    let sockets = Sockets::listen(folder.path())?;
    let files = prepare(options, &firmware, folder.path(), &sockets).await?;
    let arguments = command::arguments(options, accelerator.kind, &firmware, &files)?;

    let mut milestones = options.milestones.clone().scaled(options.timeout_scale);
    if options.direct_kernel.is_some() {
        // What QEMU leaves out cannot be seen.
        milestones
            .steps
            .retain(|step| !["firmware", "loader"].contains(&step.name.as_str()));
    }
    let report = Report {
        version: REPORT_VERSION,
        image: options.image.clone(),
        passed: false,
        seconds: 0.0,
        accelerator,
        firmware,
        milestones: Vec::new(),
        resets: 0,
        guest: std::collections::BTreeMap::new(),
        console_log: options.console_log.clone(),
        console_tail: Vec::new(),
        command: std::iter::once(emulator.as_os_str())
            .chain(arguments.iter().map(std::ffi::OsString::as_os_str))
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
    };
    let mut session = Session::start(&emulator, &arguments, sockets, options, observer).await?;
    // QEMU has opened all it needs. Without names, the files vanish with it,
    // and the secrets of a seed are not left lying about.
    drop(folder);
    session.tracker = Tracker::new(milestones);
    session.collector = Collector::new(&options.guest_commands);
    let ending = session.follow(report).await;
    session.end().await;
    match ending? {
        Ending::Passed(report) => Ok(report),
        Ending::Failed {
            reason,
            hint,
            report,
        } => Err(Error::Milestone {
            what: options.what(),
            reason,
            hint,
            report: Box::new(report),
        }),
        Ending::Stopped => Err(Error::Interrupted {
            what: options.what(),
        }),
    }
}

async fn prepare(
    options: &BootOptions,
    firmware: &Firmware,
    folder: &std::path::Path,
    sockets: &Sockets,
) -> Result<Files> {
    let disk = match &options.image {
        Some(image) => {
            let own = folder.join("overlay.qcow2");
            let overlay = options.overlay.as_deref().unwrap_or(&own);
            Some(image::overlay(image, overlay, options.disk_size).await?)
        }
        None => None,
    };
    let seed = match &options.seed {
        Some((seed, format)) => {
            let mut seed = seed.clone();
            if !options.guest_commands.is_empty() {
                let part = guest::part(&options.guest_commands, options.architecture)?;
                seed.parts.push(part);
            }
            let path = folder.join("seed.iso");
            seed.write(*format, &path)?;
            Some(path)
        }
        None => None,
    };
    let copy = |from: &std::path::Path, name: &str| -> Result<PathBuf> {
        let to = folder.join(name);
        // Read and written, not `fs::copy`: the mode of the source may be
        // read-only, and the copy must be writable.
        std::fs::read(from)
            .and_then(|bytes| std::fs::write(&to, bytes))
            .and_then(|()| match options.architecture {
                Architecture::X86_64 => Ok(()),
                Architecture::Aarch64 => {
                    let file = std::fs::File::options().write(true).open(&to)?;
                    let length = file.metadata()?.len();
                    file.set_len(length.max(ARM_FLASH))
                }
            })
            .map_err(|error| Error::io(format!("copy {}", from.display()), error))?;
        Ok(to)
    };
    let flash = match firmware {
        Firmware::Uefi {
            code,
            vars: Some(vars),
            ..
        } => {
            let small = code.metadata().is_ok_and(|found| found.len() < ARM_FLASH);
            let code = if options.architecture == Architecture::Aarch64 && small {
                copy(code, "code.fd")?
            } else {
                code.clone()
            };
            Some((code, Some(copy(vars, "vars.fd")?)))
        }
        Firmware::Uefi {
            code, vars: None, ..
        } => Some((copy(code, "firmware.fd")?, None)),
        Firmware::Bios { .. } | Firmware::DirectKernel => None,
    };
    Ok(Files {
        console: sockets.console_path.clone(),
        control: sockets.control_path.clone(),
        disk,
        seed,
        flash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn wrong_options_are_refused_before_anything_starts() {
        let refused = |options: BootOptions| {
            let error = boot(&options, &mut Unwatched).expect_err("refused");
            assert_eq!(error.kind(), Kind::Input);
            error.to_string()
        };
        let image = || BootOptions::of_image("/dev/null");
        assert!(refused(BootOptions::default()).contains("neither"));
        assert!(
            refused(BootOptions {
                memory_mib: 1,
                ..image()
            })
            .contains("memory of 1 MiB")
        );
        assert!(refused(BootOptions { cpus: 0, ..image() }).contains("0 CPUs"));
        for scale in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            let options = BootOptions {
                timeout_scale: scale,
                ..image()
            };
            assert!(refused(options).contains("timeout scale"));
        }
        let commands = vec![crate::guest_command("a", "true")];
        assert!(
            refused(BootOptions {
                guest_commands: commands,
                ..image()
            })
            .contains("seed")
        );
    }
}
