//! Signed calls, tried again while the service is busy.

use super::credentials::Credentials;
use super::endpoints::{Service, endpoint};
use super::error::{About, AwsError, refused};
use super::retry::{Budget, retry};
use super::signature::{Scope, sign};
use crate::system::{Clock, Network, Request, Url, Variables};

/// Largest answer that is read, in bytes.
const MOST: usize = 1 << 20;

/// Asks the services of one region with one set of credentials.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // Holds traits.
pub struct Client<'a> {
    /// What sends.
    pub network: &'a dyn Network,
    /// What waits, and what dates signatures.
    pub clock: &'a dyn Clock,
    /// Where the services are.
    pub variables: &'a Variables,
    /// The region.
    pub region: &'a str,
    /// What is signed with.
    pub credentials: &'a Credentials,
    /// How long one call is tried.
    pub budget: Budget,
}

/// A call, as it is before it is signed.
pub(super) struct Call<'a> {
    pub service: Service,
    /// Such as `eks:DescribeCluster`.
    pub operation: &'static str,
    pub method: &'static str,
    /// Path and query, encoded.
    pub target: String,
    /// `x-amz-target` of services that have it.
    pub action: Option<&'static str>,
    pub content_type: Option<&'static str>,
    pub body: String,
    /// What it is about, such as `cluster blue`.
    pub subject: &'a str,
}

impl<'a> Call<'a> {
    /// A call of the query protocol of EC2 and STS: a form.
    pub fn form(
        service: Service,
        operation: &'static str,
        parameters: &[(&str, &str)],
        subject: &'a str,
    ) -> Self {
        let pairs: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", super::signature::encode(value)))
            .collect();
        Self {
            service,
            operation,
            method: "POST",
            target: "/".into(),
            action: None,
            content_type: Some("application/x-www-form-urlencoded; charset=utf-8"),
            body: pairs.join("&"),
            subject,
        }
    }
}

impl Client<'_> {
    /// Makes a call and gives the body of its answer.
    pub(super) fn call(&self, call: &Call<'_>) -> Result<Vec<u8>, AwsError> {
        let base = endpoint(call.service, self.region, self.variables);
        let url =
            Url::parse(&format!("{base}{}", call.target)).map_err(|reason| AwsError::Unusable {
                reason: format!(
                    "the endpoint of {} cannot be used: {reason}",
                    call.service.name()
                ),
                hint: "check AWS_ENDPOINT_URL, its variants, and spec.cluster.region",
                is_transient: false,
            })?;
        let about = About {
            operation: call.operation,
            region: self.region,
            subject: call.subject,
        };
        let scope = Scope {
            region: self.region,
            service: call.service.name(),
        };
        retry(self.clock, self.budget, AwsError::is_transient, |left| {
            let mut request = Request::new(call.method, format!("{base}{}", call.target));
            request.limit = request.limit.min(left);
            request.most = MOST;
            request.body = call.body.clone().into_bytes();
            if let Some(content_type) = call.content_type {
                request = request.header("content-type", content_type);
            }
            if let Some(action) = call.action {
                request = request.header("x-amz-target", action);
            }
            let now = self.clock.now();
            let host = url.authority();
            let signed = sign(request, &host, &url.target, self.credentials, scope, now);
            let answer = self
                .network
                .send(&signed)
                .map_err(|source| AwsError::Network {
                    operation: call.operation,
                    source,
                })?;
            match answer.status {
                200..=299 => Ok(answer.body),
                _ => Err(refused(&answer, about, self.clock.now())),
            }
        })
    }
}
