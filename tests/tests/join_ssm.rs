//! Hybrid nodes with an activation: first boot as a process, the agent's stand-in and
//! the cloud of the tests in a network of their own.

use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{Machine, Ran, hybrid};

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);
const CODE: &str = "activation-code-of-tests";

fn machine(world: &World, code: &str) -> Machine {
    let machine = Machine::new(PROGRAMS, world, &[]);
    let credentials = format!(
        "    ssm:\n      activationCode: {code}\n      \
         activationId: 11111111-2222-4333-8444-555555555555\n"
    );
    let config = hybrid(&machine.described(), &credentials);
    machine.write("etc/nodekiln/nodeconfig.yaml", &config, 0o600);
    machine
}

/// Statuses of the registrations that SSM saw.
fn registrations(machine: &Machine) -> Vec<u16> {
    let record = machine.cloud.record().into_iter();
    record
        .filter(|one| one.action.as_deref() == Some("RegisterManagedInstance"))
        .map(|one| one.status)
        .collect()
}

fn assert_says_nothing_secret(machine: &Machine, ran: &Ran) {
    let state = machine.read("var/lib/nodekiln/firstboot/state.json");
    for text in [&ran.console, &ran.journal, &state] {
        assert!(!text.contains(CODE), "{text}");
    }
}

#[test]
fn an_activation_registers_a_machine_once_and_names_its_node() {
    let machine = machine(&World::sample(), CODE);
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert_says_nothing_secret(&machine, &ran);
    assert_eq!(registrations(&machine), [200]);
    let registration = machine.read("var/lib/amazon/ssm/registration");
    let registration: serde_json::Value = serde_json::from_str(&registration).expect("JSON");
    let id = registration["ManagedInstanceID"].as_str().expect("an id");
    assert!(
        ran.console
            .contains(&format!("registered with SSM as {id}")),
        "{}",
        ran.console
    );
    let flags = machine.read("etc/eks/kubelet/environment");
    assert!(
        flags.contains(&format!("--hostname-override={id}")),
        "{flags}"
    );
    let config = machine.read("etc/kubernetes/kubelet/config.json");
    assert!(
        config.contains(&format!("eks-hybrid:///us-west-2/farm/{id}")),
        "{config}"
    );
    assert!(
        machine
            .read("root/.aws/credentials")
            .contains("aws_session_token")
    );
    // The next boot registers nothing.
    let again = machine.boot(&[]);
    assert_eq!(again.code, Some(0), "{}", again.console);
    assert_eq!(registrations(&machine), [0_u16; 0]);
}

#[test]
fn a_wrong_or_used_up_activation_is_told_and_not_tried_again() {
    let mut used_up = World::sample();
    used_up.activations[0].limit = 0;
    for (world, code, told) in [
        (
            World::sample(),
            "another-code-of-tests",
            "SSM does not know this activation",
        ),
        (
            used_up,
            CODE,
            "the SSM activation has expired, or is used up",
        ),
    ] {
        let machine = machine(&world, code);
        let ran = machine.boot(&[]);
        assert_ne!(ran.code, Some(0));
        assert!(
            ran.console.contains("nodekiln-firstboot: failed: "),
            "{}",
            ran.console
        );
        assert!(ran.console.contains(told), "{}", ran.console);
        assert!(ran.console.contains("hint: "), "{}", ran.console);
        assert_says_nothing_secret(&machine, &ran);
        assert_eq!(registrations(&machine), [400]);
        assert!(!machine.path("etc/enabled.kubelet.service").exists());
    }
}

#[test]
fn a_service_that_is_down_for_a_while_is_waited_for() {
    let machine = machine(&World::sample(), CODE);
    machine
        .cloud
        .faults(&[Fault::of(Service::Ssm, Kind::Close, 1)]);
    let ran = machine.boot(&[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
    assert_eq!(registrations(&machine), [0, 200]);
}
