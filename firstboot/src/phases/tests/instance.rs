//! Machines that are EC2 instances.

use super::*;
use crate::system::{NetworkError, Response};

const SERVICE: &str = "http://169.254.169.254/latest";

pub(super) fn instance_machine() -> Pretended {
    let machine = machine();
    let document = r#"{"instanceId":"i-1234567890abcdef0","instanceType":"m5.large","region":"us-west-2","availabilityZone":"us-west-2f"}"#;
    for (asked, body) in [
        ("PUT {}/api/token", "t0ken"),
        ("GET {}/dynamic/instance-identity/document", document),
        ("GET {}/meta-data/mac", "0a:ff:12:00:00:01"),
        ("GET {}/meta-data/local-ipv4", "10.0.0.1"),
        (
            "GET {}/meta-data/local-hostname",
            "ip-10-0-0-1.us-west-2.compute.internal",
        ),
    ] {
        answer(&machine, &asked.replace("{}", SERVICE), body);
    }
    machine
}

fn answer(machine: &Pretended, asked: &str, body: &str) {
    let response = Response {
        status: 200,
        headers: Vec::new(),
        body: body.into(),
    };
    let mut answers = machine.answers.borrow_mut();
    answers.insert(asked.into(), Ok(response));
}

pub(super) fn ec2_sample() -> NodeConfig {
    let mut config = sample();
    config.spec.hybrid = None;
    config.spec.cluster.region.clear();
    let environment = [("HTTPS_PROXY".to_owned(), "http://proxy:3128".to_owned())];
    config.spec.instance.environment = [
        ("default".to_owned(), environment.clone().into()),
        ("containerd".to_owned(), environment.into()),
    ]
    .into();
    config.spec.instance.network.nameservers = vec!["10.0.0.2".into()];
    config
}

#[test]
fn an_instance_becomes_a_node_by_what_it_says_of_itself() {
    let machine = instance_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    let environment = machine.text("/etc/eks/kubelet/environment").unwrap();
    assert!(
        environment.contains("--hostname-override=ip-10-0-0-1.us-west-2.compute.internal"),
        "{environment}"
    );
    assert_eq!(machine.ran("systemctl daemon-reload"), 1);
    assert_eq!(machine.ran("systemctl restart systemd-resolved.service"), 1);
    machine.changes.set(0);
    machine.lives.set(Some(0));
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(machine.changes.get(), 0);
    assert_eq!(machine.ran("systemctl daemon-reload"), 1);
}

#[test]
fn removed_environments_and_name_servers_go_and_are_told() {
    let machine = instance_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    let drop_in = "/etc/systemd/system/containerd.service.d/environment.conf";
    assert!(machine.text(drop_in).is_some());
    let mut without = ec2_sample();
    without.spec.instance.environment.clear();
    without.spec.instance.network.nameservers.clear();
    work_with(&machine, &without).unwrap();
    assert!(machine.text(drop_in).is_none());
    assert_eq!(machine.ran("systemctl daemon-reload"), 2);
    assert_eq!(machine.ran("systemctl restart systemd-resolved.service"), 2);
    assert_eq!(machine.active.borrow()["containerd.service"], 2);
    assert_eq!(machine.active.borrow()["kubelet.service"], 1);
}

#[test]
fn the_environment_of_an_instance_is_that_of_our_own_calls() {
    let own = Variables::default().with("NO_PROXY", "localhost");
    let effective = environment::of_ourselves(&ec2_sample(), &own);
    assert_eq!(effective.get("HTTPS_PROXY"), Some("http://proxy:3128"));
    assert_eq!(effective.get("NO_PROXY"), Some("localhost"));
    // On a hybrid node it has no effect, as with nodeadm.
    let mut hybrid = sample();
    hybrid.spec.instance = ec2_sample().spec.instance;
    assert_eq!(environment::of_ourselves(&hybrid, &own), own);
}

#[test]
fn udev_rules_are_told_that_an_instance_is_configured() {
    let machine = instance_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(machine.text("/run/nodeadm/init").as_deref(), Some(""));
    let hybrid = super::machine();
    work_with(&hybrid, &sample()).unwrap();
    assert!(hybrid.text("/run/nodeadm/init").is_none());
}

#[test]
fn a_node_starts_again_when_the_instance_does_not_answer() {
    let machine = instance_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    machine.answers.borrow_mut().clear();
    machine.reboot();
    let before = machine.files.borrow().clone();
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(*machine.files.borrow(), before);

    let new = machine_without_answers();
    let error = work_with(&new, &ec2_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    assert!(
        error.chain().contains("metadata service does not answer"),
        "{}",
        error.chain()
    );
}

fn machine_without_answers() -> Pretended {
    let machine = instance_machine();
    let silence = NetworkError::Connection {
        host: "169.254.169.254".into(),
        reason: "timed out".into(),
    };
    for answer in machine.answers.borrow_mut().values_mut() {
        *answer = Err(silence.clone());
    }
    machine
}

const API: &str = "POST https://ec2.us-west-2.amazonaws.com/";

/// An instance in a network with a domain of its own, with a role.
fn renamed_machine() -> Pretended {
    let machine = instance_machine();
    let role = format!("GET {SERVICE}/meta-data/iam/security-credentials/");
    answer(
        &machine,
        &format!("GET {SERVICE}/meta-data/local-hostname"),
        "ip-10-0-0-1.corp.example",
    );
    answer(&machine, &role, "node");
    answer(
        &machine,
        &format!("{role}node"),
        r#"{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"s3cr3t","Token":"t0ken"}"#,
    );
    machine
}

fn api_answers(machine: &Pretended, status: u16, body: &str) {
    let response = Response {
        status,
        headers: Vec::new(),
        body: body.into(),
    };
    machine
        .answers
        .borrow_mut()
        .insert(API.into(), Ok(response));
}

fn times_asked(machine: &Pretended) -> usize {
    let requests = machine.requests.borrow();
    let urls = requests
        .iter()
        .map(|it| format!("{} {}", it.method, it.url));
    urls.filter(|asked| asked == API).count()
}

fn described(name: &str) -> String {
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item>\
         <instanceId>i-1234567890abcdef0</instanceId><privateDnsName>{name}</privateDnsName>\
         </item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

#[test]
fn a_host_name_that_ec2_did_not_give_is_asked_of_its_api_once() {
    let machine = renamed_machine();
    let name = "ip-10-0-0-1.us-west-2.compute.internal";
    // Seconds after its start it has none.
    api_answers(&machine, 200, &described(""));
    let error = work_with(&machine, &ec2_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error:?}");
    let Status::Failed { journal, .. } = status(&machine).unwrap() else {
        panic!("not failed")
    };
    assert!(journal.phases[&Phase::Credentials].retries >= 5);
    api_answers(&machine, 200, &described(name));
    work_with(&machine, &ec2_sample()).unwrap();
    let environment = machine.text("/etc/eks/kubelet/environment").unwrap();
    let flag = format!("--hostname-override={name}");
    assert!(environment.contains(&flag), "{environment}");
    let asked = times_asked(&machine);
    machine.answers.borrow_mut().remove(API);
    machine.reboot();
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(times_asked(&machine), asked);
    let said = machine.said.borrow().join("\n");
    assert!(!said.contains("s3cr3t") && !said.contains("t0ken"));
}

#[test]
fn a_role_that_may_not_ask_for_the_name_is_told_at_once() {
    let machine = renamed_machine();
    let refusal = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no\
                   </Message></Error></Errors></Response>";
    api_answers(&machine, 403, refusal);
    let error = work_with(&machine, &ec2_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(
        error.chain().contains("ec2:DescribeInstances was refused"),
        "{}",
        error.chain()
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("ec2:DescribeInstances") && hint.contains("InstanceIdNodeName"));
    assert_eq!(times_asked(&machine), 1);
    // With the gate nobody is asked.
    let mut config = ec2_sample();
    config
        .spec
        .feature_gates
        .insert("InstanceIdNodeName".into(), true);
    work_with(&machine, &config).unwrap();
    assert_eq!(times_asked(&machine), 1);
    let environment = machine.text("/etc/eks/kubelet/environment").unwrap();
    assert!(
        environment.contains("--hostname-override=i-1234567890abcdef0"),
        "{environment}"
    );
}

/// An instance of a type that is newer than our table.
fn new_machine() -> Pretended {
    let machine = renamed_machine();
    answer(
        &machine,
        &format!("GET {SERVICE}/meta-data/local-hostname"),
        "ip-10-0-0-1.us-west-2.compute.internal",
    );
    answer(
        &machine,
        &format!("GET {SERVICE}/dynamic/instance-identity/document"),
        r#"{"instanceId":"i-1234567890abcdef0","instanceType":"z99.large","region":"us-west-2","availabilityZone":"us-west-2f"}"#,
    );
    machine
}

fn maximum_pods(machine: &Pretended) -> serde_json::Value {
    let text = machine.text("/etc/kubernetes/kubelet/config.json").unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["maxPods"].clone()
}

#[test]
fn a_type_that_is_newer_than_the_table_is_asked_of_ec2_once() {
    let machine = new_machine();
    let limits = "<DescribeInstanceTypesResponse><instanceTypeSet><item><networkInfo>\
                  <maximumNetworkInterfaces>4</maximumNetworkInterfaces>\
                  <ipv4AddressesPerInterface>15</ipv4AddressesPerInterface>\
                  </networkInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>";
    api_answers(&machine, 200, limits);
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(maximum_pods(&machine), 58);
    assert_eq!(times_asked(&machine), 1);
    machine.reboot();
    machine.answers.borrow_mut().remove(API);
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(
        (maximum_pods(&machine), times_asked(&machine)),
        (58.into(), 1)
    );
    // Where EC2 says nothing, the kubelet's own number holds, and stays.
    let machine = new_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(maximum_pods(&machine), 110);
    let asked = times_asked(&machine);
    machine.reboot();
    api_answers(&machine, 200, limits);
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(
        (maximum_pods(&machine), times_asked(&machine)),
        (110.into(), asked)
    );
    // A type of the table needs no question.
    let machine = instance_machine();
    work_with(&machine, &ec2_sample()).unwrap();
    assert_eq!(times_asked(&machine), 0);
}

#[test]
fn cut_off_at_any_change_an_instance_converges() {
    let whole = instance_machine();
    work_with(&whole, &ec2_sample()).unwrap();
    let changes = whole.changes.get();
    assert!(changes > 15, "{changes}");
    for lives in 0..changes {
        let machine = instance_machine();
        machine.lives.set(Some(lives));
        work_with(&machine, &ec2_sample()).unwrap_err();
        machine.lives.set(None);
        work_with(&machine, &ec2_sample()).unwrap();
        assert_eq!(machine.tree(), whole.tree(), "cut off after {lives}");
        assert!(machine.ran("systemctl daemon-reload") >= 1, "{lives}");
        machine.changes.set(0);
        work_with(&machine, &ec2_sample()).unwrap();
        assert_eq!(machine.changes.get(), 0, "cut off after {lives}");
    }
}

#[test]
fn names_of_an_outpost_are_written_once_and_survive_a_cut() {
    let machine = instance_machine();
    machine.put("/etc/hosts", b"127.0.0.1 localhost\n", 0o644);
    let mut config = ec2_sample();
    config.spec.cluster.enable_outpost = Some(true);
    config.spec.cluster.id = "11111111-2222-3333-4444-555555555555".into();
    config.spec.cluster.api_server_endpoint = "https://api.example".into();
    let address = "10.0.0.9".parse().unwrap();
    machine
        .names
        .borrow_mut()
        .insert("api.example".into(), vec![address]);
    work_with(&machine, &config).unwrap();
    let hosts = machine.text("/etc/hosts").unwrap();
    assert!(hosts.contains("10.0.0.9\tapi.example"), "{hosts}");
    machine.names.borrow_mut().clear();
    machine.changes.set(0);
    work_with(&machine, &config).unwrap();
    assert_eq!(machine.text("/etc/hosts").unwrap(), hosts);
    assert_eq!(machine.changes.get(), 0);
}
