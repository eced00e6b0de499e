//! What goes wrong around a machine that joins is told at the console within a minute,
//! with what to do, and stands in the status; once it is mended, the machine joins.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{BY_NAME, Machine, ROLES_ANYWHERE, hybrid};
use nodekiln_tests::judges::judge;

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);
const CONFIG: &str = "etc/nodekiln/nodeconfig.yaml";
const MINUTE: Duration = Duration::from_secs(60);

/// How much of the cluster the NodeConfig says.
#[derive(Clone, Copy, PartialEq)]
enum Cluster {
    /// All.
    Given,
    /// Nothing: EKS is asked.
    Asked,
}

/// A machine of a site with the programs of AWS, to which the names of AWS lead to the
/// cloud.
fn machine(cluster: Cluster) -> Machine {
    let mut world = World::sample();
    let host = Service::Cluster.host(&world.region).expect("it has a name");
    world.clusters[0].endpoint = Some(format!("https://{host}"));
    let machine = Machine::new(PROGRAMS, &world, &["--names", "127.0.0.1:443"]);
    machine.name(&[
        Service::RolesAnywhere,
        Service::Eks,
        Service::Sts,
        Service::Cluster,
    ]);
    machine.certify();
    for (program, at) in [
        ("signing-helper", "usr/local/bin/aws_signing_helper"),
        ("authenticator", "usr/local/bin/aws-iam-authenticator"),
    ] {
        machine.install(&judge(program), at);
    }
    let lines = match cluster {
        Cluster::Given => {
            let described = machine.described();
            described.replace(
                machine.cloud.url(Service::Cluster),
                &format!("https://{host}"),
            )
        }
        Cluster::Asked => String::new(),
    };
    machine.write(CONFIG, &hybrid(&lines, ROLES_ANYWHERE), 0o600);
    machine
}

/// It is told with these words at the console, and the first of them stands in the
/// status; mended, the machine joins.
fn assert_told(machine: &Machine, told: &[&str], mend: impl FnOnce(&Machine)) {
    let console = machine.boot_until_told(&BY_NAME, told, MINUTE);
    let line = console.lines().last().expect("a line");
    assert!(line.contains("; hint: "), "{line}");
    let status = machine.status().to_string();
    assert!(status.contains(told[0]), "{}: {status}", told[0]);
    mend(machine);
    let ran = machine.boot(&BY_NAME);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
}

fn without_faults(machine: &Machine) {
    machine.cloud.faults(&[]);
}

#[test]
fn a_control_plane_that_is_down_is_told() {
    for (kind, told) in [
        (Kind::Close, "cannot be reached"),
        (Kind::Status(503), "the cluster answers 503"),
    ] {
        let machine = machine(Cluster::Given);
        let fault = Fault::of(Service::Cluster, kind, 0);
        machine.cloud.faults(&[fault]);
        assert_told(&machine, &[told], without_faults);
    }
}

#[test]
fn a_control_plane_that_says_nothing_is_told() {
    let machine = machine(Cluster::Given);
    let fault = Fault::of(Service::Cluster, Kind::Hang, 0);
    machine.cloud.faults(&[fault]);
    assert_told(&machine, &["did not answer"], without_faults);
}

#[test]
fn a_wrong_authority_is_told() {
    let machine = machine(Cluster::Given);
    let right = machine.read(CONFIG);
    let wrong = STANDARD.encode(Authority::new("another cluster").certificate);
    let line = right
        .lines()
        .find_map(|line| line.split_once("certificateAuthority: "));
    let (_, authority) = line.expect("an authority");
    machine.write(CONFIG, &right.replace(authority, &wrong), 0o600);
    let told = [
        "signed by no authority that is given",
        "certificateAuthority",
    ];
    assert_told(&machine, &told, |machine| {
        machine.write(CONFIG, &right, 0o600);
    });
}

#[test]
fn a_token_that_is_refused_is_told() {
    let machine = machine(Cluster::Given);
    let role = "arn:aws:iam::111122223333:role/hybrid-node";
    machine
        .cloud
        .change(|world| world.clusters[0].access_entries.clear());
    let reason = "the cluster does not know the node (401)";
    let told = [reason, "create-access-entry", "--skip"];
    assert_told(&machine, &told, |machine| {
        machine
            .cloud
            .change(|world| world.clusters[0].access_entries = vec![role.into()]);
    });
}

#[test]
fn a_clock_that_is_off_by_an_hour_is_told() {
    for (cluster, told) in [
        (Cluster::Given, "the clock is "),
        (Cluster::Asked, "Signature "),
    ] {
        for ahead in [3600, -3600] {
            let machine = machine(cluster);
            machine.cloud.change(|world| world.clock_ahead = ahead);
            assert_told(&machine, &[told, "clock"], |machine| {
                machine.cloud.change(|world| world.clock_ahead = 0);
            });
        }
    }
}

#[test]
fn an_endpoint_of_credentials_that_is_down_is_told() {
    for cluster in [Cluster::Given, Cluster::Asked] {
        for (kind, told) in [
            (Kind::Close, "rolesanywhere.us-west-2.amazonaws.com"),
            (Kind::Status(503), "503"),
        ] {
            let machine = machine(cluster);
            let fault = Fault::of(Service::RolesAnywhere, kind, 0);
            machine.cloud.faults(&[fault]);
            assert_told(&machine, &[told], without_faults);
        }
    }
}

#[test]
fn an_endpoint_of_credentials_that_says_nothing_is_told() {
    for cluster in [Cluster::Given, Cluster::Asked] {
        let machine = machine(cluster);
        let fault = Fault::of(Service::RolesAnywhere, Kind::Hang, 0);
        machine.cloud.faults(&[fault]);
        assert_told(&machine, &["did not end within"], without_faults);
    }
}

#[test]
fn a_name_server_that_is_down_is_told() {
    // One that refuses, and one that is silent.
    let helper = "lookup rolesanywhere.us-west-2.amazonaws.com on";
    for (cluster, server, told) in [
        (Cluster::Given, "127.0.0.1", "no DNS server answers"),
        (Cluster::Given, "10.20.30.1", "no DNS server answers"),
        (Cluster::Asked, "127.0.0.1", helper),
        (Cluster::Asked, "10.20.30.1", "did not end within"),
    ] {
        let machine = machine(cluster);
        let hosts = machine.read("etc/hosts");
        machine.write("etc/hosts", "127.0.0.1 localhost\n", 0o644);
        let resolver = format!("nameserver {server}\n");
        machine.write("etc/resolv.conf", &resolver, 0o644);
        assert_told(&machine, &[told], |machine| {
            machine.write("etc/hosts", &hosts, 0o644);
        });
    }
}
