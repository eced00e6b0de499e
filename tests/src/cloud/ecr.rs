//! ECR: the password that a registry takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::message::{Answer, Asked};
use super::refusal::Refusal;
use super::state::{Password, random};
use super::{Service, State, registry, signature_v4};

/// How long a password is good for, in seconds.
const VALIDITY: i64 = 12 * 3600;

const PREFIX: &str = "AmazonEC2ContainerRegistry_V20150921.";

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    let key = signature_v4::verify(state, asked, Service::Ecr)?;
    let target = asked.header("x-amz-target").unwrap_or_default();
    if target.strip_prefix(PREFIX) != Some("GetAuthorizationToken") || asked.method != "POST" {
        return Err(Refusal::UnknownAction(target.into()));
    }
    state.permit(&key, "ecr:GetAuthorizationToken", "*")?;
    let world = state.lock().world.clone();
    let (password, end) = (random(), state.now() + VALIDITY);
    let token = STANDARD.encode(format!("{}:{password}", registry::USER));
    let given = Password { key, end };
    state.lock().passwords.insert(password, given);
    let body = json!({ "authorizationData": [{
        "authorizationToken": token,
        "expiresAt": end,
        "proxyEndpoint": format!("https://{}.dkr.ecr.{}.amazonaws.com", world.account, world.region),
    }]});
    Ok(Answer::of(
        200,
        "application/x-amz-json-1.1",
        body.to_string(),
    ))
}
