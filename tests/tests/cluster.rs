//! A control plane of the real programs, and whom it lets in: tokens as nodes make them,
//! judged by the real authenticator, which asks the cloud of the tests.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nodekiln_tests::cloud::World;
use nodekiln_tests::cluster::{PlayedKubelet, minor};
use nodekiln_tests::program::text;
use nodekiln_tests::surroundings::Surroundings;
use serde_json::json;
use tempfile::TempDir;

/// A kubelet with the key of one of the sessions.
fn kubelet<'a>(site: &'a Surroundings, session: &str, cluster: &str) -> PlayedKubelet<'a> {
    PlayedKubelet::new(&site.control_plane, &site.cloud, session, cluster)
}

/// The sample world with sessions of roles: a hybrid node's, an instance's, and that of
/// a role without an access entry.
fn world() -> World {
    let mut world = World::sample();
    world.clusters[0]
        .access_entries
        .push("arn:aws:iam::111122223333:role/node-role".into());
    for session in [
        "hybrid-node/node-1",
        "node-role/i-0123456789abcdef0",
        "visitor/node-1",
    ] {
        world.add_session(session);
    }
    world
}

fn assert_unauthorized(output: &Output) {
    let text = text(output);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("Unauthorized") || text.contains("provide credentials"),
        "{text}"
    );
}

/// A token with another signature.
fn forged(token: &str) -> String {
    let url = token.strip_prefix("k8s-aws-v1.").expect("a token");
    let url = URL_SAFE_NO_PAD.decode(url).expect("base64");
    let url = String::from_utf8(url).expect("UTF-8");
    let (rest, last) = url.split_at(url.len() - 1);
    let last = if last == "0" { "1" } else { "0" };
    format!(
        "k8s-aws-v1.{}",
        URL_SAFE_NO_PAD.encode(format!("{rest}{last}"))
    )
}

#[test]
fn a_control_plane_lets_in_whom_aws_knows_and_no_other() {
    let minor = minor();
    let mut site = Surroundings::new(
        Path::new(env!("CARGO_BIN_EXE_nodekiln-cloud")),
        &world(),
        &[],
        &minor,
    );
    assert!(site.control_plane.version().starts_with(&minor));

    strangers_are_refused(&site);
    nodes_are_let_in_under_their_names(&site);
    a_serving_certificate_is_for_the_nodes_own_names(&site);
    tokens_that_are_not_right_are_refused(&site);
    what_was_written_outlives_the_api_server(&mut site);
}

fn strangers_are_refused(site: &Surroundings) {
    // By name, as a node comes: the certificate is that of EKS's name.
    let output = site
        .network
        .command(Path::new("curl"))
        .args(["--silent", "--show-error", "--cacert"])
        .arg(site.control_plane.kubeconfig().with_file_name("ca.pem"))
        .arg(format!("{}/api/v1/nodes", site.control_plane.endpoint()))
        .output()
        .expect("curl must be installed");
    let said = text(&output);
    assert!(
        said.contains(r#"User \"system:anonymous\" cannot list"#),
        "{said}"
    );
    for token in ["nonsense", "k8s-aws-v1.bm9uc2Vuc2U"] {
        let nodes = ["get", "nodes"];
        assert_unauthorized(&site.control_plane.kubectl_with(token, &nodes, ""));
    }
}

fn nodes_are_let_in_under_their_names(site: &Surroundings) {
    for (session, name) in [
        ("hybrid-node/node-1", "node-1"),
        (
            "node-role/i-0123456789abcdef0",
            "ip-10-1-2-3.us-west-2.compute.internal",
        ),
    ] {
        let kubelet = kubelet(site, session, "farm");
        let output = kubelet.create_node(name);
        assert!(output.status.success(), "{}", text(&output));
        let output = kubelet.create_node("another");
        let said = text(&output);
        assert!(
            said.contains("is not allowed to modify node \"another\""),
            "{said}"
        );
        // As it was granted, so it is in the log, with the role behind the name.
        let user = format!("system:node:{name}");
        let events = site.control_plane.audit();
        let created = events
            .iter()
            .find(|event| event.is(&user, "create", ("nodes", name), 201))
            .expect("the node's own creation is in the log");
        for group in [
            "system:nodes",
            "system:bootstrappers",
            "system:authenticated",
        ] {
            assert!(
                created.user.groups.iter().any(|one| one == group),
                "{group}"
            );
        }
        let arn = format!("arn:aws:sts::111122223333:assumed-role/{session}");
        assert_eq!(created.user.extra["arn"], json!([arn]));
        assert!(
            events
                .iter()
                .any(|event| event.is(&user, "create", ("nodes", "another"), 403))
        );
    }
    let nodes = site.control_plane.get(&["nodes"]).expect("it is there");
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(2), "{nodes}");
}

fn a_serving_certificate_is_for_the_nodes_own_names(site: &Surroundings) {
    let control_plane = &site.control_plane;
    let kubelet = kubelet(site, "hybrid-node/node-1", "farm");
    let output = kubelet.set_address("node-1", Ipv4Addr::new(10, 1, 2, 3));
    let output = output.expect("the node is there");
    assert!(output.status.success(), "{}", text(&output));
    let ask =
        |name: &str, of: &str, names: &str| text(&kubelet.request_certificate(name, of, names));
    let said = ask("another", "node-2", "IP:10.1.2.3");
    assert!(
        said.contains("can only create a node CSR with CN=system:node:node-1"),
        "{said}"
    );
    // The last is good: once it is approved, the others were looked at.
    for (name, names) in [
        ("address-of-another", "IP:10.1.2.4,DNS:node-1"),
        ("name-of-another", "IP:10.1.2.3,DNS:node-2"),
        ("own", "IP:10.1.2.3,DNS:node-1"),
    ] {
        let said = ask(name, "node-1", names);
        assert!(said.contains("created"), "{said}");
    }
    let issued = "--for=jsonpath={.status.certificate}";
    control_plane
        .wait(&[issued, "--timeout=60s", "csr/own"])
        .expect("it is issued");
    let requests = control_plane.get(&["csr"]).expect("it is there");
    for request in requests["items"].as_array().expect("a list") {
        let name = request["metadata"]["name"].as_str().expect("a name");
        let is_approved = request["status"]["conditions"][0]["type"] == "Approved";
        assert_eq!(is_approved, name == "own", "{request}");
    }
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let own = control_plane.get(&["csr", "own"]).expect("it is there");
    let certificate = own["status"]["certificate"].as_str().expect("PEM");
    let certificate = STANDARD.decode(certificate).expect("base64");
    fs::write(path("certificate"), certificate).expect("written");
    fs::write(path("ca"), control_plane.ca_pem()).expect("written");
    let output = Command::new("openssl")
        .args([
            "verify",
            "-purpose",
            "sslserver",
            "-verify_ip",
            "10.1.2.3",
            "-CAfile",
        ])
        .args([path("ca"), path("certificate")])
        .output()
        .expect("openssl must be installed");
    assert!(output.status.success(), "{}", text(&output));
}

fn tokens_that_are_not_right_are_refused(site: &Surroundings) {
    let good = "hybrid-node/node-1";
    let mut forger = kubelet(site, good, "farm");
    forger.token = forged(&forger.token);
    for kubelet in [
        forger,
        kubelet(site, good, "another-cluster"),
        kubelet(site, "visitor/node-1", "farm"),
        kubelet(site, "user/tester", "farm"),
    ] {
        assert_unauthorized(&kubelet.create_node("node-1"));
    }
    let kubelet = kubelet(site, good, "farm");
    site.cloud.change(|world| world.clock_ahead = 16 * 60);
    assert_unauthorized(&kubelet.create_node("node-1"));
    site.cloud.change(|world| world.clock_ahead = 0);
}

fn what_was_written_outlives_the_api_server(site: &mut Surroundings) {
    site.control_plane.stop_api_server();
    let output = site.control_plane.kubectl(&["get", "nodes"]);
    let said = text(&output);
    assert!(
        said.contains("connection refused") || said.contains("was refused"),
        "{said}"
    );
    site.control_plane.start_api_server();
    let node = site
        .control_plane
        .get(&["node", "node-1"])
        .expect("it is there");
    assert_eq!(node["metadata"]["name"], "node-1");
    let token = kubelet(site, "hybrid-node/node-1", "farm").token;
    let output = site
        .control_plane
        .kubectl_with(&token, &["get", "node", "node-1"], "");
    assert!(output.status.success(), "{}", text(&output));
}
