use serde_json::{Value, json};

use super::super::schema::{NODE_CONFIG, Shape};
use super::*;

fn schema() -> Value {
    serde_json::from_str(JSON_SCHEMA).unwrap()
}

/// Follows `$ref`.
fn resolved<'a>(root: &'a Value, mut part: &'a Value) -> &'a Value {
    while let Some(reference) = part.get("$ref").and_then(Value::as_str) {
        part = root.pointer(reference.trim_start_matches('#')).unwrap();
    }
    part
}

fn compare(root: &Value, part: &Value, shape: Shape, path: &str) {
    let part = resolved(root, part);
    let kind = |name: &str| match &part["type"] {
        Value::String(kind) => kind == name,
        kinds => kinds.as_array().unwrap().contains(&json!(name)),
    };
    match shape {
        Shape::Fields(fields) => {
            let properties = part["properties"].as_object().unwrap();
            let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
            let mut expected: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            expected.sort_unstable();
            assert_eq!(names, expected, "{path}");
            assert_eq!(part["additionalProperties"], json!(false), "{path}");
            for (name, shape) in fields {
                compare(root, &properties[*name], *shape, &format!("{path}.{name}"));
            }
        }
        Shape::Named(inner) => compare(root, &part["additionalProperties"], *inner, path),
        Shape::Text | Shape::Variable => {
            assert!(part.get("const").is_some() || kind("string"), "{path}");
        }
        Shape::Switch | Shape::Flag => assert!(kind("boolean"), "{path}"),
        Shape::List | Shape::Appended => {
            assert!(kind("array"), "{path}");
            compare(root, &part["items"], Shape::Text, path);
        }
        Shape::Document | Shape::Ignored => assert!(kind("object"), "{path}"),
    }
}

#[test]
fn it_has_the_fields_that_are_read() {
    let schema = schema();
    compare(&schema, &schema, NODE_CONFIG, "");
}

#[test]
fn it_takes_good_and_refuses_bad_examples() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let config = with_defaults(parse(&hybrid()).unwrap().config);
    let good = |spec: Value| json!({"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec});
    for (instance, valid) in [
        (serde_json::to_value(config).unwrap(), true),
        (good(json!({})), true),
        (good(json!(null)), true),
        (
            good(json!({"hybrid": {"ssm": {"activationCode": "a", "activationId": 5}}})),
            true,
        ),
        (
            good(json!({"instance": {"localStorage": {"strategy": "raid10"}}})),
            true,
        ),
        (
            good(json!({"instance": {"localStorage": {"strategy": "RAID5"}}})),
            false,
        ),
        (good(json!({"cluster": {"Name": "a"}})), false),
        (good(json!({"kubelet": {"flags": "--v=2"}})), false),
        (good(json!({"featureGates": {"A": "yes"}})), false),
        (good(json!([])), false),
        (json!({"apiVersion": "v1", "kind": "NodeConfig"}), false),
        (json!({"kind": "NodeConfig"}), false),
        (
            json!({"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "status": {}}),
            false,
        ),
        (json!([]), false),
    ] {
        assert_eq!(validator.is_valid(&instance), valid, "{instance}");
        // What the schema says must not differ from what we read.
        let is_strategy = instance.pointer("/spec/instance").is_some();
        assert_eq!(
            parse(&instance.to_string()).is_ok(),
            valid || is_strategy,
            "{instance}"
        );
    }
}
