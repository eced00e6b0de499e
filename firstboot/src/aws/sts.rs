//! Who one is.

use super::client::{Call, Client};
use super::endpoints::Service;
use super::error::AwsError;
use super::xml;

const OPERATION: &str = "sts:GetCallerIdentity";

/// The caller, as AWS sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Such as `arn:aws:sts::123456789012:assumed-role/node/mi-0123`.
    pub arn: String,
    /// Twelve digits.
    pub account: String,
}

impl Caller {
    /// The name of the role that was assumed, if one was.
    pub fn role(&self) -> Option<&str> {
        let resource = self.arn.splitn(6, ':').nth(5)?;
        resource.strip_prefix("assumed-role/")?.split('/').next()
    }
}

impl Client<'_> {
    /// Who signs (`sts:GetCallerIdentity`, which nobody has to be allowed).
    pub fn caller(&self) -> Result<Caller, AwsError> {
        let body = self.call(&Call::form(
            Service::Sts,
            OPERATION,
            &[("Action", "GetCallerIdentity"), ("Version", "2011-06-15")],
            "caller",
        ))?;
        let document = xml::parse(&body)
            .ok_or_else(|| AwsError::answer(OPERATION, "is no XML that can be read"))?;
        let result = xml::find(document.root(), "GetCallerIdentityResult");
        let text = |name| {
            result
                .and_then(|it| xml::child(it, name))
                .map(ToOwned::to_owned)
        };
        match (text("Arn"), text("Account")) {
            (Some(arn), Some(account)) => Ok(Caller { arn, account }),
            _ => Err(AwsError::answer(OPERATION, "names nobody")),
        }
    }
}
