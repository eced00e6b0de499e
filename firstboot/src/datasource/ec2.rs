//! EC2's user data, by version 2 of the instance metadata service.

use super::Outside;
use super::answer::Answer;
use super::source::INSTANCE_METADATA;
use crate::aws::{Imds, ImdsError};
use crate::system::Variables;

/// Follows the name of the source.
const ORIGIN: &str = "from the instance metadata service";

pub(super) fn ask(outside: &dyn Outside, variables: &Variables) -> Answer {
    let service = Imds::new(outside, outside, variables).within(INSTANCE_METADATA);
    match service.user_data() {
        Ok(Some(bytes)) => Answer::user_data(ORIGIN.to_owned(), bytes),
        Ok(None) => Answer::Nothing("this instance has no user data".into()),
        Err(ImdsError::NoToken { status: 403 }) => {
            Answer::Nothing("the instance metadata service is turned off".into())
        }
        Err(ImdsError::Disabled) => Answer::Nothing(ImdsError::Disabled.to_string()),
        Err(error) => refused(&error),
    }
}

fn refused(error: &ImdsError) -> Answer {
    let hint = error
        .hint()
        .unwrap_or("find out what answers in the place of EC2's service");
    let problem = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    if error.is_transient() {
        Answer::not_now(problem, hint)
    } else {
        Answer::unusable(problem, hint)
    }
}

#[cfg(test)]
mod tests;
