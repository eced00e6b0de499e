//! The service manager's notification socket (`sd_notify`), and its watchdog.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the manager may take to make room for what it must hear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where notifications go, and how often the watchdog wants to hear.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    heard: Mutex<Option<Instant>>,
}

impl Manager {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`; without the first nothing is sent.
    pub fn new(socket: Option<&str>, watchdog_microseconds: Option<&str>) -> Self {
        let socket = socket.and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(name).ok()?,
            };
            let datagrams = UnixDatagram::unbound().ok()?;
            datagrams.set_write_timeout(Some(PATIENCE)).ok()?;
            Some((datagrams, address))
        });
        let watchdog = watchdog_microseconds
            .and_then(|text| text.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        Self {
            socket,
            watchdog,
            heard: Mutex::new(None),
        }
    }

    /// Half of the watchdog's time: how long may pass between two signs of life.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// Sends assignments, one a line. Waits while the manager's queue is full: a
    /// lost `READY=1` would leave everybody waiting for everybody.
    pub fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // There is nobody else to tell that it could not be told.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }

    /// Gives a sign of life if it is time for one.
    pub fn alive(&self) {
        let Some(interval) = self.interval() else {
            return;
        };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.is_none_or(|heard| heard.elapsed() >= interval / 2) {
            *heard = Some(Instant::now());
            drop(heard);
            self.send("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Manager::new(path.to_str(), Some("3000000"));
        assert_eq!(notify.interval(), Some(Duration::from_millis(1500)));
        notify.send("READY=1\nSTATUS=x");
        notify.alive();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=x");
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
        // Just now it was alive: that is not told again so soon.
        notify.alive();
        notify.send("READY=1");
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn an_abstract_socket_is_heard_too() {
        let name = format!("nodekiln-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Manager::new(Some(&format!("@{name}")), None).send("READY=1");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn a_manager_that_is_slow_to_read_misses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Manager::new(path.to_str(), None);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            (0..2000)
                .filter(|_| manager.recv(&mut buffer).is_ok())
                .count()
        });
        // Many more than a queue holds.
        for _ in 0..2000 {
            notify.send("STATUS=x");
        }
        assert_eq!(reader.join().unwrap(), 2000);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let notify = Manager::new(None, Some("0"));
        notify.send("READY=1");
        assert_eq!(notify.interval(), None);
        Manager::new(Some("/nowhere/at/all"), None).send("READY=1");
    }
}
