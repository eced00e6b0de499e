//! The network as first boot uses it: one request at a time, each with a time
//! limit and a bound on what is read, and without retries. When to try again is
//! for those to say who know what the answer means.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Variables;

/// Which way a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Straight to its host, whatever proxies are set: for link-local services.
    Direct,
    /// Through the proxy that is set for its host, if one is.
    Proxied,
}

/// An HTTP request. Redirects are not followed.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: &'static str,
    /// `http` or `https`.
    pub url: String,
    /// Names and values, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// What is sent after them.
    pub body: Vec<u8>,
    /// Which way it takes.
    pub route: Route,
    /// The time for all of it: name, connection, request and the whole answer.
    pub limit: Duration,
    /// The largest body that is read, in bytes; a larger one is an error.
    pub most: usize,
    /// Certificates in PEM that are trusted in place of the system's: for a cluster,
    /// which has an authority of its own.
    pub authorities: Option<Vec<u8>>,
}

impl Request {
    /// A request that takes the proxy, has ten seconds and reads a mebibyte.
    pub fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            route: Route::Proxied,
            limit: Duration::from_secs(10),
            most: 1 << 20,
            authorities: None,
        }
    }

    /// The same request with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

// By hand: headers and body hold signatures and tokens, the URL may hold a
// password.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .field("route", &self.route)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// What a server answered, whatever its status says.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

// By hand: the body may hold credentials.
impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("status", &self.status)
            .field("body", &format_args!("({} bytes)", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// Why there is no answer. Holds host names, and neither queries nor passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The name of the host has no address.
    #[error("the name {host} cannot be resolved: {reason}")]
    Name {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// No connection, or it broke off.
    #[error("{host} cannot be reached: {reason}")]
    Connection {
        /// The host, or its proxy.
        host: String,
        /// Why.
        reason: String,
    },
    /// The proxy refuses.
    #[error("the proxy {proxy} refuses: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// Why.
        reason: String,
    },
    /// The server's certificate is not to be trusted, or no TLS is spoken.
    #[error("{host} cannot be trusted: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// No whole answer in time.
    #[error("{host} did not answer within {} s", limit.as_secs_f32())]
    Deadline {
        /// The host.
        host: String,
        /// The time it had.
        limit: Duration,
    },
    /// The answer is larger than anything that was asked for.
    #[error("the answer of {host} is larger than {most} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The most that is read, in bytes.
        most: usize,
    },
    /// The URL, or the answer, is no HTTP.
    #[error("{host} does not speak HTTP: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
}

/// The network.
pub trait Network {
    /// From now on the network is used as these variables say: proxies, and which
    /// certificates are trusted. The first who says so is heard.
    fn use_variables(&self, _: &Variables) {}
    /// Sends a request and reads the whole answer.
    fn send(&self, request: &Request) -> Result<Response, NetworkError>;
    /// All addresses of a name; a literal address is its own.
    fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, NetworkError>;
    /// Opens a TCP connection and closes it, through the proxy (`CONNECT`) where
    /// one is set for the host.
    fn connect(&self, host: &str, port: u16, limit: Duration) -> Result<(), NetworkError>;
}
