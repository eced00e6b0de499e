//! Credentials in the environment.

use super::{Credentials, CredentialsError, Source, checked};
use crate::system::Variables;

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
#[derive(Debug, Clone, Copy)]
pub struct Environment<'a> {
    /// The environment.
    pub variables: &'a Variables,
}

impl Source for Environment<'_> {
    fn name(&self) -> String {
        "the environment".into()
    }

    fn find(&self) -> Result<Option<Credentials>, CredentialsError> {
        let value = |name: &str| self.variables.get(name).map(ToOwned::to_owned);
        let id = value("AWS_ACCESS_KEY_ID");
        let secret = value("AWS_SECRET_ACCESS_KEY");
        if id.is_none() && secret.is_none() {
            return Ok(None);
        }
        checked(&self.name(), id, secret, value("AWS_SESSION_TOKEN"), None).map(Some)
    }
}
