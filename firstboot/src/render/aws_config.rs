//! The AWS configuration of IAM Roles Anywhere: two profiles, the second of which
//! older add-ons name.

use super::node::Node;
use super::quoting::shell_word;
use super::{File, Part};
use crate::credentials::Provider;

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let Some(Provider::IamRolesAnywhere(settings)) = node.provider() else {
        return None;
    };
    let region = node.region;
    let command = format!(
        "/usr/local/bin/aws_signing_helper credential-process --certificate {} --private-key {} \
         --trust-anchor-arn {} --profile-arn {} --role-arn {} --role-session-name {}{}",
        shell_word(settings.certificate_path),
        shell_word(settings.private_key_path),
        shell_word(settings.trust_anchor_arn),
        shell_word(settings.profile_arn),
        shell_word(settings.role_arn),
        shell_word(&node.name),
        if node.facts.proxied {
            " --with-proxy"
        } else {
            ""
        },
    );
    let content = format!(
        "[profile default]\nregion = {region}\ncredential_process = {command}\n\n\
         # hybrid profile is maintained for backwards compatibility, nodeadm no longer uses it\n\
         [profile hybrid]\nregion = {region}\ncredential_process = {command}\n"
    );
    Some(File::public(
        settings.aws_config_path,
        Part::Credentials,
        content,
    ))
}
