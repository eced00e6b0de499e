//! The instance metadata service of EC2, version 2: a token first, then questions.
//! Version 1, which answers without a token, is never spoken.

use std::cell::{Cell, RefCell};
use std::net::Ipv6Addr;
use std::time::Duration;

use super::retry::{Budget, may_pass, retry};
use crate::system::{Clock, Network, NetworkError, Request, Response, Route, Variables};

/// Where the service is; IPv4 is asked first (EC2 user guide, "Access instance
/// metadata").
const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// How long a token is asked to live, in seconds; six hours are the most there is.
const TOKEN_LIFE: &str = "21600";
/// Longest token that is taken, in bytes. They have 56.
const LONGEST_TOKEN: usize = 1024;

/// Time for one request. The service is a few microseconds away; one that drops
/// packets, because the hop limit is too small, is noticed soon.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// Largest answer that is read. User data has at most 16 KiB, but what imitates the
/// service may give more.
const MOST: usize = 1 << 20;

/// Why the metadata service could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// `AWS_EC2_METADATA_DISABLED` is set.
    #[error("the instance metadata service is not to be used: AWS_EC2_METADATA_DISABLED is true")]
    Disabled,
    /// The override is no address that can be used.
    #[error("AWS_EC2_METADATA_SERVICE_ENDPOINT is {value:?}: {reason}")]
    Endpoint {
        /// What it says.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing answers as the metadata service.
    #[error("the instance metadata service does not answer")]
    Unreachable(#[source] NetworkError),
    /// Something answers in its place, and not as it would.
    #[error("what answers as the instance metadata service is none")]
    Imitation(#[source] NetworkError),
    /// It gives no token.
    #[error("the instance metadata service gives no token (status {status})")]
    NoToken {
        /// The status of its answer.
        status: u16,
    },
    /// It answers with an error.
    #[error("the instance metadata service answers {path} with status {status}")]
    Status {
        /// What it was asked for.
        path: String,
        /// The status of its answer.
        status: u16,
    },
    /// Its answer is not what was asked for.
    #[error("the instance metadata service gives no {what} at {path}")]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// The path.
        path: String,
    },
}

impl ImdsError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Disabled => "take AWS_EC2_METADATA_DISABLED out of the environment",
            Self::Endpoint { .. } => {
                "give an address such as http://169.254.169.254 or http://[fd00:ec2::254]"
            }
            Self::Unreachable(_) => {
                "on EC2: the instance's metadata options must enable the endpoint and have a \
                 hop limit of at least 1; elsewhere there is none"
            }
            Self::NoToken { status: 403 } => {
                "the instance's metadata options turn the service off (HttpEndpoint)"
            }
            Self::Imitation(_) => {
                "find out what listens at 169.254.169.254, or at \
                 AWS_EC2_METADATA_SERVICE_ENDPOINT"
            }
            Self::NoToken { .. } => "this is no metadata service of EC2, or not its version 2",
            Self::Status { .. } | Self::Answer { .. } => return None,
        })
    }

    /// Whether it may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(error) => may_pass(error),
            Self::NoToken { status } | Self::Status { status, .. } => is_busy(*status),
            Self::Disabled | Self::Endpoint { .. } | Self::Imitation(_) | Self::Answer { .. } => {
                false
            }
        }
    }
}

/// Too many requests, or out of order for now.
fn is_busy(status: u16) -> bool {
    status == 429 || status >= 500
}

/// A token, who gave it, and until when it is good by [`Clock::elapsed`].
#[derive(Clone)]
struct Session {
    endpoint: String,
    token: String,
    until: Duration,
}

/// The instance metadata service.
///
/// Everything is bounded: an answer has at most 1 MiB, a request two seconds, and
/// one question with all its attempts a minute, or what [`Imds::within`] says. It is
/// asked directly, whatever proxies are set. IPv4 is tried before IPv6, unless
/// `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another address or
/// `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` is `IPv6`; what answered first is kept.
/// A token is fetched when the first question is asked, and again when the service
/// refuses it (401) or it grew old. Statuses 429 and 5xx, silence and broken
/// connections are tried again; 404 is an absent thing, not an error.
#[allow(missing_debug_implementations)] // Holds two traits, and a token.
pub struct Imds<'a> {
    network: &'a dyn Network,
    clock: &'a dyn Clock,
    endpoints: Result<Vec<String>, Refusal>,
    budget: Cell<Budget>,
    session: RefCell<Option<Session>>,
}

/// Why there are no endpoints to ask.
enum Refusal {
    Disabled,
    Endpoint { value: String, reason: &'static str },
}

impl From<&Refusal> for ImdsError {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Disabled => Self::Disabled,
            Refusal::Endpoint { value, reason } => Self::Endpoint {
                value: value.clone(),
                reason,
            },
        }
    }
}

impl<'a> Imds<'a> {
    /// Asks nothing yet.
    pub fn new(network: &'a dyn Network, clock: &'a dyn Clock, variables: &Variables) -> Self {
        Self {
            network,
            clock,
            endpoints: endpoints(variables),
            budget: Cell::new(Budget::METADATA),
            session: RefCell::new(None),
        }
    }

    /// The same service, where one question with all its attempts may take this long:
    /// a few seconds to find out whether there is one at all.
    #[must_use]
    pub fn within(self, total: Duration) -> Self {
        self.set_budget(total);
        self
    }

    /// As [`Imds::within`], for the questions that follow; the token is kept.
    pub fn set_budget(&self, total: Duration) {
        self.budget.set(Budget::METADATA.within(total));
    }

    /// What lies at a path such as `/latest/user-data`; `None` when there is nothing.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ImdsError> {
        retry(
            self.clock,
            self.budget.get(),
            ImdsError::is_transient,
            |left| self.get_once(path, left),
        )
    }

    /// The same as text of one line, without blanks around it.
    pub fn line(&self, path: &str) -> Result<Option<String>, ImdsError> {
        let Some(bytes) = self.get(path)? else {
            return Ok(None);
        };
        let wrong = || ImdsError::Answer {
            what: "line of text",
            path: path.into(),
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(wrong());
        }
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// The user data, as it was given.
    pub fn user_data(&self) -> Result<Option<Vec<u8>>, ImdsError> {
        self.get("/latest/user-data")
    }

    /// What the instance is.
    pub fn identity(&self) -> Result<Identity, ImdsError> {
        let path = "/latest/dynamic/instance-identity/document";
        self.get(path)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or(ImdsError::Answer {
                what: "identity document",
                path: path.into(),
            })
    }

    /// The hardware address of the primary interface, such as `0a:1b:2c:3d:4e:5f`.
    pub fn mac(&self) -> Result<String, ImdsError> {
        let path = "/latest/meta-data/mac";
        self.line(path)?
            .filter(|mac| {
                mac.len() == 17 && mac.chars().all(|it| it == ':' || it.is_ascii_hexdigit())
            })
            .ok_or(ImdsError::Answer {
                what: "hardware address",
                path: path.into(),
            })
    }

    /// The primary IPv4 address; none on an instance that has IPv6 alone.
    pub fn local_ipv4(&self) -> Result<Option<std::net::Ipv4Addr>, ImdsError> {
        let path = "/latest/meta-data/local-ipv4";
        self.line(path)?
            .map(|line| {
                line.parse().map_err(|_| ImdsError::Answer {
                    what: "address",
                    path: path.into(),
                })
            })
            .transpose()
    }

    /// The first IPv6 address of the primary interface, if it has one.
    pub fn ipv6(&self) -> Result<Option<Ipv6Addr>, ImdsError> {
        let path = format!(
            "/latest/meta-data/network/interfaces/macs/{}/ipv6s",
            self.mac()?
        );
        let Some(bytes) = self.get(&path)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(first) = text.lines().map(str::trim).find(|line| !line.is_empty()) else {
            return Ok(None);
        };
        first.parse().map(Some).map_err(|_| ImdsError::Answer {
            what: "address",
            path,
        })
    }

    fn get_once(&self, path: &str, left: Duration) -> Result<Option<Vec<u8>>, ImdsError> {
        let deadline = self.clock.elapsed() + left;
        let mut is_renewed = false;
        loop {
            let session = self.session(deadline)?;
            let request = self
                .request("GET", &session.endpoint, path, deadline)
                .header(TOKEN, session.token);
            let answer = self.send(&request)?;
            return match answer.status {
                200 => Ok(Some(answer.body)),
                404 => Ok(None),
                // The token is not known, or not any more: the instance was stopped
                // and started, or its time is over.
                401 if !is_renewed => {
                    self.session.replace(None);
                    is_renewed = true;
                    continue;
                }
                status => Err(ImdsError::Status {
                    path: path.into(),
                    status,
                }),
            };
        }
    }

    /// The session that there is, or a new one from the first endpoint that answers.
    fn session(&self, deadline: Duration) -> Result<Session, ImdsError> {
        let now = self.clock.elapsed();
        if let Some(session) = &*self.session.borrow()
            && session.until > now
        {
            return Ok(session.clone());
        }
        let mut last = ImdsError::Disabled;
        for endpoint in self.endpoints.as_ref()? {
            match self.token(endpoint, deadline) {
                Ok(token) => {
                    // A minute early, so that none is sent in its last moment.
                    let life = Duration::from_secs(TOKEN_LIFE.parse().unwrap_or(60));
                    let session = Session {
                        endpoint: endpoint.clone(),
                        token,
                        until: now + life.saturating_sub(Duration::from_secs(60)),
                    };
                    self.session.replace(Some(session.clone()));
                    return Ok(session);
                }
                // What the first one says tells more, unless it cannot be reached.
                Err(error @ ImdsError::Unreachable(_)) => {
                    if matches!(last, ImdsError::Disabled) {
                        last = error;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn token(&self, endpoint: &str, deadline: Duration) -> Result<String, ImdsError> {
        let request = self
            .request("PUT", endpoint, TOKEN_PATH, deadline)
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE);
        let answer = self.send(&request)?;
        if answer.status != 200 {
            return Err(ImdsError::NoToken {
                status: answer.status,
            });
        }
        // It becomes part of a header: nothing may be in it that ends one.
        String::from_utf8(answer.body)
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|token| {
                (1..=LONGEST_TOKEN).contains(&token.len())
                    && token.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .ok_or(ImdsError::Answer {
                what: "token",
                path: TOKEN_PATH.into(),
            })
    }

    fn request(
        &self,
        method: &'static str,
        endpoint: &str,
        path: &str,
        deadline: Duration,
    ) -> Request {
        let left = deadline
            .saturating_sub(self.clock.elapsed())
            .max(Duration::from_millis(1));
        let mut request = Request::new(method, format!("{endpoint}{path}"));
        request.route = Route::Direct;
        request.limit = REQUEST_LIMIT.min(left);
        request.most = MOST;
        request
    }

    fn send(&self, request: &Request) -> Result<Response, ImdsError> {
        self.network.send(request).map_err(|error| match error {
            NetworkError::TooLarge { .. } | NetworkError::Protocol { .. } => {
                ImdsError::Imitation(error)
            }
            error => ImdsError::Unreachable(error),
        })
    }
}

/// The instance identity document, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Such as `i-0123456789abcdef0`.
    pub instance_id: String,
    /// Such as `m5.large`.
    pub instance_type: String,
    /// Such as `eu-central-1`.
    pub region: String,
    /// Such as `eu-central-1a`.
    pub availability_zone: String,
    /// Twelve digits.
    #[serde(default)]
    pub account_id: String,
    /// The primary IPv4 address, where there is one.
    #[serde(default)]
    pub private_ip: Option<String>,
}

fn endpoints(variables: &Variables) -> Result<Vec<String>, Refusal> {
    if variables.is_true("AWS_EC2_METADATA_DISABLED") {
        return Err(Refusal::Disabled);
    }
    if let Some(value) = variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        let refused = |reason| Refusal::Endpoint {
            value: value.into(),
            reason,
        };
        let host = value
            .strip_prefix("http://")
            .or_else(|| value.strip_prefix("https://"))
            .ok_or_else(|| refused("neither http nor https"))?;
        if host.is_empty() || host.contains(['?', '#', '@']) || host.contains(char::is_whitespace) {
            return Err(refused("no address of a service"));
        }
        return Ok(vec![value.trim_end_matches('/').to_owned()]);
    }
    let only_ipv6 = variables
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    Ok(if only_ipv6 {
        vec![IPV6.to_owned()]
    } else {
        vec![IPV4.to_owned(), IPV6.to_owned()]
    })
}

#[cfg(test)]
mod tests;
