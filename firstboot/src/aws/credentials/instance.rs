//! Credentials of the role of an EC2 instance, from the metadata service.

use super::{Answer, Credentials, CredentialsError, Source};
use crate::aws::imds::{Imds, ImdsError};

const ROLE: &str = "/latest/meta-data/iam/security-credentials/";

/// The instance's role.
#[allow(missing_debug_implementations)] // Holds traits.
pub struct InstanceRole<'a> {
    /// The metadata service.
    pub imds: &'a Imds<'a>,
}

fn failed(origin: &str, error: &ImdsError) -> CredentialsError {
    CredentialsError::Source {
        origin: origin.into(),
        reason: match error {
            ImdsError::Unreachable(source) | ImdsError::Imitation(source) => {
                format!("{error}: {source}")
            }
            _ => error.to_string(),
        },
        is_transient: error.is_transient(),
    }
}

impl Source for InstanceRole<'_> {
    fn name(&self) -> String {
        "the instance's role".into()
    }

    fn find(&self) -> Result<Option<Credentials>, CredentialsError> {
        let origin = self.name();
        let role = match self.imds.line(ROLE) {
            Ok(Some(role)) => role,
            // It has no role, or there is no such service to be used here.
            Ok(None) | Err(ImdsError::Disabled) => return Ok(None),
            Err(error) => return Err(failed(&origin, &error)),
        };
        if role.contains(['/', '?', '#', ' ']) {
            return Err(CredentialsError::lasting(
                &origin,
                "its name is none of a role",
            ));
        }
        let answer = self.imds.get(&format!("{ROLE}{role}"));
        let Some(bytes) = answer.map_err(|error| failed(&origin, &error))? else {
            // A role that was just attached has its credentials some seconds later.
            return Err(CredentialsError::Source {
                origin,
                reason: format!("role {role} has none yet"),
                is_transient: true,
            });
        };
        let answer = Answer::read(&origin, &bytes)?;
        match answer.code.as_deref() {
            None | Some("Success") => answer.credentials(&origin).map(Some),
            Some(code) => Err(CredentialsError::lasting(
                &origin,
                format!("the metadata service says {code:?} of role {role}"),
            )),
        }
    }
}
