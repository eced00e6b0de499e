//! Names of a local cluster on an Outpost in /etc/hosts: its nodes find the API
//! while the way to the region, and with it name resolution, is cut.

use super::Facts;
use crate::node_config::model::NodeConfig;

/// Ends each line that is ours.
const MARK: &str = "# written by nodekiln firstboot";

/// The text of /etc/hosts with the cluster's addresses; `None` when it needs no
/// change. Lines of our own are replaced, all others stay as they are.
pub fn hosts(config: &NodeConfig, facts: &Facts, current: &str) -> Option<String> {
    let mut text: String = current
        .split_inclusive('\n')
        .filter(|line| !line.trim_end().ends_with(MARK))
        .collect();
    if config.spec.cluster.enable_outpost == Some(true)
        && let Some(host) = api_server_host(&config.spec.cluster.api_server_endpoint)
        && !facts.api_server_addresses.is_empty()
    {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut addresses = facts.api_server_addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            text.push_str(&format!("{address}\t{host}\t{MARK}\n"));
        }
    }
    (text != current).then_some(text)
}

/// The host in an URL; `None` when it is an address already, or none that could
/// stand in a line of /etc/hosts.
pub fn api_server_host(endpoint: &str) -> Option<&str> {
    let (_, rest) = endpoint.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains(['@', '[']) {
        return None;
    }
    let host = authority.split(':').next()?;
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && host.parse::<std::net::IpAddr>().is_err();
    is_name.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    const BEFORE: &str = "127.0.0.1 localhost\n# mine";

    fn outpost() -> (NodeConfig, Facts) {
        let mut config = samples::ec2();
        config.spec.cluster.enable_outpost = Some(true);
        config.spec.cluster.api_server_endpoint = "https://api.example:443/x".into();
        let facts = Facts {
            api_server_addresses: ["10.0.0.2", "10.0.0.1", "10.0.0.2"]
                .map(|address| address.parse().unwrap())
                .into(),
            ..Facts::default()
        };
        (config, facts)
    }

    #[test]
    fn addresses_are_written_once_and_replaced_when_they_change() {
        let (mut config, mut facts) = outpost();
        let written = hosts(&config, &facts, BEFORE).unwrap();
        assert_eq!(
            written,
            "127.0.0.1 localhost\n# mine\n\
             10.0.0.1\tapi.example\t# written by nodekiln firstboot\n\
             10.0.0.2\tapi.example\t# written by nodekiln firstboot\n"
        );
        assert_eq!(hosts(&config, &facts, &written), None);
        facts.api_server_addresses = vec!["fd00::1".parse().unwrap()];
        let moved = hosts(&config, &facts, &written).unwrap();
        assert_eq!(
            moved,
            "127.0.0.1 localhost\n# mine\nfd00::1\tapi.example\t# written by nodekiln firstboot\n"
        );
        config.spec.cluster.enable_outpost = None;
        assert_eq!(
            hosts(&config, &facts, &moved).unwrap(),
            "127.0.0.1 localhost\n# mine\n"
        );
    }

    #[test]
    fn a_cluster_in_a_region_needs_no_line() {
        let (mut config, facts) = outpost();
        config.spec.cluster.enable_outpost = Some(false);
        assert_eq!(hosts(&config, &facts, BEFORE), None);
    }

    #[test]
    fn only_names_are_written() {
        for (endpoint, host) in [
            ("https://a.example", Some("a.example")),
            ("https://a.example:443", Some("a.example")),
            ("https://a.example/path:1", Some("a.example")),
            ("https://10.0.0.1", None),
            ("https://[fd00::1]:443", None),
            ("https://user@a.example", None),
            ("https://", None),
            ("https://a b", None),
            ("a.example", None),
        ] {
            assert_eq!(api_server_host(endpoint), host, "{endpoint}");
        }
    }
}
