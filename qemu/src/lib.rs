//! Boots a disk image in QEMU and follows its milestones.
//!
//! Three things, for the verbs `boot`, `seed` and `doctor` and for tests:
//!
//! ```no_run
//! use nodekiln_qemu::{BootOptions, Format, Seed, Unwatched, boot, doctor};
//!
//! # fn main() -> nodekiln_qemu::Result<()> {
//! // A seed: the small disk with the NodeConfig.
//! let node_config = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n";
//! let seed = Seed::of_node_config(node_config);
//! seed.write(Format::NoCloud, "seed.iso".as_ref())?;
//!
//! // A boot: the image is never written.
//! let options = BootOptions {
//!     seed: Some((seed, Format::NoCloud)),
//!     ..BootOptions::of_image("node.qcow2")
//! };
//! let report = boot(&options, &mut Unwatched)?;
//! assert!(report.passed);
//!
//! // What the machine has.
//! let checks = doctor::examine(options.architecture)?;
//! # Ok(())
//! # }
//! ```
//!
//! The library prints nothing. An [`Observer`] follows a boot live; what the
//! guest writes reaches it as clean lines ([`console`]). [`Report`] and
//! [`doctor::Check`] are serialisable. An [`Error`] has a [`Kind`], which the
//! command turns into its exit code, and a hint; a missed milestone brings the
//! report along ([`Error::report`]).
//!
//! Nothing survives: QEMU ends with the boot, with the process, and with a
//! `kill -9` of the process; its files have no names while it runs.

// A library neither panics on what it is given nor prints.
#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod accelerator;
mod boot;
mod command;
pub mod console;
pub mod doctor;
mod error;
mod firmware;
mod guest;
mod image;
pub mod iso9660;
mod machine;
mod milestone;
mod process;
mod qmp;
mod report;
mod seed;
mod session;

pub use accelerator::{Accelerator, AcceleratorChoice, AcceleratorKind, PROBE_LIMIT};
pub use boot::{
    BootOptions, DirectKernel, HostForward, Network, Observer, SeedBus, Unwatched, boot,
};
pub use error::{Error, Kind, Result};
pub use firmware::{Firmware, FirmwareChoice, FirmwarePlaces, Origin, find as find_firmware};
pub use guest::{GuestCommand, GuestOutput, guest_command};
pub use image::ImageFormat;
pub use machine::Architecture;
pub use milestone::{Event, Failure, Milestone, Milestones, Pattern, Standing, Tracker};
pub use report::{REPORT_VERSION, Reached, Report};
pub use seed::{Format, Part, Seed, USER_DATA_LIMIT};
