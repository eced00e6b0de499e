//! What must hold before a machine tries to join: nodeadm's static checks for both
//! flavours, and syntax that nodeadm leaves to fail later. All problems at once.

use std::net::IpAddr;

use super::model::{
    Cluster, DEFAULT_AWS_CONFIG_PATH, DEFAULT_CERTIFICATE_PATH, DEFAULT_PRIVATE_KEY_PATH, Hybrid,
    IamRolesAnywhere, Instance, NodeConfig, Ssm,
};
use super::node_name::{
    LONGEST_NODE_NAME, NODE_NAME_TEMPLATES, TemplatePart, node_name_problem, template_parts,
};
use super::{Problem, read_certificates, suggest, toml};

/// Fills the paths that were left out.
#[must_use]
pub fn with_defaults(mut config: NodeConfig) -> NodeConfig {
    let hybrid = config.spec.hybrid.as_mut();
    if let Some(anywhere) = hybrid.and_then(|hybrid| hybrid.iam_roles_anywhere.as_mut()) {
        for (path, default) in [
            (&mut anywhere.aws_config_path, DEFAULT_AWS_CONFIG_PATH),
            (&mut anywhere.certificate_path, DEFAULT_CERTIFICATE_PATH),
            (&mut anywhere.private_key_path, DEFAULT_PRIVATE_KEY_PATH),
        ] {
            if path.is_empty() {
                default.clone_into(path);
            }
        }
    }
    config
}

/// Everything that is wrong with a NodeConfig whose defaults are filled, as far as
/// it can be told without the machine. No value is ever repeated.
pub fn check(config: &NodeConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &config.spec;
    cluster(&spec.cluster, spec.hybrid.is_some(), &mut problems);
    flags(&spec.kubelet.flags, spec.hybrid.is_some(), &mut problems);
    if let Err(error) = toml::parse(&spec.containerd.config) {
        problems.push(not_toml("spec.containerd.config", &error));
    }
    match &spec.hybrid {
        Some(found) => hybrid(found, &mut problems),
        None => instance(&spec.instance, &mut problems),
    }
    problems
}

/// A text that is no TOML; line and column are those within the text.
pub(super) fn not_toml(field: &str, error: &toml::TomlError) -> Problem {
    Problem::new(field, format!("`{field}` is no TOML: {error}"))
        .with_hint("write it as containerd's own config.toml")
}

fn missing(field: &str) -> Problem {
    let name = field.rsplit('.').next().unwrap_or(field);
    Problem::new(field, format!("`{field}` is missing")).with_hint(format!("set `{name}`"))
}

fn cluster(cluster: &Cluster, hybrid: bool, problems: &mut Vec<Problem>) {
    const NAME: &str = "spec.cluster.name";
    const REGION: &str = "spec.cluster.region";
    if cluster.name.is_empty() {
        problems.push(missing(NAME));
    } else if !is_cluster_name(&cluster.name) {
        problems.push(
            Problem::new(NAME, format!("`{NAME}` is no name of an EKS cluster")).with_hint(
                "at most 100 letters, digits, hyphens and underscores; a letter or digit first",
            ),
        );
    }
    if hybrid && cluster.region.is_empty() {
        problems.push(missing(REGION).with_hint("name the AWS region, such as `eu-central-1`"));
    } else if !cluster
        .region
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        problems.push(
            Problem::new(REGION, format!("`{REGION}` is no name of an AWS region"))
                .with_hint("lower-case letters, digits and hyphens, such as `eu-central-1`"),
        );
    }
    endpoint(cluster, !hybrid, problems);
    authority(cluster, !hybrid, problems);
    cidr(cluster, !hybrid, problems);
    if cluster.enable_outpost == Some(true) && cluster.id.is_empty() {
        problems.push(
            missing("spec.cluster.id")
                .with_hint("a local cluster on an Outpost is addressed by its id"),
        );
    }
    if cluster
        .id
        .chars()
        .any(|character| !character.is_ascii_alphanumeric() && character != '-')
    {
        let field = "spec.cluster.id";
        problems.push(
            Problem::new(
                field,
                format!("`{field}` holds more than letters, digits and hyphens"),
            )
            .with_hint("copy `id` of `aws eks describe-cluster` as it is"),
        );
    }
}

fn is_cluster_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn endpoint(cluster: &Cluster, required: bool, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.cluster.apiServerEndpoint";
    let endpoint = &cluster.api_server_endpoint;
    if endpoint.is_empty() {
        if required {
            problems.push(missing(FIELD));
        }
        return;
    }
    let host = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"));
    let valid = host.is_some_and(|host| {
        !host.is_empty()
            && !host.starts_with(['/', ':'])
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]/%~".contains(&byte))
    });
    if !valid {
        problems.push(
            Problem::new(FIELD, format!("`{FIELD}` is no URL of a server"))
                .with_hint("begin with `https://`, as `aws eks describe-cluster` prints it"),
        );
    }
}

fn authority(cluster: &Cluster, required: bool, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.cluster.certificateAuthority";
    if cluster.certificate_authority.trim().is_empty() {
        if required {
            problems.push(missing(FIELD));
        }
        return;
    }
    let problem = match cluster.certificate_authority_pem() {
        None if cluster.certificate_authority.contains("-----BEGIN") => {
            Problem::new(FIELD, format!("`{FIELD}` is PEM, not base64"))
                .with_hint("encode the whole PEM text: `base64 -w0 ca.crt`")
        }
        None => Problem::new(FIELD, format!("`{FIELD}` is no standard base64"))
            .with_hint("copy `certificateAuthority.data` of `aws eks describe-cluster` as it is"),
        Some(pem) => match read_certificates(&pem) {
            Ok(_) => return,
            Err(error) => Problem::new(FIELD, format!("`{FIELD}` is not usable: {error}"))
                .with_hint("it must be the base64 of a bundle in PEM"),
        },
    };
    problems.push(problem);
}

fn cidr(cluster: &Cluster, required: bool, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.cluster.cidr";
    if cluster.cidr.is_empty() {
        if required {
            problems.push(missing(FIELD).with_hint("give the cluster's service CIDR"));
        }
        return;
    }
    if !is_cidr(&cluster.cidr) {
        problems.push(
            Problem::new(FIELD, format!("`{FIELD}` is no CIDR"))
                .with_hint("an address and a prefix length, such as `10.100.0.0/16`"),
        );
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let bits = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    plain && length.parse::<u8>().is_ok_and(|length| length <= bits)
}

fn flags(flags: &[String], hybrid: bool, problems: &mut Vec<Problem>) {
    for (index, flag) in flags.iter().enumerate() {
        let field = format!("spec.kubelet.flags[{index}]");
        if flag.chars().any(char::is_control) {
            let message = format!("`{field}` holds a line break or another control character");
            problems.push(Problem::new(field, message).with_hint("one flag is one line"));
            continue;
        }
        let name = flag.trim().trim_start_matches('-').split(['=', ' ']).next();
        if hybrid && flag.trim().starts_with('-') && name == Some("hostname-override") {
            let message = "the kubelet flag hostname-override is not supported on hybrid nodes";
            problems.push(Problem::new(field, message).with_hint(
                "the name comes from `iamRolesAnywhere.nodeName` or from the SSM registration",
            ));
        }
    }
}

fn hybrid(hybrid: &Hybrid, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.hybrid";
    match (&hybrid.iam_roles_anywhere, &hybrid.ssm) {
        (None, None) => problems.push(
            Problem::new(FIELD, "a hybrid node needs `iamRolesAnywhere` or `ssm`")
                .with_hint("give one of the two credential providers"),
        ),
        (Some(_), Some(_)) => problems.push(
            Problem::new(FIELD, "both `iamRolesAnywhere` and `ssm` are given")
                .with_hint("keep one of the two credential providers"),
        ),
        _ => {}
    }
    if let Some(anywhere) = &hybrid.iam_roles_anywhere {
        roles_anywhere(anywhere, problems);
    }
    if let Some(found) = &hybrid.ssm {
        ssm(found, problems);
    }
}

fn roles_anywhere(anywhere: &IamRolesAnywhere, problems: &mut Vec<Problem>) {
    const BASE: &str = "spec.hybrid.iamRolesAnywhere";
    for (name, value, service, resource) in [
        ("roleArn", &anywhere.role_arn, "iam", "role/"),
        (
            "profileArn",
            &anywhere.profile_arn,
            "rolesanywhere",
            "profile/",
        ),
        (
            "trustAnchorArn",
            &anywhere.trust_anchor_arn,
            "rolesanywhere",
            "trust-anchor/",
        ),
    ] {
        let field = format!("{BASE}.{name}");
        if value.is_empty() {
            problems.push(missing(&field));
        } else if !is_arn(value, service, resource) {
            let message = format!(
                "`{field}` is no ARN of a {}",
                resource.trim_end_matches('/')
            );
            problems.push(Problem::new(field, message).with_hint(format!(
                "it looks like `arn:aws:{service}:REGION:ACCOUNT:{resource}NAME`; are two swapped?"
            )));
        }
    }
    node_name(&anywhere.node_name, &format!("{BASE}.nodeName"), problems);
    for (name, path) in [
        ("awsConfigPath", &anywhere.aws_config_path),
        ("certificatePath", &anywhere.certificate_path),
        ("privateKeyPath", &anywhere.private_key_path),
    ] {
        let field = format!("{BASE}.{name}");
        if path.is_empty() {
            problems.push(missing(&field));
        } else if !is_plain_path(path) {
            let message = format!("`{field}` is no plain absolute path");
            problems.push(
                Problem::new(field, message)
                    .with_hint("begin with `/`; letters, digits and `._-+@:,=` only, and no `..`"),
            );
        }
    }
}

fn node_name(name: &str, field: &str, problems: &mut Vec<Problem>) {
    if name.is_empty() {
        problems.push(missing(field));
        return;
    }
    let parts = match template_parts(name) {
        Ok(parts) => parts,
        Err(problem) => {
            let known = NODE_NAME_TEMPLATES.map(|name| format!("`{{{{{name}}}}}`"));
            problems.push(
                Problem::new(field, format!("`{field}` {problem}"))
                    .with_hint(format!("known are {}", known.join(", "))),
            );
            return;
        }
    };
    // What a template gives is only known on the machine: a letter stands for it.
    let shortest: String = parts
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text,
            TemplatePart::Template(_) => "x",
        })
        .collect();
    if let Some(problem) = node_name_problem(&shortest) {
        let hint = if shortest.len() > LONGEST_NODE_NAME {
            "it is the name of the role's session too, which has this limit"
        } else {
            "letters, digits, hyphens and dots; a letter or digit first and last"
        };
        problems.push(Problem::new(field, format!("`{field}` {problem}")).with_hint(hint));
    }
}

fn is_arn(text: &str, service: &str, resource: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [prefix, partition, found, _region, account, rest] = parts.as_slice() else {
        return false;
    };
    *prefix == "arn"
        && partition.starts_with("aws")
        && *found == service
        && !account.is_empty()
        && rest
            .strip_prefix(resource)
            .is_some_and(|name| !name.is_empty())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":/._-+=,@".contains(&byte))
}

/// Whether a path can stand in units and AWS configuration without quoting.
fn is_plain_path(path: &str) -> bool {
    path.len() < 4096
        && path.starts_with('/')
        && !path.ends_with('/')
        && path.split('/').all(|component| component != "..")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,=".contains(&byte))
}

fn ssm(ssm: &Ssm, problems: &mut Vec<Problem>) {
    const CODE: &str = "spec.hybrid.ssm.activationCode";
    const ID: &str = "spec.hybrid.ssm.activationId";
    if ssm.activation_code.is_empty() {
        problems.push(missing(CODE));
    } else if !(20..=250).contains(&ssm.activation_code.chars().count())
        || ssm.activation_code.chars().any(char::is_control)
    {
        problems.push(
            Problem::new(
                CODE,
                format!("`{CODE}` is not 20 to 250 characters on one line"),
            )
            .with_hint("copy `ActivationCode` of `aws ssm create-activation` as it is"),
        );
    }
    if ssm.activation_id.is_empty() {
        problems.push(missing(ID));
    } else if !is_lower_uuid(&ssm.activation_id) {
        problems.push(
            Problem::new(ID, format!("`{ID}` is no UUID in lower case"))
                .with_hint("copy `ActivationId` of `aws ssm create-activation` as it is"),
        );
    }
}

fn is_lower_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn instance(instance: &Instance, problems: &mut Vec<Problem>) {
    let storage = &instance.local_storage;
    let mut one_of = |field: String, value: &str, known: &[&str]| {
        if !known.iter().any(|known| known.eq_ignore_ascii_case(value)) {
            let hint = match suggest::closest(value, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            problems.push(
                Problem::new(&*field, format!("`{field}` has an unknown value")).with_hint(hint),
            );
        }
    };
    if !storage.strategy.is_empty() {
        let field = "spec.instance.localStorage.strategy".to_owned();
        one_of(field, &storage.strategy, &["RAID0", "RAID10", "Mount"]);
    }
    for (index, mount) in storage.disabled_mounts.iter().enumerate() {
        let field = format!("spec.instance.localStorage.disabledMounts[{index}]");
        one_of(field, mount, &["Containerd", "PodLogs", "SOCI"]);
    }
    if !storage.mount_path.is_empty() && !is_plain_path(storage.mount_path.trim_end_matches('/')) {
        let field = "spec.instance.localStorage.mountPath";
        problems.push(
            Problem::new(field, format!("`{field}` is no plain absolute path"))
                .with_hint("begin with `/`; letters, digits and `._-+@:,=` only, and no `..`"),
        );
    }
    for (name, values) in [
        ("nameservers", &instance.network.nameservers),
        ("domains", &instance.network.domains),
    ] {
        for (index, value) in values.iter().enumerate() {
            let is_word = |c: char| !c.is_whitespace() && !c.is_control();
            if value.is_empty() || !value.chars().all(is_word) {
                let field = format!("spec.instance.network.{name}[{index}]");
                problems.push(
                    Problem::new(&*field, format!("`{field}` is not one word"))
                        .with_hint("give each as an entry of the list"),
                );
            }
        }
    }
    for (service, variables) in &instance.environment {
        let field = "spec.instance.environment";
        if service.is_empty() || !service.bytes().all(is_service_character) {
            let message = format!("a name in `{field}` is no name of a service");
            problems
                .push(Problem::new(field, message).with_hint("`default`, or such as `kubelet`"));
        }
        for (name, value) in variables {
            let starts =
                name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            // A line break would let one variable set others.
            if !starts || !is_name || value.chars().any(char::is_control) {
                let message = format!("a variable in `{field}` cannot stand in an environment");
                problems.push(
                    Problem::new(field, message)
                        .with_hint("names of letters, digits and underscores; values of one line"),
                );
            }
        }
    }
}

/// The characters of a unit's name (`systemd.unit(5)`).
fn is_service_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}
