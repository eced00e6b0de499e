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
    let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut);
    for (name, definition) in definitions.into_iter().flatten() {
        // Templates are for `spec` alone.
        if !matches!(name.as_str(), "Metadata" | "Text" | "Variable") {
            let is_choice = definition.get("oneOf").or(definition.get("enum")).is_some();
            admit_templates(definition, is_choice);
        }
    }
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

/// A [`Text`], or nothing when the command line is to give it.
#[derive(Debug)]
pub struct Variable;

impl JsonSchema for Variable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Variable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "null"] })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Overrides, parse};

    fn validator() -> jsonschema::Validator {
        jsonschema::validator_for(&schema()).expect("a valid schema")
    }

    fn json(text: &str) -> Value {
        serde_yaml::from_str(text).expect("YAML")
    }

    fn shipped() -> Vec<(String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("profiles")
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .collect();
        files.sort();
        assert!(files.len() >= 2);
        files
            .into_iter()
            .map(|path| {
                let text = std::fs::read_to_string(&path).expect("text");
                (path.display().to_string(), text)
            })
            .collect()
    }

    #[test]
    fn shipped_profiles_are_valid() {
        let validator = validator();
        for (name, text) in shipped() {
            let problems: Vec<String> = validator
                .iter_errors(&json(&text))
                .map(|error| error.to_string())
                .collect();
            assert!(problems.is_empty(), "{name}: {problems:?}");
            let words = ["components=/srv/components", "image=/srv/base.qcow2"];
            let words = words.into_iter().filter(|word| {
                let (variable, _) = word.split_once('=').expect("a variable");
                text.contains(&format!("--set {variable}="))
            });
            let overrides = Overrides::from_words(words).expect("words");
            parse(&text, &name, &overrides).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        }
    }

    #[test]
    fn the_demo_can_leave_components_out() {
        let (name, text) = shipped()
            .into_iter()
            .find(|(name, _)| name.contains("demo"))
            .expect("demo");
        let words = [
            "components=/c",
            "awssigninghelper=omit",
            "ecrcredentialprovider=omit",
        ];
        let overrides = Overrides::from_words(words).expect("words");
        let profile = parse(&text, &name, &overrides).expect("valid");
        let omitted: Vec<&str> = profile
            .spec
            .kubernetes
            .components
            .iter()
            .filter(|(_, source)| source.omit)
            .map(|(name, _)| crate::catalog::component(*name).label)
            .collect();
        assert_eq!(omitted, ["ecr-credential-provider", "aws-signing-helper"]);
    }

    #[test]
    fn broken_profiles_are_not() {
        let validator = validator();
        let good = "{apiVersion: nodekiln.dev/v1alpha1, kind: ImageProfile, metadata: {name: a}, \
                    spec: {base: {path: a}, credentialProvider: ssm, kubernetes: {version: 1.34.9, \
                    components: {runc: {omit: '{{ x }}'}}}, kernel: {sysctl: {a.b: 1}}}}";
        assert!(validator.is_valid(&json(good)));
        for (from, to) in [
            ("v1alpha1", "v1"),
            ("ImageProfile", "Pod"),
            ("name: a", "nmae: a"),
            ("metadata: {name: a}, ", ""),
            ("{path: a}", "{paht: a}"),
            ("{path: a}", "{path: 1}"),
            ("{path: a}", "a"),
            ("ssm", "smm"),
            ("runc", "runcc"),
            ("'{{ x }}'", "'x'"),
            ("a.b: 1", "a.b: [1]"),
            ("kernel", "kernal"),
        ] {
            assert!(good.contains(from), "{from}");
            let broken = good.replacen(from, to, 1);
            assert!(!validator.is_valid(&json(&broken)), "{to}");
            // The loader agrees, but for numbers: it takes their text.
            if to != "{path: 1}" {
                parse(&broken, "p.yaml", &Overrides::default()).expect_err(to);
            }
        }
    }

    #[test]
    fn every_key_is_described() {
        fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
            let Some(object) = schema.as_object() else {
                return;
            };
            let properties = object.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                if property.get("description").is_none() {
                    found.push(format!("{path}.{name}"));
                }
            }
            for (name, part) in object {
                undescribed(&format!("{path}.{name}"), part, found);
            }
        }
        let mut found = Vec::new();
        undescribed("", &schema(), &mut found);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(schema()["$id"], SCHEMA_ID);
    }
}
