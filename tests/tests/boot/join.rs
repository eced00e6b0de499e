//! Machines that join in QEMU: first boot, containerd and the kubelet of the image, in
//! a network that has what that of a site has, against the strict cloud of the tests by
//! the names of AWS and a real control plane. Whatever is signed is signed by first boot
//! and by the programs of AWS themselves, and checked by the cloud; wrong signatures it
//! refuses. A guest is told nothing but whom to trust. What became of it is asked of the
//! API server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_qemu::{BootOptions, FirmwareChoice, Format, Seed, guest_command};
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::state::Record;
use nodekiln_tests::cloud::world::Activation;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::cluster::{Node, PATIENCE};
use nodekiln_tests::container_image::{self, BUSYBOX, PAUSE, WAIT};
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use nodekiln_tests::network::POD_NETWORK;
use nodekiln_tests::twins::TWINS;
use serde_json::{Value, json};

use super::expected::{Credentials, Expected};
use super::guest::Answers;
use super::image::{BASES, Base, LAYOUTS};
use super::surroundings::{self, INSTANCE, Joined, Machines as _, OTHER, SITE};
use super::{assert_milestones_in_order, image, machine, site};

/// Lines of a NodeConfig: what a user adds.
const MORE: &str = "  \
    kubelet:\n    \
      config:\n      \
        maxPods: 42\n      \
        imageGCHighThresholdPercent: 70\n      \
        imageGCLowThresholdPercent: 50\n    \
      flags:\n      \
        - --v=3\n      \
        - --node-labels=site=lab,rack=r7\n  \
    containerd:\n    \
      config: |\n      \
        version = 2\n      \
        [debug]\n        \
          level = \"info\"\n";

#[test]
fn a_machine_of_a_site_joins_by_its_certificate_and_what_eks_says() {
    for base in &BASES {
        join_by_certificate(base, FirmwareChoice::default());
    }
}

/// A test for each: one that fails keeps the others from nothing.
macro_rules! layouts {
    ($($test:ident: $name:literal),+ $(,)?; BIOS: $($bios:ident: $bios_name:literal),+ $(,)?) => {
        $(
            #[test]
            #[ignore = "takes long: make e2e"]
            fn $test() {
                join_by_certificate(layout($name), FirmwareChoice::default());
            }
        )+
        $(
            #[test]
            #[ignore = "takes long: make e2e"]
            fn $bios() {
                join_by_certificate(layout($bios_name), FirmwareChoice::Bios);
            }
        )+

        #[test]
        fn every_twin_joins_in_a_test() {
            let listed: Vec<&str> = LAYOUTS.iter().map(|base| base.name).collect();
            assert_eq!(listed, [$($name),+]);
            let twins: Vec<&str> = TWINS.iter().map(|twin| twin.name).collect();
            assert_eq!(listed, twins);
        }
    };
}

layouts! {
    a_machine_in_the_layout_of_ubuntu_20_04_joins: "ubuntu-20.04",
    a_machine_in_the_layout_of_ubuntu_22_04_joins: "ubuntu-22.04",
    a_machine_in_the_layout_of_ubuntu_24_04_joins: "ubuntu-24.04",
    a_machine_in_the_layout_of_amazon_linux_2023_joins: "al2023",
    a_machine_in_the_layout_of_rhel_8_joins: "rhel-8",
    a_machine_in_the_layout_of_rhel_9_joins: "rhel-9";
    // GRUB finds /boot in its own partition, in an XFS root, in an XFS partition.
    BIOS:
    a_machine_with_a_bios_in_the_layout_of_ubuntu_24_04_joins: "ubuntu-24.04",
    a_machine_with_a_bios_in_the_layout_of_amazon_linux_2023_joins: "al2023",
    a_machine_with_a_bios_in_the_layout_of_rhel_9_joins: "rhel-9",
}

fn layout(name: &str) -> &'static Base {
    let base = LAYOUTS.iter().find(|base| base.name == name);
    base.expect("is listed")
}

fn join_by_certificate(base: &Base, firmware: FirmwareChoice) {
    let image = base.join();
    let authority = Authority::new("the site");
    let mut world = World::sample();
    world.trust(TRUST_ANCHOR, &authority);
    let around = surroundings::around(&world, &[SITE]);
    let issued = authority.node_for_a_month("node-1");
    let seed = Seed {
        hostname: Some("machine-17".to_owned()),
        parts: vec![around.trust(&site::node_certificate(&issued))],
        ..Seed::of_node_config(hybrid("", ROLES_ANYWHERE) + MORE)
    };
    let options = BootOptions {
        firmware,
        ..machine(&image.qcow2, &base.named("join-hybrid.log"))
    };
    let joined = around.join(
        &SITE,
        (seed, Format::NoCloud),
        options,
        &base.named("join-hybrid"),
    );
    let joined = joined.expect("it comes up");
    let node = Node {
        labels: &[
            ("eks.amazonaws.com/compute-type", "hybrid"),
            ("eks.amazonaws.com/hybrid-credential-provider", "iam-ra"),
            ("site", "lab"),
            ("rack", "r7"),
        ],
        max_pods: 42,
        ..Node::hybrid(&around.control_plane, "node-1", SITE.address)
    };
    node.check().expect("it is a node");
    assert_eq!(node.registrations(), 1);
    let expected = Expected {
        cluster: "farm",
        region: "us-west-2",
        endpoint: around.control_plane.endpoint(),
        authority: around.control_plane.ca_pem().to_owned(),
        node: "node-1".to_owned(),
        resolver: base.resolver(),
        root: base.root(),
        units: base.units(),
        credentials: Credentials::RolesAnywhere,
        secret: issued.key.lines().nth(1).expect("a key").to_owned(),
        cluster_dns: "10.100.0.10",
        sandbox_image: PAUSE,
        kubelet_drop_in: Some(json!({
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "maxPods": 42,
            "imageGCHighThresholdPercent": 70,
            "imageGCLowThresholdPercent": 50
        })),
        containerd_given: Some("version = 2\n[debug]\n  level = \"info\"\n"),
        flags: &["--v=3", "--node-labels=site=lab,rack=r7"],
    };
    assert_machine(&joined, &expected);
    joined.assert_nothing_refused();
    let described = joined.statuses(Service::Eks, "GET", "/clusters/farm");
    assert_eq!(described, [200]);
    let entries = joined.statuses(Service::Eks, "GET", "/clusters/farm/access-entries");
    assert_eq!(entries, [200]);
    let sessions = joined.statuses(Service::RolesAnywhere, "POST", "/sessions");
    assert!(!sessions.is_empty(), "{:#?}", joined.record);
    image.assert_unchanged();
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_machine_without_container_images_gets_them_out_of_ecr() {
    let image = image::demo();
    let authority = Authority::new("the site");
    let images = tempfile::tempdir().expect("a folder");
    let mut world = World::sample();
    world.trust(TRUST_ANCHOR, &authority);
    container_image::stock(&mut world, images.path());
    let around = surroundings::around(&world, &[SITE]);
    let network = STANDARD.encode(POD_NETWORK);
    let files = site::file("/etc/cni/net.d/10-bridge.conflist", "0644", &network)
        + &site::node_certificate(&authority.node_for_a_month("node-1"));
    let seed = Seed {
        parts: vec![around.trust(&files)],
        ..Seed::of_node_config(hybrid("", ROLES_ANYWHERE))
    };
    let options = BootOptions {
        seed: Some((seed, Format::NoCloud)),
        ..machine(&image.qcow2, "join-ecr.log")
    };
    let _machine = around.start(&SITE, options);
    let own = container_image::busybox_of_ecr(&world);
    let node = Node {
        image: &own,
        ..Node::hybrid(&around.control_plane, "node-1", SITE.address)
    };
    node.until_ready().expect("it joins");
    node.check_pod().expect("it runs a pod");
    // The pause image by first boot, the pod's by the kubelet's credential provider.
    let record = around.cloud.record();
    for path in ["/v2/eks/pause/manifests/3.5", "/v2/busybox/manifests/1"] {
        let is_it = |one: &Record| {
            one.service == Service::Registry && one.path == path && one.status == 200
        };
        assert!(record.iter().any(is_it), "{path}: {record:#?}");
    }
    image.assert_unchanged();
}

#[test]
fn a_machine_with_an_activation_joins_and_is_the_same_node_after_a_restart() {
    BASES.iter().for_each(join_by_activation);
}

fn join_by_activation(base: &Base) {
    let image = base.join();
    let world = World::sample();
    let activation = &world.activations[0];
    let around = surroundings::around(&world, &[SITE]);
    let seed = Seed {
        hostname: Some("machine-17".to_owned()),
        parts: vec![around.trust("")],
        ..Seed::of_node_config(hybrid("", &with_ssm(activation)))
    };
    let options = machine(&image.raw, &base.named("join-ssm.log"));
    let joined = around.join(
        &SITE,
        (seed, Format::ConfigDrive),
        options,
        &base.named("join-ssm"),
    );
    let joined = joined.expect("it comes up");
    let registered = registrations_with_ssm(&joined.record);
    assert_eq!(registered, 1, "{:#?}", joined.record);
    let flags = joined.answers.text("cmdline");
    let name = flags
        .lines()
        .find_map(|line| line.strip_prefix("--hostname-override="))
        .unwrap_or_else(|| unreachable!("{flags}"));
    assert!(name.starts_with("mi-"), "{name}");
    let node = Node {
        labels: &[
            ("eks.amazonaws.com/compute-type", "hybrid"),
            ("eks.amazonaws.com/hybrid-credential-provider", "ssm"),
        ],
        ..Node::hybrid(&around.control_plane, name, SITE.address)
    };
    node.check().expect("it is a node");
    let expected = Expected {
        cluster: "farm",
        region: "us-west-2",
        endpoint: around.control_plane.endpoint(),
        authority: around.control_plane.ca_pem().to_owned(),
        node: name.to_owned(),
        resolver: base.resolver(),
        root: base.root(),
        units: base.units(),
        credentials: Credentials::Ssm,
        secret: activation.code.clone(),
        cluster_dns: "10.100.0.10",
        sandbox_image: PAUSE,
        kubelet_drop_in: None,
        containerd_given: None,
        flags: &[],
    };
    assert_machine(&joined, &expected);
    joined.assert_nothing_refused();
    node.reboot().expect("it comes back");
    let checked = node.on_machine("journalctl -b -o cat -u systemd-fsck-root");
    let checked = checked.expect("the journal can be read");
    assert!(checked.contains(": clean, "), "{checked}");
    assert_eq!(node.registrations(), 1);
    assert_eq!(registrations_with_ssm(&around.cloud.record()), 0);
    image.assert_unchanged();
}

/// Lines of a NodeConfig: the credentials of an activation.
pub fn with_ssm(activation: &Activation) -> String {
    format!(
        "    ssm:\n      activationCode: {}\n      activationId: {}\n",
        activation.code, activation.id
    )
}

/// What a machine has alone, by a short name.
const OWN: [(&str, &str); 3] = [
    ("machine-id", "/etc/machine-id"),
    ("ed25519", "/etc/ssh/ssh_host_ed25519_key.pub"),
    ("ecdsa", "/etc/ssh/ssh_host_ecdsa_key.pub"),
];

#[test]
#[ignore = "takes long: make e2e"]
fn two_machines_of_one_image_are_two_nodes() {
    let image = image::join();
    let world = World::sample();
    let places = [SITE, OTHER];
    let around = surroundings::around(&world, &places);
    let machines = places.map(|place| {
        let seed = Seed {
            instance_id: place.tap.to_owned(),
            parts: vec![around.trust("")],
            ..Seed::of_node_config(hybrid("", &with_ssm(&world.activations[0])))
        };
        let options = BootOptions {
            seed: Some((seed, Format::NoCloud)),
            guest_commands: OWN
                .map(|(name, path)| guest_command(name, format!("cat {path}")))
                .to_vec(),
            ..machine(&image.qcow2, &format!("clone-{}.log", place.tap))
        };
        around.start(&place, options)
    });
    const TOLD: &str = "registered with SSM as ";
    let (own, names): (Vec<Answers>, Vec<String>) = machines
        .iter()
        .map(|machine| {
            let up = machine.until_up();
            let up = up.unwrap_or_else(|told| unreachable!("{told}"));
            let console = machine.console();
            let (_, rest) = console.split_once(TOLD).expect("it was told");
            let name = rest.split_whitespace().next().expect("a name");
            (Answers(up), name.to_owned())
        })
        .unzip();
    for (name, path) in OWN {
        assert_ne!(own[0].text(name), own[1].text(name), "{path}");
    }
    assert_eq!(registrations_with_ssm(&around.cloud.record()), 2);
    for (name, place) in names.iter().zip(places) {
        let node = Node::hybrid(&around.control_plane, name, place.address);
        node.until_ready().expect("it joins");
        node.check_identity().expect("it is itself");
        assert_eq!(node.registrations(), 1);
    }
    assert_ne!(names[0], names[1]);
    image.assert_unchanged();
}

/// As the command of AWS does it for a node of EC2: its credentials are those of the
/// instance's role.
const STAND_IN_FOR_AWS: &str = "#!/bin/sh\n\
    # A stand-in for `aws eks get-token`, which the image of a site does not have.\n\
    exec /usr/local/bin/aws-iam-authenticator token --cluster-id farm --region us-west-2\n";

/// What the firmware of an instance says.
const EC2_UUID: &str = "ec2e1916-9099-7caf-fd21-012345abcdef";

#[test]
fn an_instance_of_ec2_joins_by_what_its_metadata_service_says() {
    BASES.iter().for_each(join_by_metadata);
}

fn join_by_metadata(base: &Base) {
    let image = base.join();
    let mut world = World::sample();
    let role = "arn:aws:iam::111122223333:role/node-role".to_owned();
    world.clusters[0].access_entries.push(role);
    let around = surroundings::around(&world, &[INSTANCE]);
    let node_config = format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: farm\n    \
         apiServerEndpoint: {}\n    certificateAuthority: {}\n    cidr: 10.100.0.0/16\n",
        around.control_plane.endpoint(),
        STANDARD.encode(around.control_plane.ca_pem())
    );
    let stand_in = STANDARD.encode(STAND_IN_FOR_AWS);
    let files = site::file("/usr/local/bin/aws", "0755", &stand_in);
    let seed = Seed {
        parts: vec![around.trust(&files)],
        ..Seed::of_node_config(node_config)
    };
    let user_data = seed.user_data().expect("user data");
    around.cloud.change(|world| {
        let instance = world.instance.as_mut().expect("an instance");
        instance.user_data = Some(String::from_utf8(user_data).expect("MIME"));
    });
    let options = BootOptions {
        manufacturer: Some("Amazon EC2".to_owned()),
        // By these cloud-init knows where it is.
        serial_number: Some(EC2_UUID.to_owned()),
        uuid: Some(EC2_UUID.to_owned()),
        ..machine(&image.qcow2, &base.named("join-ec2.log"))
    };
    let machine = around.start(&INSTANCE, options);
    let report = machine.until_up().expect("it comes up");
    let node = Node {
        control_plane: &around.control_plane,
        name: "ip-10-1-2-3.us-west-2.compute.internal",
        provider_id: "aws:///us-west-2a/i-0123456789abcdef0".to_owned(),
        address: INSTANCE.address,
        labels: &[],
        // A controller of AWS takes it away, which is not here.
        taints: &["node.cloudprovider.kubernetes.io/uninitialized"],
        // An m5.large.
        max_pods: 29,
        reserved_mib: 11 * 29 + 255,
        image: BUSYBOX,
        patience: PATIENCE,
    };
    node.check().expect("it is a node");
    assert_eq!(node.registrations(), 1);
    // There is no seed that could have it answer: it is asked through a pod.
    node.run_pod("root", &json!(WAIT), true)
        .expect("a pod that may do all");
    let said = |script: &str| node.on_machine(script).expect("it succeeds");
    assert_eq!(said("cloud-id"), "aws\n");
    let status = said("/usr/libexec/nodekiln/firstboot status --json");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["state"], "done");
    let active = said("systemctl is-active containerd kubelet nodekiln-firstboot");
    assert_eq!(active, "active\nactive\nactive\n");
    let authority = said("cat /etc/kubernetes/pki/ca.crt");
    assert_eq!(
        authority.trim_end(),
        around.control_plane.ca_pem().trim_end()
    );
    let config = said("cat /etc/kubernetes/kubelet/config.json");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["clusterDNS"], json!(["10.100.0.10"]));
    let joined = Joined {
        answers: Answers(report),
        record: around.cloud.record(),
        machine,
    };
    joined.assert_nothing_refused();
    for path in [
        "/latest/dynamic/instance-identity/document",
        "/latest/meta-data/iam/security-credentials/node-role",
        // These cloud-init asks; what it was given, first boot takes.
        "/2021-03-23/user-data",
        "/2021-03-23/meta-data/",
    ] {
        let asked = joined.statuses(Service::Imds, "GET", path);
        assert!(asked.contains(&200), "{path}: {:#?}", joined.record);
    }
    let tokens = joined.statuses(Service::Imds, "PUT", "/latest/api/token");
    assert!(!tokens.is_empty(), "{:#?}", joined.record);
    image.assert_unchanged();
}

/// The machine is what nodeadm would have made of it, and nothing secret was said.
fn assert_machine(joined: &Joined, expected: &Expected) {
    expected.assert(&joined.answers);
    assert_milestones_in_order(&joined.answers.0);
    let console = joined.machine.console();
    assert!(
        !console.contains(&expected.secret),
        "a secret is on the console"
    );
}

/// How often a machine was registered with SSM.
pub fn registrations_with_ssm(record: &[Record]) -> usize {
    let is_registration = |one: &&Record| one.action.as_deref() == Some("RegisterManagedInstance");
    record.iter().filter(is_registration).count()
}
