//! `ssm-api-network` and `iam-ra-api-network`: the service that gives the node its
//! credentials takes connections.

use super::api_server_endpoint::{host_and_port, reach, unreached};
use super::{Finding, Subject};
use crate::credentials::Provider;
use crate::render::dns_suffix;
use crate::system;

pub(super) fn look_at_ssm(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    Ok(match subject.provider() {
        Some(Provider::Ssm(_)) => look(subject, "ssm", "AWS_ENDPOINT_URL_SSM"),
        _ => Finding::skipped("only for nodes with spec.hybrid.ssm"),
    })
}

pub(super) fn look_at_roles_anywhere(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    Ok(match subject.provider() {
        Some(Provider::IamRolesAnywhere(_)) => {
            look(subject, "rolesanywhere", "AWS_ENDPOINT_URL_ROLESANYWHERE")
        }
        _ => Finding::skipped("only for nodes with spec.hybrid.iamRolesAnywhere"),
    })
}

fn look(subject: &Subject<'_>, service: &str, variable: &str) -> Finding {
    let region = subject.config.spec.cluster.region.as_str();
    let given = subject.variables.first(&[variable, "AWS_ENDPOINT_URL"]);
    let url = given.map_or_else(
        || format!("https://{service}.{region}.{}", dns_suffix(region)),
        ToOwned::to_owned,
    );
    let Some((host, port)) = host_and_port(&url) else {
        return Finding::failed(
            format!("{variable} or AWS_ENDPOINT_URL is no URL"),
            "give it as https://HOST",
        );
    };
    match reach(subject, &host, port) {
        Ok(()) => Finding::ok(format!("{host}:{port} takes connections")),
        Err(error) => unreached(&error),
    }
}
