//! The API server of the cluster, as far as a node that joins needs it. Whoever shows
//! no token, or one that STS refuses, or has no access entry, is told no more than a
//! stranger. A node may look at the cluster and register itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::message::{Answer, Asked};
use super::serve::record;
use super::world::World;
use super::{Service, State};

/// The token of the authenticator's stand-in, which signs nothing.
const OF_STAND_IN: &str = "k8s-aws-v1.c3RhbmQtaW4";

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Answer {
    if matches!(asked.path.as_str(), "/livez" | "/readyz" | "/healthz") {
        return Answer::text(200, "ok");
    }
    let token = asked
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| token == OF_STAND_IN || may_enter(state, asked, token)) {
        return failure(401, "Unauthorized", "Unauthorized");
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/api/v1/namespaces/default/endpoints/kubernetes") => {
            Answer::json(200, &json!({"kind": "Endpoints", "apiVersion": "v1"}))
        }
        // What is made is answered, in whatever encoding it came.
        ("POST", "/api/v1/nodes") => {
            let kind = asked.header("content-type").unwrap_or("application/json");
            Answer::of(201, kind, asked.body.clone())
        }
        _ => failure(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    Answer::json(code, &body)
}

/// Whether a token is a URL that STS accepts for one of the clusters, and whom it
/// speaks for has an access entry there.
fn may_enter(state: &State, asked: &Asked, token: &str) -> bool {
    let World {
        region, clusters, ..
    } = state.lock().world.clone();
    clusters.iter().any(|cluster| {
        let caller = caller(state, asked, token, &region, &cluster.name);
        caller.as_deref().and_then(role).is_some_and(|role| {
            let entries = cluster.access_entries.iter();
            entries
                .filter_map(|entry| entry.split_once(":role/"))
                .any(|(_, entry)| entry.rsplit('/').next() == Some(role))
        })
    })
}

/// Asks STS whom a token speaks for, as the server's own authenticator does.
fn caller(
    state: &State,
    asked: &Asked,
    token: &str,
    region: &str,
    cluster: &str,
) -> Option<String> {
    let url = URL_SAFE_NO_PAD.decode(token.strip_prefix("k8s-aws-v1.")?);
    let url = String::from_utf8(url.ok()?).ok()?;
    let (host, target) = url.strip_prefix("https://")?.split_once('/')?;
    if Service::named(host, region) != Some(Service::Sts) {
        return None;
    }
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let question = Asked {
        method: "GET".into(),
        path: "/".into(),
        query: target.strip_prefix('?')?.into(),
        headers: vec![
            header("host", host),
            header("accept", "application/json"),
            header("x-k8s-aws-id", cluster),
        ],
        body: Vec::new(),
        from: asked.from,
    };
    let answer = Service::Sts.answer(state, &question);
    record(state, Service::Sts, &question, &answer);
    if answer.status != 200 {
        return None;
    }
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let result = &body["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    result["Arn"].as_str().map(String::from)
}

/// `NAME` of `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`.
fn role(arn: &str) -> Option<&str> {
    let (_, session) = arn.split_once(":assumed-role/")?;
    session.split('/').next()
}
