//! The AWS configuration of IAM Roles Anywhere: two profiles, the second of which
//! older add-ons name.

use super::node::{self, Node};
use super::quoting::shell_word;
use super::{Error, Facts, File, Part};
use crate::credentials::{self, Provider, Settings};
use crate::node_config::NodeConfig;

pub(super) fn file(node: &Node<'_>) -> Option<File> {
    let Some(Provider::IamRolesAnywhere(settings)) = node.provider() else {
        return None;
    };
    Some(written(settings, node.region, &node.name, node.facts))
}

/// The same before the cluster is known: with it EKS is asked about the cluster.
pub(super) fn alone(config: &NodeConfig, facts: &Facts) -> Result<Option<File>, Error> {
    let provider = credentials::provider(config)?;
    let Provider::IamRolesAnywhere(settings) = &provider else {
        return Ok(None);
    };
    let region = &config.spec.cluster.region;
    let name = node::hybrid_name(&provider, facts)?;
    node::one_line("spec.cluster.region", region)?;
    for (field, value) in settings.fields() {
        node::one_line(field, value)?;
    }
    node::one_line("the node's name", &name)?;
    Ok(Some(written(settings, region, &name, facts)))
}

fn written(settings: &Settings<'_>, region: &str, name: &str, facts: &Facts) -> File {
    let command = format!(
        "/usr/local/bin/aws_signing_helper credential-process --certificate {} --private-key {} \
         --trust-anchor-arn {} --profile-arn {} --role-arn {} --role-session-name {}{}",
        shell_word(settings.certificate_path),
        shell_word(settings.private_key_path),
        shell_word(settings.trust_anchor_arn),
        shell_word(settings.profile_arn),
        shell_word(settings.role_arn),
        shell_word(name),
        if facts.proxied { " --with-proxy" } else { "" },
    );
    let content = format!(
        "[profile default]\nregion = {region}\ncredential_process = {command}\n\n\
         # hybrid profile is maintained for backwards compatibility, nodeadm no longer uses it\n\
         [profile hybrid]\nregion = {region}\ncredential_process = {command}\n"
    );
    File::public(settings.aws_config_path, Part::Credentials, content)
}
