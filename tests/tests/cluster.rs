//! A control plane of the real programs, and whom it lets in: tokens as nodes make them,
//! judged by the real authenticator, which asks the cloud of the tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nodekiln_tests::cloud::World;
use nodekiln_tests::cloud::identity::Key;
use nodekiln_tests::cluster::minor;
use nodekiln_tests::judges::judge;
use nodekiln_tests::program::text;
use nodekiln_tests::surroundings::Surroundings;
use serde_json::json;
use tempfile::TempDir;

/// A token as a node makes it, with the key of one of the sessions.
fn token(site: &Surroundings, session: &str, cluster: &str) -> String {
    let world = site.cloud.world();
    let mut keys = world.keys.iter();
    let key = keys.find(|key| key.principal.ends_with(session));
    let key = key.expect("there is such a session");
    let output = Command::new(judge("authenticator"))
        .args(["token", "--token-only", "--region=us-west-2"])
        .arg(format!("--cluster-id={cluster}"))
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key)
        .env(
            "AWS_SESSION_TOKEN",
            key.session_token.as_deref().unwrap_or_default(),
        )
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

fn create_node(site: &Surroundings, token: &str, name: &str) -> Output {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    let arguments = ["create", "--validate=false", "--filename=-"];
    site.control_plane
        .kubectl_with(token, &arguments, &node.to_string())
}

/// The sample world with sessions of roles: a hybrid node's, an instance's, and that of
/// a role without an access entry.
fn world() -> World {
    let mut world = World::sample();
    world.clusters[0]
        .access_entries
        .push("arn:aws:iam::111122223333:role/node-role".into());
    for (number, session) in [
        "hybrid-node/node-1",
        "node-role/i-0123456789abcdef0",
        "visitor/node-1",
    ]
    .into_iter()
    .enumerate()
    {
        let (_, name) = session.split_once('/').expect("ROLE/SESSION");
        world.keys.push(Key {
            access_key_id: format!("ASIA000000000000000{number}"),
            secret_access_key: format!("secret of session {number}"),
            session_token: Some(format!("token-of-session-{number}")),
            principal: format!("arn:aws:sts::111122223333:assumed-role/{session}"),
            user_id: format!("AROA000000000000000{number}:{name}"),
            expires: None,
        });
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
        let token = token(site, session, "farm");
        let output = create_node(site, &token, name);
        assert!(output.status.success(), "{}", text(&output));
        let output = create_node(site, &token, "another");
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
    let nodes = site.control_plane.get(&["nodes"]);
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(2), "{nodes}");
}

fn a_serving_certificate_is_for_the_nodes_own_names(site: &Surroundings) {
    let control_plane = &site.control_plane;
    let token = token(site, "hybrid-node/node-1", "farm");
    let mut node = control_plane.get(&["node", "node-1"]);
    node["status"]["addresses"] = json!([
        { "type": "InternalIP", "address": "10.1.2.3" },
        { "type": "Hostname", "address": "node-1" },
    ]);
    let put = [
        "replace",
        "--raw=/api/v1/nodes/node-1/status",
        "--filename=-",
    ];
    let output = control_plane.kubectl_with(&token, &put, &node.to_string());
    assert!(output.status.success(), "{}", text(&output));
    let create = ["create", "--validate=false", "--filename=-"];
    let ask = |name: &str, of: &str, names: &str| {
        let request = serving_certificate_request(name, of, names);
        text(&control_plane.kubectl_with(&token, &create, &request))
    };
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
    control_plane.wait(&[issued, "--timeout=60s", "csr/own"]);
    let requests = control_plane.get(&["csr"]);
    for request in requests["items"].as_array().expect("a list") {
        let name = request["metadata"]["name"].as_str().expect("a name");
        let is_approved = request["status"]["conditions"][0]["type"] == "Approved";
        assert_eq!(is_approved, name == "own", "{request}");
    }
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let own = control_plane.get(&["csr", "own"]);
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

/// A kubelet's request, made with openssl.
fn serving_certificate_request(name: &str, of: &str, names: &str) -> String {
    let output = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-keyout", "/dev/null"])
        .args(["-subj", &format!("/O=system:nodes/CN=system:node:{of}")])
        .args(["-addext", &format!("subjectAltName={names}")])
        .output()
        .expect("openssl must be installed");
    assert!(output.status.success(), "{}", text(&output));
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": {
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
            "request": STANDARD.encode(output.stdout),
        },
    })
    .to_string()
}

fn tokens_that_are_not_right_are_refused(site: &Surroundings) {
    let good = "hybrid-node/node-1";
    for token in [
        forged(&token(site, good, "farm")),
        token(site, good, "another-cluster"),
        token(site, "visitor/node-1", "farm"),
        token(site, "user/tester", "farm"),
    ] {
        assert_unauthorized(&create_node(site, &token, "node-1"));
    }
    let token = token(site, good, "farm");
    site.cloud.change(|world| world.clock_ahead = 16 * 60);
    assert_unauthorized(&create_node(site, &token, "node-1"));
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
    let node = site.control_plane.get(&["node", "node-1"]);
    assert_eq!(node["metadata"]["name"], "node-1");
    let token = token(site, "hybrid-node/node-1", "farm");
    let output = site
        .control_plane
        .kubectl_with(&token, &["get", "node", "node-1"], "");
    assert!(output.status.success(), "{}", text(&output));
}
