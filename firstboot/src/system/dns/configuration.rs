//! `/etc/hosts` and `/etc/resolv.conf` (hosts(5), resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Most servers that are asked, as in the C library.
const MOST_SERVERS: usize = 3;
/// Most domains that are tried behind a name.
const MOST_DOMAINS: usize = 6;

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Servers, in their order.
    pub servers: Vec<SocketAddr>,
    /// Domains that are tried behind a name.
    pub search: Vec<String>,
    /// How many dots a name has to have to be tried by itself first.
    pub dots: usize,
    /// How long a server is waited for.
    pub timeout: Duration,
    /// How often each server is asked.
    pub attempts: u32,
}

/// Reads `/etc/resolv.conf`. Lines that are not understood are passed over, as the C
/// library does. Without a server it is the machine itself.
pub fn configuration(text: &str, port: u16) -> Configuration {
    let mut read = Configuration {
        servers: Vec::new(),
        search: Vec::new(),
        dots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") if read.servers.len() < MOST_SERVERS => {
                let server = words.next().and_then(|word| server(word, port));
                read.servers.extend(server);
            }
            // The last of them holds.
            Some("search" | "domain") => {
                read.search = words.take(MOST_DOMAINS).map(ToOwned::to_owned).collect();
            }
            Some("options") => words.for_each(|word| option(&mut read, word)),
            _ => {}
        }
    }
    if read.servers.is_empty() {
        read.servers.push((Ipv4Addr::LOCALHOST, port).into());
    }
    read
}

fn option(read: &mut Configuration, word: &str) {
    let Some((name, value)) = word.split_once(':') else {
        return;
    };
    let Ok(value) = value.parse::<u32>() else {
        return;
    };
    match name {
        "ndots" => read.dots = value.min(15) as usize,
        "timeout" => read.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
        "attempts" => read.attempts = value.clamp(1, 5),
        _ => {}
    }
}

/// An address, with its interface's number for one that is local to a link.
fn server(word: &str, port: u16) -> Option<SocketAddr> {
    if let Some((address, scope)) = word.split_once('%') {
        let scope = scope.parse().ok().or_else(|| interface(scope))?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(SocketAddrV6::new(address, port, 0, scope).into());
    }
    Some(SocketAddr::new(word.parse().ok()?, port))
}

/// The number of an interface, by its name.
fn interface(name: &str) -> Option<u32> {
    if name.contains('/') {
        return None;
    }
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    text.trim().parse().ok()
}

/// The addresses that `/etc/hosts` gives a name; what it does not say of `localhost`
/// is known (RFC 6761, 6.3).
pub fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect();
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

/// The names that are asked for, in order.
pub fn candidates(configuration: &Configuration, name: &str) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let itself = std::iter::once(name.to_owned());
    let searched = configuration
        .search
        .iter()
        .map(|domain| domain.trim_matches('.'))
        .filter(|domain| !domain.is_empty())
        .map(|domain| format!("{name}.{domain}"));
    if name.matches('.').count() >= configuration.dots {
        itself.chain(searched).collect()
    } else {
        searched.chain(itself).collect()
    }
}
