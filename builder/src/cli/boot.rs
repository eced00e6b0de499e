//! `nodekiln boot`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use nodekiln::build::read_manifest;
use nodekiln::profile::model;
use nodekiln::progress::{Progress as _, Step};
use nodekiln::{Error, Result, environment};
use nodekiln_qemu::{
    AcceleratorChoice, Architecture, BootOptions, FirmwareChoice, HostForward, Milestones, Network,
    Observer, Reached, Report, Standing,
};

use super::seed::{SeedArguments, from_qemu};
use super::{Context, Reporter};

const GREEN: Style = AnsiColor::Green.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Boot an image in QEMU, follow it to a running kubelet, and tell how it went
///
/// The image is never written: an overlay takes all changes and is thrown away, or
/// kept where --overlay says.
#[derive(Debug, Args)]
pub struct Boot {
    /// The image, raw or qcow2
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    #[command(flatten)]
    seed: SeedArguments,
    /// What the image is made for [default: what the manifest beside it says, else that
    /// of this machine]
    #[arg(long, value_enum, value_name = "NAME")]
    architecture: Option<MadeFor>,
    /// UEFI firmware code to use instead of the distribution's; or `bios`, or
    /// `secure-boot`
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// What runs the guest
    #[arg(long, value_enum, default_value_t = Accelerator::Auto)]
    accelerator: Accelerator,
    /// What counts as booted
    #[arg(long, value_enum, default_value_t = Until::Node)]
    until: Until,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Multiply every deadline by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    timeout_scale: f64,
    /// Lead a port of this machine into the guest: HOST:GUEST
    #[arg(long, value_name = "PORTS", value_parser = forward)]
    forward: Vec<HostForward>,
    /// Put the guest into the network of an interface of this machine, of kind tap:
    /// NAME or NAME,mac=ADDRESS. Without root, run in a network namespace of your own
    /// (unshare -rn)
    #[arg(long, value_name = "NAME", value_parser = tap, conflicts_with = "forward")]
    tap: Option<Network>,
    /// Keep what the guest writes in this file: another boot of the image with the
    /// same file finds the disk as the guest left it
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// What the guest's clock shows at power-on, in UTC, such as 2026-01-31T12:00:00
    /// [default: the time of this machine]
    #[arg(long, value_name = "TIME")]
    clock: Option<String>,
    /// Keep the guest running after the last milestone, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Show the console while it runs
    #[arg(long)]
    console: bool,
    /// Write the console here, with times
    #[arg(long, value_name = "FILE")]
    console_log: Option<PathBuf>,
    /// Write the report here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MadeFor {
    /// AMD64
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm
    Arm64,
}

impl MadeFor {
    /// What the manifest says that a build laid beside `image`. One that does not know
    /// the image, or cannot be read, says nothing of it: an image needs none.
    fn by_manifest(image: &Path) -> Option<Self> {
        let name = image.file_name()?.to_str()?;
        let manifest = read_manifest(image.parent()?).ok()?;
        let is_known = manifest.images.iter().any(|image| image.name == name);
        is_known.then_some(match manifest.profile.architecture {
            model::Architecture::X86_64 => Self::X86_64,
            model::Architecture::Arm64 => Self::Arm64,
        })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accelerator {
    /// KVM when it really works, else software emulation
    Auto,
    /// KVM or nothing
    Kvm,
    /// Software emulation
    Tcg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Until {
    /// First boot is done and the kubelet runs
    Node,
    /// A login prompt
    Login,
}

fn forward(text: &str) -> std::result::Result<HostForward, String> {
    let ports = text.split_once(':').and_then(|(host, guest)| {
        Some(HostForward {
            host_port: host.parse().ok()?,
            guest_port: guest.parse().ok()?,
        })
    });
    ports.ok_or_else(|| "it is not HOST:GUEST, such as 2222:22".to_owned())
}

fn tap(text: &str) -> std::result::Result<Network, String> {
    let (name, mac) = match text.split_once(',') {
        None => (text, None),
        Some((name, rest)) => {
            let mac = rest.strip_prefix("mac=");
            (name, Some(mac.ok_or("it is not NAME or NAME,mac=ADDRESS")?))
        }
    };
    Ok(Network::Tap {
        name: name.to_owned(),
        mac: mac.map(str::to_owned),
    })
}

impl Boot {
    pub fn run(&self, context: &Context) -> Result<()> {
        let options = self.options()?;
        let reporter = Arc::clone(&context.reporter);
        let mut watch = Watch {
            reporter: &reporter,
            console: self.console,
        };
        reporter.begin(Step::Boot, &self.image.display().to_string(), None);
        let outcome = nodekiln_qemu::boot(&options, &mut watch);
        reporter.end(Step::Boot);
        let report = match &outcome {
            Ok(report) => Some(report),
            Err(error) => error.report(),
        };
        let kept = report.map_or(Ok(()), |report| {
            self.keep_report(report)?;
            context.printer.result(report, table)
        });
        // Why the boot failed matters more than a report that was not written.
        if outcome.is_ok() {
            kept?;
        }
        outcome.map(drop).map_err(|error| {
            let tail = error.report().map(last_lines).unwrap_or_default();
            let ours = from_qemu(error);
            if tail.is_empty() {
                ours
            } else {
                ours.caused_by(tail)
            }
        })
    }

    fn options(&self) -> Result<BootOptions> {
        let unsaid = BootOptions::of_image(&self.image);
        let made_for = self
            .architecture
            .or_else(|| MadeFor::by_manifest(&self.image));
        Ok(BootOptions {
            seed: self.seed.seed()?,
            architecture: made_for.map_or(unsaid.architecture, |made_for| match made_for {
                MadeFor::X86_64 => Architecture::X86_64,
                MadeFor::Arm64 => Architecture::Aarch64,
            }),
            firmware: match &self.firmware {
                None => FirmwareChoice::Uefi,
                Some(word) if word.as_os_str() == "bios" => FirmwareChoice::Bios,
                Some(word) if word.as_os_str() == "secure-boot" => FirmwareChoice::SecureBoot,
                Some(code) => FirmwareChoice::Files {
                    code: code.clone(),
                    vars: None,
                },
            },
            cache: environment::cache_folder(),
            accelerator: match self.accelerator {
                Accelerator::Auto => AcceleratorChoice::Auto,
                Accelerator::Kvm => AcceleratorChoice::Kvm,
                Accelerator::Tcg => AcceleratorChoice::Tcg,
            },
            milestones: match self.until {
                Until::Node => Milestones::node(),
                Until::Login => Milestones::login(),
            },
            timeout_scale: self.timeout_scale,
            memory_mib: self.memory,
            cpus: self.cpus,
            overlay: self.overlay.clone(),
            clock: self.clock.clone(),
            network: self.tap.clone().unwrap_or_else(|| Network::User {
                forwards: self.forward.clone(),
                restricted: false,
            }),
            console_log: self.console_log.clone(),
            keep: self.keep,
            ..unsaid
        })
    }

    fn keep_report(&self, report: &Report) -> Result<()> {
        let Some(path) = &self.report else {
            return Ok(());
        };
        let text = serde_json::to_vec_pretty(report).map_err(|error| {
            Error::new(nodekiln::Class::Internal, "write the report as JSON").caused_by(error)
        })?;
        std::fs::write(path, text)
            .map_err(|error| Error::io(format!("write {}", path.display()), error))
    }
}

/// Shows a boot while it runs.
struct Watch<'a> {
    reporter: &'a Reporter,
    console: bool,
}

impl Observer for Watch<'_> {
    fn on_line(&mut self, time: Duration, line: &str) {
        if self.console {
            self.reporter
                .line(&format!("{DIM}{:8.2}{DIM:#} {line}", time.as_secs_f64()));
        }
    }

    fn on_milestone(&mut self, milestone: &Reached) {
        let seconds = milestone.seconds.unwrap_or_default();
        if self.reporter.is_for_people() {
            self.reporter.line(&format!(
                "{GREEN}{seconds:8.2} s{GREEN:#} {}",
                milestone.title
            ));
        } else {
            self.reporter
                .note(&format!("{} after {seconds} s", milestone.name));
        }
    }

    fn note(&mut self, text: &str) {
        self.reporter.note(text);
    }

    fn on_keep(&mut self, _: &Report) {
        self.reporter
            .note("the guest keeps running; stop it with Ctrl-C");
    }

    fn stopped(&self) -> bool {
        self.reporter.stopped()
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for milestone in &report.milestones {
        let when = match (milestone.seconds, milestone.standing) {
            (Some(seconds), _) => format!("{seconds:8.2} s"),
            (None, Standing::Implied) => "  passed  ".to_owned(),
            (None, _) => "       -  ".to_owned(),
        };
        // Writing into a String cannot fail.
        writeln!(text, "{when}  {}", milestone.title).ok();
    }
    writeln!(
        text,
        "\nwith {} and {}",
        report.accelerator, report.firmware
    )
    .ok();
    text
}

fn last_lines(report: &Report) -> String {
    let tail = &report.console_tail;
    if tail.is_empty() {
        return String::new();
    }
    format!("the console ended with:\n{}", tail.join("\n"))
}

#[cfg(test)]
mod tests {
    use nodekiln::build::MANIFEST;

    use super::*;

    const USUAL: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../fuzz/corpus/manifest/usual"
    ));

    #[test]
    fn the_manifest_beside_an_image_says_what_it_is_made_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("small.raw");
        assert_eq!(MadeFor::by_manifest(&image), None);
        for (said, made_for) in [("arm64", MadeFor::Arm64), ("x86_64", MadeFor::X86_64)] {
            let own = format!("\"small\", \"architecture\": \"{said}\"");
            let text = USUAL.replace("\"small\", \"architecture\": \"x86_64\"", &own);
            assert!(text.contains(&own), "{text}");
            std::fs::write(folder.path().join(MANIFEST), text).expect("written");
            assert_eq!(MadeFor::by_manifest(&image), Some(made_for));
            let other = folder.path().join("other.raw");
            assert_eq!(MadeFor::by_manifest(&other), None);
        }
        std::fs::write(folder.path().join(MANIFEST), "{").expect("written");
        assert_eq!(MadeFor::by_manifest(&image), None);
    }
}
