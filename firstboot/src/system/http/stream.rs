//! Sockets that keep to a deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// When everything has to be done.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// This long from now; never longer than a day.
    pub fn after(limit: Duration) -> Self {
        let limit = limit.min(Duration::from_secs(86_400));
        Self {
            at: Instant::now() + limit,
            limit,
        }
    }

    /// The whole time that there was.
    pub fn limit(self) -> Duration {
        self.limit
    }

    /// The time that is left, at least a millisecond; `None` when it is over.
    pub fn left(self) -> Option<Duration> {
        self.at
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .map(|left| left.max(Duration::from_millis(1)))
    }

    /// The same as an error.
    pub fn left_or_late(self) -> io::Result<Duration> {
        self.left().ok_or(io::ErrorKind::TimedOut.into())
    }
}

/// What a request is written to and its answer read from.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A socket of which every reading and writing ends with the deadline: one that gives
/// a byte a second gets no further than one that gives none.
#[derive(Debug)]
pub struct Timed {
    socket: TcpStream,
    deadline: Deadline,
}

impl Timed {
    pub fn new(socket: TcpStream, deadline: Deadline) -> Self {
        Self { socket, deadline }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket
            .set_read_timeout(Some(self.deadline.left_or_late()?))?;
        self.socket.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket
            .set_write_timeout(Some(self.deadline.left_or_late()?))?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The kernel says "would block" when the time of a socket is over.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}

/// Connects to the first address that takes a connection. Each has its part of the
/// time that is left, so that one that is silent does not take it all.
pub fn connect(addresses: &[IpAddr], port: u16, deadline: Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let share = deadline.left_or_late()? / (addresses.len() - tried) as u32;
        let share = share.max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), share) {
            Ok(socket) => {
                // One request is one packet, or is at least not held back.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(late(last))
}
