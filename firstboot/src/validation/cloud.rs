//! AWS, as checks ask it.

/// Why AWS did not answer a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// The service cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// There are no credentials, or AWS does not accept them.
    #[error("{0}")]
    Credentials(String),
    /// The role may not ask this.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The calls to AWS that checks need. No text in an error holds a secret.
pub trait Cloud: Sync {
    /// ARN of whom the node's credentials belong to (`sts:GetCallerIdentity`).
    fn caller(&self) -> Result<String, CloudError>;
    /// ARNs of all principals with access to the cluster (`eks:ListAccessEntries`).
    fn access_entries(&self) -> Result<Vec<String>, CloudError>;
}
