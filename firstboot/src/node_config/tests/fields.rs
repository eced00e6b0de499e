//! Every field once right and once wrong: what is written arrives in the model, and
//! what is of another type is refused with its place.

use serde_json::{Value, json};

use super::*;

/// `outer: {inner: {last: value}}` of a path below `spec`.
fn nested(path: &str, value: &str) -> String {
    let names: Vec<&str> = path.split('.').collect();
    let mut text = value.to_owned();
    for name in names[1..].iter().rev() {
        text = format!("{{{name}: {text}}}");
    }
    format!("  {}: {text}", names[0])
}

#[test]
fn each_arrives_as_written_and_is_refused_as_another_type() {
    let text = [
        "cluster.name",
        "cluster.region",
        "cluster.apiServerEndpoint",
        "cluster.certificateAuthority",
        "cluster.cidr",
        "cluster.id",
        "kubelet.maxPodsExpression",
        "containerd.config",
        "instance.localStorage.strategy",
        "instance.localStorage.mountPath",
        "hybrid.iamRolesAnywhere.nodeName",
        "hybrid.iamRolesAnywhere.trustAnchorArn",
        "hybrid.iamRolesAnywhere.profileArn",
        "hybrid.iamRolesAnywhere.roleArn",
        "hybrid.iamRolesAnywhere.awsConfigPath",
        "hybrid.iamRolesAnywhere.certificatePath",
        "hybrid.iamRolesAnywhere.privateKeyPath",
        "hybrid.ssm.activationCode",
        "hybrid.ssm.activationId",
    ]
    .map(|path| (path, "some text", json!("some text"), "[a]"));
    let switches = ["cluster.enableOutpost", "hybrid.enableCredentialsFile"]
        .map(|path| (path, "true", json!(true), "'true'"));
    let lists = [
        "kubelet.flags",
        "instance.localStorage.disabledMounts",
        "instance.network.nameservers",
        "instance.network.domains",
    ]
    .map(|path| (path, "[b, a, 3]", json!(["b", "a", "3"]), "b"));
    let documents = ["kubelet.config", "containerd.baseRuntimeSpec"].map(|path| {
        (
            path,
            "{a: {b: [1, ~, x]}}",
            json!({"a": {"b": [1, null, "x"]}}),
            "[a]",
        )
    });
    let named = [
        (
            "instance.environment",
            "{default: {A: 1, B: ''}, kubelet: {}}",
            json!({"default": {"A": "1", "B": ""}, "kubelet": {}}),
            "{default: [A]}",
        ),
        (
            "featureGates",
            "{A: true, B: false}",
            json!({"A": true, "B": false}),
            "{A: maybe}",
        ),
    ];
    let rows = text.into_iter().chain(switches).chain(lists);
    for (path, right, expected, wrong) in rows.chain(documents).chain(named) {
        let spec = parse(&with_spec(&nested(path, right)))
            .unwrap_or_else(|problems| panic!("{path}: {problems:?}"))
            .config
            .spec;
        let value = serde_json::to_value(spec).unwrap();
        let pointer = format!("/{}", path.replace('.', "/"));
        assert_eq!(value.pointer(&pointer), Some(&expected), "{path}");

        let problems = parse(&with_spec(&nested(path, wrong))).expect_err(path);
        assert_eq!(problems.len(), 1, "{path}: {problems:?}");
        assert_eq!(problems[0].line, 4, "{path}");
        assert!(problems[0].column > 1, "{path}");
        let field = format!("spec.{path}");
        assert!(
            problems[0].field.starts_with(&field),
            "{}",
            problems[0].field
        );
    }
}

#[test]
fn the_rows_are_all_fields_that_there_are() {
    // What this file's table has, counted from the model: a new field needs a row.
    fn leaves(value: &Value) -> usize {
        match value {
            Value::Object(fields) if !fields.is_empty() => fields.values().map(leaves).sum(),
            _ => 1,
        }
    }
    let spec = parse(&with_spec(
        "  hybrid: {iamRolesAnywhere: {}, ssm: {activationId: a}}",
    ))
    .unwrap()
    .config
    .spec;
    assert_eq!(
        leaves(&serde_json::to_value(spec).unwrap()),
        19 + 2 + 4 + 2 + 2
    );
}
