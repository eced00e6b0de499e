//! The machine that this program runs on.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use super::http::Client;
use super::notify::Manager;
use super::{
    Clock, Ended, Error, Files, Folder, Level, Network, NetworkError, NewFile, Programs, Request,
    Response, Space, Status, Task, Variables, Voice, journal_line, process,
};

/// The machine that this program runs on.
#[derive(Debug)]
pub struct Linux {
    files: Folder,
    started: Instant,
    /// In nanoseconds.
    waited: AtomicU64,
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
            waited: AtomicU64::new(0),
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
        let started = Instant::now();
        let done = work();
        self.add_to_waited(started.elapsed());
        done
    }

    fn network(&self) -> &Client {
        self.wanted_network.get().unwrap_or(&self.network)
    }

    fn add_to_waited(&self, time: Duration) {
        self.waited
            .fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
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
        let started = Instant::now();
        let ended = process::run(task, self.manager.interval(), &|| self.manager.alive());
        self.add_to_waited(started.elapsed());
        ended
    }

    fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
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
        self.manager.alive();
        std::thread::sleep(time);
        self.add_to_waited(time);
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
            // A console that is stopped, or not there, must not stop the machine.
            let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
            let console = OpenOptions::new()
                .append(true)
                .custom_flags(flags.bits().cast_signed())
                .open("/dev/console");
            if let Ok(mut console) = console {
                let _ = console.write_all(line.as_bytes());
            }
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
