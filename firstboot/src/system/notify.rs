//! The service manager's notification socket (`sd_notify`), and its watchdog.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where notifications go, and how often the watchdog wants to hear.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
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
            // A manager that does not read must not stop a machine from joining.
            datagrams.set_nonblocking(true).ok()?;
            Some((datagrams, address))
        });
        let watchdog = watchdog_microseconds
            .and_then(|text| text.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Half of the watchdog's time: how long may pass between two signs of life.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// Sends assignments, one a line.
    pub fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // There is nobody else to tell that it could not be told.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }

    pub fn alive(&self) {
        if self.watchdog.is_some() {
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
    fn without_a_manager_nothing_happens() {
        let notify = Manager::new(None, Some("0"));
        notify.send("READY=1");
        assert_eq!(notify.interval(), None);
        Manager::new(Some("/nowhere/at/all"), None).send("READY=1");
    }
}
