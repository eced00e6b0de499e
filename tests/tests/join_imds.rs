//! EC2 instances by version 2 of the metadata service, which is as slow, cut off and
//! wrong as it can be: first boot as a process, in a network of its own.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{Machine, ROLES_ANYWHERE, Ran, hybrid};

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);
/// The longest that a search takes, with what the rest of the run needs on a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(90);
const TOKEN: &str = "/latest/api/token";
const DATA: &str = "/latest/user-data";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
const FLAGS: &str = "etc/eks/kubelet/environment";
/// The name and the provider id of the sample's instance.
const NAME: &str = "ip-10-1-2-3.us-west-2.compute.internal";
const PROVIDER_ID: &str = "aws:///us-west-2a/i-0123456789abcdef0";

/// A machine without a NodeConfig of its own; `config` makes the user data of it.
fn machine(config: impl FnOnce(&Machine) -> Option<String>) -> Machine {
    let machine = Machine::new(PROGRAMS, &World::sample(), &[]);
    let data = config(&machine);
    machine.cloud.change(|world| {
        let instance = world.instance.as_mut().expect("an instance");
        instance.user_data = data;
    });
    machine
}

/// An EC2 instance, with all of the cluster in its user data.
fn instance() -> Machine {
    machine(|machine| {
        Some(format!(
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
             name: farm\n{}",
            machine.described()
        ))
    })
}

/// A machine that has not joined yet, for another run.
fn forget(machine: &Machine) {
    for folder in ["var/lib/nodekiln", "etc/eks/kubelet"] {
        let _ = fs::remove_dir_all(machine.path(folder));
    }
    assert!(!machine.path(FLAGS).exists());
}

fn assert_joined(machine: &Machine, ran: &Ran, what: &str) {
    assert_eq!(
        ran.code,
        Some(0),
        "{what}: {}\n{}",
        ran.console,
        ran.journal
    );
    let flags = machine.read(FLAGS);
    let name = format!("--hostname-override={NAME}");
    assert!(flags.contains(&name), "{what}: {flags}");
    let config = machine.read("etc/kubernetes/kubelet/config.json");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["providerID"], PROVIDER_ID, "{what}");
}

/// The run failed with this exit code, said why and what to do, and wrote no node.
fn assert_failed(machine: &Machine, ran: &Ran, what: &str, code: i32, told: &str) {
    let said = &ran.console;
    assert_eq!(ran.code, Some(code), "{what}: {said}\n{}", ran.journal);
    let line = said
        .lines()
        .find(|line| line.contains("nodekiln-firstboot: failed: "));
    let line = line.unwrap_or_else(|| unreachable!("{what}: {said}"));
    assert!(line.contains(told), "{what}: {line}");
    assert!(line.contains("; hint: "), "{what}: {line}");
    assert!(!machine.path(FLAGS).exists(), "{what}");
}

/// What the metadata service was asked for, and how it answered.
fn asked(machine: &Machine) -> Vec<(String, u16)> {
    let record = machine.cloud.record().into_iter();
    record.map(|one| (one.path, one.status)).collect()
}

#[test]
fn an_instance_joins_by_what_its_metadata_service_says() {
    let machine = instance();
    let ran = machine.boot(&[]);
    assert_joined(&machine, &ran, "nothing is wrong");
    let asked = asked(&machine);
    for path in [TOKEN, DATA, DOCUMENT] {
        assert!(asked.contains(&(path.into(), 200)), "{path}: {asked:?}");
    }
    // No question goes out without a token.
    assert!(asked.iter().all(|(_, status)| *status != 401), "{asked:?}");
    let config = machine.read("etc/kubernetes/kubelet/config.json");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["maxPods"], 29, "an m5.large: {config}");
    assert!(
        !asked.iter().any(|(path, _)| path == "/"),
        "nobody asks EC2's API: {asked:?}"
    );
    assert_eq!(config["clusterDNS"], serde_json::json!(["10.100.0.10"]));
    let kubeconfig = machine.read("var/lib/kubelet/kubeconfig");
    let endpoint = machine.cloud.url(Service::Cluster);
    assert!(kubeconfig.contains(endpoint), "{kubeconfig}");
    assert!(
        machine.read("etc/kubernetes/pki/ca.crt")
            == fs::read_to_string(machine.cloud.file("ca.pem")).expect("it was written")
    );
    assert!(
        machine
            .read("run/active.kubelet.service")
            .contains("started")
    );
}

#[test]
fn a_node_that_joined_starts_again_while_its_metadata_service_is_silent() {
    let machine = instance();
    assert_joined(&machine, &machine.boot(&[]), "the first boot");
    machine
        .cloud
        .faults(&[Fault::of(Service::Imds, Kind::Close, 0)]);
    let again = machine.boot(&[]);
    assert_joined(&machine, &again, "the second boot");
    assert!(
        again.console.contains("this node stays as it is"),
        "{}",
        again.console
    );
}

#[test]
fn what_is_wrong_for_a_moment_is_tried_again() {
    let machine = instance();
    for (what, kind, times, path) in [
        ("no token twice", Kind::Status(503), 2, TOKEN),
        ("no data once", Kind::Status(503), 1, DATA),
        ("the token is not taken", Kind::Status(401), 1, DATA),
        ("half a body", Kind::HalfBody, 1, DATA),
        ("half a token", Kind::HalfBody, 1, TOKEN),
        ("a body that stops", Kind::StalledBody, 1, DATA),
        ("a closed connection", Kind::Close, 1, TOKEN),
        ("too many requests", Kind::Throttle, 1, TOKEN),
        ("a hanging token", Kind::Hang, 1, TOKEN),
        ("half a document", Kind::HalfBody, 1, DOCUMENT),
        ("no document twice", Kind::Status(500), 2, DOCUMENT),
    ] {
        forget(&machine);
        machine
            .cloud
            .faults(&[Fault::of(Service::Imds, kind, times).at(path)]);
        let ran = machine.boot(&[]);
        assert_joined(&machine, &ran, what);
    }
}

#[test]
fn what_will_not_pass_is_told_at_once_with_what_to_do() {
    let machine = instance();
    for (kind, path, code, told) in [
        (Kind::Status(404), TOKEN, 2, "gives no token (status 404)"),
        (Kind::Status(400), TOKEN, 2, "gives no token (status 400)"),
        (Kind::Status(401), DATA, 2, "with status 401"),
        (Kind::Status(403), DATA, 2, "with status 403"),
        (Kind::EndlessBody, DATA, 2, "is larger than"),
        (Kind::EndlessBody, TOKEN, 2, "is larger than"),
        (Kind::Nonsense, "", 2, "does not speak HTTP"),
        (Kind::Status(404), DOCUMENT, 2, "gives no identity document"),
    ] {
        forget(&machine);
        machine
            .cloud
            .faults(&[Fault::of(Service::Imds, kind, 0).at(path)]);
        let begun = Instant::now();
        let ran = machine.boot(&[]);
        let what = format!("{kind:?} at {path}");
        assert!(begun.elapsed() < LIMIT / 3, "{what}: {:?}", begun.elapsed());
        assert_failed(&machine, &ran, &what, code, told);
        // What answers, answers: nobody has to look for a service that is silent.
        assert!(!ran.console.contains("does not answer"), "{}", ran.console);
    }
}

#[test]
fn metadata_that_stays_away_ends_in_time_as_what_may_pass() {
    let wrong = [
        (Kind::Hang, TOKEN, "did not answer within"),
        (Kind::Status(503), TOKEN, "gives no token (status 503)"),
        (Kind::StalledBody, DATA, "did not answer within"),
        (Kind::HalfBody, DATA, "does not answer"),
    ];
    // Each takes all the time that a search has.
    thread::scope(|scope| {
        for (kind, path, told) in wrong {
            scope.spawn(move || {
                let machine = instance();
                machine
                    .cloud
                    .faults(&[Fault::of(Service::Imds, kind, 0).at(path)]);
                let begun = Instant::now();
                let ran = machine.boot(&[]);
                let what = format!("{kind:?} at {path}");
                assert!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
                assert_failed(&machine, &ran, &what, 6, told);
                // Then it passes, and the unit tries again.
                machine.cloud.faults(&[]);
                assert_joined(&machine, &machine.boot(&[]), &what);
            });
        }
    });
}

#[test]
fn an_instance_without_a_node_config_says_what_its_user_data_is() {
    for (data, told) in [
        (None, "this instance has no user data"),
        (Some("#cloud-config\npackages: []\n"), "no NodeConfig in it"),
    ] {
        let machine = machine(|_| data.map(String::from));
        let ran = machine.boot(&[]);
        assert_failed(&machine, &ran, told, 2, told);
    }
    let machine = instance();
    machine
        .cloud
        .faults(&[Fault::of(Service::Imds, Kind::Status(403), 0).at(TOKEN)]);
    let told = "the instance metadata service is turned off";
    assert_failed(&machine, &machine.boot(&[]), told, 2, told);
}

/// What EC2's API was asked, and how it answered.
fn asked_of_ec2(machine: &Machine) -> Vec<(Option<String>, u16)> {
    let record = machine.cloud.record().into_iter();
    let record = record.filter(|one| one.service == Service::Ec2);
    record.map(|one| (one.action, one.status)).collect()
}

#[test]
fn an_instance_whose_network_has_a_domain_is_named_by_ec2s_api() {
    let machine = instance();
    machine.cloud.change(|world| {
        let instance = world.instance.as_mut().expect("an instance");
        instance.host_name = Some("ip-10-1-2-3.corp.example".into());
        instance.name_comes_after = 1;
    });
    assert_joined(&machine, &machine.boot(&[]), "the first boot");
    let asked = (Some("DescribeInstances".to_owned()), 200);
    assert_eq!(asked_of_ec2(&machine), [asked.clone(), asked]);
    // It is asked once in an instance's life.
    assert_joined(&machine, &machine.boot(&[]), "the second boot");
    assert_eq!(asked_of_ec2(&machine), []);
    machine.cloud.change(|world| {
        world.forbidden.push("ec2:DescribeInstances".into());
    });
    forget(&machine);
    let ran = machine.boot(&[]);
    let told = "ec2:DescribeInstances was refused: UnauthorizedOperation";
    assert_failed(&machine, &ran, "a role that may not", 4, told);
    assert!(
        ran.console.contains("InstanceIdNodeName"),
        "{}",
        ran.console
    );
}

#[test]
fn a_type_that_is_newer_than_the_program_is_asked_of_ec2s_api() {
    let machine = instance();
    let known = asked_of_ec2(&machine);
    assert_eq!(known, []);
    machine.cloud.change(|world| {
        let instance = world.instance.as_mut().expect("an instance");
        instance.instance_type = "z99.large".into();
        let mut new = world.instance_types[0].clone();
        new.name = "z99.large".into();
        (new.interfaces, new.ipv4_per_interface) = (4, 15);
        world.instance_types.push(new);
    });
    let pods = |machine: &Machine| {
        let config = machine.read("etc/kubernetes/kubelet/config.json");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        config["maxPods"].clone()
    };
    assert_joined(&machine, &machine.boot(&[]), "a new type");
    assert_eq!(pods(&machine), 58);
    let asked = (Some("DescribeInstanceTypes".to_owned()), 200);
    assert_eq!(asked_of_ec2(&machine), [asked]);
    // A role that may not ask gets the kubelet's own number, and is told so.
    machine.cloud.change(|world| {
        world.forbidden.push("ec2:DescribeInstanceTypes".into());
    });
    forget(&machine);
    let ran = machine.boot(&[]);
    assert_joined(&machine, &ran, "a role that may not");
    assert_eq!(pods(&machine), 110);
    let told = "the node's role must be allowed ec2:DescribeInstanceTypes";
    assert!(ran.journal.contains(told), "{}", ran.journal);
}

#[test]
fn a_hybrid_node_may_have_its_configuration_as_user_data_too() {
    let machine = machine(|machine| {
        machine.certify();
        Some(hybrid(&machine.described(), ROLES_ANYWHERE))
    });
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    let flags = machine.read(FLAGS);
    assert!(flags.contains("--hostname-override=node-1"), "{flags}");
}

#[test]
fn metadata_is_never_asked_through_a_proxy() {
    let machine = instance();
    // A proxy that nobody can reach.
    let proxy = [
        ("HTTP_PROXY", "http://10.20.30.99:3128"),
        ("HTTPS_PROXY", "http://10.20.30.99:3128"),
        ("NO_PROXY", "127.0.0.1"),
    ];
    let ran = machine.boot(&proxy);
    let asked = asked(&machine);
    for path in [TOKEN, DATA, DOCUMENT] {
        assert!(
            asked.contains(&(path.into(), 200)),
            "{path}: {asked:?}\n{}",
            ran.console
        );
    }
}
