use super::super::pretended::{Around, redirect, response, silence};
use super::super::source::SEED_URL;
use super::*;
use crate::system::Route;

const URL: &str = "https://seeds.example/a/user-data?key=s3cr3t";
const ASKED: &str = "GET https://seeds.example/a/user-data?key=s3cr3t";

fn get(around: &Around) -> Result<Vec<u8>, (String, bool)> {
    fetch(URL, SEED_URL, around).map_err(|answer| match answer {
        Answer::Unusable {
            problem,
            hint,
            may_pass,
        } => {
            assert!(!hint.is_empty());
            assert!(!problem.contains("s3cr3t"), "{problem}");
            (problem, may_pass)
        }
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_server_that_comes_up_late_is_waited_for() {
    let down = Err(NetworkError::Name {
        host: "seeds.example".into(),
        reason: "no such name".into(),
    });
    let around = Around::default()
        .answer(ASKED, down)
        .answer(ASKED, Ok(response(503, "")))
        .answer(ASKED, silence())
        .body(ASKED, 200, "seed");
    assert_eq!(get(&around).unwrap(), b"seed");
    assert!(around.time.get() <= SEED_URL);
    let requests = around.requests.borrow();
    assert!(requests.iter().all(|it| it.route == Route::Proxied));
}

#[test]
fn what_stays_away_is_given_up_in_time_and_may_pass() {
    let name = NetworkError::Name {
        host: "seeds.example".into(),
        reason: "no such name".into(),
    };
    let proxy = NetworkError::Proxy {
        proxy: "proxy:3128".into(),
        reason: "407".into(),
    };
    let tls = NetworkError::Tls {
        host: "seeds.example".into(),
        reason: "the certificate is not valid yet".into(),
    };
    for (answer, told) in [
        (Err(name), "the name seeds.example cannot be resolved"),
        (Err(proxy), "the proxy proxy:3128 refuses: 407"),
        (Err(tls), "cannot be trusted"),
        (silence(), "did not answer"),
        (Ok(response(500, "")), "answers 500"),
    ] {
        let around = Around::default().answer(ASKED, answer);
        let (problem, may_pass) = get(&around).unwrap_err();
        assert!(may_pass && problem.contains(told), "{problem}");
        assert!(around.time.get() <= SEED_URL, "{:?}", around.time.get());
    }
}

#[test]
fn what_will_not_change_is_told_at_once() {
    for status in [204, 400, 401, 403, 404, 410] {
        let around = Around::default().body(ASKED, status, "");
        let (problem, may_pass) = get(&around).unwrap_err();
        let told = format!("https://seeds.example/a/user-data answers {status}");
        assert_eq!((problem, may_pass), (told, false));
        assert_eq!(around.asked().len(), 1);
    }
    let around = Around::default().body(ASKED, 200, &"x".repeat(MAXIMUM_FILE as usize + 1));
    let (problem, may_pass) = get(&around).unwrap_err();
    assert!(!may_pass && problem.ends_with("is larger than 16 MiB"));
    let around = Around::default().body(ASKED, 200, &"x".repeat(MAXIMUM_FILE as usize));
    assert_eq!(get(&around).unwrap().len() as u64, MAXIMUM_FILE);
}

#[test]
fn redirects_are_followed_but_never_from_https_to_http_and_not_for_ever() {
    for (location, target) in [
        ("https://b.example/x", "https://b.example/x"),
        ("//b.example/x", "https://b.example/x"),
        ("/x?y", "https://seeds.example/x?y"),
    ] {
        let around = Around::default()
            .answer(ASKED, redirect(302, location))
            .body(&format!("GET {target}"), 200, "seed");
        assert_eq!(get(&around).unwrap(), b"seed", "{location}");
    }
    let around = Around::default().answer(ASKED, redirect(301, "http://seeds.example/"));
    let (problem, may_pass) = get(&around).unwrap_err();
    assert!(!may_pass && problem.ends_with("redirects from https to http"));
    let around = Around::default().answer(ASKED, redirect(307, URL));
    let (problem, _) = get(&around).unwrap_err();
    assert!(
        problem.ends_with("redirects more than 5 times"),
        "{problem}"
    );
    for location in ["", "relative", "ftp://x/", "file:///etc/shadow"] {
        let around = Around::default().answer(ASKED, redirect(308, location));
        let (problem, _) = get(&around).unwrap_err();
        assert!(problem.contains("cannot be followed"), "{problem}");
    }
}
