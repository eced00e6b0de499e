//! The image registry.

use serde::Deserialize;

use super::client::{Call, Client};
use super::endpoints::Service;
use super::error::AwsError;

const TOKEN: &str = "ecr:GetAuthorizationToken";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    authorization_data: Vec<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    authorization_token: String,
}

impl Client<'_> {
    /// What the registries of a region take for user and password
    /// (`ecr:GetAuthorizationToken`), in base64: a secret.
    pub fn authorization_token(&self) -> Result<String, AwsError> {
        let body = self.call(&Call {
            service: Service::Ecr,
            operation: TOKEN,
            method: "POST",
            target: "/".into(),
            action: Some("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"),
            content_type: Some("application/x-amz-json-1.1"),
            body: "{}".into(),
            subject: "token",
        })?;
        let is_base64 = |it: &u8| it.is_ascii_alphanumeric() || b"+/=".contains(it);
        // Why it cannot be read is not told: it may be the secret.
        let answered: Option<Answered> = serde_json::from_slice(&body).ok();
        answered
            .and_then(|it| it.authorization_data.into_iter().next())
            .map(|it| it.authorization_token)
            .filter(|token| !token.is_empty() && token.bytes().all(|it| is_base64(&it)))
            .ok_or_else(|| AwsError::answer(TOKEN, "has no token"))
    }
}
