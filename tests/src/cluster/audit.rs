//! The audit log: who did what, as the API server saw it.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// A request that was answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `create`, `get`, `watch`, …
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who asked.
    pub user: User,
    /// The object that it was about, as the log has it: `resource`, `name`, `subresource`, …
    #[serde(default)]
    pub object_ref: Value,
    /// The answer, as the log has it: `code`, `reason`, …
    #[serde(default)]
    pub response_status: Value,
}

/// Who asked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct User {
    /// Name; none where a token was refused.
    #[serde(default)]
    pub username: String,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What the authenticator added, such as `arn`.
    #[serde(default)]
    pub extra: Value,
}

impl Event {
    /// Whether somebody did this to an object and was answered with a status.
    pub fn is(&self, user: &str, verb: &str, object: (&str, &str), status: u16) -> bool {
        self.user.username == user
            && self.verb == verb
            && self.object_ref["resource"] == object.0
            && self.object_ref["name"] == object.1
            && self.response_status["code"] == status
    }
}

/// Reads a log: an event each line.
pub(super) fn read(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).expect("the audit log can be read");
    // The last line may be one that is being written.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{error}: {line}"))
        })
        .collect()
}
