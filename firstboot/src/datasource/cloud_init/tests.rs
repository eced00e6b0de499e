use super::super::pretended::Fake;
use super::*;

const CONFIG: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: a}}\n";

fn instance_data(userdata: &str) -> String {
    let text = serde_json::to_string(userdata).unwrap();
    format!(r#"{{"v1": {{"cloud_id": "nocloud"}}, "ds": {{}}, "userdata": {text}}}"#)
}

#[test]
fn instance_data_is_read_when_the_file_is_missing() {
    let machine = Fake::default().with(INSTANCE_DATA, &instance_data(CONFIG));
    let Answer::Config { origin, documents } = ask(&machine) else {
        panic!("{:?}", ask(&machine))
    };
    assert_eq!(
        origin,
        "userdata in /run/cloud-init/instance-data-sensitive.json"
    );
    assert_eq!(documents[0].bytes, CONFIG.as_bytes());
    // The file goes first, also when there is nothing for us in it.
    let machine = machine.with(USER_DATA, "#cloud-config\n");
    assert!(matches!(ask(&machine), Answer::Nothing(why) if why.starts_with(USER_DATA)));
}

#[test]
fn every_form_of_base64_is_read() {
    for text in [
        r#"{"userdata": "ci-b64:a2luZA=="}"#,
        r#"{"userdata": "a2luZA==", "base64_encoded_keys": ["userdata"]}"#,
        r#"{"userdata": "a2lu\nZA==\n", "base64_encoded_keys": ["userdata"]}"#,
        r#"{"userdata": "kind", "base64_encoded_keys": ["ds/userdata"]}"#,
        r#"{"userdata": "", "ds": {"userdata": "a2luZA=="}, "base64_encoded_keys": ["ds/userdata"]}"#,
        r#"{"userdata": null, "ds": {"userdata": "kind"}, "base64_encoded_keys": 7}"#,
    ] {
        let found = user_data_of(text.as_bytes()).unwrap();
        assert_eq!(found.as_deref(), Some(&b"kind"[..]), "{text}");
    }
    for text in [
        "{}",
        "[]",
        "7",
        r#"{"ds": "x"}"#,
        r#"{"ds": {"meta_data": {}}}"#,
    ] {
        assert_eq!(user_data_of(text.as_bytes()), Ok(None), "{text}");
    }
}

#[test]
fn damaged_instance_data_is_refused_without_being_quoted() {
    for (text, told) in [
        (
            r#"{"userdata": "s3cr3t" s3cr3t"#,
            "line 1, column 23: it is no JSON",
        ),
        (r#"{"userdata": ["s3cr3t"]}"#, "userdata is no text"),
        (
            r#"{"userdata": "ci-b64:s3cr3t!"}"#,
            "userdata is marked as base64 and is none",
        ),
        ("", "line 1, column 0: it is no JSON"),
    ] {
        assert_eq!(user_data_of(text.as_bytes()), Err(told.to_owned()));
    }
    let deep = "[".repeat(100_000);
    assert!(user_data_of(deep.as_bytes()).is_err());
    let machine = Fake::default().with(INSTANCE_DATA, "{");
    assert!(matches!(
        ask(&machine),
        Answer::Unusable {
            may_pass: false,
            ..
        }
    ));
    let mut machine = Fake::default().with(INSTANCE_DATA, &instance_data(CONFIG));
    machine.distrusted.push(INSTANCE_DATA);
    assert!(matches!(ask(&machine), Answer::Unusable { problem, .. }
        if problem.ends_with("can be written by others than root")));
}

#[test]
fn nothing_of_cloud_init_names_both_files() {
    assert!(matches!(ask(&Fake::default()), Answer::Nothing(why)
        if why.contains(USER_DATA) && why.contains(INSTANCE_DATA)));
    let machine = Fake::default().with(INSTANCE_DATA, "{}");
    assert!(matches!(ask(&machine), Answer::Nothing(why) if why.ends_with("has no userdata")));
}
