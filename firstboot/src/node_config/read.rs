//! From trees to one NodeConfig: names and types against the table of fields, all
//! problems at once, documents merged in their order.

use serde_json::{Map, Value as Json};

use super::check::not_toml;
use super::merge::merge;
use super::model::{API_VERSION, KIND};
use super::schema::{NODE_CONFIG, SECRET, Shape};
use super::yaml::{self, Node, Value, problem_at};
use super::{Parsed, Part, Position, Positions, Problem, scalar, suggest, toml};

/// Most problems that are told; nobody mends more at once.
const MAXIMUM_PROBLEMS: usize = 100;
/// Longest path whose place is kept, in bytes; names that a user makes up could
/// be of any length.
const MAXIMUM_PATH: usize = 256;
/// The one text whose documents are merged by what is in it.
const CONTAINERD: &str = "spec.containerd.config";

/// Reads and merges all documents of all parts.
pub(super) fn parse(parts: &[Part]) -> Result<Parsed, Vec<Problem>> {
    let mut merged: Option<Json> = None;
    let mut reader = Reader::default();
    let mut contained = 0;
    for part in parts {
        reader.origin.clone_from(&part.origin);
        let documents = match yaml::read(&part.text) {
            Ok(documents) => documents,
            Err(problems) => {
                for problem in problems {
                    reader.report(problem, "");
                }
                continue;
            }
        };
        contained += documents.len();
        for document in &documents {
            let value = reader.document(document);
            reader.note_text(&value);
            match &mut merged {
                None => merged = Some(value),
                Some(earlier) => merge(earlier, value, NODE_CONFIG),
            }
        }
    }
    if contained == 0 && reader.problems.is_empty() {
        reader.origin.clear();
        reader.report(
            Problem::new("", "the text is empty").with_hint(format!(
                "a NodeConfig begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`"
            )),
            "",
        );
    }
    let Some(mut merged) = merged else {
        return Err(reader.problems);
    };
    reader.merge_texts(&mut merged);
    if reader.untold > 0 {
        let message = format!("{} more problems are not shown", reader.untold);
        reader.problems.push(Problem::new("", message));
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    match serde_json::from_value(merged) {
        Ok(config) => Ok(Parsed {
            config,
            positions: reader.positions,
        }),
        // The table and the model would have to differ; the cause may hold a value, so it is left out.
        Err(_) => Err(vec![Problem::new(
            "",
            "the configuration does not fit its own model",
        )]),
    }
}

#[derive(Default)]
struct Reader {
    origin: String,
    positions: Positions,
    problems: Vec<Problem>,
    untold: usize,
    /// The containerd configurations of all documents.
    texts: Vec<(String, Position)>,
}

impl Reader {
    fn report(&mut self, problem: Problem, path: &str) {
        if self.problems.len() == MAXIMUM_PROBLEMS {
            self.untold += 1;
            return;
        }
        let field = if path.is_empty() {
            problem.field.clone()
        } else {
            path.to_owned()
        };
        self.problems.push(Problem {
            origin: self.origin.clone(),
            field,
            ..problem
        });
    }

    fn note(&mut self, path: &str, node: &Node) {
        if path.is_empty() || path.len() > MAXIMUM_PATH {
            return;
        }
        let position = Position {
            origin: self.origin.clone(),
            line: node.line,
            column: node.column,
        };
        self.positions.insert(path.to_owned(), position);
    }

    fn document(&mut self, node: &Node) -> Json {
        let Value::Mapping(entries) = &node.value else {
            let message = format!("a NodeConfig is a mapping, this is {}", kind_of(node));
            self.report(problem_at(node, message), "");
            return Json::Object(Map::new());
        };
        for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            let found = entries.iter().find(|(key, _)| key.text() == field);
            let problem = match found {
                Some((_, value)) if value.text() == wanted => continue,
                Some((_, value)) => problem_at(
                    value,
                    format!("{field} is `{}`, not `{wanted}`", shown(value.text())),
                ),
                None => problem_at(node, format!("{field} is missing"))
                    .with_hint(format!("write `{field}: {wanted}`")),
            };
            self.report(problem, field);
        }
        let mut value = self.read(node, NODE_CONFIG, "").unwrap_or_default();
        if let Json::Object(fields) = &mut value {
            fields
                .entry("spec")
                .or_insert_with(|| Json::Object(Map::new()));
        }
        value
    }

    /// The value of a node of a shape; `None` when nothing was given or it is wrong,
    /// which is reported.
    fn read(&mut self, node: &Node, shape: Shape, path: &str) -> Option<Json> {
        self.note(path, node);
        if let Value::Scalar { text, plain: true } = &node.value
            && scalar::is_null(text)
            && !matches!(shape, Shape::Flag | Shape::Variable)
        {
            return None;
        }
        match (shape, &node.value) {
            (Shape::Fields(fields), Value::Mapping(entries)) => {
                Some(self.fields(entries, fields, path))
            }
            (Shape::Named(inner), Value::Mapping(entries)) => {
                let mut values = Map::new();
                for (key, value) in entries {
                    if let Some(value) = self.read(value, *inner, &join(path, key.text())) {
                        values.insert(key.text().to_owned(), value);
                    }
                }
                Some(Json::Object(values))
            }
            (Shape::Document | Shape::Ignored, Value::Mapping(_)) => self.free(node, path),
            (Shape::Text | Shape::Variable, Value::Scalar { text, plain }) => {
                let text = if *plain && scalar::is_null(text) {
                    ""
                } else {
                    text
                };
                Some(Json::String(text.to_owned()))
            }
            (Shape::Switch | Shape::Flag, Value::Scalar { text, plain: true }) => {
                if scalar::is_null(text) {
                    return Some(Json::Bool(false));
                }
                let value = scalar::boolean(text);
                if value.is_none() {
                    self.wrong_type(node, shape, path);
                }
                value.map(Json::Bool)
            }
            (Shape::List | Shape::Appended, Value::Sequence(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let text = self.read(item, Shape::Variable, &format!("{path}[{index}]"));
                    texts.extend(text);
                }
                Some(Json::Array(texts))
            }
            _ => {
                self.wrong_type(node, shape, path);
                None
            }
        }
    }

    fn fields(
        &mut self,
        entries: &[(Node, Node)],
        fields: &'static [(&'static str, Shape)],
        path: &str,
    ) -> Json {
        let mut values = Map::new();
        for (key, value) in entries {
            let name = key.text();
            let Some((name, shape)) = fields.iter().find(|(field, _)| *field == name) else {
                self.unknown(key, fields, path);
                continue;
            };
            if let Some(value) = self.read(value, *shape, &join(path, name)) {
                values.insert((*name).to_owned(), value);
            }
        }
        Json::Object(values)
    }

    fn unknown(&mut self, key: &Node, fields: &[(&'static str, Shape)], path: &str) {
        let name = key.text();
        let meant = suggest::closest(name, fields.iter().map(|(field, _)| *field));
        let place = if path.is_empty() {
            "a NodeConfig".to_owned()
        } else {
            format!("`{path}`")
        };
        let hint = match (meant, path, name) {
            (_, "", "status") => "`status` is written by nodeadm itself; remove it".to_owned(),
            (Some(meant), _, _) => format!("did you mean `{meant}`?"),
            _ => {
                let known: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        // A code that lost its key would be shown as an unknown name.
        let secret = path == SECRET && meant.is_none();
        let message = if secret {
            format!("unknown field in {place}")
        } else {
            format!("unknown field `{}` in {place}", shown(name))
        };
        let field = if secret {
            path.to_owned()
        } else {
            join(path, &shown(name))
        };
        self.report(problem_at(key, message).with_hint(hint), &field);
    }

    fn wrong_type(&mut self, node: &Node, shape: Shape, path: &str) {
        let wanted = match shape {
            Shape::Fields(_) | Shape::Named(_) | Shape::Document | Shape::Ignored => "a mapping",
            Shape::Text | Shape::Variable => "text",
            Shape::Switch | Shape::Flag => "true or false",
            Shape::List | Shape::Appended => "a list of texts",
        };
        let message = format!("`{path}` takes {wanted}, this is {}", kind_of(node));
        self.report(problem_at(node, message), path);
    }

    /// A free document as JSON; `path` is that of the whole document.
    fn free(&mut self, node: &Node, path: &str) -> Option<Json> {
        match &node.value {
            Value::Scalar { text, plain: false } => Some(Json::String(text.clone())),
            Value::Scalar { text, plain: true } => {
                let value = scalar::resolve(text);
                if value.is_none() {
                    let message = format!("a number in `{path}` is one that JSON cannot hold");
                    self.report(problem_at(node, message), path);
                }
                value
            }
            Value::Sequence(items) => Some(Json::Array(
                items
                    .iter()
                    .filter_map(|item| self.free(item, path))
                    .collect(),
            )),
            Value::Mapping(entries) => {
                let mut values = Map::new();
                for (key, value) in entries {
                    if let Some(value) = self.free(value, path) {
                        values.insert(key.text().to_owned(), value);
                    }
                }
                Some(Json::Object(values))
            }
        }
    }

    /// Remembers each containerd configuration and where it stands.
    fn note_text(&mut self, document: &Json) {
        let text = document
            .pointer("/spec/containerd/config")
            .and_then(Json::as_str)
            .unwrap_or("");
        if !text.is_empty() {
            let position = self.positions.get(CONTAINERD).cloned().unwrap_or_default();
            self.texts.push((text.to_owned(), position));
        }
    }

    /// For hybrid nodes a later containerd configuration replaces an earlier one; for
    /// EC2 nodes nodeadm merges them, table by table.
    fn merge_texts(&mut self, merged: &mut Json) {
        let texts = std::mem::take(&mut self.texts);
        if texts.len() < 2 || merged.pointer("/spec/hybrid").is_some() {
            return;
        }
        let mut whole = toml::Table::new();
        for (text, position) in texts {
            match toml::parse(&text) {
                Ok(table) => toml::merge(&mut whole, table),
                Err(error) => self
                    .problems
                    .push(not_toml(CONTAINERD, &error).at(&position)),
            }
        }
        if let Some(text) = merged.pointer_mut("/spec/containerd/config") {
            *text = Json::String(toml::write(&whole));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn kind_of(node: &Node) -> &'static str {
    match &node.value {
        Value::Mapping(_) => "a mapping",
        Value::Sequence(_) => "a list",
        Value::Scalar { plain: false, .. } => "text",
        Value::Scalar { text, .. } => match scalar::resolve(text) {
            Some(Json::Null) => "empty",
            Some(Json::Bool(_)) => "a boolean",
            Some(Json::String(_)) => "text",
            _ => "a number",
        },
    }
}

/// A word of the user as it may be shown: short, without control characters.
fn shown(word: &str) -> String {
    let mut text: String = word.chars().take(60).flat_map(char::escape_debug).collect();
    if word.chars().count() > 60 {
        text.push('…');
    }
    text
}
