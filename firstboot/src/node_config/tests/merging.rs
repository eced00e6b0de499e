use serde_json::json;

use super::*;

fn merged(documents: &[&str]) -> model::Spec {
    let text: Vec<String> = documents.iter().map(|spec| with_spec(spec)).collect();
    parse(&text.join("---\n")).unwrap().config.spec
}

#[test]
fn later_texts_win_unless_empty() {
    let cluster = merged(&[
        "  cluster: {name: a, cidr: x}",
        "  cluster: {name: b, cidr: ''}",
    ])
    .cluster;
    assert_eq!((cluster.name.as_str(), cluster.cidr.as_str()), ("b", "x"));
}

#[test]
fn a_later_false_does_not_turn_off_a_switch_but_a_gate() {
    let spec = merged(&[
        "  cluster: {enableOutpost: true}\n  hybrid: {enableCredentialsFile: true}\n  featureGates: {A: true, B: true}",
        "  cluster: {enableOutpost: false}\n  hybrid: {enableCredentialsFile: false}\n  featureGates: {A: false}",
    ]);
    assert_eq!(spec.cluster.enable_outpost, Some(true));
    assert!(spec.hybrid.unwrap().enable_credentials_file);
    assert_eq!(
        spec.feature_gates,
        [("A".to_owned(), false), ("B".to_owned(), true)].into()
    );
    let spec = merged(&["  cluster: {name: a}", "  cluster: {enableOutpost: false}"]);
    assert_eq!(spec.cluster.enable_outpost, Some(false));
}

#[test]
fn flags_are_joined_and_other_lists_replaced() {
    let spec = merged(&[
        "  kubelet: {flags: [a, b]}\n  instance: {network: {domains: [x], nameservers: [n]}}",
        "  kubelet: {flags: [c]}\n  instance: {network: {domains: [y, z], nameservers: []}}",
        "  kubelet: {flags: []}",
    ]);
    assert_eq!(spec.kubelet.flags, ["a", "b", "c"]);
    assert_eq!(spec.instance.network.domains, ["y", "z"]);
    assert_eq!(spec.instance.network.nameservers, ["n"]);
}

#[test]
fn environments_merge_name_by_name() {
    let spec = merged(&[
        "  instance: {environment: {default: {A: a, B: b}, kubelet: {C: c}}}",
        "  instance: {environment: {default: {A: '', D: d}}}",
    ]);
    let default = &spec.instance.environment["default"];
    assert_eq!(
        (
            default["A"].as_str(),
            default["B"].as_str(),
            default["D"].as_str()
        ),
        ("", "b", "d")
    );
    assert_eq!(spec.instance.environment["kubelet"]["C"], "c");
}

#[test]
fn free_documents_merge_deeply() {
    for (earlier, later, expected) in [
        (
            "{a: 1, b: {c: 2}}",
            "{b: {d: 3}}",
            json!({"a": 1, "b": {"c": 2, "d": 3}}),
        ),
        (
            "{a: 1, b: x, c: true}",
            "{a: 0, b: '', c: false}",
            json!({"a": 0, "b": "", "c": false}),
        ),
        (
            "{a: {b: 1}, c: [1]}",
            "{a: null, c: null}",
            json!({"a": null, "c": null}),
        ),
        ("{a: [1, 2]}", "{a: [3]}", json!({"a": [3]})),
        ("{a: [1, 2]}", "{a: []}", json!({"a": []})),
        ("{a: {b: 1}}", "{a: {}}", json!({"a": {"b": 1}})),
        ("{a: {b: 1}}", "{a: text}", json!({"a": "text"})),
        ("{a: text}", "{a: {b: 1}}", json!({"a": {"b": 1}})),
        ("{}", "{a: 1}", json!({"a": 1})),
        ("{a: 1}", "{}", json!({"a": 1})),
    ] {
        let spec = merged(&[
            &format!("  kubelet: {{config: {earlier}}}"),
            &format!("  kubelet: {{config: {later}}}"),
        ]);
        assert_eq!(
            serde_json::Value::Object(spec.kubelet.config),
            expected,
            "{earlier} + {later}"
        );
    }
}

#[test]
fn presence_of_hybrid_is_kept() {
    assert!(
        merged(&["  hybrid: {}", "  cluster: {name: a}"])
            .hybrid
            .is_some()
    );
    assert!(
        merged(&["  cluster: {name: a}", "  hybrid: {}"])
            .hybrid
            .is_some()
    );
    assert!(merged(&["  hybrid: {}", "  hybrid: ~"]).hybrid.is_some());
    let hybrid = merged(&[
        "  hybrid: {ssm: {activationId: a}}",
        "  hybrid: {ssm: {activationCode: b}}",
    ]);
    let ssm = hybrid.hybrid.unwrap().ssm.unwrap();
    assert_eq!(
        (ssm.activation_id.as_str(), ssm.activation_code.as_str()),
        ("a", "b")
    );
}

#[test]
fn a_second_containerd_configuration_replaces_the_first_on_hybrid_nodes() {
    let spec = merged(&[
        "  containerd: {config: 'a = 1'}\n  hybrid: {}",
        "  containerd: {config: 'b = 2'}",
    ]);
    assert_eq!(spec.containerd.config, "b = 2");
    let spec = merged(&[
        "  containerd: {config: 'a = 1'}",
        "  containerd: {config: 'b = 2'}\n  hybrid: {}",
        "  containerd: {config: ''}",
    ]);
    assert_eq!(spec.containerd.config, "b = 2");
}

#[test]
fn containerd_configurations_are_merged_on_ec2_nodes() {
    let spec = merged(&[
        "  containerd: {config: \"[a.b]\\nx = 1\\nz = [1, 2]\\n\"}",
        "  containerd: {config: \"version = 2\\n[a.b]\\nx = 2\\nz = []\\n\"}",
        "  cluster: {name: a}",
        "  containerd: {config: \"[a]\\n[c]\\n\"}",
    ]);
    assert_eq!(
        spec.containerd.config,
        "version = 2\n\n[a]\n[a.b]\nx = 2\nz = []\n\n[c]\n"
    );
    // One alone stays as it was written.
    let spec = merged(&["  containerd: {config: \"a  =  1 # why\"}", "  hybrid: ~"]);
    assert_eq!(spec.containerd.config, "a  =  1 # why");
}

#[test]
fn a_containerd_configuration_that_cannot_be_merged_is_named() {
    let text = [
        with_spec("  containerd: {config: 'a = 1'}"),
        with_spec("  containerd: {config: 'password = hunter2'}"),
    ];
    let problems = parse(&text.join("---\n")).unwrap_err();
    let lines = lines(&problems);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("9:24 spec.containerd.config: `spec.containerd.config` is no TOML: "),
        "{lines:?}"
    );
    assert!(!lines[0].contains("hunter2"), "{lines:?}");
}

#[test]
fn problems_name_the_text_they_are_in() {
    let part = |origin: &str, spec: &str| Part {
        origin: origin.into(),
        text: with_spec(spec),
    };
    let parts = [
        part("one", "  cluster: {name: a}"),
        part("two", "  cluser: {}"),
    ];
    let problems = parse_parts(&parts).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "two: line 4, column 3: unknown field `cluser` in `spec`"
    );
    let parts = [
        part("one", "  cluster: {name: a b}\n"),
        part("two", "  hybrid: {ssm: {activationCode: a}}"),
    ];
    let problems = parse_parts(&parts).unwrap().check();
    let places: Vec<(&str, usize, &str)> = problems
        .iter()
        .map(|problem| {
            (
                problem.origin.as_str(),
                problem.line,
                problem.field.as_str(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("one", 4, "spec.cluster.region"),
            ("one", 4, "spec.cluster.name"),
            ("two", 4, "spec.hybrid.ssm.activationId"),
            ("two", 4, "spec.hybrid.ssm.activationCode"),
        ]
    );
}
