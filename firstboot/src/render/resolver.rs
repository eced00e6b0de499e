//! `spec.instance.network`: a drop-in of systemd-resolved (EC2 only). It lies in
//! /run: after each start it is written anew.

use super::node::Node;
use super::{Error, File, Part};

const PATH: &str = "/run/systemd/resolved.conf.d/40-eks.conf";

pub(super) fn file(node: &Node<'_>) -> Result<Option<File>, Error> {
    let network = &node.config.spec.instance.network;
    if !node.is_ec2() || (network.nameservers.is_empty() && network.domains.is_empty()) {
        return Ok(None);
    }
    let mut content = String::from("[Resolve]\n");
    for (key, name, values) in [
        ("DNS", "nameservers", &network.nameservers),
        ("Domains", "domains", &network.domains),
    ] {
        if values.is_empty() {
            continue;
        }
        for value in values {
            if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Error::field(
                    &format!("spec.instance.network.{name}"),
                    "holds an empty value or a blank",
                ));
            }
        }
        content.push_str(&format!("{key}={}\n", values.join(" ")));
    }
    Ok(Some(File::public(PATH, Part::Resolver, content)))
}
