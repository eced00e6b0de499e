//! The JSON schema of a profile, made from the model.
//!
//! There are two of it. The plain one says what a profile is after its templates
//! are rendered; the loader checks by it. The published one also lets a template
//! stand for any boolean, number or choice, since it is for editors, which see
//! the text before.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::model::Profile;

/// `$id` of the published schema.
pub const SCHEMA_ID: &str = "https://nodekiln.dev/schema/v1alpha1/image-profile.json";

/// What a template looks like, as a regular expression.
const TEMPLATE: &str = r"\{[{%#]";

/// The JSON schema (draft 2020-12) for editors and other tools.
pub fn schema() -> Value {
    let mut schema = plain();
    let metadata = schema
        .get_mut("$defs")
        .and_then(Value::as_object_mut)
        .map(|definitions| {
            for (name, definition) in definitions.iter_mut() {
                // Templates are for `spec` alone.
                if name != "Metadata" && name != "Text" {
                    let nameable = definition.get("oneOf").or(definition.get("enum")).is_some();
                    admit_templates(definition, nameable);
                }
            }
        });
    debug_assert!(metadata.is_some(), "the model has definitions");
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!(SCHEMA_ID));
        root.insert("title".to_owned(), json!("nodekiln image profile"));
    }
    schema
}

/// The schema of a rendered profile.
pub(super) fn plain() -> Value {
    let mut value = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Profile>()
        .to_value();
    let fixed = [
        ("apiVersion", super::model::API_VERSION),
        ("kind", super::model::KIND),
    ];
    for (key, only) in fixed {
        if let Some(property) = value.pointer_mut(&format!("/properties/{key}")) {
            property["const"] = json!(only);
        }
    }
    // A map with an enumeration as its key: schemars has no word for that.
    if let Some(components) = value.pointer_mut("/$defs/Kubernetes/properties/components") {
        let names: Vec<&str> = crate::catalog::ALL.iter().map(|part| part.label).collect();
        components["propertyNames"] = json!({ "enum": names });
    }
    value
}

/// Wraps what a template may stand for, all the way down.
fn admit_templates(schema: &mut Value, is_choice: bool) {
    let scalar = matches!(
        schema.get("type").and_then(Value::as_str),
        Some("boolean" | "integer" | "number")
    );
    let optional_number = schema
        .get("type")
        .and_then(Value::as_array)
        .is_some_and(|types| {
            types
                .iter()
                .any(|kind| kind == "integer" || kind == "boolean")
        });
    if scalar || optional_number || is_choice {
        let mut outer = serde_json::Map::new();
        let mut inner = schema.take();
        if let Some(inner) = inner.as_object_mut() {
            for key in ["description", "default", "title"] {
                if let Some(text) = inner.remove(key) {
                    outer.insert(key.to_owned(), text);
                }
            }
        }
        outer.insert(
            "anyOf".to_owned(),
            json!([inner, { "type": "string", "pattern": TEMPLATE }]),
        );
        *schema = Value::Object(outer);
        return;
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            admit_templates(property, false);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(part) = schema.get_mut(key).filter(|part| part.is_object()) {
            admit_templates(part, false);
        }
    }
}

/// A text that may be written as a YAML number or boolean, without quotes.
#[derive(Debug)]
pub struct Text;

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// `amd64` and `aarch64` are read too; serde's aliases do not reach the schema by
/// themselves.
pub(super) fn add_architecture_aliases(schema: &mut Schema) {
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        for (alias, name) in [("amd64", "x86_64"), ("aarch64", "arm64")] {
            choices.push(json!({
                "description": format!("The same as `{name}`."),
                "type": "string",
                "const": alias,
            }));
        }
    }
}
