//! Machines that join in QEMU: first boot, containerd and the kubelet of the image
//! against the strict cloud of the tests, which the guest finds in its network by the
//! names of AWS. Whatever is signed is signed by first boot and by the programs of AWS
//! themselves, and checked by the cloud; wrong signatures it refuses.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_qemu::{BootOptions, Format, GuestService, Network, Part, Seed, boot, guest_command};
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::client::Cloud;
use nodekiln_tests::cloud::state::Record;
use nodekiln_tests::cloud::world::TrustAnchor;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use serde_json::{Value, json};

use super::guest::{self, Answers};
use super::{Lines, image, machine, site};

/// Where the guest finds AWS and its cluster.
const AWS: [u8; 4] = [10, 0, 2, 100];
/// Where the guest's own rule leads what it sends to the metadata service, whose
/// address is in no network that QEMU can give.
const METADATA: [u8; 4] = [10, 0, 2, 101];
/// What is asked of the guest, besides what it says of its registration.
const ASKED: [&str; 7] = [
    "ca",
    "kubeconfig",
    "kubelet-config",
    "cmdline",
    "active",
    "status",
    "journal",
];

fn world() -> World {
    let mut world = World::sample();
    let host = Service::Cluster.host(&world.region).expect("it has a name");
    world.clusters[0].endpoint = Some(format!("https://{host}"));
    let instance = world.instance.as_mut().expect("an instance");
    // What QEMU gives its guest.
    instance.local_ipv4 = "10.0.2.15".into();
    instance.private_dns_name = "ip-10-0-2-15.us-west-2.compute.internal".into();
    world
}

fn cloud(world: &World) -> Cloud {
    let program = Command::new(env!("CARGO_BIN_EXE_nodekiln-cloud"));
    Cloud::start(program, world, &["--names", "127.0.0.1:0"])
}

fn authority(cloud: &Cloud) -> String {
    std::fs::read_to_string(cloud.file("ca.pem")).expect("it was written")
}

/// A service of the guest's network that leads to a port of this machine.
fn service(address: [u8; 4], port: u16, to: &str) -> GuestService {
    let (host, host_port) = to.rsplit_once(':').expect("a port");
    GuestService {
        address: address.into(),
        port,
        command: format!("busybox nc {host} {host_port}"),
    }
}

/// More of a file that is there.
fn appended(path: &str, text: &str) -> String {
    site::file(path, "0644", &STANDARD.encode(text)) + "    append: true\n"
}

/// Lines of a cloud-config: the site's network knows the names of AWS, and its
/// machines trust who answers to them. What more is to be written follows `boot`, more
/// commands of an early boot.
fn network(cloud: &Cloud, region: &str, boot: &str) -> String {
    let [a, b, c, d] = AWS;
    let hosts: String = Service::ALL
        .iter()
        .filter_map(|service| service.host(region))
        .map(|host| format!("{a}.{b}.{c}.{d} {host}\n"))
        .collect();
    // A guest that is cut off is told no router, and finds no metadata without one.
    format!("#cloud-config\nbootcmd:\n  - ip route add default via 10.0.2.2\n{boot}write_files:\n")
        + &appended("/etc/hosts", &hosts)
        + &appended("/etc/ssl/certs/ca-certificates.crt", &authority(cloud))
}

/// Boots a machine until it has registered with its cluster.
fn join(cloud: &Cloud, seed: Seed, options: BootOptions, log: &str) -> (Answers, Vec<Record>) {
    let metadata = cloud.url(Service::Imds).trim_start_matches("http://");
    let mut commands = guest::questions();
    commands.retain(|command| ASKED.contains(&&*command.name));
    commands.insert(
        0,
        guest_command(
            "registered",
            "timeout 300 sh -c 'journalctl -f -n all -u kubelet | \
             grep -m 1 \"Successfully registered node\"'",
        ),
    );
    let options = BootOptions {
        seed: Some((seed, Format::NoCloud)),
        guest_commands: commands,
        guest_limit: std::time::Duration::from_secs(180),
        network: Network::User {
            forwards: Vec::new(),
            services: vec![
                service(AWS, 443, cloud.names()),
                service(METADATA, 80, metadata),
            ],
            restricted: true,
        },
        ..options
    };
    let mut lines = Lines::default();
    let report = boot(&options, &mut lines).unwrap_or_else(|error| {
        let asked = cloud.record();
        unreachable!("{error}\n{}\n{asked:#?}", lines.all.join("\n"))
    });
    let text = serde_json::to_string_pretty(&report).expect("JSON");
    std::fs::write(image::scratch().join(format!("{log}.json")), text).expect("written");
    (Answers(report), cloud.record())
}

/// Statuses of what a service was asked, by how and for what.
fn statuses(record: &[Record], service: Service, method: &str, path: &str) -> Vec<u16> {
    let of = |one: &&Record| one.service == service && one.method == method && one.path == path;
    record.iter().filter(of).map(|one| one.status).collect()
}

/// First boot did all of its work, its services run with the node's name, and the
/// cluster took the node.
fn assert_joined(answers: &Answers, record: &[Record], cloud: &Cloud, name: &str) {
    assert!(
        answers.text("registered").contains(name),
        "{}",
        answers.text("registered")
    );
    let status = answers.json("status");
    assert_eq!(status["state"], "done", "{status}");
    assert_eq!(answers.text("active"), "active\nactive\nactive\n");
    assert_eq!(answers.text("ca").trim_end(), authority(cloud).trim_end());
    let host = Service::Cluster.host("us-west-2").expect("it has a name");
    let server = format!("server: https://{host}\n");
    let kubeconfig = answers.text("kubeconfig");
    assert!(kubeconfig.contains(&server), "{kubeconfig}");
    let flag = format!("--hostname-override={name}");
    let flags = answers.text("cmdline");
    assert!(flags.lines().any(|line| line == flag), "{flags}");
    let config = answers.json("kubelet-config");
    assert_eq!(config["clusterDNS"], json!(["10.100.0.10"]));
    let nodes = statuses(record, Service::Cluster, "POST", "/api/v1/nodes");
    assert!(nodes.contains(&201), "{record:#?}");
    // The cluster had STS judge the token that the kubelet showed.
    let judged = statuses(record, Service::Sts, "GET", "/");
    assert!(judged.contains(&200), "{record:#?}");
    let refused: Vec<&Record> = record
        .iter()
        .filter(|one| one.service != Service::Cluster && one.status >= 400)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn a_machine_of_a_site_joins_by_its_certificate_and_what_eks_says() {
    let site = Authority::new("the site");
    let mut world = world();
    world.trust_anchors.push(TrustAnchor {
        arn: TRUST_ANCHOR.into(),
        certificate: site.certificate.clone(),
        enabled: true,
    });
    let cloud = cloud(&world);
    let yesterday = time::OffsetDateTime::now_utc() - time::Duration::DAY;
    let month = std::time::Duration::from_secs(30 * 24 * 3600);
    let issued = site.node("node-1", 7, yesterday, month);
    let mut config = network(&cloud, &world.region, "");
    for (name, mode, text) in [
        ("pem", "0644", &issued.certificate),
        ("key", "0600", &issued.key),
    ] {
        let path = format!("/etc/iam/pki/server.{name}");
        config += &site::file(&path, mode, &STANDARD.encode(text));
    }
    let seed = Seed {
        hostname: Some("machine-18".to_owned()),
        parts: vec![Part::of_cloud_init(config).expect("cloud-config")],
        ..Seed::of_node_config(hybrid("", ROLES_ANYWHERE))
    };
    let image = image::join();
    let options = machine(&image.qcow2, "join-hybrid.log");
    let (answers, record) = join(&cloud, seed, options, "join-hybrid");
    assert_joined(&answers, &record, &cloud, "node-1");
    let described = statuses(&record, Service::Eks, "GET", "/clusters/farm");
    assert_eq!(described, [200], "{record:#?}");
    let entries = statuses(
        &record,
        Service::Eks,
        "GET",
        "/clusters/farm/access-entries",
    );
    assert_eq!(entries, [200], "{record:#?}");
    let sessions = statuses(&record, Service::RolesAnywhere, "POST", "/sessions");
    assert!(
        !sessions.is_empty() && sessions.iter().all(|status| *status == 201),
        "{record:#?}"
    );
    let config = answers.json("kubelet-config");
    assert_eq!(config["providerID"], "eks-hybrid:///us-west-2/farm/node-1");
    image.assert_unchanged();
}

/// As the command of AWS does it for a node of EC2: its credentials are those of the
/// instance's role.
const STAND_IN_FOR_AWS: &str = "#!/bin/sh\n\
    # A stand-in for `aws eks get-token`, which the image of a site does not have.\n\
    exec /usr/local/bin/aws-iam-authenticator token --cluster-id farm --region us-west-2\n";

#[test]
fn an_instance_of_ec2_joins_by_what_its_metadata_service_says() {
    let mut world = world();
    let role = "arn:aws:iam::111122223333:role/node-role".to_owned();
    world.clusters[0].access_entries.push(role);
    let cloud = cloud(&world);
    let endpoint = world.clusters[0].endpoint.clone().expect("it is set");
    let node_config = format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: farm\n    \
         apiServerEndpoint: {endpoint}\n    certificateAuthority: {}\n    cidr: 10.100.0.0/16\n",
        STANDARD.encode(authority(&cloud))
    );
    cloud.change(|world| {
        let instance = world.instance.as_mut().expect("an instance");
        instance.user_data = Some(node_config);
    });
    let [a, b, c, d] = METADATA;
    let forward = format!(
        "  - iptables -t nat -A OUTPUT -d 169.254.169.254 -p tcp --dport 80 -j DNAT \
         --to-destination {a}.{b}.{c}.{d}:80\n"
    );
    let stand_in = STANDARD.encode(STAND_IN_FOR_AWS);
    let config = network(&cloud, &world.region, &forward)
        + &site::file("/usr/local/bin/aws", "0755", &stand_in);
    let seed = Seed {
        instance_id: "nodekiln-join-ec2".to_owned(),
        hostname: Some("machine-19".to_owned()),
        parts: vec![Part::of_cloud_init(config).expect("cloud-config")],
        ..Seed::default()
    };
    let image = image::join();
    let options = BootOptions {
        manufacturer: Some("Amazon EC2".to_owned()),
        ..machine(&image.qcow2, "join-ec2.log")
    };
    let (answers, record) = join(&cloud, seed, options, "join-ec2");
    let name = "ip-10-0-2-15.us-west-2.compute.internal";
    assert_joined(&answers, &record, &cloud, name);
    for path in [
        "/latest/user-data",
        "/latest/dynamic/instance-identity/document",
        "/latest/meta-data/iam/security-credentials/node-role",
    ] {
        let asked = statuses(&record, Service::Imds, "GET", path);
        assert!(asked.contains(&200), "{path}: {record:#?}");
    }
    let tokens = statuses(&record, Service::Imds, "PUT", "/latest/api/token");
    assert!(!tokens.is_empty(), "{record:#?}");
    let config: Value = answers.json("kubelet-config");
    assert_eq!(
        config["providerID"],
        "aws:///us-west-2a/i-0123456789abcdef0"
    );
    assert_eq!(config["maxPods"], 29, "an m5.large");
    image.assert_unchanged();
}
