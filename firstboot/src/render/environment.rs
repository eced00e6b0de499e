//! `spec.instance.environment`: variables for the whole system (`default`) or for
//! one service, as drop-ins of systemd (EC2 only).

use std::collections::BTreeMap;

use super::node::Node;
use super::quoting::unit_assignment;
use super::{Error, File, Part};

pub(super) fn files(node: &Node<'_>) -> Result<Vec<File>, Error> {
    if !node.is_ec2() {
        return Ok(Vec::new());
    }
    let environment = &node.config.spec.instance.environment;
    let mut files = Vec::new();
    for (service, variables) in environment {
        if variables.is_empty() {
            continue;
        }
        check(service, variables)?;
        files.push(if service == "default" {
            file(
                "/etc/systemd/system.conf.d/environment.conf",
                Part::Manager,
                ("Manager", "DefaultEnvironment"),
                variables,
            )
        } else {
            let part = match service.as_str() {
                "containerd" => Part::Containerd,
                "kubelet" => Part::Kubelet,
                _ => Part::Manager,
            };
            file(
                &format!("/etc/systemd/system/{service}.service.d/environment.conf"),
                part,
                ("Service", "Environment"),
                variables,
            )
        });
    }
    Ok(files)
}

fn file(
    path: &str,
    part: Part,
    (section, key): (&str, &str),
    variables: &BTreeMap<String, String>,
) -> File {
    let mut content = format!("[{section}]\n");
    for (name, value) in variables {
        content.push_str(&format!("{key}={}\n", unit_assignment(name, value)));
    }
    File::public(path, part, content)
}

/// The folder and the lines are made of these: nothing may lead out of them.
fn check(service: &str, variables: &BTreeMap<String, String>) -> Result<(), Error> {
    let field = "spec.instance.environment";
    let is_service = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if service.is_empty() || !service.bytes().all(is_service) {
        return Err(Error::field(field, "names something that is no service"));
    }
    for (name, value) in variables {
        let is_name = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || value.chars().any(char::is_control) {
            return Err(Error::field(
                field,
                "holds a variable that cannot stand in an environment",
            ));
        }
    }
    Ok(())
}
