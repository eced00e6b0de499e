//! First boot as a process, in a network of its own, against the cloud of the tests.

use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{Machine, ROLES_ANYWHERE, hybrid};

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);

#[test]
fn a_node_whose_cluster_is_described_asks_nobody_for_it() {
    let machine = Machine::new(PROGRAMS, &World::sample(), &[]);
    machine.certify();
    let config = hybrid(&machine.described(), ROLES_ANYWHERE);
    machine.write("etc/nodekiln/nodeconfig.yaml", &config, 0o600);
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert!(
        ran.console.contains("nodekiln-firstboot: done in "),
        "{}",
        ran.console
    );
    let endpoint = machine.cloud.url(Service::Cluster);
    assert!(
        machine
            .read("var/lib/kubelet/kubeconfig")
            .contains(endpoint)
    );
    assert_eq!(
        machine.read("etc/kubernetes/pki/ca.crt"),
        std::fs::read_to_string(machine.cloud.file("ca.pem")).unwrap()
    );
    // Whether the API server can be reached may be tried; EKS is not asked.
    let asked = machine.cloud.record();
    let to_aws: Vec<_> = asked
        .iter()
        .filter(|one| one.service != Service::Cluster)
        .collect();
    assert!(to_aws.is_empty(), "{to_aws:?}");
    assert_eq!(machine.status()["state"], "done");
}
