//! Ctrl-C: the first asks the work to stop and clean up, the second ends the
//! process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nodekiln::{Error, Result};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit code after an interrupt, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Whether the user asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Watches SIGINT, SIGTERM and SIGQUIT.
    pub fn install() -> Result<Self> {
        let stop = Self::default();
        for signal in TERM_SIGNALS {
            // The order matters: the shutdown looks at the flag as it was
            // before this signal.
            flag::register_conditional_shutdown(
                *signal,
                i32::from(INTERRUPTED),
                Arc::clone(&stop.0),
            )
            .and_then(|_| flag::register(*signal, Arc::clone(&stop.0)))
            .map_err(|error| Error::io("watch for Ctrl-C", error))?;
        }
        Ok(stop)
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
