use super::super::pretended::{Around, redirect, response, silence};
use super::*;
use crate::system::{NetworkError, Route};

fn ask(around: &Around) -> Answer {
    super::ask(around, &Variables::default())
}

const CONFIG: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: a}}\n";
const TOKEN: &str = "PUT http://169.254.169.254/latest/api/token";
const DATA: &str = "GET http://169.254.169.254/latest/user-data";
const TOKEN_6: &str = "PUT http://[fd00:ec2::254]/latest/api/token";
const DATA_6: &str = "GET http://[fd00:ec2::254]/latest/user-data";

fn service() -> Around {
    Around::default().body(TOKEN, 200, "t0ken==\n")
}

fn taken(answer: Answer) -> String {
    match answer {
        Answer::Config { origin, documents } => {
            assert_eq!(documents[0].bytes, CONFIG.as_bytes());
            origin
        }
        other => panic!("{other:?}"),
    }
}

/// Problem of an answer, and whether it may pass.
fn unusable(answer: Answer) -> (String, bool) {
    match answer {
        Answer::Unusable {
            problem, may_pass, ..
        } => (problem, may_pass),
        other => panic!("{other:?}"),
    }
}

fn nothing(answer: Answer) -> String {
    match answer {
        Answer::Nothing(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn user_data_is_taken_and_no_proxy_is_ever_used() {
    let around = service().body(DATA, 200, CONFIG);
    assert_eq!(taken(ask(&around)), ORIGIN);
    assert_eq!(around.asked(), [TOKEN, DATA]);
    let requests = around.requests.borrow();
    assert!(requests.iter().all(|it| it.route == Route::Direct));
}

#[test]
fn an_instance_with_ipv6_alone_is_asked_there() {
    let around = Around::default()
        .body(TOKEN_6, 200, "token")
        .body(DATA_6, 200, CONFIG);
    assert_eq!(taken(ask(&around)), ORIGIN);
    assert_eq!(around.asked(), [TOKEN, TOKEN_6, DATA_6]);
}

#[test]
fn a_service_that_hangs_is_given_up_in_time() {
    let around = Around::default()
        .answer(TOKEN, silence())
        .answer(TOKEN_6, silence());
    let (problem, may_pass) = unusable(ask(&around));
    assert!(may_pass && problem.contains("did not answer"), "{problem}");
    assert!(around.time.get() <= INSTANCE_METADATA);
    // The data may hang as well as the token.
    let around = service().answer(DATA, silence());
    assert!(unusable(ask(&around)).1);
    assert!(around.time.get() <= INSTANCE_METADATA);
}

#[test]
fn a_busy_or_broken_service_is_asked_again() {
    let half = Err(NetworkError::Connection {
        host: "169.254.169.254".into(),
        reason: "the answer broke off".into(),
    });
    for first in [
        Ok(response(503, "")),
        Ok(response(429, "")),
        Ok(response(401, "")),
        half,
        silence(),
    ] {
        let around = service().answer(DATA, first).body(DATA, 200, CONFIG);
        taken(ask(&around));
    }
    let around = service().body(DATA, 503, "");
    let (problem, may_pass) = unusable(ask(&around));
    assert!(may_pass && problem.ends_with("status 503"), "{problem}");
    assert!(around.time.get() <= INSTANCE_METADATA);
    // A service that never takes its own tokens is none.
    let around = service().body(DATA, 401, "");
    assert!(!unusable(ask(&around)).1);
    assert_eq!(around.asked(), [TOKEN, DATA, TOKEN, DATA]);
}

#[test]
fn no_user_data_and_a_service_turned_off_are_nothing() {
    let around = service().body(DATA, 404, "not found");
    assert_eq!(nothing(ask(&around)), "this instance has no user data");
    let around = Around::default().body(TOKEN, 403, "");
    let why = nothing(ask(&around));
    assert_eq!(why, "the instance metadata service is turned off");
    let around = service().body(DATA, 200, "#!/bin/sh\n");
    assert!(nothing(ask(&around)).ends_with("no NodeConfig in it: it is a script"));
}

#[test]
fn what_answers_in_another_way_is_not_ec2() {
    let around = Around::default().body(TOKEN, 404, "");
    let (problem, may_pass) = unusable(ask(&around));
    assert!(!may_pass && problem.ends_with("(status 404)"), "{problem}");
    let around = service().answer(DATA, redirect(302, "http://elsewhere/"));
    assert!(!unusable(ask(&around)).1);
    // An endless body is cut off by the limit of the request.
    let around = service().body(DATA, 200, &"#".repeat(1 << 24));
    let (problem, may_pass) = unusable(ask(&around));
    assert!(!may_pass && problem.contains("is larger than"), "{problem}");
    for token in ["", "two words", "line\r\nX-Other: a"] {
        let around = Around::default().body(TOKEN, 200, token);
        unusable(ask(&around));
        assert!(around.asked().iter().all(|it| it.starts_with("PUT")));
    }
}
