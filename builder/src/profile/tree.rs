//! The text of a profile as a tree whose every node knows its place.
//!
//! Scalars keep the text that the user wrote (`1.30` stays `1.30`), since the
//! profile's model decides what a value is, not the shape of its letters.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::error::{Error, Place, Result};

/// Bytes of a profile that are read at most.
pub const SIZE_LIMIT: usize = 1 << 20;
/// Nested collections at most.
const DEPTH_LIMIT: usize = 32;
/// Mappings, sequences and scalars at most, aliases expanded.
const NODE_LIMIT: usize = 50_000;

/// Line and column, from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value at its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub position: Position,
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// Text, and what YAML would take it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub text: String,
    pub kind: Kind,
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Number,
    Text,
    /// Came out of a template: its text may stand for a boolean or a number.
    Rendered,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_position: Position,
    pub value: Node,
}

impl Node {
    /// The entry with `key`, if this is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// As [`Node::entry`], to change it.
    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        match &mut self.value {
            Value::Mapping(entries) => entries.iter_mut().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The position of the value at `path` (keys and indices); of the nearest
    /// thing above it that is there, when it is not.
    pub(super) fn position_of(&self, path: &[String]) -> Position {
        let mut position = self.position;
        let mut node = self;
        for step in path {
            let next = match &node.value {
                Value::Mapping(_) => node.entry(step).map(|entry| {
                    position = entry.key_position;
                    &entry.value
                }),
                Value::Sequence(items) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => None,
            };
            let Some(next) = next else { return position };
            // A collection's own position is that of its first item; the key says
            // more.
            if matches!(next.value, Value::Scalar(_)) || matches!(node.value, Value::Sequence(_)) {
                position = next.position;
            }
            node = next;
        }
        position
    }

    /// What it is, for messages.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) => {
                let kind = match scalar.kind {
                    Kind::Boolean => "the boolean",
                    Kind::Number => "the number",
                    Kind::Text | Kind::Rendered => "the text",
                };
                format!("{kind} '{}'", shortened(&scalar.text))
            }
        }
    }
}

/// Long or multi-line values, cut for a message.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > LONGEST || line.len() < text.trim_end().len() {
        let cut: String = line.chars().take(LONGEST).collect();
        format!("{}…", printable(&cut))
    } else {
        printable(line)
    }
}

/// A line that can be shown on a terminal: escape sequences lose their effect.
fn printable(line: &str) -> String {
    line.chars()
        .map(|letter| match letter {
            '\t' => ' ',
            letter if letter.is_control() => '\u{fffd}',
            letter => letter,
        })
        .collect()
}

/// A text with its name: makes places for errors.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub file: String,
    pub text: String,
}

impl Source {
    /// The place in the form that errors carry.
    pub(super) fn place(&self, position: Position) -> Place {
        let source = self
            .text
            .lines()
            .nth(position.line.saturating_sub(1))
            .unwrap_or_default();
        // Somebody may have pasted the wrong half of a key pair.
        let shown = if source.contains("PRIVATE KEY") {
            "(a private key, not shown)".to_owned()
        } else {
            printable(source.trim_end_matches('\r'))
        };
        Place {
            file: self.file.clone(),
            line: position.line.max(1),
            column: position.column.max(1),
            source: shown,
        }
    }

    /// Reads the YAML.
    ///
    /// # Errors
    /// [`crate::Class::Input`] for a text that is too long, nests too deep,
    /// expands too far, is no YAML, repeats a key or is no single document.
    pub(super) fn read(&self) -> Result<Node> {
        if self.text.len() > SIZE_LIMIT {
            return Err(too_long(&self.file));
        }
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_depth: DEPTH_LIMIT,
                flow_nesting_limit: DEPTH_LIMIT,
                max_nodes: NODE_LIMIT,
                max_events: 3 * NODE_LIMIT,
                max_anchors: 1_000,
                max_aliases: 1_000,
                max_documents: 2,
                max_merge_keys: 1_000,
                max_recorded_anchor_events: 4 * NODE_LIMIT,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: NODE_LIMIT,
                max_replay_stack_depth: 16,
            },
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
            non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
            strict_booleans: true,
            with_snippet: false,
        };
        let raw: Spanned<RawValue> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| self.refused(error.without_snippet()))?;
        Ok(settle(raw, text))
    }

    fn refused(&self, error: &serde_saphyr::Error) -> Error {
        use serde_saphyr::Error as Yaml;
        let position = error.location().map_or(Position::START, position_of);
        let (message, hint) = match error {
            Yaml::DuplicateMappingKey { key, .. } => (
                match key {
                    Some(key) => format!("the key '{}' stands here twice", shortened(key)),
                    None => "a key stands here twice".to_owned(),
                },
                "keep one of the two",
            ),
            Yaml::MultipleDocuments { .. } => (
                "the file holds more than one document".to_owned(),
                "keep one profile in a file: remove the lines `---` between documents",
            ),
            Yaml::UnknownAnchor { .. } => (
                "this alias names an anchor that is not defined above it".to_owned(),
                "define it with &NAME, or quote the value if it is meant to begin with *",
            ),
            Yaml::AliasReplayLimitExceeded { .. }
            | Yaml::AliasExpansionLimitExceeded { .. }
            | Yaml::AliasReplayStackDepthExceeded { .. }
            | Yaml::AliasReplayCounterOverflow { .. }
            | Yaml::RecursiveReferencesRequireWeakTypes { .. } => (
                "the aliases expand to more than a profile may hold".to_owned(),
                "write the values out instead of nesting aliases",
            ),
            Yaml::Budget { .. } => (
                format!(
                    "the text passes a limit: {DEPTH_LIMIT} levels, {NODE_LIMIT} values, one \
                     document, few aliases"
                ),
                "write the profile without deep nesting, long lists or aliases of aliases",
            ),
            Yaml::AliasError { error, .. } => return self.refused(error.without_snippet()),
            _ => (
                format!("read the YAML: {}", plain_message(error)),
                "check the indentation, quotes and colons of this line and the one above it",
            ),
        };
        Error::input(message).at(self.place(position)).hint(hint)
    }
}

/// The error for a file of more than [`SIZE_LIMIT`] bytes.
pub(super) fn too_long(file: &str) -> Error {
    Error::input(format!(
        "read {file}: it is longer than {} MiB",
        SIZE_LIMIT >> 20
    ))
    .hint("a profile is a short text; is this the right file?")
}

/// The parser's message without the position, which the place already tells.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = [" at line ", " (at line ", ": line "]
        .iter()
        .filter_map(|mark| line.find(mark))
        .min()
        .unwrap_or(line.len());
    line[..end]
        .trim_start_matches("YAML parse error: ")
        .to_owned()
}

fn position_of(location: serde_saphyr::Location) -> Position {
    let clamp = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    Position {
        line: clamp(location.line()),
        column: clamp(location.column()),
    }
}

/// Values as the reader gives them, before their source text is looked up.
enum RawValue {
    Null,
    Boolean(bool),
    Number(String),
    Text(String),
    Sequence(Vec<Spanned<RawValue>>),
    Mapping(Vec<(Spanned<String>, Spanned<RawValue>)>),
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping, a list or a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawValue::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Mapping(entries))
    }
}

/// Gives every scalar the text that stands in the source.
fn settle(raw: Spanned<RawValue>, source: &str) -> Node {
    let location = raw.defined;
    let written = || {
        let span = location.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        let text = source.get(start..start.checked_add(length)?)?.trim_end();
        // An explicit tag (`!!int "5"`) is no plain scalar.
        (!text.is_empty() && !text.starts_with(['!', '"', '\'', '&', '*', '|', '>']))
            .then(|| text.to_owned())
    };
    let scalar = |text: String, kind: Kind| Value::Scalar(Scalar { text, kind });
    let value = match raw.value {
        RawValue::Null => Value::Null,
        RawValue::Boolean(value) => scalar(
            written().unwrap_or_else(|| value.to_string()),
            Kind::Boolean,
        ),
        RawValue::Number(value) => scalar(written().unwrap_or(value), Kind::Number),
        RawValue::Text(value) => scalar(value, Kind::Text),
        RawValue::Sequence(items) => {
            Value::Sequence(items.into_iter().map(|item| settle(item, source)).collect())
        }
        RawValue::Mapping(entries) => Value::Mapping(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_position: position_of(key.defined),
                    key: key.value,
                    value: settle(value, source),
                })
                .collect(),
        ),
    };
    Node {
        position: position_of(location),
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node> {
        Source {
            file: "p.yaml".to_owned(),
            text: text.to_owned(),
        }
        .read()
    }

    fn text_at<'a>(node: &'a Node, key: &str) -> &'a str {
        match &node.entry(key).expect(key).value.value {
            Value::Scalar(scalar) => &scalar.text,
            other => panic!("{key} is {other:?}"),
        }
    }

    #[test]
    fn keeps_what_was_written() {
        let node = read("a: 1.30\nb: 0644\nc: yes\nd: true # said\ne: 1_000\nf: \"x\\ty\"\ng: .nan\nh: 0x1F\ni: &n 7\nj: *n\n")
            .expect("reads");
        for (key, text) in [
            ("a", "1.30"),
            ("b", "0644"),
            ("c", "yes"),
            ("d", "true"),
            ("e", "1_000"),
            ("f", "x\ty"),
            ("g", ".nan"),
            ("h", "0x1F"),
            ("i", "7"),
            ("j", "7"),
        ] {
            assert_eq!(text_at(&node, key), text, "{key}");
        }
    }

    #[test]
    fn knows_places() {
        let node = read("a:\n  - x\n  - b: é\n    cc: 1\n").expect("reads");
        let path = |steps: &[&str]| -> Vec<String> {
            steps.iter().map(|step| (*step).to_owned()).collect()
        };
        let at = |steps: &[&str]| {
            let position = node.position_of(&path(steps));
            (position.line, position.column)
        };
        assert_eq!(at(&["a"]), (1, 1));
        assert_eq!(at(&["a", "0"]), (2, 5));
        assert_eq!(at(&["a", "1", "cc"]), (4, 9));
        assert_eq!(at(&["a", "1", "absent"]), (3, 5));
        assert_eq!(at(&["nothing"]), (1, 1));
    }

    #[test]
    fn refuses_what_could_hurt() {
        let deep = "a: ".to_owned() + &"[".repeat(200) + &"]".repeat(200);
        let levels = (1..10).map(|level| {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            format!("a{level}: &a{level} [{alias}]\n")
        });
        let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
            .chain(levels)
            .collect();
        for (text, line, word) in [
            ("a: 1\nb: 2\na: 3\n", 3, "twice"),
            ("a: 1\n---\nb: 2\n", 3, "document"),
            ("a: *b\n", 1, "anchor"),
            ("a: [1, 2\nb: 3\n", 2, "YAML"),
            ("a:\n\t- b\n", 2, "YAML"),
            (deep.as_str(), 1, "limit"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.message().contains(word), "{text:?}: {error}");
            assert!(error.hint_text().is_some());
            let place = error.place().expect("place");
            assert_eq!(place.line, line, "{text:?}: {error}");
        }
        let error = read(&bomb).expect_err("bomb");
        assert!(error.place().is_some());
        let long = "a: b\n".repeat(SIZE_LIMIT / 5 + 1);
        assert!(read(&long).expect_err("long").message().contains("1 MiB"));
    }
}
