//! Who may ask: access keys, and whom they speak for.

use serde::{Deserialize, Serialize};

/// An access key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// `AKIA…`, or `ASIA…` of temporary credentials.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// What temporary credentials have to be sent with.
    #[serde(default)]
    pub session_token: Option<String>,
    /// ARN of whom they speak for.
    pub principal: String,
    /// Unique identifier of that, such as `AROA…:session`.
    pub user_id: String,
    /// When they end, in seconds since 1970; never if it is missing.
    #[serde(default)]
    pub expires: Option<i64>,
}

// By hand: it is a secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("access_key_id", &self.access_key_id)
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
