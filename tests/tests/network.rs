//! The network that machines of the tests are in: which names lead where, and that
//! nothing else is there. That DHCP serves guests is shown by those that boot.

use std::net::Ipv4Addr;
use std::path::Path;

use nodekiln_tests::cloud::Service;
use nodekiln_tests::network::{AWS, CLUSTER, Network, Place};

const REGION: &str = "us-west-2";

/// The addresses that the system's own resolver finds in the network.
fn addresses(network: &Network, name: &str) -> Vec<String> {
    let mut command = network.command(Path::new("getent"));
    let output = command.args(["ahostsv4", name]).output();
    let output = String::from_utf8(output.expect("getent starts").stdout).expect("UTF-8");
    let streams = output.lines().filter(|line| line.contains("STREAM"));
    streams
        .filter_map(|line| line.split_whitespace().next())
        .map(String::from)
        .collect()
}

#[test]
fn only_the_names_of_aws_and_of_the_cluster_lead_somewhere() {
    let mut network = Network::new(REGION, &[]);
    let host = |service: Service| service.host(REGION).expect("it has a name");
    let sts = host(Service::Sts);
    assert_eq!(addresses(&network, &sts), [AWS.to_string()]);
    let cluster = host(Service::Cluster);
    assert_eq!(addresses(&network, &cluster), [CLUSTER.to_string()]);
    let registry = "111122223333.dkr.ecr.us-west-2.amazonaws.com";
    assert_eq!(addresses(&network, registry), [AWS.to_string()]);
    for name in [
        "example.com",
        "amazonaws.com",
        "sts.eu-west-1.amazonaws.com",
    ] {
        assert!(addresses(&network, name).is_empty(), "{name}");
    }
    network.stop_names();
    assert!(addresses(&network, &sts).is_empty());
    network.start_names();
    assert_eq!(addresses(&network, &sts), [AWS.to_string()]);
}

#[test]
fn a_machine_is_cut_off_by_its_interface() {
    let place = Place {
        tap: "machine",
        mac: "52:54:00:10:01:11",
        address: Ipv4Addr::new(10, 1, 1, 11),
    };
    let network = Network::new(REGION, &[place]);
    let is_up = || {
        let mut command = network.command(Path::new("ip"));
        let output = command.args(["link", "show", place.tap]).output();
        let said = String::from_utf8(output.expect("ip starts").stdout).expect("UTF-8");
        assert!(said.contains("master br0"), "{said}");
        said.contains(",UP")
    };
    assert!(is_up());
    network.cut(&place, true);
    assert!(!is_up());
    network.cut(&place, false);
    assert!(is_up());
}
