//! HTTP/1.1 for one request at a time, over TLS by rustls, on blocking sockets with
//! one deadline over everything.

mod answer;
mod provider;
mod proxy;
mod stream;
mod tls;
mod url;

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use self::answer::Incoming;
use self::proxy::{Proxies, Proxy};
use self::stream::{Stream, connect};
use self::tls::Trust;
use super::dns::Resolver;
use super::{Network, NetworkError, Request, Response, Route, Variables};

pub(crate) use self::provider::SIGNATURES;
pub(super) use self::stream::{Deadline, Timed};
pub(crate) use self::url::Url;

/// What we call ourselves unless a request says otherwise.
const USER_AGENT: &str = concat!("nodekiln-firstboot/", env!("CARGO_PKG_VERSION"));

/// The network, as the environment says how it is to be used. Neither names nor
/// certificates are read before they are needed.
#[derive(Debug)]
pub struct Client {
    proxies: Proxies,
    resolver: Resolver,
    trust: Trust,
}

impl Client {
    /// Reads the proxies; everything else comes later.
    pub fn new(variables: &Variables) -> Self {
        Self {
            proxies: Proxies::new(variables),
            resolver: Resolver::default(),
            trust: Trust::new(variables),
        }
    }

    /// An open way to a host and port, directly or through a proxy that makes a
    /// tunnel.
    fn reach(
        &self,
        host: &str,
        port: u16,
        proxy: Option<&Proxy>,
        deadline: Deadline,
    ) -> Result<Box<dyn Stream>, NetworkError> {
        let Some(proxy) = proxy else {
            return self.dial(host, port, deadline);
        };
        let mut stream = self.to_proxy(proxy, deadline)?;
        proxy.tunnel(&mut *stream, &url::authority(host, port), deadline)?;
        Ok(stream)
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Deadline,
    ) -> Result<Box<dyn Stream>, NetworkError> {
        let addresses = self.resolver.lookup(host, deadline)?;
        let socket = connect(&addresses, port, deadline)
            .map_err(|error| broken(&url::authority(host, port), deadline, &error))?;
        Ok(Box::new(Timed::new(socket, deadline)))
    }

    fn to_proxy(&self, proxy: &Proxy, deadline: Deadline) -> Result<Box<dyn Stream>, NetworkError> {
        let stream = self.dial(&proxy.host, proxy.port, deadline)?;
        if !proxy.is_tls {
            return Ok(stream);
        }
        self.trust.wrap(stream, &proxy.host, None, deadline)
    }

    fn proxy(&self, is_https: bool, host: &str, port: u16) -> Result<Option<&Proxy>, NetworkError> {
        self.proxies.for_host(is_https, host, port)
    }

    fn exchange(&self, request: &Request, url: &Url) -> Result<Response, NetworkError> {
        let headers = headers(request, &url.host)?;
        let deadline = Deadline::after(request.limit);
        let proxy = match request.route {
            Route::Direct => None,
            Route::Proxied => self.proxy(url.is_https, &url.host, url.port)?,
        };
        let mut stream;
        let mut head = format!("{} ", request.method);
        let plain_proxy = proxy.filter(|_| !url.is_https);
        if url.is_https {
            let raw = self.reach(&url.host, url.port, proxy, deadline)?;
            let authorities = request.authorities.as_deref();
            stream = self.trust.wrap(raw, &url.host, authorities, deadline)?;
            head.push_str(&url.target);
        } else if let Some(proxy) = plain_proxy {
            stream = self.to_proxy(proxy, deadline)?;
            head.push_str(&format!("http://{}{}", url.authority(), url.target));
        } else {
            stream = self.reach(&url.host, url.port, None, deadline)?;
            head.push_str(&url.target);
        }
        head.push_str(&format!(" HTTP/1.1\r\nhost: {}\r\n", url.authority()));
        if let Some(authorization) = plain_proxy.and_then(|it| it.authorization.as_ref()) {
            head.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        head.push_str(&headers);
        let bytes = [head.as_bytes(), &request.body].concat();
        let host = url.authority();
        stream
            .write_all(&bytes)
            .and_then(|()| stream.flush())
            .map_err(|error| broken(&host, deadline, &error))?;
        let answer = Incoming::new(&mut *stream, &host, deadline).response(request.most)?;
        match plain_proxy {
            Some(proxy) if answer.status == 407 => Err(proxy.refusal(407)),
            _ => Ok(answer),
        }
    }
}

/// The headers of a request and the empty line after them.
fn headers(request: &Request, host: &str) -> Result<String, NetworkError> {
    let mut text = String::new();
    let mut has_agent = false;
    for (name, value) in &request.headers {
        let is_token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_token || value.chars().any(char::is_control) {
            return Err(NetworkError::Protocol {
                host: host.into(),
                reason: format!("the header {name:?} of the request cannot be sent"),
            });
        }
        has_agent |= name.eq_ignore_ascii_case("user-agent");
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !has_agent {
        text.push_str(&format!("user-agent: {USER_AGENT}\r\n"));
    }
    if !request.body.is_empty() || matches!(request.method, "PUT" | "POST") {
        text.push_str(&format!("content-length: {}\r\n", request.body.len()));
    }
    text.push_str("accept-encoding: identity\r\nconnection: close\r\n\r\n");
    Ok(text)
}

impl Network for Client {
    fn send(&self, request: &Request) -> Result<Response, NetworkError> {
        let url = Url::parse(&request.url).map_err(|reason| NetworkError::Protocol {
            host: "the URL of the request".into(),
            reason: reason.into(),
        })?;
        if url.user.is_some() {
            return Err(NetworkError::Protocol {
                host: url.host,
                reason: "a user and password in the URL are not sent".into(),
            });
        }
        self.exchange(request, &url)
    }

    fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        self.resolver.lookup(host, Deadline::after(limit))
    }

    fn connect(&self, host: &str, port: u16, limit: Duration) -> Result<(), NetworkError> {
        let deadline = Deadline::after(limit);
        let proxy = self.proxy(true, host, port)?;
        self.reach(host, port, proxy, deadline).map(drop)
    }
}

/// What a broken connection means.
fn broken(host: &str, deadline: Deadline, error: &io::Error) -> NetworkError {
    if let Some(error) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return tls::distrust(host, error);
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NetworkError::Deadline {
            host: host.into(),
            limit: deadline.limit(),
        },
        _ => NetworkError::Connection {
            host: host.into(),
            reason: error.to_string(),
        },
    }
}

/// A whole file of at most `most` bytes; `None` when there is none.
pub(super) fn read_bounded(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
