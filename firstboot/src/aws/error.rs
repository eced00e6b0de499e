//! What an error of AWS means to whoever has to mend it.

use std::time::SystemTime;

use super::credentials::CredentialsError;
use super::{time, xml};
use crate::system::{NetworkError, Response, rfc3339};

/// Longest text of a service's own that is repeated, in characters.
const LONGEST: usize = 400;

/// Why a call did not give what it was made for. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// There is nothing to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No answer came.
    #[error("calling {operation}")]
    Network {
        /// Such as `eks:DescribeCluster`.
        operation: &'static str,
        /// Why.
        source: NetworkError,
    },
    /// The service says no.
    #[error("{operation} was refused: {code}: {message}")]
    Refused {
        /// Such as `eks:DescribeCluster`.
        operation: &'static str,
        /// The service's own code, such as `AccessDeniedException`, or the status.
        code: String,
        /// The service's own words, on one line.
        message: String,
        /// What can be done about it.
        hint: Option<String>,
        /// Whether it may work later.
        is_transient: bool,
    },
    /// The answer is not what was asked for.
    #[error("the answer to {operation} {reason}")]
    Answer {
        /// Such as `eks:DescribeCluster`.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for is there and cannot be used.
    #[error("{reason}")]
    Unusable {
        /// What it is and what is wrong with it.
        reason: String,
        /// What can be done about it.
        hint: &'static str,
        /// Whether waiting may help.
        is_transient: bool,
    },
}

impl AwsError {
    /// Whether it may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_transient(),
            Self::Network { source, .. } => super::retry::may_pass(source),
            Self::Refused { is_transient, .. } | Self::Unusable { is_transient, .. } => {
                *is_transient
            }
            Self::Answer { .. } => false,
        }
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "ResourceNotFoundException")
    }

    /// Whether the node's role may not ask this.
    pub fn is_denied(&self) -> bool {
        const CODES: [&str; 3] = [
            "AccessDenied",
            "AccessDeniedException",
            "UnauthorizedOperation",
        ];
        matches!(self, Self::Refused { code, .. } if CODES.contains(&code.as_str()))
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Credentials(CredentialsError::Nowhere { .. }) => {
                Some("the node needs a role: see spec.hybrid, or the instance's profile".into())
            }
            Self::Network { source, .. } => network_hint(source).map(ToOwned::to_owned),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Credentials(CredentialsError::Session { hint, .. })
            | Self::Unusable { hint, .. } => Some((*hint).to_owned()),
            Self::Credentials(error) if error.is_transient() => Some(
                "the service that gives credentials has to be reachable: look at name servers, \
                 routes and firewalls, and at the proxy if one is set"
                    .into(),
            ),
            Self::Credentials(CredentialsError::Source { .. }) => Some(
                "look at the certificate, its trust anchor, profile and role, or at the \
                 registration with SSM"
                    .into(),
            ),
            Self::Answer { .. } => None,
        }
    }

    pub(super) fn answer(operation: &'static str, reason: impl Into<String>) -> Self {
        Self::Answer {
            operation,
            reason: reason.into(),
        }
    }
}

fn network_hint(error: &NetworkError) -> Option<&'static str> {
    Some(match error {
        NetworkError::Name { .. } => {
            "check the DNS servers in /etc/resolv.conf, and the region's name"
        }
        NetworkError::Connection { .. } | NetworkError::Deadline { .. } => {
            "the node has to reach the service over port 443: directly, by a VPC endpoint, or by \
             the proxy that HTTPS_PROXY names"
        }
        NetworkError::Proxy { .. } => "check HTTPS_PROXY and NO_PROXY",
        NetworkError::Tls { .. } => {
            "where a proxy opens TLS, put its authority into /etc/nodekiln/ca.pem; check the clock"
        }
        NetworkError::TooLarge { .. } | NetworkError::Protocol { .. } => return None,
    })
}

/// What a call was about, for the hints.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Such as `eks:DescribeCluster`.
    pub operation: &'static str,
    /// The region.
    pub region: &'a str,
    /// What was asked for, such as `cluster blue`.
    pub subject: &'a str,
}

/// Reads an answer that is no success.
pub fn refused(answer: &Response, about: About<'_>, now: SystemTime) -> AwsError {
    let (code, message) = code_and_message(answer);
    let code = code.unwrap_or_else(|| format!("status {}", answer.status));
    AwsError::Refused {
        operation: about.operation,
        hint: hint(&code, &message, answer, about, now),
        is_transient: is_transient(&code, answer.status),
        message,
        code,
    }
}

/// Codes of a service that is busy (the SDKs' "standard" retry mode).
pub(super) fn is_transient(code: &str, status: u16) -> bool {
    const BUSY: [&str; 12] = [
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "InternalError",
        "InternalFailure",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    ];
    status >= 500 || status == 429 || code.starts_with("Throttl") || BUSY.contains(&code)
}

fn hint(
    code: &str,
    message: &str,
    answer: &Response,
    about: About<'_>,
    now: SystemTime,
) -> Option<String> {
    let text = match code {
        "ExpiredToken" | "ExpiredTokenException" => {
            "the node's credentials have expired: see whether what renews them still runs, and \
             whether the clock is right"
                .to_owned()
        }
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => skew(answer, now),
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "AuthFailure"
            if message.contains("expired")
                || message.contains("not yet current")
                || message.contains("timestamp") =>
        {
            skew(answer, now)
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            "the secret access key is not that of the access key ID".to_owned()
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "AuthFailure" => format!(
            "the credentials are not known in {}: they are of another partition, deleted, or of \
             a region that the account has not turned on",
            about.region
        ),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            format!("the node's role must be allowed {}", about.operation)
        }
        "ResourceNotFoundException" => format!(
            "there is no {} in {} for this account: check spec.cluster.name and \
             spec.cluster.region",
            about.subject, about.region
        ),
        _ => return None,
    };
    Some(text)
}

/// The clocks of both sides.
fn skew(answer: &Response, now: SystemTime) -> String {
    let here = rfc3339(now);
    match answer.header("date").and_then(time::parse_http) {
        Some(there) => format!(
            "this machine's clock says {here}, the service's says {}: set the clock (chrony, \
             systemd-timesyncd)",
            rfc3339(there)
        ),
        None => format!("this machine's clock says {here}: set the clock"),
    }
}

fn code_and_message(answer: &Response) -> (Option<String>, String) {
    let header = answer.header("x-amzn-errortype").map(ToOwned::to_owned);
    let (code, message) = match serde_json::from_slice::<serde_json::Value>(&answer.body) {
        Ok(body) => {
            let text = |names: &[&str]| {
                let found = names.iter().find_map(|name| body.get(name)?.as_str());
                found.map(ToOwned::to_owned)
            };
            (
                text(&["__type", "code", "Code"]),
                text(&["message", "Message"]),
            )
        }
        Err(_) => xml::error(&answer.body).unwrap_or_default(),
    };
    let code = header.or(code).map(|code| {
        // `namespace#Code` and `Code:http://...`.
        let code = code.split(':').next().unwrap_or_default();
        one_line(code.rsplit('#').next().unwrap_or_default(), 80)
    });
    let message = message.unwrap_or_default();
    // What follows repeats the headers of the request, the session token among them.
    let message = message
        .split("The Canonical String")
        .next()
        .unwrap_or_default();
    let message = one_line(message, LONGEST);
    let message = if message.is_empty() {
        "(no message)".into()
    } else {
        message
    };
    (code.filter(|code| !code.is_empty()), message)
}

/// Foreign text on one line.
fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars()
        .filter(|it| !it.is_control())
        .take(most)
        .collect()
}
