//! Asks the servers.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use super::configuration::{Configuration, candidates, configuration, hosts};
use super::message::{Answer, Kind, MessageError, Name, answer, question};
use crate::system::NetworkError;
use crate::system::http::{Deadline, Timed, read_bounded};

/// Longest `/etc/hosts` and `/etc/resolv.conf` that are read, in bytes.
const LONGEST_FILE: usize = 1 << 20;

/// Longest message over UDP without extensions (RFC 1035, 4.2.1), and some more for
/// servers that do not know it.
const LONGEST_DATAGRAM: usize = 4096;

/// Most messages over UDP that are looked at while waiting for the right one.
const MOST_DATAGRAMS: usize = 64;

/// Finds the addresses of names.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    configuration: PathBuf,
    port: u16,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Path::new("/etc/hosts"), Path::new("/etc/resolv.conf"), 53)
    }
}

/// Why a server gave no addresses.
enum Failure {
    Io(io::Error),
    Message(MessageError),
    Code(u8),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                formatter.write_str("no answer")
            }
            Self::Io(error) => error.fmt(formatter),
            Self::Message(error) => error.fmt(formatter),
            // RFC 1035, 4.1.1.
            Self::Code(2) => formatter.write_str("it failed (SERVFAIL)"),
            Self::Code(5) => formatter.write_str("it refuses (REFUSED)"),
            Self::Code(code) => write!(formatter, "it answers with code {code}"),
        }
    }
}

/// What is known of one name.
enum Found {
    Addresses(Vec<IpAddr>),
    /// The name is there, but has no address.
    NoAddress,
    NoSuchName,
}

impl Resolver {
    pub fn new(hosts: &Path, configuration: &Path, port: u16) -> Self {
        Self {
            hosts: hosts.into(),
            configuration: configuration.into(),
            port,
        }
    }

    /// All addresses of a host, IPv4 first; a literal address is its own.
    pub fn lookup(&self, host: &str, deadline: Deadline) -> Result<Vec<IpAddr>, NetworkError> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let failed = |reason: &str| NetworkError::Name {
            host: host.into(),
            reason: reason.into(),
        };
        Name::new(host).ok_or_else(|| failed("this is no name of a host"))?;
        let known = hosts(&text(&self.hosts), host);
        if !known.is_empty() {
            return Ok(known);
        }
        let configuration = configuration(&text(&self.configuration), self.port);
        let mut is_there = false;
        for candidate in candidates(&configuration, host) {
            // Too long with the domain behind it.
            let Some(name) = Name::new(&candidate) else {
                continue;
            };
            match ask_all(&configuration, &name, deadline) {
                Ok(Found::Addresses(addresses)) => return Ok(addresses),
                Ok(Found::NoAddress) => is_there = true,
                Ok(Found::NoSuchName) => {}
                Err(reason) => return Err(failed(&reason)),
            }
        }
        Err(failed(if is_there {
            "it has no address"
        } else {
            "there is no such name"
        }))
    }
}

/// A file's text; an absent file is empty.
fn text(path: &Path) -> String {
    let bytes = read_bounded(path, LONGEST_FILE).ok().flatten();
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Asks one server after the other, several times, until one knows.
fn ask_all(
    configuration: &Configuration,
    name: &Name,
    deadline: Deadline,
) -> Result<Found, String> {
    let mut tries = configuration.attempts * configuration.servers.len() as u32;
    let mut said = Vec::new();
    for attempt in 0..configuration.attempts {
        for server in &configuration.servers {
            // The time that is left is for all tries, so that the last server is asked
            // too when the first ones are silent.
            let Some(left) = deadline.left() else {
                said.push("no time is left".to_owned());
                return Err(said.join("; "));
            };
            let until = Deadline::after(configuration.timeout.min(left / tries.max(1)));
            tries -= 1;
            match ask(*server, name, until) {
                Ok(found) => return Ok(found),
                Err(failure) if attempt == 0 => said.push(format!("{}: {failure}", server.ip())),
                Err(_) => {}
            }
        }
    }
    Err(format!("no DNS server answers ({})", said.join("; ")))
}

/// Asks a server for both kinds of addresses at once.
fn ask(server: SocketAddr, name: &Name, deadline: Deadline) -> Result<Found, Failure> {
    let v4 = Question::send(server, name, Kind::V4)?;
    let v6 = Question::send(server, name, Kind::V6)?;
    let v4 = v4.wait(name, deadline);
    let v6 = v6.wait(name, deadline);
    let mut addresses = Vec::new();
    let mut failure = None;
    let mut is_there = false;
    for outcome in [v4, v6] {
        match outcome {
            Ok(Answer::Addresses(found)) => {
                is_there = true;
                addresses.extend(found);
            }
            Ok(Answer::NoSuchName) => {}
            Ok(Answer::Failed(code)) => failure = Some(Failure::Code(code)),
            // TCP truncates nothing.
            Ok(Answer::Truncated) => failure = Some(MessageError::Malformed.into()),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        // One kind is enough to go on with: some servers know nothing of the other.
        _ if !addresses.is_empty() => Ok(Found::Addresses(addresses)),
        Some(failure) => Err(failure),
        None if is_there => Ok(Found::NoAddress),
        None => Ok(Found::NoSuchName),
    }
}

/// A question that was sent, on a port and with an identifier of its own.
struct Question {
    server: SocketAddr,
    socket: UdpSocket,
    id: u16,
    kind: Kind,
}

impl Question {
    fn send(server: SocketAddr, name: &Name, kind: Kind) -> io::Result<Self> {
        let any: IpAddr = if server.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        // Only this server's messages arrive then, and that nobody listens is heard.
        socket.connect(server)?;
        let id = random_id()?;
        socket.send(&question(id, name, kind))?;
        Ok(Self {
            server,
            socket,
            id,
            kind,
        })
    }

    fn wait(&self, name: &Name, deadline: Deadline) -> Result<Answer, Failure> {
        let mut buffer = [0; LONGEST_DATAGRAM];
        for _ in 0..MOST_DATAGRAMS {
            self.socket
                .set_read_timeout(Some(deadline.left_or_late()?))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(error) => return Err(error.into()),
            };
            match answer(&buffer[..length], self.id, name, self.kind) {
                Err(MessageError::Foreign) => {}
                Ok(Answer::Truncated) => return self.over_tcp(name, deadline),
                other => return Ok(other?),
            }
        }
        Err(MessageError::Foreign.into())
    }

    /// The same question again (RFC 7766): two bytes of length stand before a message.
    fn over_tcp(&self, name: &Name, deadline: Deadline) -> Result<Answer, Failure> {
        let socket = TcpStream::connect_timeout(&self.server, deadline.left_or_late()?)?;
        let mut stream = Timed::new(socket, deadline);
        let id = random_id()?;
        let question = question(id, name, self.kind);
        let mut message = (question.len() as u16).to_be_bytes().to_vec();
        message.extend(question);
        stream.write_all(&message)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        Ok(answer(&message, id, name, self.kind)?)
    }
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_be_bytes(bytes))
}
