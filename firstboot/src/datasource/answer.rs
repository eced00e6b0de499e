//! What one source gives.

use std::io;

use super::Document;
use crate::node_config::{DecodeError, decode};

/// What one source gives.
#[derive(Debug)]
pub(super) enum Answer {
    /// A NodeConfig, or what is for nothing else.
    Config {
        origin: String,
        documents: Vec<Document>,
    },
    /// Nothing for us, and why.
    Nothing(String),
    /// It is there, but cannot be used: lower case, no full stop.
    Unusable {
        problem: String,
        hint: String,
        /// Whether it may mend itself.
        may_pass: bool,
    },
}

impl Answer {
    /// Something for a person to mend.
    pub fn unusable(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unusable {
            problem: problem.into(),
            hint: hint.into(),
            may_pass: false,
        }
    }

    /// Something that may work when it is tried again.
    pub fn not_now(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unusable {
            problem: problem.into(),
            hint: hint.into(),
            may_pass: true,
        }
    }

    /// Takes user data, if there is a NodeConfig in it.
    pub fn user_data(origin: String, bytes: Vec<u8>) -> Self {
        match decode(&bytes) {
            Ok(_) => Self::only(origin, bytes),
            Err(DecodeError::NoNodeConfig(seen)) => {
                Self::Nothing(format!("{origin}: no NodeConfig in it: {seen}"))
            }
            Err(error) => Self::unusable(format!("{origin}: {error}"), "mend or remove it"),
        }
    }

    /// One document, whatever it holds.
    pub fn only(origin: String, bytes: Vec<u8>) -> Self {
        let documents = vec![Document {
            origin: origin.clone(),
            bytes,
        }];
        Self::Config { origin, documents }
    }

    /// A file or volume that cannot be read.
    pub fn unreadable(origin: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return Self::too_large(origin);
        }
        Self::unusable(
            format!("{origin} cannot be read: {error}"),
            "mend or remove it",
        )
    }

    /// More than user data may be.
    pub fn too_large(origin: &str) -> Self {
        Self::unusable(
            format!("{origin} is larger than 16 MiB"),
            "a NodeConfig is some kilobytes; move the rest elsewhere",
        )
    }
}
