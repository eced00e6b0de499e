//! `k8s-authentication-validation`: the cluster accepts the node's credentials, as
//! the kubelet will show them.

use std::time::Duration;

use serde_json::Value;

use super::{Finding, Subject};
use crate::aws::credentials::{SessionRefusal, told};
use crate::credentials::Provider;
use crate::system::{self, NetworkError, Request, Task};

/// The program that makes tokens, as the kubeconfig names it.
const PROGRAM: &str = "/usr/local/bin/aws-iam-authenticator";

const LIMIT: Duration = Duration::from_secs(20);

const NO_TOKEN: &str = "look at the way to the service that gives the node its credentials, and at \
                        them: its certificate, or its registration with SSM";

const PATH: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if subject.config.spec.cluster.api_server_endpoint.is_empty() {
        return Ok(Finding::skipped("the cluster's endpoint is not known"));
    }
    let cluster = &subject.config.spec.cluster;
    let mut task = Task::new(PROGRAM, &["token", "--cluster-id", &cluster.name], LIMIT)
        .and(&["--region", &cluster.region])
        .with_variable("HOME", "/root");
    match subject.provider() {
        Some(Provider::IamRolesAnywhere(settings)) => {
            task = task
                .with_variable("AWS_PROFILE", "default")
                .with_variable("AWS_CONFIG_FILE", settings.aws_config_path);
        }
        Some(Provider::Ssm(_)) => {}
        _ => return Ok(Finding::skipped("only for hybrid nodes")),
    }
    for (name, value) in subject.variables.proxies() {
        task = task.with_variable(name, value);
    }
    task.limit = subject.at_most(LIMIT);
    let ended = match subject.system.run(&task) {
        Err(error @ system::Error::Deadline { .. }) => {
            return Ok(Finding::failed_for_now(error.to_string(), NO_TOKEN));
        }
        ended => ended?,
    };
    let document: Value = serde_json::from_str(&ended.output).unwrap_or_default();
    let Some(token) = document["status"]["token"]
        .as_str()
        .filter(|_| ended.success)
    else {
        // The signing helper, which it runs, says it through it.
        if let Some(refusal) = SessionRefusal::find(&ended.errors)
            && !refusal.is_transient()
        {
            return Ok(Finding::failed(
                format!("IAM Roles Anywhere gives no session: {}", refusal.reason),
                refusal.hint(),
            ));
        }
        // Its output may hold a token; what it says of errors does not.
        let said = told(&ended.errors);
        return Ok(Finding::failed_for_now(
            format!("{PROGRAM} makes no token: {said}"),
            NO_TOKEN,
        ));
    };
    Ok(ask(subject, token))
}

fn ask(subject: &Subject<'_>, token: &str) -> Finding {
    let cluster = &subject.config.spec.cluster;
    let url = format!(
        "{}{PATH}",
        cluster.api_server_endpoint.trim_end_matches('/')
    );
    let request = Request {
        limit: subject.at_most(LIMIT),
        authorities: cluster.certificate_authority_pem(),
        ..Request::new("GET", url)
    };
    let request = request.header("authorization", format!("Bearer {token}"));
    match subject.system.send(&request).map(|answer| answer.status) {
        Ok(200) => Finding::ok("the cluster accepts the node"),
        Ok(401) => Finding::failed(
            "the cluster does not know the node (401)",
            "aws eks create-access-entry --type HYBRID_LINUX for the node's role",
        ),
        Ok(403) => Finding::failed(
            "the cluster knows the node, but does not let it read (403)",
            "the access entry must have the type HYBRID_LINUX, or the groups of nodes",
        ),
        Ok(status) => Finding::failed_for_now(
            format!("the cluster answers {status}"),
            "look at the cluster's health",
        ),
        Err(error @ NetworkError::Tls { .. }) => Finding::failed_for_now(
            error.to_string(),
            "spec.cluster.certificateAuthority has to be that of this cluster, and the clock right",
        ),
        Err(error) => Finding::failed_for_now(
            error.to_string(),
            "look at spec.cluster.apiServerEndpoint and certificateAuthority, and at the way there",
        ),
    }
}
