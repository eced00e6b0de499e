//! The NodeConfig: model, decoding, checks.

pub mod model;

use std::fmt;

/// A problem in a NodeConfig, for a person to mend. Its text never holds a value
/// that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line in the document, from 1; 0 when the problem is about the whole.
    pub line: usize,
    /// Column in characters, from 1; 0 when the problem is about the whole.
    pub column: usize,
    /// Path of the field, such as `spec.cluster.name`; may be empty.
    pub field: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(formatter, "line {}, column {}: ", self.line, self.column)?;
        }
        formatter.write_str(&self.message)
    }
}
