//! The NodeConfig: model, decoding, merging, checks.
//!
//! The way of the data: [`decode`] takes user data as it was delivered (plain,
//! base64, gzip, MIME) to the texts of NodeConfigs; [`parse_parts`] reads and
//! merges them; [`with_defaults`] fills what was left out; [`check`] says what
//! is still wrong. [`load`] does all of reading in one go.

mod certificate;
mod check;
mod decode;
mod merge;
mod mime;
pub mod model;
mod node_name;
mod read;
mod scalar;
mod schema;
mod suggest;
pub mod toml;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;

pub use certificate::{Certificate, CertificateError, check_node_certificate, read_certificates};
pub use check::{check, with_defaults};
pub(crate) use decode::base64_lenient;
pub use decode::{DecodeError, Decoded, MAXIMUM_USER_DATA, Part, decode};
pub use model::NodeConfig;
pub use node_name::{
    LONGEST_NODE_NAME, NODE_NAME_TEMPLATES, TemplatePart, node_name_problem, template_parts,
};

/// The JSON schema (draft 2020-12) of a NodeConfig, for editors and other tools.
pub const JSON_SCHEMA: &str = include_str!("../../schema/nodeconfig.schema.json");

/// Largest text of one NodeConfig, in bytes.
pub const MAXIMUM_TEXT: usize = 1 << 20;

/// A problem in a NodeConfig, for a person to mend. Its text never holds a value
/// that may be secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where the text came from, when the configuration came in several; else
    /// empty.
    pub origin: String,
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

impl Problem {
    /// A problem without a place.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same problem at a place.
    #[must_use]
    pub fn at(mut self, position: &Position) -> Self {
        self.origin.clone_from(&position.origin);
        self.line = position.line;
        self.column = position.column;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.is_empty() {
            write!(formatter, "{}: ", self.origin)?;
        }
        if self.line > 0 {
            write!(formatter, "line {}, column {}: ", self.line, self.column)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Where a field stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Which text, when there are several; else empty.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Where each field that was given stands: by path, such as `spec.cluster.name`
/// or `spec.kubelet.flags[0]`.
pub type Positions = BTreeMap<String, Position>;

/// A NodeConfig that was read, and where its fields stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The configuration as written: no defaults are filled.
    pub config: NodeConfig,
    /// Where its fields stand; of a field given several times the last place.
    pub positions: Positions,
}

impl Parsed {
    /// What [`check`] finds in the configuration with its defaults, with places.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = check(&with_defaults(self.config.clone()));
        for problem in &mut problems {
            if let Some(position) = nearest(&self.positions, &problem.field) {
                *problem = std::mem::take(problem).at(position);
            }
        }
        problems.sort_by(|left, right| {
            (&left.origin, left.line, left.column).cmp(&(&right.origin, right.line, right.column))
        });
        problems
    }
}

/// The place of a field, or of the closest field around it that was given.
fn nearest<'a>(positions: &'a Positions, field: &str) -> Option<&'a Position> {
    let mut path = field;
    loop {
        if let Some(position) = positions.get(path) {
            return Some(position);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

/// Reads the text of a NodeConfig: YAML or JSON; several documents are merged in
/// their order.
///
/// # Errors
/// All problems that were found, with line and column.
pub fn parse(text: &str) -> Result<Parsed, Vec<Problem>> {
    read::parse(&[Part {
        origin: String::new(),
        text: text.to_owned(),
    }])
}

/// Reads several texts and merges them in their order, by nodeadm's rules.
///
/// # Errors
/// All problems that were found, with origin, line and column.
pub fn parse_parts(parts: &[Part]) -> Result<Parsed, Vec<Problem>> {
    read::parse(parts)
}

/// Decodes user data as delivered and reads the NodeConfigs in it.
///
/// # Errors
/// All problems that were found; one of them when there is no NodeConfig.
pub fn load(bytes: &[u8]) -> Result<Parsed, Vec<Problem>> {
    let decoded = decode(bytes).map_err(|error| vec![error.into()])?;
    parse_parts(&decoded.parts)
}

#[cfg(test)]
pub(crate) mod tests;
