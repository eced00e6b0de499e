//! Credentials from an endpoint that a container or pod is given (AWS SDKs and tools
//! reference guide, "Container credential provider").

use std::net::IpAddr;

use super::{Answer, Credentials, CredentialsError, NEAR, Source};
use crate::system::{Files, Network, Request, Route, Url, Variables};

/// Where relative URIs begin: the agent of ECS.
const ECS: &str = "http://169.254.170.2";

/// Hosts that are allowed without TLS besides those of the machine itself: the agents
/// of ECS and of EKS Pod Identity.
const ALLOWED: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// Longest token that is read, in bytes.
const LONGEST_TOKEN: usize = 64 << 10;

/// The endpoint that `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or
/// `AWS_CONTAINER_CREDENTIALS_FULL_URI` names.
#[allow(missing_debug_implementations)] // Holds traits.
pub struct Container<'a> {
    /// What asks it.
    pub network: &'a dyn Network,
    /// Where the token's file is read.
    pub files: &'a dyn Files,
    /// The environment.
    pub variables: &'a Variables,
}

impl Container<'_> {
    fn url(&self) -> Result<Option<String>, &'static str> {
        if let Some(path) = self.variables.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            if !path.starts_with('/') {
                return Err("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash");
            }
            return Ok(Some(format!("{ECS}{path}")));
        }
        let Some(full) = self.variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") else {
            return Ok(None);
        };
        let url = Url::parse(full)
            .map_err(|_| "AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL that can be used")?;
        let address: Option<IpAddr> = url.host.parse().ok();
        let is_allowed = url.is_https
            || url.host == "localhost"
            || address.is_some_and(|it| it.is_loopback())
            || ALLOWED.contains(&url.host.as_str());
        if !is_allowed {
            return Err(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that is asked over https only",
            );
        }
        Ok(Some(full.to_owned()))
    }

    fn token(&self) -> Result<Option<String>, String> {
        let text = match self.variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            None => self
                .variables
                .get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
                .map(ToOwned::to_owned),
            Some(path) => {
                let read = self.files.read(path, LONGEST_TOKEN);
                let bytes = read.map_err(|error| error.to_string())?;
                let bytes = bytes.ok_or_else(|| format!("there is no {path}"))?;
                Some(String::from_utf8_lossy(&bytes).trim().to_owned())
            }
        };
        match text {
            Some(token) if token.chars().any(char::is_control) => {
                Err("its token holds characters that no token has".into())
            }
            text => Ok(text),
        }
    }
}

impl Source for Container<'_> {
    fn name(&self) -> String {
        "the container's endpoint".into()
    }

    fn find(&self) -> Result<Option<Credentials>, CredentialsError> {
        let origin = self.name();
        let failed = |reason: String| CredentialsError::lasting(&origin, reason);
        let Some(url) = self.url().map_err(|reason| failed(reason.into()))? else {
            return Ok(None);
        };
        let mut request = Request::new("GET", url).header("accept", "application/json");
        request.route = Route::Direct;
        request.limit = NEAR;
        request.most = 64 << 10;
        if let Some(token) = self.token().map_err(failed)? {
            request = request.header("authorization", token);
        }
        let answer = self
            .network
            .send(&request)
            .map_err(|error| CredentialsError::network(&origin, &error))?;
        if answer.status != 200 {
            return Err(CredentialsError::status(&origin, answer.status));
        }
        Answer::read(&origin, &answer.body)?
            .credentials(&origin)
            .map(Some)
    }
}
