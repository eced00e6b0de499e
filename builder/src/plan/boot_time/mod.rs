//! What makes a first boot slow.
//!
//! What is safe for every node is taken away by the plan, and printed with its reason;
//! what file systems leave to their first mount is in
//! [`first_mount`](crate::volume::first_mount), and files that make a system do something
//! else first are in [`hygiene`](super::hygiene). Units of the vendor stay as they are:
//! whether a fleet updates itself is not for us to decide. They are told, with what to
//! write into the profile.

mod data_sources;
mod units;

pub use units::{Needless, needless};

use super::draft::Draft;
use crate::error::Result;
use crate::profile::model::Architecture;

/// How the reasons of what is planned here begin.
const REASON: &str = "time of boot";

/// Plans what is safe.
pub(super) fn plan(draft: &mut Draft<'_>, architecture: Architecture) -> Result<()> {
    data_sources::plan(draft, architecture)
}
