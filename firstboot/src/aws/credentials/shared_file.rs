//! Credentials in a file that programs of AWS share: the SSM agent keeps one fresh.

use super::{Credentials, CredentialsError, Source, checked, ini};
use crate::system::Files;

/// A profile of a credentials file.
#[allow(missing_debug_implementations)] // Holds a trait.
pub struct SharedFile<'a> {
    /// Where files are read.
    pub files: &'a dyn Files,
    /// Such as `/root/.aws/credentials`.
    pub path: String,
    /// Such as `default`.
    pub profile: String,
}

impl Source for SharedFile<'_> {
    fn name(&self) -> String {
        format!("profile {} of {}", self.profile, self.path)
    }

    fn find(&self) -> Result<Option<Credentials>, CredentialsError> {
        let origin = self.name();
        let read = self.files.read(&self.path, ini::LONGEST);
        let Some(bytes) =
            read.map_err(|error| CredentialsError::lasting(&origin, error.to_string()))?
        else {
            return Ok(None);
        };
        let Some(settings) = ini::profile(&String::from_utf8_lossy(&bytes), &self.profile) else {
            return Ok(None);
        };
        let value = |name| ini::setting(&settings, name);
        let (id, secret) = (value("aws_access_key_id"), value("aws_secret_access_key"));
        if id.is_none() && secret.is_none() {
            return Ok(None);
        }
        checked(&origin, id, secret, value("aws_session_token"), None).map(Some)
    }
}
