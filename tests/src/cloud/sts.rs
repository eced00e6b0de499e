//! STS: who am I. Also as the presigned URL that a token of aws-iam-authenticator is.

use serde_json::json;

use super::message::{Answer, Asked, escaped};
use super::refusal::Refusal;
use super::{Service, State, signature_v4};

/// The version of the protocol.
pub const VERSION: &str = "2011-06-15";

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    let key = signature_v4::verify(state, asked, Service::Sts)?;
    if asked.path != "/" || !matches!(asked.method.as_str(), "GET" | "POST") {
        return Err(Refusal::UnknownAction(asked.path.clone()));
    }
    let action = asked
        .field("Action")
        .ok_or_else(|| Refusal::own(400, "MissingAction", "Action is missing."))?;
    if action != "GetCallerIdentity" || asked.field("Version").as_deref() != Some(VERSION) {
        return Err(Refusal::UnknownAction(action));
    }
    let account = state.lock().world.account.clone();
    if asked.header("accept") == Some("application/json") {
        let body = json!({ "GetCallerIdentityResponse": {
            "GetCallerIdentityResult": {
                "Account": account, "Arn": key.principal, "UserId": key.user_id,
            },
            "ResponseMetadata": { "RequestId": "00000000-0000-0000-0000-000000000000" },
        }});
        return Ok(Answer::json(200, &body));
    }
    Ok(Answer::xml(
        200,
        &format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/{VERSION}/\">\
             <GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult><ResponseMetadata>\
             <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>",
            escaped(&key.principal),
            escaped(&key.user_id)
        ),
    ))
}
