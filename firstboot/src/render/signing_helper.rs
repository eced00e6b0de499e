//! The unit that keeps the credentials file for pods fresh
//! (`spec.hybrid.enableCredentialsFile`).

use super::node::Node;
use super::quoting::unit_word;
use super::{File, Part};
use crate::credentials::Provider;

/// Name of the unit.
pub const UNIT: &str = "aws_signing_helper_update.service";

/// File that it keeps fresh.
pub(super) const CREDENTIALS: &str = "/eks-hybrid/.aws/credentials";

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let Some(Provider::IamRolesAnywhere(settings)) = node.provider() else {
        return None;
    };
    if !node
        .config
        .spec
        .hybrid
        .as_ref()
        .is_some_and(|hybrid| hybrid.enable_credentials_file)
    {
        return None;
    }
    let options = [
        ("--certificate", settings.certificate_path),
        ("--private-key", settings.private_key_path),
        ("--trust-anchor-arn", settings.trust_anchor_arn),
        ("--profile-arn", settings.profile_arn),
        ("--role-arn", settings.role_arn),
        ("--role-session-name", &node.name),
        ("--region", node.region),
    ]
    .map(|(option, value)| format!("        {option} {}", unit_word(value)))
    .join(" \\\n");
    let proxy = if node.facts.proxied {
        " --with-proxy"
    } else {
        ""
    };
    let content = format!(
        "[Unit]
Description=Service that runs aws_signing_helper update to keep the AWS credentials refreshed in {CREDENTIALS}.

[Service]
User=root
Environment=AWS_SHARED_CREDENTIALS_FILE={CREDENTIALS}
ExecStart=/usr/local/bin/aws_signing_helper update \\
{options}{proxy}
StandardOutput=journal
StandardError=journal
Restart=always
RestartSec=10
CPUAccounting=true
MemoryAccounting=true

[Install]
WantedBy=multi-user.target
"
    );
    Some(File::public(
        format!("/etc/systemd/system/{UNIT}"),
        Part::Credentials,
        content,
    ))
}
