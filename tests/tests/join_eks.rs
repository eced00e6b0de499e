//! Hybrid nodes whose NodeConfig leaves out what the cluster is: first boot as a
//! process asks EKS, with credentials that it gets for a certificate. The programs of
//! AWS are the real ones where they sign, and the cloud of the tests checks what they
//! and first boot sign.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::state::Record;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{BY_NAME, Machine, ROLES_ANYWHERE, Ran, hybrid};
use nodekiln_tests::judges::judge;

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);
const CONFIG: &str = "etc/nodekiln/nodeconfig.yaml";
const HELPER: &str = "usr/local/bin/aws_signing_helper";
const KUBECONFIG: &str = "var/lib/kubelet/kubeconfig";
const AUTHORITY: &str = "etc/kubernetes/pki/ca.crt";
/// What of AWS a node of a site with certificates asks.
const ASKED: [Service; 4] = [
    Service::RolesAnywhere,
    Service::Eks,
    Service::Sts,
    Service::Cluster,
];

/// A machine of a site, in whose network the names of AWS lead to the cloud. Its
/// NodeConfig says no more of the cluster than its name and region.
fn machine() -> Machine {
    let mut world = World::sample();
    let host = Service::Cluster.host(&world.region).expect("it has a name");
    world.clusters[0].endpoint = Some(format!("https://{host}"));
    let machine = Machine::new(PROGRAMS, &world, &["--names", "127.0.0.1:443"]);
    machine.name(&ASKED);
    machine.certify();
    machine.install(&judge("signing-helper"), HELPER);
    machine.write(CONFIG, &hybrid("", ROLES_ANYWHERE), 0o600);
    machine
}

/// In place of the helper, keys that are always the same.
fn stand_in_for_helper(machine: &Machine, id: &str, secret: &str) {
    let script = format!(
        "#!/bin/sh\necho '{{\"Version\": 1, \"AccessKeyId\": \"{id}\", \"SecretAccessKey\": \
         \"{secret}\"}}'\n"
    );
    machine.write(HELPER, &script, 0o755);
}

/// Statuses of what a service was asked.
fn statuses(record: &[Record], service: Service, path: &str) -> Vec<u16> {
    let of = |one: &&Record| one.service == service && one.path == path;
    record.iter().filter(of).map(|one| one.status).collect()
}

fn assert_nobody_asked(machine: &Machine) {
    let record = machine.cloud.record();
    assert!(record.is_empty(), "{record:#?}");
}

fn authority(machine: &Machine) -> String {
    fs::read_to_string(machine.cloud.file("ca.pem")).expect("it was written")
}

fn assert_joined(machine: &Machine, ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert!(ran.console.contains("done in "), "{}", ran.console);
    let kubeconfig = machine.read(KUBECONFIG);
    let host = Service::Cluster.host("us-west-2").expect("it has a name");
    assert!(
        kubeconfig.contains(&format!("server: https://{host}\n")),
        "{kubeconfig}"
    );
    assert_eq!(machine.read(AUTHORITY), authority(machine));
    let config = machine.read("etc/kubernetes/kubelet/config.json");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["clusterDNS"], serde_json::json!(["10.100.0.10"]));
    assert_eq!(machine.status()["state"], "done");
}

/// The run ended with this exit code, and said why and what to do. Nothing was tried
/// again, and nothing of the node was written.
fn assert_failed(machine: &Machine, ran: &Ran, code: i32, told: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.console, ran.journal);
    let line = ran
        .console
        .lines()
        .find(|line| line.contains("nodekiln-firstboot: failed: "));
    let line = line.unwrap_or_else(|| unreachable!("{}", ran.console));
    for part in told {
        assert!(line.contains(part), "'{part}' is not in: {line}");
    }
    assert!(line.contains("; hint: "), "{line}");
    assert!(!ran.console.contains("trying again"), "{}", ran.console);
    assert!(!machine.path(KUBECONFIG).exists());
}

#[test]
fn what_the_node_config_leaves_out_is_what_eks_says() {
    let machine = machine();
    // The cluster takes the token that the real program makes.
    let authenticator = judge("authenticator");
    machine.install(&authenticator, "usr/local/bin/aws-iam-authenticator");
    let ran = machine.boot(&BY_NAME);
    assert_joined(&machine, &ran);
    let record = machine.cloud.record();
    let of = |service, path| statuses(&record, service, path);
    assert_eq!(of(Service::Eks, "/clusters/farm"), [200]);
    assert_eq!(of(Service::Eks, "/clusters/farm/access-entries"), [200]);
    // For first boot, and for the authenticator.
    assert!(of(Service::RolesAnywhere, "/sessions").len() >= 2);
    // First boot asks who it is, and the cluster asks whose the token is.
    assert!(of(Service::Sts, "/").len() >= 2);
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    assert_eq!(of(Service::Cluster, path), [200]);
    assert!(record.iter().all(|one| one.status < 400), "{record:#?}");
    for secret in ["ASIA", "BEGIN PRIVATE KEY", "k8s-aws-v1."] {
        assert!(!ran.journal.contains(secret), "{secret}: {}", ran.journal);
    }
    // A node that joined asks nobody when it starts again.
    let again = machine.boot(&BY_NAME);
    assert_joined(&machine, &again);
    assert_nobody_asked(&machine);
}

#[test]
fn what_the_node_config_says_holds_against_what_eks_says() {
    let machine = machine();
    let own = "    cidr: 172.20.0.0/16\n";
    machine.write(CONFIG, &hybrid(own, ROLES_ANYWHERE), 0o600);
    let ran = machine.boot(&BY_NAME);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    let config = machine.read("etc/kubernetes/kubelet/config.json");
    assert!(config.contains("172.20.0.10"), "{config}");
    assert_eq!(machine.read(AUTHORITY), authority(&machine));
}

#[test]
fn eks_is_asked_where_the_variable_says() {
    let machine = machine();
    // No name server and no file knows it.
    let others = [Service::RolesAnywhere, Service::Sts, Service::Cluster];
    machine.name(&others);
    let endpoint = machine.cloud.url(Service::Eks).to_owned();
    let variable = [("AWS_ENDPOINT_URL_EKS", &*endpoint)];
    let ran = machine.boot(&[&BY_NAME[..], &variable].concat());
    assert_joined(&machine, &ran);
    let record = machine.cloud.record();
    assert_eq!(statuses(&record, Service::Eks, "/clusters/farm"), [200]);
}

#[test]
fn a_private_authority_is_trusted_where_it_is_given() {
    let machine = machine();
    let key = &World::sample().keys[0];
    stand_in_for_helper(&machine, &key.access_key_id, &key.secret_access_key);
    let stranger = Authority::new("a stranger").certificate;
    machine.write("etc/ssl/certs/ca-certificates.crt", &stranger, 0o644);
    let told = [
        "eks.us-west-2.amazonaws.com",
        "signed by nobody whom this machine trusts",
        "/etc/nodekiln/ca.pem",
    ];
    assert_failed(&machine, &machine.boot(&BY_NAME), 4, &told);
    assert_nobody_asked(&machine);
    machine.write("etc/nodekiln/ca.pem", &authority(&machine), 0o644);
    assert_joined(&machine, &machine.boot(&BY_NAME));
}

#[test]
fn credentials_that_eks_refuses_are_told_at_once() {
    let machine = machine();
    let known = World::sample().keys[0].access_key_id.clone();
    for (id, code, hint) in [
        (
            &*known,
            "InvalidSignatureException",
            "the secret access key is not that of the access key ID",
        ),
        (
            "AKIAUNKNOWNEXAMPLE00",
            "UnrecognizedClientException",
            "the credentials are not known in us-west-2",
        ),
    ] {
        stand_in_for_helper(&machine, id, "another+secret/of+40+characters+00000000");
        let ran = machine.boot(&BY_NAME);
        let told = ["eks:DescribeCluster was refused", code, hint];
        assert_failed(&machine, &ran, 4, &told);
        assert!(!ran.console.contains("another+secret"), "{}", ran.console);
        assert!(!ran.journal.contains("another+secret"), "{}", ran.journal);
        let record = machine.cloud.record();
        assert_eq!(statuses(&record, Service::Eks, "/clusters/farm"), [403]);
    }
}

#[test]
fn a_role_that_may_not_describe_the_cluster_is_told_at_once() {
    let machine = machine();
    machine
        .cloud
        .change(|world| world.forbidden = vec!["eks:DescribeCluster".into()]);
    let told = [
        "AccessDeniedException",
        "must be allowed eks:DescribeCluster",
    ];
    assert_failed(&machine, &machine.boot(&BY_NAME), 4, &told);
    let record = machine.cloud.record();
    assert_eq!(statuses(&record, Service::Eks, "/clusters/farm"), [403]);
}

/// What aws_signing_helper says of it has two lines, and the code is not in the last.
#[test]
fn a_certificate_that_roles_anywhere_refuses_is_told_at_once() {
    let machine = machine();
    let other = Authority::new("another site").certificate;
    machine
        .cloud
        .change(|world| world.trust_anchors[0].certificate = other);
    let told = [
        "AccessDeniedException",
        "Untrusted certificate",
        "the trust anchor of spec.hybrid.iamRolesAnywhere",
    ];
    assert_failed(&machine, &machine.boot(&BY_NAME), 4, &told);
    let record = machine.cloud.record();
    assert_eq!(
        statuses(&record, Service::RolesAnywhere, "/sessions"),
        [403]
    );
    assert_eq!(record.len(), 1, "{record:#?}");
}

#[test]
fn a_cluster_that_is_not_there_is_told_at_once() {
    let machine = machine();
    let config = hybrid("", ROLES_ANYWHERE).replace("name: farm", "name: wood");
    machine.write(CONFIG, &config, 0o600);
    let told = [
        "No cluster found for name: wood.",
        "there is no cluster wood in us-west-2 for this account: check spec.cluster.name",
    ];
    assert_failed(&machine, &machine.boot(&BY_NAME), 2, &told);
    let record = machine.cloud.record();
    assert_eq!(statuses(&record, Service::Eks, "/clusters/wood"), [404]);
}

#[test]
fn what_passes_is_tried_again() {
    let machine = machine();
    for (what, kind, times, first) in [
        ("too many requests", Kind::Throttle, 2, vec![429, 429]),
        ("a server that fails", Kind::Status(500), 1, vec![500]),
        ("a closed connection", Kind::Close, 1, vec![0]),
    ] {
        for folder in ["var/lib/nodekiln", "var/lib/kubelet"] {
            let _ = fs::remove_dir_all(machine.path(folder));
        }
        machine
            .cloud
            .faults(&[Fault::of(Service::Eks, kind, times).at("/clusters/farm")]);
        assert_joined(&machine, &machine.boot(&BY_NAME));
        let record = machine.cloud.record();
        let mut statuses = statuses(&record, Service::Eks, "/clusters/farm");
        assert_eq!(statuses.pop(), Some(200), "{what}: {record:#?}");
        assert_eq!(statuses, first, "{what}");
    }
}

#[test]
fn a_cluster_that_is_being_made_is_waited_for() {
    let machine = machine();
    machine
        .cloud
        .change(|world| world.clusters[0].status = "CREATING".into());
    let told = "cluster farm is not active, but";
    let ran = machine.boot_until(&BY_NAME, told, |machine| {
        machine
            .cloud
            .change(|world| world.clusters[0].status = "ACTIVE".into());
    });
    assert_joined(&machine, &ran);
    assert!(ran.console.contains("trying again"), "{}", ran.console);
}

#[test]
fn a_role_without_an_access_entry_is_told_before_anything_is_written() {
    let machine = machine();
    machine
        .cloud
        .change(|world| world.clusters[0].access_entries.clear());
    let told = [
        "cluster-access-validation",
        "the cluster has no access entry for the role hybrid-node",
        "aws eks create-access-entry",
    ];
    let ran = machine.boot(&BY_NAME);
    assert_failed(&machine, &ran, 4, &told);
}

/// The base64 in a NodeConfig is that of what is written.
#[test]
fn the_authority_of_a_cluster_is_written_as_it_is() {
    let machine = machine();
    let own = Authority::new("the cluster").certificate;
    machine
        .cloud
        .change(|world| world.clusters[0].certificate_authority = Some(own.clone()));
    machine.write(
        "etc/nodekiln/skip-validations",
        "k8s-authentication-validation\n",
        0o644,
    );
    let ran = machine.boot(&BY_NAME);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert_eq!(machine.read(AUTHORITY), own);
    let remembered = machine.read("var/lib/nodekiln/firstboot/cluster.json");
    assert!(remembered.contains(&STANDARD.encode(own)), "{remembered}");
}
