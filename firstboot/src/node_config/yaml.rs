//! YAML text to a tree that keeps what serde loses: the place of every node and
//! the spelling of every scalar.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{MAXIMUM_TEXT, Problem, scalar};

/// Deepest nesting of mappings and sequences.
const MAXIMUM_DEPTH: usize = 64;
/// Longest key of a mapping, in bytes.
const MAXIMUM_KEY: usize = 1024;
/// Most nodes of all documents of a text, aliases counted as what they stand for.
const MAXIMUM_NODES: usize = 100_000;
/// Most bytes of all scalars of a text, aliases counted as what they stand for.
const MAXIMUM_SCALAR_BYTES: usize = 4 << 20;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A scalar in its original spelling.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Whether its type is told by its spelling: not quoted, no `!!str`.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in their order; each key once.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The spelling of a scalar; empty for the others.
    pub fn text(&self) -> &str {
        match &self.value {
            Value::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// What a node costs when an alias repeats it.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A mapping or sequence whose end was not seen yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
    cost: Cost,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Cost)>,
    spent: Cost,
    documents: Vec<Node>,
    problems: Vec<Problem>,
}

/// Reads all documents of a text; empty ones are left out.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Vec<Problem>> {
    if text.len() > MAXIMUM_TEXT {
        return Err(vec![
            Problem::new("", "the text is larger than 1 MiB")
                .with_hint("a NodeConfig is some kilobytes; is this the right file?"),
        ]);
    }
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAXIMUM_DEPTH,
        block_nesting_limit: MAXIMUM_DEPTH,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => builder.take(event, span.start),
            Err(error) => Err(problem(*error.marker(), error.info())),
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            break;
        }
    }
    if builder.problems.is_empty() {
        Ok(builder.documents)
    } else {
        Err(builder.problems)
    }
}

fn problem(marker: Marker, message: impl Into<String>) -> Problem {
    Problem {
        line: marker.line(),
        column: marker.col() + 1,
        ..Problem::new("", message)
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, marker: Marker) -> Result<(), Problem> {
        let at = |value| Node {
            line: marker.line(),
            column: marker.col() + 1,
            value,
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_text_tag(tag.as_deref());
                known_tag(tag.as_deref(), marker)?;
                let cost = Cost {
                    nodes: 1,
                    bytes: text.len(),
                    depth: 0,
                };
                self.spend(cost, marker)?;
                let node = at(Value::Scalar {
                    text: text.into_owned(),
                    plain,
                });
                self.close(node, anchor, cost, marker)
            }
            Event::SequenceStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), marker)?;
                self.begin(at(Value::Sequence(Vec::new())), anchor, marker)
            }
            Event::MappingStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), marker)?;
                self.begin(at(Value::Mapping(Vec::new())), anchor, marker)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(mut open) => {
                    if let Value::Mapping(entries) = &mut open.node.value {
                        expand_merge_keys(entries)?;
                        self.problems.extend(repeated_keys(entries));
                    }
                    self.close(open.node, open.anchor, open.cost, marker)
                }
                None => Ok(()),
            },
            Event::Alias(id) => {
                let Some((node, cost)) = self.anchors.get(&id).cloned() else {
                    return Err(problem(marker, "an alias stands within what it repeats"));
                };
                self.spend(cost, marker)?;
                if self.open.len() + cost.depth > MAXIMUM_DEPTH {
                    return Err(too_deep(marker));
                }
                // Problems are shown where the alias stands: that is what the reader looks for.
                self.close(
                    Node {
                        line: marker.line(),
                        column: marker.col() + 1,
                        ..node
                    },
                    0,
                    cost,
                    marker,
                )
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn spend(&mut self, cost: Cost, marker: Marker) -> Result<(), Problem> {
        self.spent.nodes += cost.nodes;
        self.spent.bytes += cost.bytes;
        if self.spent.nodes > MAXIMUM_NODES || self.spent.bytes > MAXIMUM_SCALAR_BYTES {
            return Err(problem(
                marker,
                "there are too many values (an alias counts as what it stands for)",
            ));
        }
        Ok(())
    }

    fn begin(&mut self, node: Node, anchor: usize, marker: Marker) -> Result<(), Problem> {
        let cost = Cost {
            nodes: 1,
            bytes: 0,
            depth: 1,
        };
        self.spend(cost, marker)?;
        if self.open.len() >= MAXIMUM_DEPTH {
            return Err(too_deep(marker));
        }
        self.open.push(Open {
            node,
            anchor,
            key: None,
            cost,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn close(
        &mut self,
        node: Node,
        anchor: usize,
        cost: Cost,
        marker: Marker,
    ) -> Result<(), Problem> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), cost));
            self.spend(cost, marker)?;
        }
        let Some(parent) = self.open.last_mut() else {
            if !is_blank(&node) {
                self.documents.push(node);
            }
            return Ok(());
        };
        parent.cost.nodes += cost.nodes;
        parent.cost.bytes += cost.bytes;
        parent.cost.depth = parent.cost.depth.max(cost.depth + 1);
        match &mut parent.node.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(entries) => match parent.key.take() {
                None => {
                    if !matches!(node.value, Value::Scalar { .. }) {
                        return Err(problem_at(&node, "a key must be text"));
                    }
                    if node.text().len() > MAXIMUM_KEY {
                        return Err(problem_at(&node, "a key is longer than 1024 bytes"));
                    }
                    parent.key = Some(node);
                }
                Some(key) => entries.push((key, node)),
            },
            Value::Scalar { .. } => {}
        }
        Ok(())
    }
}

/// Replaces `<<: *other` by the entries of the other mapping that are not given.
fn expand_merge_keys(entries: &mut Vec<(Node, Node)>) -> Result<(), Problem> {
    let is_merge =
        |key: &Node| matches!(&key.value, Value::Scalar { text, plain: true } if text == "<<");
    if !entries.iter().any(|(key, _)| is_merge(key)) {
        return Ok(());
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = std::mem::take(entries)
        .into_iter()
        .partition(|(key, _)| is_merge(key));
    let mut given: HashSet<String> = own.iter().map(|(key, _)| key.text().to_owned()).collect();
    for (_, value) in merges {
        let sources = match value.value {
            Value::Sequence(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Value::Mapping(inherited) = source.value else {
                return Err(problem_at(
                    &source,
                    "`<<` takes a mapping or a list of mappings",
                ));
            };
            for (key, value) in inherited {
                if given.insert(key.text().to_owned()) {
                    own.push((key, value));
                }
            }
        }
    }
    *entries = own;
    Ok(())
}

/// Which keys stand twice; only the first of each is kept. The key itself is not
/// repeated in the message, for a misplaced secret may have become one.
fn repeated_keys(entries: &mut Vec<(Node, Node)>) -> Vec<Problem> {
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut problems = Vec::new();
    entries.retain(|(key, _)| match lines.entry(key.text().to_owned()) {
        Entry::Vacant(place) => {
            place.insert(key.line);
            true
        }
        Entry::Occupied(place) => {
            let message = format!("this key was already given in line {}", place.get());
            problems.push(problem_at(key, message).with_hint("keep one of the two"));
            false
        }
    });
    problems
}

fn too_deep(marker: Marker) -> Problem {
    problem(
        marker,
        format!("mappings and lists are nested deeper than {MAXIMUM_DEPTH}"),
    )
}

/// A problem at the place of a node.
pub(super) fn problem_at(node: &Node, message: impl Into<String>) -> Problem {
    Problem {
        line: node.line,
        column: node.column,
        ..Problem::new("", message)
    }
}

fn is_text_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}

fn known_tag(tag: Option<&Tag>, marker: Marker) -> Result<(), Problem> {
    match tag {
        Some(tag) if tag.is_custom() => Err(problem(
            marker,
            "only YAML's own tags (such as !!str) are supported",
        )),
        _ => Ok(()),
    }
}

fn is_blank(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if scalar::is_null(text))
}
