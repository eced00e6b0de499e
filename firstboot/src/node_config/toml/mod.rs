//! TOML as trees: read with bounds, merged deeply, written in one canonical way.
//!
//! Numbers and dates keep their spelling, so that nothing is lost between reading
//! and writing. What is written is TOML 1.0, whatever newer spelling was read.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;

/// How deep tables and arrays may be nested. containerd's own go eight deep.
pub const DEEPEST: usize = 32;

/// A table: values by name.
pub type Table = BTreeMap<String, Item>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A string.
    Text(String),
    /// A number, boolean or date as it is written.
    Plain(String),
    /// A list.
    Array(Vec<Item>),
    /// A table.
    Table(Table),
}

/// Why a text is no TOML. Holds nothing of the text, which may hold passwords of
/// registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong: lower case, no full stop.
    pub problem: String,
}

impl fmt::Display for TomlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            problem,
        } = self;
        write!(formatter, "{problem} (line {line}, column {column})")
    }
}

impl std::error::Error for TomlError {}

/// Reads a text.
pub fn parse(text: &str) -> Result<Table, TomlError> {
    read::parse(text)
}

/// Writes a table: names sorted, values before tables, each table under a header.
pub fn write(table: &Table) -> String {
    write::document(table)
}

/// Lays a table over another: tables are merged, everything else is replaced.
pub fn merge(earlier: &mut Table, later: Table) {
    for (name, item) in later {
        match (earlier.get_mut(&name), item) {
            (Some(Item::Table(inner)), Item::Table(later)) => merge(inner, later),
            (_, item) => {
                earlier.insert(name, item);
            }
        }
    }
}

/// Two texts as one, the later laid over the earlier.
pub fn merge_texts(earlier: &str, later: &str) -> Result<String, TomlError> {
    let mut merged = parse(earlier)?;
    merge(&mut merged, parse(later)?);
    Ok(write(&merged))
}
