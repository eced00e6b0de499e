//! The machine that this program runs on.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::http::Client;
use super::notify::Manager;
use super::{
    Clock, Ended, Error, Files, Folder, Level, Network, NetworkError, NewFile, Programs, Request,
    Response, Space, Status, Task, Variables, Voice, console, journal_line, process,
};

/// The machine that this program runs on.
#[derive(Debug)]
pub struct Linux {
    files: Folder,
    started: Instant,
    waits: Mutex<Waits>,
    manager: Manager,
    /// Whether a service manager started this program, and not a person.
    is_service: bool,
    network: Client,
    /// The same as a NodeConfig wants it, once it is known.
    wanted_network: OnceLock<Client>,
}

impl Linux {
    /// Takes the service manager's wishes from the environment.
    pub fn new() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let socket = variable("NOTIFY_SOCKET");
        let manager = Manager::new(socket.as_deref(), variable("WATCHDOG_USEC").as_deref());
        Self {
            files: Folder::new("/"),
            started: Instant::now(),
            waits: Mutex::default(),
            manager,
            is_service: socket.is_some() || variable("INVOCATION_ID").is_some(),
            network: Client::new(&Variables::from_process()),
            wanted_network: OnceLock::new(),
        }
    }

    /// The same machine, whose network is used as these variables say.
    #[must_use]
    pub fn with_variables(mut self, variables: &Variables) -> Self {
        self.network = Client::new(variables);
        self
    }
}

impl Linux {
    fn waiting<T>(&self, work: impl FnOnce() -> T) -> T {
        self.manager.alive();
        self.waits().begin(Instant::now());
        let done = work();
        self.waits().end(Instant::now());
        done
    }

    /// What a thread that panicked left is as good as any.
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn network(&self) -> &Client {
        self.wanted_network.get().unwrap_or(&self.network)
    }
}

/// The time in which this program waited for others: checks that wait side by side
/// count once.
#[derive(Debug, Default)]
struct Waits {
    /// How many threads wait now.
    waiting: usize,
    /// Since when at least one does.
    since: Option<Instant>,
    total: Duration,
}

impl Waits {
    fn begin(&mut self, now: Instant) {
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Instant) {
        self.waiting -= 1;
        if self.waiting == 0
            && let Some(since) = self.since.take()
        {
            self.total += now.saturating_duration_since(since);
        }
    }
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

impl Files for Linux {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        self.files.read(path, limit)
    }

    fn status(&self, path: &str) -> Result<Option<Status>, Error> {
        self.files.status(path)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        self.files.names(folder)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        self.files.resolve(path)
    }

    fn write_all(&self, files: &[NewFile<'_>]) -> Result<(), Error> {
        self.manager.alive();
        self.files.write_all(files)
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.files.remove(path)
    }

    fn remove_empty(&self, folder: &str) -> Result<(), Error> {
        self.files.remove_empty(folder)
    }

    fn empty(&self, folder: &str) -> Result<(), Error> {
        self.manager.alive();
        self.files.empty(folder)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.files.rename(from, to)
    }

    fn link(&self, path: &str, target: &str) -> Result<(), Error> {
        self.files.link(path, target)
    }

    fn space(&self, path: &str) -> Result<Option<Space>, Error> {
        self.files.space(path)
    }

    fn link_target(&self, path: &str) -> Result<Option<String>, Error> {
        self.files.link_target(path)
    }
}

impl Programs for Linux {
    fn run(&self, task: &Task) -> Result<Ended, Error> {
        self.waiting(|| process::run(task, self.manager.interval(), &|| self.manager.alive()))
    }

    fn waited(&self) -> Duration {
        self.waits().total
    }
}

impl Clock for Linux {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, time: Duration) {
        self.waiting(|| std::thread::sleep(time));
    }
}

impl Voice for Linux {
    fn log(&self, level: Level, message: &str, fields: &BTreeMap<&str, String>) {
        let mut errors = std::io::stderr().lock();
        let line = journal_line::line(level, message, fields, !errors.is_terminal());
        // Without a log the machine is to join all the same.
        let _ = writeln!(errors, "{line}");
    }

    fn milestone(&self, text: &str) {
        let line = format!("nodekiln-firstboot: {text}\n");
        if self.is_service {
            console::write(&line);
        } else {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn ready(&self) {
        self.manager.send("READY=1");
    }

    fn status_line(&self, text: &str) {
        self.manager.alive();
        self.manager.send(&format!("STATUS={text}"));
    }
}

impl Network for Linux {
    fn use_variables(&self, variables: &Variables) {
        if *variables != Variables::from_process() {
            self.wanted_network.get_or_init(|| Client::new(variables));
        }
    }

    fn send(&self, request: &Request) -> Result<Response, NetworkError> {
        self.waiting(|| self.network().send(request))
    }

    fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        self.waiting(|| self.network().lookup(host, limit))
    }

    fn connect(&self, host: &str, port: u16, limit: Duration) -> Result<(), NetworkError> {
        self.waiting(|| self.network().connect(host, port, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were added up: own work was too small.
    #[test]
    fn waits_of_threads_side_by_side_count_once() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut waits = Waits::default();
        waits.begin(at(0));
        waits.begin(at(1));
        waits.end(at(4));
        waits.begin(at(5));
        waits.end(at(7));
        waits.end(at(9));
        // Between them it works itself.
        waits.begin(at(20));
        waits.end(at(22));
        assert_eq!(waits.total, Duration::from_secs(11));
    }
}
