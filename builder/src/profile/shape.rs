//! Compares a tree with the schema and makes JSON of it.
//!
//! serde would stop at the first difference; this walk finds all of them, each
//! with its place, what was expected and the nearest right word.

use serde_json::{Map, Value as Json};

use super::nearest::nearest;
use super::tree::{Entry, Kind, Node, Position, Scalar, Source, Value, shortened};
use crate::error::Error;

/// The JSON of `node`, or every way in which it differs from `schema`.
///
/// # Errors
/// At least one problem, in the order of the text.
pub(super) fn shape(node: &Node, schema: &Json, source: &Source) -> Result<Json, Vec<Error>> {
    let mut walk = Walk {
        root: schema,
        source,
        path: Vec::new(),
        problems: Vec::new(),
    };
    let value = walk.value(node, schema, Position::START);
    if walk.problems.is_empty() {
        Ok(value)
    } else {
        Err(walk.problems)
    }
}

struct Walk<'a> {
    root: &'a Json,
    source: &'a Source,
    path: Vec<String>,
    problems: Vec<Error>,
}

impl<'a> Walk<'a> {
    /// `owner` is the place of the key: what points at a value that is not there.
    fn value(&mut self, node: &Node, schema: &'a Json, owner: Position) -> Json {
        let described = schema;
        if matches!(node.value, Value::Null) {
            if !allows(schema, "null") {
                self.wrong(node, described, owner);
            }
            return Json::Null;
        }
        let schema = self.resolve(schema);
        if let Some(choices) = choices(schema) {
            return self.choice(node, described, &choices, owner);
        }
        match &node.value {
            Value::Mapping(entries) if allows(schema, "object") => {
                self.mapping(entries, schema, owner)
            }
            Value::Sequence(items) if allows(schema, "array") => {
                let part = schema.get("items").unwrap_or(&Json::Null);
                let values = items.iter().enumerate().map(|(index, item)| {
                    self.path.push(index.to_string());
                    let value = self.value(item, part, item.position);
                    self.path.pop();
                    value
                });
                Json::Array(values.collect())
            }
            Value::Scalar(scalar) => self.scalar(node, scalar, described, owner),
            _ => self.wrong(node, described, owner),
        }
    }

    /// Follows references and takes the one alternative that is not `null`.
    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        loop {
            let next = if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
                name.strip_prefix('#')
                    .and_then(|path| self.root.pointer(path))
            } else {
                schema
                    .get("anyOf")
                    .and_then(Json::as_array)
                    .and_then(|parts| parts.iter().find(|part| part.get("$ref").is_some()))
            };
            match next {
                Some(next) => schema = next,
                None => return schema,
            }
        }
    }

    fn mapping(&mut self, entries: &[Entry], schema: &'a Json, owner: Position) -> Json {
        let no_properties = Map::new();
        let properties = schema
            .get("properties")
            .and_then(Json::as_object)
            .unwrap_or(&no_properties);
        let others = schema
            .get("additionalProperties")
            .filter(|part| part.is_object());
        let names = schema
            .pointer("/propertyNames/enum")
            .and_then(Json::as_array);
        let mut object = Map::new();
        for entry in entries {
            let part = schema
                .get("properties")
                .and_then(|properties| properties.get(&entry.key))
                .or(others);
            let named = names.is_none_or(|names| names.iter().any(|name| *name == entry.key));
            let Some(part) = part.filter(|_| named) else {
                let known: Vec<&str> = match names {
                    Some(names) => names.iter().filter_map(Json::as_str).collect(),
                    None => properties.keys().map(String::as_str).collect(),
                };
                self.unknown(entry, &known);
                continue;
            };
            self.path.push(entry.key.clone());
            let value = self.value(&entry.value, part, entry.key_position);
            self.path.pop();
            object.insert(entry.key.clone(), value);
        }
        let required = schema.get("required").and_then(Json::as_array);
        for key in required.into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|entry| entry.key == key) {
                let message = format!("the key '{key}' is missing in {}", self.here());
                let hint = match properties.get(key).map(|part| self.description(part)) {
                    Some(text) if !text.is_empty() => format!("add `{key}:` ({text})"),
                    _ => format!("add `{key}:`"),
                };
                self.report(owner, message, hint);
            }
        }
        Json::Object(object)
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        let message = format!("unknown key '{}' in {}", shortened(&entry.key), self.here());
        let hint = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("the keys here are: {}", known.join(", ")),
        };
        self.report(entry.key_position, message, hint);
    }

    fn choice(
        &mut self,
        node: &Node,
        schema: &'a Json,
        choices: &[&'a str],
        owner: Position,
    ) -> Json {
        let Value::Scalar(scalar) = &node.value else {
            return self.wrong(node, schema, owner);
        };
        if choices.contains(&scalar.text.as_str()) {
            return Json::String(scalar.text.clone());
        }
        let message = format!(
            "'{}' is no possible value of {}",
            shortened(&scalar.text),
            self.here()
        );
        let list = choices.join(", ");
        let hint = match nearest(&scalar.text, choices.iter().copied()) {
            Some(near) if choices.len() > 1 => {
                format!("did you mean '{near}'? choose one of: {list}")
            }
            _ if choices.len() == 1 => format!("write {list}"),
            _ => format!("choose one of: {list}"),
        };
        self.report(node.position, message, hint);
        Json::Null
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, schema: &'a Json, owner: Position) -> Json {
        let described = schema;
        // A template can take a value away.
        if scalar.kind == Kind::Rendered && scalar.text.is_empty() && allows(described, "null") {
            return Json::Null;
        }
        let schema = self.resolve(schema);
        if allows(schema, "string") {
            return Json::String(scalar.text.clone());
        }
        if allows(schema, "boolean") && matches!(scalar.kind, Kind::Boolean | Kind::Rendered) {
            match scalar.text.to_ascii_lowercase().as_str() {
                "true" => return Json::Bool(true),
                "false" => return Json::Bool(false),
                _ => {}
            }
        }
        let number = matches!(scalar.kind, Kind::Number | Kind::Rendered);
        if allows(schema, "integer")
            && number
            && let Ok(number) = scalar.text.parse::<u32>()
        {
            return Json::from(number);
        }
        self.wrong(node, described, owner)
    }

    fn wrong(&mut self, node: &Node, described: &'a Json, owner: Position) -> Json {
        let schema = self.resolve(described);
        let expected = [
            ("object", "a mapping (`key: value` lines)"),
            ("array", "a list (`- value` lines)"),
            ("boolean", "true or false, without quotes"),
            ("integer", "a whole number, without quotes"),
            ("string", "a text"),
        ];
        let expected = match choices(schema) {
            Some(choices) => format!("one of {}", choices.join(", ")),
            None => expected
                .iter()
                .find(|(kind, _)| allows(schema, kind))
                .map_or("another value", |(_, text)| text)
                .to_owned(),
        };
        let (position, message) = match &node.value {
            Value::Null => (owner, format!("{} has no value", self.here())),
            Value::Scalar(_) => (
                node.position,
                format!("{} is {}", self.here(), node.describe()),
            ),
            _ => (owner, format!("{} is {}", self.here(), node.describe())),
        };
        let about = self.description(described);
        let hint = if about.is_empty() {
            format!("write {expected}")
        } else {
            format!("write {expected} ({about})")
        };
        self.report(position, message, hint);
        Json::Null
    }

    /// The first sentence of what the schema says about a value.
    fn description(&self, schema: &'a Json) -> String {
        let text = schema
            .get("description")
            .or_else(|| self.resolve(schema).get("description"))
            .and_then(Json::as_str)
            .unwrap_or_default()
            .replace('\n', " ");
        let end = [". ", ": ", "; "]
            .iter()
            .filter_map(|mark| text.find(mark))
            .min()
            .unwrap_or(text.len());
        let sentence = text[..end].trim_end_matches('.');
        let mut letters = sentence.chars();
        match letters.next() {
            Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
                first.to_lowercase().chain(letters).collect()
            }
            _ => sentence.to_owned(),
        }
    }

    fn here(&self) -> String {
        if self.path.is_empty() {
            "the profile".to_owned()
        } else {
            shortened(&self.path.join("."))
        }
    }

    fn report(&mut self, position: Position, message: String, hint: String) {
        self.problems.push(
            Error::input(message)
                .at(self.source.place(position))
                .hint(hint),
        );
    }
}

fn allows(schema: &Json, kind: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(only)) => only == kind,
        Some(Json::Array(several)) => several.iter().any(|one| one == kind),
        _ => schema
            .get("anyOf")
            .and_then(Json::as_array)
            .is_some_and(|parts| parts.iter().any(|part| allows(part, kind))),
    }
}

/// The values of an enumeration.
fn choices(schema: &Json) -> Option<Vec<&str>> {
    if let Some(only) = schema.get("const").and_then(Json::as_str) {
        return Some(vec![only]);
    }
    if let Some(values) = schema.get("enum").and_then(Json::as_array) {
        return Some(values.iter().filter_map(Json::as_str).collect());
    }
    let parts = schema.get("oneOf").and_then(Json::as_array)?;
    let values = parts
        .iter()
        .flat_map(|part| choices(part).unwrap_or_default());
    Some(values.collect())
}
