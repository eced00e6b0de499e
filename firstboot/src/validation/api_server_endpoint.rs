//! `api-server-endpoint-resolution-validation`: the cluster's API has an address
//! and takes connections.

use std::time::Duration;

use super::{Finding, Subject};
use crate::system::{self, NetworkError};

/// For the name, and for the connection.
const LIMIT: Duration = Duration::from_secs(5);

/// For all tries.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if !subject.is_hybrid() {
        return Ok(Finding::skipped("only for hybrid nodes"));
    }
    if subject.config.spec.cluster.api_server_endpoint.is_empty() {
        return Ok(Finding::skipped("the cluster's endpoint is not known"));
    }
    let Some((host, port)) = host_and_port(&subject.config.spec.cluster.api_server_endpoint) else {
        return Ok(Finding::failed(
            "spec.cluster.apiServerEndpoint is no URL",
            "give the endpoint as `aws eks describe-cluster` shows it",
        ));
    };
    Ok(match reach(subject, &host, port) {
        Ok(()) => Finding::ok(format!("{host}:{port} takes connections")),
        Err(error) => unreached(&error),
    })
}

/// Resolves and connects, again and again while it may still work.
pub(super) fn reach(subject: &Subject<'_>, host: &str, port: u16) -> Result<(), NetworkError> {
    let until = subject.system.elapsed() + subject.at_most(PATIENCE);
    let mut pause = Duration::from_secs(1);
    loop {
        let tried = subject.system.connect(host, port, subject.at_most(LIMIT));
        let over = subject.system.elapsed() + pause >= until;
        match tried {
            Err(
                NetworkError::Connection { .. }
                | NetworkError::Deadline { .. }
                | NetworkError::Name { .. },
            ) if !over => {}
            tried => return tried,
        }
        subject.system.pause(pause);
        pause *= 2;
    }
}

/// What a host that is not reached means.
pub(super) fn unreached(error: &NetworkError) -> Finding {
    let hint = match error {
        NetworkError::Name { .. } => {
            "look at the machine's name servers, and at private DNS of the endpoint"
        }
        NetworkError::Proxy { .. } => "let the proxy pass it, or name the host in NO_PROXY",
        _ => "look at routes, firewalls and security groups on the way, and at the proxy",
    };
    Finding::failed_for_now(error.to_string(), hint)
}

/// Host, without the brackets of an IPv6 address, and port of a URL.
pub(super) fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = url.trim();
    let (rest, usual) = match url.strip_prefix("https://") {
        Some(rest) => (rest, 443),
        None => (url.strip_prefix("http://")?, 80),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => usual,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    (!host.is_empty() && !host.contains(odd)).then(|| (host.to_owned(), port))
}
