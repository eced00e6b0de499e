use super::super::scripted::Scripted;
use super::*;
use crate::system::pretended::Pretended;

const V4_TOKEN: &str = "PUT http://169.254.169.254/latest/api/token";
const V6_TOKEN: &str = "PUT http://[fd00:ec2::254]/latest/api/token";
const DATA: &str = "GET http://169.254.169.254/latest/user-data";

fn ask<T>(network: &Scripted, question: impl FnOnce(&Imds<'_>) -> T) -> T {
    let clock = Pretended::default();
    let answer = question(&Imds::new(network, &clock, &Variables::default()));
    network.assert_done();
    answer
}

#[test]
fn a_token_is_fetched_once_and_sent_with_every_question() {
    let network = Scripted::default()
        .then(V4_TOKEN, 200, "t0ken==\n")
        .then(DATA, 200, "data")
        .then(
            "GET http://169.254.169.254/latest/meta-data/local-ipv4",
            200,
            "10.0.0.7",
        );
    ask(&network, |imds| {
        assert_eq!(imds.user_data().unwrap().as_deref(), Some(&b"data"[..]));
        assert_eq!(
            imds.local_ipv4().unwrap(),
            Some("10.0.0.7".parse().unwrap())
        );
    });
    for request in network.requests.borrow().iter() {
        assert_eq!(request.route, Route::Direct);
        assert_eq!(request.limit, REQUEST_LIMIT);
        assert_eq!(request.most, MOST);
    }
    let requests = network.requests.borrow();
    assert_eq!(
        requests[0].headers,
        [(
            "x-aws-ec2-metadata-token-ttl-seconds".into(),
            "21600".into()
        )]
    );
    assert_eq!(requests[2].headers, [(TOKEN.into(), "t0ken==".into())]);
}

#[test]
fn a_refused_token_is_renewed_once_and_then_an_error() {
    let network = Scripted::default()
        .then(V4_TOKEN, 200, "old")
        .then(DATA, 401, "")
        .then(V4_TOKEN, 200, "new")
        .then(DATA, 200, "data");
    ask(&network, |imds| {
        assert!(imds.user_data().unwrap().is_some());
    });
    let network = Scripted::default()
        .then(V4_TOKEN, 200, "old")
        .then(DATA, 401, "")
        .then(V4_TOKEN, 200, "new")
        .then(DATA, 401, "");
    let error = ask(&network, |imds| imds.user_data().unwrap_err());
    assert_eq!(
        error.to_string(),
        "the instance metadata service answers /latest/user-data with status 401"
    );
    assert!(!error.is_transient());
}

#[test]
fn an_old_token_is_renewed_before_it_is_refused() {
    let network = Scripted::default()
        .then(V4_TOKEN, 200, "old")
        .then(DATA, 200, "data")
        .then(V4_TOKEN, 200, "new")
        .then(DATA, 200, "data");
    let clock = Pretended::default();
    let imds = Imds::new(&network, &clock, &Variables::default());
    imds.user_data().unwrap();
    clock.pause(Duration::from_secs(21_600));
    imds.user_data().unwrap();
    network.assert_done();
}

#[test]
fn silence_and_busy_answers_are_tried_again_and_404_is_an_absence() {
    let network = Scripted::default()
        .silent(V4_TOKEN)
        .silent(V6_TOKEN)
        .then(V4_TOKEN, 503, "")
        .then(V4_TOKEN, 200, "token")
        .silent(DATA)
        .then(DATA, 503, "busy")
        .then(DATA, 404, "not found");
    assert_eq!(ask(&network, |imds| imds.user_data().unwrap()), None);
}

#[test]
fn ipv6_is_used_where_ipv4_is_silent() {
    let mac = "GET http://[fd00:ec2::254]/latest/meta-data/mac";
    let network = Scripted::default()
        .silent(V4_TOKEN)
        .then(V6_TOKEN, 200, "token")
        .then(mac, 200, "0a:00:00:00:00:01")
        .then(
            "GET http://[fd00:ec2::254]/latest/meta-data/network/interfaces/macs/0a:00:00:00:00:01/ipv6s",
            200,
            "2001:db8::1\n2001:db8::2\n",
        );
    let address = ask(&network, |imds| imds.ipv6().unwrap());
    assert_eq!(address, Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn a_machine_without_the_service_is_told_so_within_the_budget() {
    let network = Pretended::default();
    let imds = Imds::new(&network, &network, &Variables::default()).within(Duration::from_secs(5));
    let error = imds.user_data().unwrap_err();
    assert!(matches!(error, ImdsError::Unreachable(_)), "{error}");
    assert!(error.is_transient());
    assert!(network.elapsed() <= Duration::from_secs(6));
    assert!(network.requests.borrow().len() > 4);
}

#[test]
fn what_answers_in_its_place_is_not_called_silent() {
    let host = || "169.254.169.254".to_owned();
    for (error, told) in [
        (
            NetworkError::TooLarge {
                host: host(),
                most: MOST,
            },
            "larger than 1048576 bytes",
        ),
        (
            NetworkError::Protocol {
                host: host(),
                reason: "SSH-2.0".into(),
            },
            "does not speak HTTP",
        ),
    ] {
        // Neither asked again nor looked for at another address.
        let network = Scripted::default().answer(V4_TOKEN, Err(error));
        let error = ask(&network, |imds| imds.user_data().unwrap_err());
        assert_eq!(
            error.to_string(),
            "what answers as the instance metadata service is none"
        );
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(told), "{cause}");
        assert!(!error.is_transient());
        assert!(error.hint().unwrap().contains("what listens"));
    }
}

#[test]
fn what_gives_no_token_is_not_asked_again() {
    for (status, hint) in [(403, "turn the service off"), (404, "no metadata service")] {
        let network = Scripted::default().then(V4_TOKEN, status, "<html>");
        let error = ask(&network, |imds| imds.user_data().unwrap_err());
        assert_eq!(
            error.to_string(),
            format!("the instance metadata service gives no token (status {status})")
        );
        assert!(error.hint().unwrap().contains(hint));
    }
}

#[test]
fn a_token_that_would_end_a_header_is_refused() {
    for token in ["a\r\nHost: evil", "", "ä", &"x".repeat(2000)] {
        let network = Scripted::default().then(V4_TOKEN, 200, token);
        let error = ask(&network, |imds| imds.user_data().unwrap_err());
        assert_eq!(
            error.to_string(),
            "the instance metadata service gives no token at /latest/api/token"
        );
    }
}

#[test]
fn the_identity_document_is_read_or_refused() {
    let document = "GET http://169.254.169.254/latest/dynamic/instance-identity/document";
    let network = Scripted::default().then(V4_TOKEN, 200, "t").then(
        document,
        200,
        r#"{"accountId":"123456789012","instanceId":"i-1","instanceType":"m5.large",
            "region":"eu-central-1","availabilityZone":"eu-central-1a","privateIp":"10.0.0.7",
            "billingProducts":null}"#,
    );
    let identity = ask(&network, |imds| imds.identity().unwrap());
    assert_eq!(identity.instance_type, "m5.large");
    assert_eq!(identity.private_ip.as_deref(), Some("10.0.0.7"));
    for (status, body) in [(404, ""), (200, "<html>"), (200, "{}")] {
        let network = Scripted::default()
            .then(V4_TOKEN, 200, "t")
            .then(document, status, body);
        let error = ask(&network, |imds| imds.identity().unwrap_err());
        assert!(error.to_string().contains("no identity document"));
    }
}

#[test]
fn the_endpoint_can_be_named_or_turned_off() {
    let network = Scripted::default()
        .then("PUT http://127.0.0.1:1338/latest/api/token", 200, "t")
        .then("GET http://127.0.0.1:1338/latest/user-data", 404, "");
    let clock = Pretended::default();
    let variable = |name, value| Variables::default().with(name, value);
    let endpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    let imds = Imds::new(
        &network,
        &clock,
        &variable(endpoint, "http://127.0.0.1:1338/"),
    );
    assert_eq!(imds.user_data().unwrap(), None);
    for wrong in [
        "169.254.169.254",
        "http://",
        "ftp://x",
        "http://a@b",
        "http://a b",
    ] {
        let imds = Imds::new(&network, &clock, &variable(endpoint, wrong));
        let error = imds.user_data().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("AWS_EC2_METADATA_SERVICE_ENDPOINT is")
        );
        assert!(error.hint().is_some());
    }
    let off = variable("AWS_EC2_METADATA_DISABLED", "TRUE");
    let error = Imds::new(&network, &clock, &off).user_data().unwrap_err();
    assert!(matches!(error, ImdsError::Disabled));
    network.assert_done();
    let network = Scripted::default().then(V6_TOKEN, 200, "t").then(
        "GET http://[fd00:ec2::254]/latest/user-data",
        404,
        "",
    );
    let mode = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
    assert_eq!(
        Imds::new(&network, &clock, &mode).user_data().unwrap(),
        None
    );
}
