use serde_json::json;

use super::*;

/// The problems of a text that must not parse.
fn refused(text: &str) -> Vec<Problem> {
    parse(text).expect_err(text)
}

#[test]
fn a_whole_configuration_is_read_with_places() {
    let parsed = parse(&hybrid()).unwrap();
    assert_eq!(parsed.config.spec.cluster.name, "farm");
    assert_eq!(parsed.config.spec.kubelet.config["maxPods"], json!(50));
    let place = |path: &str| (parsed.positions[path].line, parsed.positions[path].column);
    assert_eq!(place("spec.cluster.name"), (5, 11));
    assert_eq!(place("spec.kubelet.flags[0]"), (14, 9));
    assert_eq!(parsed.check(), []);
}

#[test]
fn json_is_yaml() {
    let text = r#"{"apiVersion":"node.eks.aws/v1alpha1","kind":"NodeConfig",
        "spec":{"cluster":{"name":"c"},"hybrid":{}}}"#;
    let config = parse(text).unwrap().config;
    assert_eq!(config.spec.cluster.name, "c");
    assert!(config.spec.hybrid.is_some());
}

#[test]
fn what_is_no_node_config_is_said_clearly() {
    for (text, expected) in [
        ("", "0:0 : the text is empty"),
        ("---\n...\n# only this\n", "0:0 : the text is empty"),
        ("- a\n", "1:1 : a NodeConfig is a mapping, this is a list"),
        ("words", "1:1 : a NodeConfig is a mapping, this is text"),
        ("5", "1:1 : a NodeConfig is a mapping, this is a number"),
        (
            "apiVersion: v1\nkind: NodeConfig\n",
            "1:13 apiVersion: apiVersion is `v1`, not `node.eks.aws/v1alpha1`",
        ),
        (
            "apiVersion: node.eks.aws/v1alpha1\nkind: Pod\n",
            "2:7 kind: kind is `Pod`, not `NodeConfig`",
        ),
        (
            "apiVersion: node.eks.aws/v1alpha1\n",
            "1:1 kind: kind is missing",
        ),
        (
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nstatus: {}\n",
            "3:1 status: unknown field `status` in a NodeConfig",
        ),
    ] {
        assert_eq!(lines(&refused(text)), [expected], "{text:?}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_places_and_hints() {
    let problems = refused(&with_spec(
        "  cluster:
    Name: x
    regoin: y
    cidr: [a]
  kubelet:
    flags: --v=2
    config: 5
  featureGates: {A: maybe}
  hybird: {}",
    ));
    let expected = [
        "5:5 spec.cluster.Name: unknown field `Name` in `spec.cluster`",
        "6:5 spec.cluster.regoin: unknown field `regoin` in `spec.cluster`",
        "7:11 spec.cluster.cidr: `spec.cluster.cidr` takes text, this is a list",
        "9:12 spec.kubelet.flags: `spec.kubelet.flags` takes a list of texts, this is text",
        "10:13 spec.kubelet.config: `spec.kubelet.config` takes a mapping, this is a number",
        "11:21 spec.featureGates.A: `spec.featureGates.A` takes true or false, this is text",
        "12:3 spec.hybird: unknown field `hybird` in `spec`",
    ];
    assert_eq!(lines(&problems), expected);
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean `name`?"));
    assert_eq!(problems[1].hint.as_deref(), Some("did you mean `region`?"));
    assert_eq!(problems[6].hint.as_deref(), Some("did you mean `hybrid`?"));
}

#[test]
fn repeated_keys_are_refused_in_every_mapping() {
    let text = with_spec("  cluster:\n    name: a\n    name: b\n  kubelet: {config: {x: 1, x: 2}}");
    assert_eq!(
        lines(&refused(&text)),
        [
            "6:5 : this key was already given in line 5",
            "7:28 : this key was already given in line 7"
        ]
    );
}

#[test]
fn numbers_and_booleans_for_texts_keep_their_spelling() {
    let text = with_spec(
        "  cluster: {name: 0123, id: 1e3, region: yes}
  kubelet: {flags: [1.50, true, ~]}
  instance: {environment: {default: {A: 1, B: }}}",
    );
    let spec = parse(&text).unwrap().config.spec;
    assert_eq!(spec.cluster.name, "0123");
    assert_eq!(spec.cluster.id, "1e3");
    assert_eq!(spec.cluster.region, "yes");
    assert_eq!(spec.kubelet.flags, ["1.50", "true", ""]);
    assert_eq!(spec.instance.environment["default"]["A"], "1");
    assert_eq!(spec.instance.environment["default"]["B"], "");
}

#[test]
fn null_is_as_good_as_left_out() {
    let text = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nmetadata:\nspec:\n  cluster: ~\n  hybrid:\n";
    let config = parse(text).unwrap().config;
    assert_eq!(config.spec, model::Spec::default());
    let text = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n";
    assert_eq!(parse(text).unwrap().config.spec, model::Spec::default());
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let text = with_spec(
        "  kubelet:
    config: {a: &a {x: 1, y: 2}, b: *a, c: {<<: *a, y: 3}, d: {<<: [*a, {z: 4}]}}",
    );
    let config = parse(&text).unwrap().config.spec.kubelet.config;
    assert_eq!(
        serde_json::Value::Object(config),
        json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"y": 3, "x": 1},
               "d": {"x": 1, "y": 2, "z": 4}})
    );
}

#[test]
fn hostile_texts_are_refused_quickly() {
    let mut bomb =
        "  kubelet:\n    config:\n      a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("      a{level}: &a{level} [{before}]\n");
    }
    let message = |text: &str| refused(text)[0].message.clone();
    assert_eq!(
        message(&with_spec(&bomb)),
        "there are too many values (an alias counts as what it stands for)"
    );
    let deep = format!(
        "  kubelet: {{config: {{a: {}{}}}}}",
        "[".repeat(70),
        "]".repeat(70)
    );
    assert!(!refused(&with_spec(&deep)).is_empty());
    let block: String = (0..80)
        .map(|depth| format!("{}a:\n", " ".repeat(6 + depth)))
        .collect();
    assert!(!refused(&with_spec(&format!("  kubelet:\n    config:\n{block}"))).is_empty());
    // Each level alone is shallow; what the aliases stand for is not.
    let mut nested = "  kubelet:\n    config:\n      a0: &a0 [[[[[[[[x]]]]]]]]\n".to_owned();
    for level in 1..12 {
        nested += &format!(
            "      a{level}: &a{level} [[[[[[[[*a{}]]]]]]]]\n",
            level - 1
        );
    }
    assert_eq!(
        message(&with_spec(&nested)),
        "mappings and lists are nested deeper than 64"
    );
    assert_eq!(
        message(&"#".repeat(MAXIMUM_TEXT + 1)),
        "the text is larger than 1 MiB"
    );
    assert_eq!(
        message("a: &a [*a]\n"),
        "an alias stands within what it repeats"
    );
    assert_eq!(message("? [a]\n: b\n"), "a key must be text");
    assert_eq!(
        message("a: !!binary eA==\n"),
        "only YAML's own tags (such as !!str) are supported"
    );
    assert_eq!(
        message("a: *missing\n"),
        "while parsing node, found unknown anchor"
    );
}

#[test]
fn nothing_below_ssm_is_ever_repeated() {
    const SECRET: &str = "S3cretActivationCode0123456789";
    for ssm in [
        format!("{{activationCode: {SECRET}, {SECRET}: x}}"),
        format!("{{activationCode: [{SECRET}]}}"),
        format!("{{activationCode: {{{SECRET}: 1, {SECRET}: 2}}}}"),
        SECRET.to_owned(),
        format!("[{SECRET}]"),
        format!("{{activationCode: {SECRET}\\\n, activationId: {SECRET}}}"),
        format!("{{activationCode: \"{SECRET}\\q\"}}"),
        format!("{{activationCode: *{SECRET}}}"),
        format!("{{activationCode: !{SECRET} x}}"),
        format!("{{activationCode: x, activationId: {SECRET}}}"),
    ] {
        let text = with_spec(&format!(
            "  cluster: {{name: a, region: b}}\n  hybrid:\n    ssm: {ssm}"
        ));
        let problems = match parse(&text) {
            Ok(parsed) => {
                assert!(!format!("{parsed:?}").contains(SECRET) || ssm.contains("activationId"));
                parsed.check()
            }
            Err(problems) => problems,
        };
        assert!(!problems.is_empty(), "{ssm}");
        let shown = format!("{problems:?} {}", serde_json::to_string(&problems).unwrap());
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn names_that_a_user_made_up_cannot_break_a_terminal() {
    let text = with_spec(&format!("  \"\\e[31m{}\": 1", "x".repeat(200)));
    let problems = refused(&text);
    assert!(!problems[0].message.contains('\u{1b}'));
    assert!(problems[0].message.len() < 120);
}

#[test]
fn a_flood_of_problems_is_cut() {
    let keys: String = (0..5000).map(|index| format!("  k{index}: x\n")).collect();
    let problems = refused(&with_spec(&keys));
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "4900 more problems are not shown");
}
