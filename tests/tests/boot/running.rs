//! A machine that runs while the test goes on: booted by a thread that is in the
//! network of the machines, kept when it is done, and ended with its owner.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodekiln_qemu::{BootOptions, Error, Observer, Report, boot};
use nodekiln_tests::network::Network;
use nodekiln_tests::unmet::{Met, Unmet};

/// See the module documentation.
pub struct Running {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen of it, and that it has changed.
#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    report: Option<Report>,
    error: Option<Error>,
    is_over: bool,
    is_to_stop: bool,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

struct Watch(Arc<Seen>);

impl Observer for Watch {
    fn on_line(&mut self, _: Duration, line: &str) {
        self.0.change(|state| state.lines.push(line.to_owned()));
    }

    fn on_keep(&mut self, report: &Report) {
        self.0.change(|state| state.report = Some(report.clone()));
    }

    fn stopped(&self) -> bool {
        self.0.lock().is_to_stop
    }
}

/// Tells that nothing more comes, whichever way the thread ends.
impl Drop for Watch {
    fn drop(&mut self) {
        self.0.change(|state| state.is_over = true);
    }
}

impl Running {
    /// Switches a machine on.
    pub fn start(network: &Network, options: BootOptions) -> Self {
        let seen = Arc::new(Seen::default());
        let mut watch = Watch(Arc::clone(&seen));
        let options = BootOptions {
            keep: true,
            ..options
        };
        let thread = network.spawn(move || {
            let outcome = boot(&options, &mut watch);
            watch.0.change(|state| state.error = outcome.err());
        });
        Self {
            seen,
            thread: Some(thread),
        }
    }

    /// Waits until it has passed its last milestone and answered all that it was asked.
    ///
    /// # Errors
    /// What there was instead, and its console.
    pub fn until_up(&self) -> Met<Report> {
        // The boot has its own limits.
        let forever = Duration::from_secs(24 * 3600);
        self.until(forever, |state| state.report.clone())
    }

    /// Waits for a line of the console, those that were there before among them.
    ///
    /// # Errors
    /// What there was instead, when the machine ends or the time is over.
    pub fn until_line(&self, has: impl Fn(&str) -> bool, limit: Duration) -> Met<String> {
        self.until(limit, |state| {
            state.lines.iter().find(|line| has(line)).cloned()
        })
    }

    /// Waits until it has switched itself off.
    ///
    /// # Panics
    /// When the time is over before.
    pub fn until_off(mut self, limit: Duration) {
        let _ = self.until(limit, |_| None::<()>);
        assert!(self.seen.lock().is_over, "{}", self.console());
        self.end();
    }

    /// The last line of the console.
    pub fn last_line(&self) -> Option<String> {
        self.seen.lock().lines.last().cloned()
    }

    /// The whole console.
    pub fn console(&self) -> String {
        self.seen.lock().lines.join("\n")
    }

    fn until<T>(&self, limit: Duration, has: impl Fn(&State) -> Option<T>) -> Met<T> {
        let end = Instant::now() + limit;
        let mut state = self.seen.lock();
        loop {
            if let Some(found) = has(&state) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.is_over || left.is_zero() {
                let error = state.error.as_ref().map(ToString::to_string);
                let error = error.unwrap_or_else(|| "the time is over".to_owned());
                return Err(Unmet::new(error).with(state.lines.iter().cloned()));
            }
            let waited = self.seen.changed.wait_timeout(state, left);
            state = waited.expect("no holder panics").0;
        }
    }

    /// Cuts its power, at whatever it is.
    pub fn cut_power(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.seen.change(|state| state.is_to_stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic of its was told by the thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
