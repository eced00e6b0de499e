//! The proxies that the environment names, and what does not go through them.
//!
//! The rules are those of Go's standard library, which nodeadm and the kubelet use:
//! upper case before lower case, a name stands for what is below it too, and what
//! listens on this very machine is never asked for through a proxy.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;

use super::answer::Incoming;
use super::stream::{Deadline, Stream};
use super::url::{Url, authority, host_and_port};
use super::{USER_AGENT, broken};
use crate::system::{NetworkError, Variables};

/// A proxy.
#[derive(Clone)]
#[allow(missing_debug_implementations)] // Has a password.
pub struct Proxy {
    /// Whether TLS is spoken with the proxy itself.
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
    /// The value of the header that it wants.
    pub authorization: Option<String>,
}

/// All proxies, and the exceptions.
#[derive(Clone)]
pub struct Proxies {
    http: Option<Result<Proxy, Refused>>,
    https: Option<Result<Proxy, Refused>>,
    exceptions: Vec<Exception>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

/// A variable whose value is no proxy. The value may hold a password.
#[derive(Debug, Clone, Copy)]
struct Refused {
    variable: &'static str,
    reason: &'static str,
}

impl Proxies {
    pub fn new(variables: &Variables) -> Self {
        let proxy = |names: [&'static str; 2]| {
            let variable = names.into_iter().find(|it| variables.get(it).is_some())?;
            let read = Proxy::parse(variables.get(variable)?);
            Some(read.map_err(|reason| Refused { variable, reason }))
        };
        Self {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            exceptions: variables
                .first(&["NO_PROXY", "no_proxy"])
                .unwrap_or_default()
                .split(',')
                .filter_map(|entry| Exception::parse(entry.trim()))
                .collect(),
        }
    }

    /// The proxy for a host, if there is one and the host is no exception.
    pub fn for_host(
        &self,
        is_https: bool,
        host: &str,
        port: u16,
    ) -> Result<Option<&Proxy>, NetworkError> {
        let Some(proxy) = (if is_https { &self.https } else { &self.http }) else {
            return Ok(None);
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_here = host == "localhost" || address.is_some_and(|it| it.is_loopback());
        if is_here
            || self
                .exceptions
                .iter()
                .any(|it| it.covers(&host, address, port))
        {
            return Ok(None);
        }
        proxy
            .as_ref()
            .map(Some)
            .map_err(|refused| NetworkError::Proxy {
                proxy: refused.variable.into(),
                reason: format!("its value is no URL of a proxy: {}", refused.reason),
            })
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let url = match Url::parse(text) {
            // `proxy:3128` is meant as http.
            Err("it has no scheme") => Url::parse(&format!("http://{text}"))?,
            other => other?,
        };
        let authorization = url.user.map(|(user, password)| {
            let pair = format!("{user}:{password}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {encoded}")
        });
        Ok(Self {
            is_tls: url.is_https,
            host: url.host,
            port: url.port,
            authorization,
        })
    }

    /// Has the proxy open a connection to a host and port.
    pub fn tunnel(
        &self,
        stream: &mut dyn Stream,
        target: &str,
        deadline: Deadline,
    ) -> Result<(), NetworkError> {
        let mut head =
            format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nuser-agent: {USER_AGENT}\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        let name = authority(&self.host, self.port);
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.flush())
            .map_err(|error| broken(&name, deadline, &error))?;
        let mut incoming = Incoming::new(stream, &name, deadline);
        let answer = incoming.head()?;
        if !(200..300).contains(&answer.status) {
            return Err(self.refusal(answer.status));
        }
        // The server speaks only when it is spoken to: nothing can be there yet.
        if !incoming.is_drained() {
            return Err(NetworkError::Protocol {
                host: name.clone(),
                reason: "there is more in its answer to CONNECT than a head".into(),
            });
        }
        Ok(())
    }

    /// What a status of the proxy's own means.
    pub fn refusal(&self, status: u16) -> NetworkError {
        NetworkError::Proxy {
            proxy: authority(&self.host, self.port),
            reason: match (status, &self.authorization) {
                (407, None) => "it wants a user and a password (status 407); give them in its \
                                URL, as in http://user:password@proxy:3128"
                    .into(),
                (407, Some(_)) => "it does not take the user and password (status 407)".into(),
                (403, _) => "it does not allow this host (status 403)".into(),
                (status, _) => format!("it makes no connection to this host (status {status})"),
            },
        }
    }
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    Network {
        address: IpAddr,
        bits: u32,
    },
    Address(IpAddr, Option<u16>),
    /// Of a name and what is below it, or with `only_below` of that alone.
    Domain {
        name: String,
        only_below: bool,
        port: Option<u16>,
    },
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network { address, bits });
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address, None));
        }
        let (host, port) = host_and_port(text).ok()?;
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.to_ascii_lowercase();
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(&host).trim_end_matches('.').to_owned();
        (!name.is_empty()).then_some(Self::Domain {
            only_below: below.is_some(),
            name,
            port,
        })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network { address: net, bits } => {
                address.is_some_and(|address| is_within(address, *net, *bits))
            }
            Self::Address(its, its_port) => {
                address == Some(*its) && its_port.is_none_or(|it| it == port)
            }
            Self::Domain {
                name,
                only_below,
                port: its_port,
            } => {
                let is_below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                (is_below || (!only_below && host == name)) && its_port.is_none_or(|it| it == port)
            }
        }
    }
}

fn is_within(address: IpAddr, net: IpAddr, bits: u32) -> bool {
    let number = |address: Ipv4Addr| u128::from(u32::from(address)) << 96;
    let (one, other) = match (address.to_canonical(), net) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (number(one), number(other)),
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one), u128::from(other)),
        _ => return false,
    };
    bits == 0 || (one ^ other) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_through(exceptions: &str, host: &str, port: u16) -> bool {
        let variables = Variables::default()
            .with("HTTPS_PROXY", "proxy:3128")
            .with("NO_PROXY", exceptions);
        let proxies = Proxies::new(&variables);
        proxies.for_host(true, host, port).unwrap().is_some()
    }

    #[test]
    fn exceptions_are_domains_suffixes_addresses_networks_ports_and_all() {
        for (exceptions, host, expected) in [
            ("", "a.example", true),
            ("a.example", "a.example", false),
            ("a.example", "A.Example.", false),
            ("a.example", "b.a.example", false),
            ("a.example", "ba.example", true),
            (".example", "a.example", false),
            (".a.example", "a.example", true),
            ("*.a.example", "b.a.example", false),
            ("x, a.example:443 ,y", "a.example", false),
            ("a.example:80", "a.example", true),
            ("10.0.0.0/8", "10.255.0.1", false),
            ("10.0.0.0/8", "11.0.0.1", true),
            ("0.0.0.0/0", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", false),
            ("10.0.0.1:443", "10.0.0.1", false),
            ("10.0.0.1:80", "10.0.0.1", true),
            ("fd00::/16", "fd00:ec2::254", false),
            ("[fd00::1]:443", "fd00::1", false),
            ("fd00::1", "fd00::2", true),
            ("10.0.0.0/40,/8,x/y,,:", "10.0.0.1", true),
            ("*", "a.example", false),
            ("", "localhost", false),
            ("", "127.0.0.9", false),
            ("", "::1", false),
        ] {
            assert_eq!(
                goes_through(exceptions, host, 443),
                expected,
                "{exceptions} {host}"
            );
        }
    }

    #[test]
    fn upper_case_comes_first_and_http_has_a_proxy_of_its_own() {
        let variables = Variables::default()
            .with("https_proxy", "http://lower:1")
            .with("HTTPS_PROXY", "http://upper:2");
        let proxies = Proxies::new(&variables);
        let proxy = proxies.for_host(true, "a.example", 443).unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("upper", 2));
        assert!(proxies.for_host(false, "a.example", 80).unwrap().is_none());
    }

    #[test]
    fn a_value_that_is_no_proxy_is_an_error_without_its_password() {
        for value in ["http://u:s3cr3t@proxy:x", "socks5://u:s3cr3t@proxy"] {
            let proxies = Proxies::new(&Variables::default().with("HTTPS_PROXY", value));
            let error = proxies.for_host(true, "a.example", 443).err().unwrap();
            let text = error.to_string();
            assert!(text.starts_with("the proxy HTTPS_PROXY refuses"), "{text}");
            assert!(!format!("{text}{error:?}{proxies:?}").contains("s3cr3t"));
        }
    }
}
