//! How AWS says no: one reason, in the dialect of each service.

use serde_json::json;

use super::message::{Answer, escaped};

/// The protocols in which services write errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON with the code in a header: EKS, Roles Anywhere.
    RestJson,
    /// JSON with the code in `__type`: Systems Manager, ECR.
    Json,
    /// XML of the query protocol: STS.
    Query,
    /// XML of EC2.
    Ec2,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing proves who asks.
    NoSignature,
    /// The proof lacks a part, or a part is malformed.
    Incomplete(String),
    /// Nobody has this access key, or its session token is another.
    UnknownKey,
    /// The credentials are no longer valid.
    ExpiredToken,
    /// The date is too far from now.
    Clock(String),
    /// The signature is another, or is for somebody else.
    Signature(String),
    /// Who asks may not: the principal and what it wanted to do.
    Forbidden {
        /// ARN of who asks.
        principal: String,
        /// Such as `eks:DescribeCluster`.
        action: String,
        /// ARN of what it is about.
        resource: String,
    },
    /// The service has no such operation.
    UnknownAction(String),
    /// An error of the service itself.
    Own {
        /// Such as 404.
        status: u16,
        /// Such as `ResourceNotFoundException`.
        code: &'static str,
        /// The sentence.
        message: String,
    },
}

impl Refusal {
    /// An error of the service itself.
    pub fn own(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self::Own {
            status,
            code,
            message: message.into(),
        }
    }

    /// The code, in the words of a dialect.
    pub fn code(&self, dialect: Dialect) -> &'static str {
        use Dialect::{Ec2, Json, Query, RestJson};
        match (self, dialect) {
            (Self::Own { code, .. }, _) => code,
            (Self::NoSignature, RestJson | Json) => "MissingAuthenticationTokenException",
            (Self::NoSignature, Query) => "MissingAuthenticationToken",
            (Self::NoSignature | Self::UnknownKey, Ec2) => "AuthFailure",
            (Self::Incomplete(_), RestJson | Json) => "IncompleteSignatureException",
            (Self::Incomplete(_), Query | Ec2) => "IncompleteSignature",
            (Self::UnknownKey, RestJson | Json) => "UnrecognizedClientException",
            (Self::UnknownKey, Query) => "InvalidClientTokenId",
            (Self::ExpiredToken, RestJson | Json) => "ExpiredTokenException",
            (Self::ExpiredToken, Query) => "ExpiredToken",
            (Self::ExpiredToken | Self::Clock(_), Ec2) => "RequestExpired",
            (Self::Clock(_) | Self::Signature(_), RestJson | Json) => "InvalidSignatureException",
            (Self::Clock(_) | Self::Signature(_), Query) | (Self::Signature(_), Ec2) => {
                "SignatureDoesNotMatch"
            }
            (Self::Forbidden { .. }, RestJson | Json) => "AccessDeniedException",
            (Self::Forbidden { .. }, Query) => "AccessDenied",
            (Self::Forbidden { .. }, Ec2) => "UnauthorizedOperation",
            (Self::UnknownAction(_), RestJson | Json) => "UnknownOperationException",
            (Self::UnknownAction(_), Query | Ec2) => "InvalidAction",
        }
    }

    fn status(&self, dialect: Dialect) -> u16 {
        match (self, dialect) {
            (Self::Own { status, .. }, _) => *status,
            (Self::UnknownAction(_), Dialect::RestJson) => 404,
            (Self::NoSignature | Self::UnknownKey, Dialect::Ec2) => 401,
            (Self::ExpiredToken | Self::Clock(_) | Self::UnknownAction(_), Dialect::Ec2)
            | (_, Dialect::Json)
            | (Self::UnknownAction(_), Dialect::Query) => 400,
            _ => 403,
        }
    }

    fn message(&self, dialect: Dialect) -> String {
        match self {
            Self::NoSignature if dialect == Dialect::Query => {
                "Request is missing Authentication Token".into()
            }
            Self::NoSignature => "Missing Authentication Token".into(),
            Self::UnknownKey if dialect == Dialect::Ec2 => {
                "AWS was not able to validate the provided access credentials".into()
            }
            Self::UnknownKey => "The security token included in the request is invalid.".into(),
            Self::ExpiredToken => "The security token included in the request is expired".into(),
            Self::Clock(_) if dialect == Dialect::Ec2 => "Request has expired.".into(),
            Self::Incomplete(text) | Self::Clock(text) | Self::Signature(text) => text.clone(),
            Self::Forbidden {
                principal,
                action,
                resource,
            } => format!(
                "User: {principal} is not authorized to perform: {action} on resource: {resource}"
            ),
            Self::UnknownAction(action) => {
                format!("The action {action} is not valid for this web service.")
            }
            Self::Own { message, .. } => message.clone(),
        }
    }
}

impl Dialect {
    /// The refusal as this dialect writes it.
    pub fn answer(self, refusal: &Refusal) -> Answer {
        let (status, code) = (refusal.status(self), refusal.code(self));
        let message = refusal.message(self);
        match self {
            Self::RestJson => {
                Answer::json(status, &json!({ "message": message })).with("x-amzn-errortype", code)
            }
            Self::Json => {
                let body = json!({ "__type": code, "message": message });
                Answer::of(status, "application/x-amz-json-1.1", body.to_string())
            }
            Self::Query => Answer::xml(
                status,
                &format!(
                    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                     <Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error>\
                     <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>",
                    escaped(&message)
                ),
            ),
            Self::Ec2 => Answer::xml(
                status,
                &format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error>\
                     </Errors><RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>",
                    escaped(&message)
                ),
            ),
        }
    }
}
