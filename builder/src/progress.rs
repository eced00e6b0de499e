//! How the library tells what it is doing.
//!
//! The library never prints. It reports through [`Progress`], which the command
//! turns into bars, plain lines or JSON Lines. Long loops also ask it whether
//! the user wants to stop.

use crate::error::{Class, Error, Result};

/// Receives progress; implementations must be cheap, they are called often.
pub trait Progress: Send + Sync {
    /// A step begins. `total` is in bytes, or `None` when unknown.
    fn begin(&self, step: Step, what: &str, total: Option<u64>);
    /// `bytes` more are done in `step`.
    fn advance(&self, step: Step, bytes: u64);
    /// The step is over.
    fn end(&self, step: Step);
    /// A decision or fact that the user should see (which engine, which
    /// firmware, what was found).
    fn note(&self, text: &str);
    /// Something that is probably not what the user wants.
    fn warn(&self, text: &str);
    /// Whether the user asked to stop.
    fn stopped(&self) -> bool;

    /// Fails with [`Class::Interrupted`] when the user asked to stop. Call it
    /// between files and between megabytes.
    fn check(&self) -> Result<()> {
        if self.stopped() {
            Err(Error::new(Class::Interrupted, "stopped on request"))
        } else {
            Ok(())
        }
    }
}

/// The steps of a build, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Bytes come from the network into the store.
    Download,
    /// A base image is made from packages.
    Bootstrap,
    /// The base is opened and understood; the plan is computed.
    Plan,
    /// The plan is applied.
    Bake,
    /// The image is checked.
    Verify,
    /// Images are written.
    Write,
    /// An image boots.
    Boot,
}

/// Reports nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Step, _: &str, _: Option<u64>) {}
    fn advance(&self, _: Step, _: u64) {}
    fn end(&self, _: Step) {}
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn stopped(&self) -> bool {
        false
    }
}
