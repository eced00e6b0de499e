use std::time::{Duration, UNIX_EPOCH};

use super::super::scripted::Scripted;
use super::*;
use crate::aws::{AwsError, Imds};
use crate::system::Variables;
use crate::system::pretended::Pretended;

const CONFIG: &str = "/etc/aws/hybrid/config";

fn found(source: &dyn Source) -> Credentials {
    source.find().unwrap().unwrap()
}

const HELPER: &str = "/usr/bin/helper credential-process --certificate /a b.pem";

fn process(machine: &Pretended) -> Process<'_> {
    machine.put(
        CONFIG,
        b"# comment\n[profile other]\ncredential_process = no\n[profile default]\nregion = x\n\
          credential_process = /usr/bin/helper credential-process --certificate '/a b.pem'\n",
        0o644,
    );
    Process {
        files: machine,
        programs: machine,
        path: CONFIG.into(),
        settings: None,
        profile: "default".into(),
        variables: Vec::new(),
    }
}

#[test]
fn a_program_of_a_profile_prints_them() {
    let machine = Pretended::default();
    machine.prints(
        "/usr/bin/helper credential-process --certificate /a b.pem",
        r#"{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"s3cr3t","SessionToken":"t0ken",
            "Expiration":"2027-01-15T08:00:00Z"}"#,
    );
    let credentials = found(&process(&machine));
    assert_eq!(credentials.access_key_id, "AKID");
    let expires = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(credentials.expires, Some(expires));
    let source = process(&machine);
    assert!(find(&[&source], expires - Duration::from_secs(1)).is_ok());
    let error = find(&[&source], expires).unwrap_err();
    assert!(error.to_string().contains("they have expired"), "{error}");
}

#[test]
fn what_a_program_prints_wrongly_is_never_repeated() {
    for (output, reason) in [
        (
            r#"{"Version":2,"SecretAccessKey":"s3cr3t"}"#,
            "not of Version 1",
        ),
        (
            r#"{"Version":1,"SecretAccessKey":"s3cr3t"}"#,
            "no access key ID",
        ),
        (
            r#"{"Version":1,"AccessKeyId":"a\nb","SecretAccessKey":"s3cr3t"}"#,
            "characters that no key has",
        ),
        (
            r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":"s3cr3t","Expiration":"s3cr3t"}"#,
            "is no time",
        ),
        ("s3cr3t", "no JSON of keys (line 1, column 1)"),
    ] {
        let machine = Pretended::default();
        machine.prints(
            "/usr/bin/helper credential-process --certificate /a b.pem",
            output,
        );
        let error = process(&machine).find().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }
}

/// It was tried again for minutes, as if a network were down.
#[test]
fn a_certificate_that_is_refused_is_refused_at_once() {
    let machine = Pretended::default();
    machine.fails(
        HELPER,
        "2026/11/29 20:00:00 operation error RolesAnywhere: CreateSession, https response error \
         StatusCode: 403, RequestID: 1, AccessDeniedException: Untrusted certificate. \
         Insufficient certificate\n",
    );
    let error = AwsError::from(process(&machine).find().unwrap_err());
    assert_eq!(
        error.to_string(),
        "IAM Roles Anywhere gives no session: AccessDeniedException: Untrusted certificate. \
         Insufficient certificate"
    );
    assert!(!error.is_transient());
    assert!(error.hint().unwrap().contains("trust anchor"));
}

#[test]
fn what_says_nothing_of_a_refusal_may_pass() {
    for (errors, said) in [
        (
            "RequestError: send request failed\ncaused by: Post \"https://x\": no route\n",
            "says: RequestError: send request failed; caused by: Post \"https://x\": no route",
        ),
        ("log line\nit is busy\n\n", "says: log line; it is busy"),
        ("", "says: it failed"),
    ] {
        let machine = Pretended::default();
        machine.fails(HELPER, errors);
        let error = process(&machine).find().unwrap_err();
        assert!(error.to_string().ends_with(said), "{error}");
        assert!(error.is_transient(), "{error}");
    }
}

#[test]
fn a_key_that_cannot_be_read_is_told_at_once() {
    let machine = Pretended::default();
    machine.fails(HELPER, "2026/11/29 20:00:00 unable to parse private key\n");
    let error = process(&machine).find().unwrap_err();
    assert!(error.to_string().ends_with("unable to parse private key"));
    assert!(!error.is_transient());
}

#[test]
fn a_profile_of_the_shared_file() {
    let machine = Pretended::default();
    let source = SharedFile {
        files: &machine,
        path: "/root/.aws/credentials".into(),
        profile: "default".into(),
    };
    assert_eq!(source.find().unwrap(), None);
    machine.put(
        "/root/.aws/credentials",
        b"[default]\naws_access_key_id = AKID\naws_secret_access_key = a=b\n  nested = x\n\
          [other]\naws_access_key_id = OTHER\n",
        0o600,
    );
    assert_eq!(found(&source).secret_access_key, "a=b");
    let other = SharedFile {
        profile: "other".into(),
        ..source
    };
    let error = other.find().unwrap_err();
    assert_eq!(
        error.to_string(),
        "profile other of /root/.aws/credentials gives no credentials: it has no secret access key"
    );
    machine.put("/root/.aws/credentials", &vec![b'x'; 300 << 10], 0o600);
    assert!(other.find().is_err());
}

fn container<T>(
    variables: Variables,
    network: &Scripted,
    ask: impl FnOnce(&Container<'_>) -> T,
) -> T {
    let machine = Pretended::default();
    machine.put("/var/run/token", b"t0ken\n", 0o600);
    ask(&Container {
        network,
        files: &machine,
        variables: &variables,
    })
}

#[test]
fn a_containers_endpoint_is_asked_with_its_token() {
    let uri = "http://169.254.170.23/v1/credentials";
    let network = Scripted::default().then(
        &format!("GET {uri}"),
        200,
        r#"{"AccessKeyId":"AKID","SecretAccessKey":"s","Token":"t","AccountId":"1"}"#,
    );
    let variables = Variables::default()
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/run/token");
    let credentials = container(variables, &network, |it| found(it));
    assert_eq!(credentials.session_token.as_deref(), Some("t"));
    let requests = network.requests.borrow();
    assert!(
        requests[0]
            .headers
            .contains(&("authorization".into(), "t0ken".into()))
    );
    let relative = Variables::default().with("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/a");
    let network = Scripted::default().then("GET http://169.254.170.2/v2/a", 403, "");
    let error = container(relative, &network, |it| it.find().unwrap_err());
    assert!(error.to_string().ends_with("it answers with status 403"));
}

#[test]
fn a_containers_endpoint_elsewhere_needs_tls() {
    for (uri, is_allowed) in [
        ("http://example.com/a", false),
        ("http://169.254.170.3/a", false),
        ("http://127.0.0.1.example.com/a", false),
        ("not a url", false),
        ("https://example.com/a", true),
        ("http://localhost:1/a", true),
        ("http://[::1]/a", true),
        ("http://[fd00:ec2::23]/a", true),
    ] {
        let network = Scripted::default().then(&format!("GET {uri}"), 500, "");
        let variables = Variables::default().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri);
        let error = container(variables, &network, |it| it.find().unwrap_err());
        assert_eq!(
            network.requests.borrow().len(),
            usize::from(is_allowed),
            "{uri}"
        );
        assert_eq!(error.is_transient(), is_allowed);
    }
}

#[test]
fn the_role_of_an_instance() {
    const ROLE: &str = "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    let script =
        || Scripted::default().then("PUT http://169.254.169.254/latest/api/token", 200, "t");
    let ask = |network: &Scripted| {
        let clock = Pretended::default();
        let imds = Imds::new(network, &clock, &Variables::default());
        let outcome = InstanceRole { imds: &imds }.find();
        network.assert_done();
        outcome
    };
    assert_eq!(ask(&script().then(ROLE, 404, "")).unwrap(), None);
    let node = format!("{ROLE}node");
    let keys = r#"{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"s","Token":"t",
        "Expiration":"2027-01-15T08:00:00Z"}"#;
    let network = script().then(ROLE, 200, "node").then(&node, 200, keys);
    assert_eq!(ask(&network).unwrap().unwrap().access_key_id, "AKID");
    let network = script().then(ROLE, 200, "node").then(&node, 404, "");
    assert!(ask(&network).unwrap_err().is_transient());
    let network = script().then(ROLE, 200, "node").then(
        &node,
        200,
        r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#,
    );
    assert!(
        ask(&network)
            .unwrap_err()
            .to_string()
            .contains("AssumeRoleUnauthorizedAccess")
    );
    assert!(ask(&script().then(ROLE, 200, "../x")).is_err());
}

#[test]
fn the_first_source_that_is_set_up_decides() {
    let none = Variables::default();
    let half = Variables::default().with("AWS_ACCESS_KEY_ID", "A");
    let whole = half.clone().with("AWS_SECRET_ACCESS_KEY", "s");
    let (none, half, whole) = (
        Environment { variables: &none },
        Environment { variables: &half },
        Environment { variables: &whole },
    );
    assert!(find(&[&none, &whole], UNIX_EPOCH).is_ok());
    assert!(find(&[&half, &whole], UNIX_EPOCH).is_err());
    let error = find(&[&none], UNIX_EPOCH).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there are no AWS credentials (asked: the environment)"
    );
}
