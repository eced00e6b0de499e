//! Where credentials come from: one file a source, and the chain that asks them in
//! order.

mod container;
mod environment;
mod ini;
mod instance;
mod process;
mod session;
mod shared_file;

use std::fmt;
use std::time::{Duration, SystemTime};

pub use container::Container;
pub use environment::Environment;
pub use instance::InstanceRole;
pub use process::Process;
pub use session::{SessionRefusal, told};
pub use shared_file::SharedFile;

use crate::system::NetworkError;

/// What requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Such as `AKIDEXAMPLE`; no secret.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// Temporary ones have it.
    pub session_token: Option<String>,
    /// Until when they are good, where the source says.
    pub expires: Option<SystemTime>,
}

// By hand: only the identifier is no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a source that is there gives no credentials. Never holds what it gave.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialsError {
    /// A source is set up, and fails.
    #[error("{origin} gives no credentials: {reason}")]
    Source {
        /// Which one, such as `profile default of /etc/aws/hybrid/config`.
        origin: String,
        /// Why.
        reason: String,
        /// Whether it may work later.
        is_transient: bool,
    },
    /// IAM Roles Anywhere gives the node's certificate no session.
    #[error("IAM Roles Anywhere gives no session: {reason}")]
    Session {
        /// Its own words.
        reason: String,
        /// What can be done about it.
        hint: &'static str,
        /// Whether it may work later.
        is_transient: bool,
    },
    /// No source is set up.
    #[error("there are no AWS credentials (asked: {asked})")]
    Nowhere {
        /// Which were asked.
        asked: String,
    },
}

impl CredentialsError {
    fn lasting(origin: &str, reason: impl Into<String>) -> Self {
        Self::Source {
            origin: origin.into(),
            reason: reason.into(),
            is_transient: false,
        }
    }

    fn network(origin: &str, error: &NetworkError) -> Self {
        Self::Source {
            origin: origin.into(),
            reason: error.to_string(),
            is_transient: super::retry::may_pass(error),
        }
    }

    fn status(origin: &str, status: u16) -> Self {
        Self::Source {
            origin: origin.into(),
            reason: format!("it answers with status {status}"),
            is_transient: status == 429 || status >= 500,
        }
    }

    /// Whether it may work later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Source {
                is_transient: true,
                ..
            } | Self::Session {
                is_transient: true,
                ..
            }
        )
    }
}

/// A source of credentials.
pub trait Source {
    /// What it is called in messages.
    fn name(&self) -> String;
    /// The credentials; `None` when the source is not set up on this machine.
    fn find(&self) -> Result<Option<Credentials>, CredentialsError>;
}

/// Asks sources in order. The first that is set up decides: that it fails is an
/// error, and not a reason to act as somebody else.
pub fn find(sources: &[&dyn Source], now: SystemTime) -> Result<Credentials, CredentialsError> {
    for source in sources {
        let Some(credentials) = source.find()? else {
            continue;
        };
        if credentials.expires.is_some_and(|expires| expires <= now) {
            let origin = source.name();
            return Err(CredentialsError::Source {
                origin,
                reason: "they have expired, or the clock of this machine is wrong".into(),
                is_transient: true,
            });
        }
        return Ok(credentials);
    }
    let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
    Err(CredentialsError::Nowhere {
        asked: names.join(", "),
    })
}

/// Keys become part of headers: nothing may be in them that ends one.
fn checked(
    origin: &str,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expires: Option<SystemTime>,
) -> Result<Credentials, CredentialsError> {
    let missing = |what: &str| CredentialsError::lasting(origin, format!("it has no {what}"));
    let credentials = Credentials {
        access_key_id: access_key_id.ok_or_else(|| missing("access key ID"))?,
        secret_access_key: secret_access_key.ok_or_else(|| missing("secret access key"))?,
        session_token: session_token.filter(|token| !token.is_empty()),
        expires,
    };
    let is_sound = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
    if is_sound(&credentials.access_key_id)
        && is_sound(&credentials.secret_access_key)
        && credentials.session_token.as_deref().is_none_or(is_sound)
    {
        Ok(credentials)
    } else {
        Err(CredentialsError::lasting(
            origin,
            "its keys hold characters that no key has",
        ))
    }
}

/// What programs and services answer, in JSON.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    version: Option<u32>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    access_key_id: Option<String>,
    #[serde(default)]
    secret_access_key: Option<String>,
    #[serde(default, alias = "Token")]
    session_token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

impl Answer {
    /// Never says what was read: it is a secret, or may be.
    fn read(origin: &str, bytes: &[u8]) -> Result<Self, CredentialsError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            CredentialsError::lasting(origin, format!("its answer is no JSON of keys ({place})"))
        })
    }

    fn credentials(self, origin: &str) -> Result<Credentials, CredentialsError> {
        let expires =
            match self.expiration.as_deref() {
                None => None,
                Some(text) => Some(super::time::parse(text).ok_or_else(|| {
                    CredentialsError::lasting(origin, "their expiration is no time")
                })?),
            };
        checked(
            origin,
            self.access_key_id,
            self.secret_access_key,
            self.session_token,
            expires,
        )
    }
}

/// Time for one request to a service on the machine or its link.
const NEAR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
