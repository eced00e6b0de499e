//! A second opinion on the cloud of the tests: moto, other people's AWS, answers the
//! same calls with values of the same types in the same places.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nodekiln_tests::cloud::World;
use nodekiln_tests::cloud::client::Cloud;
use nodekiln_tests::judges::judge;
use serde_json::{Value, json};

/// moto, until the test ends.
struct Moto {
    server: Child,
    url: String,
}

impl Moto {
    fn start() -> Self {
        // The server of its own library, so that it says which port it got.
        let script = "
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
";
        let mut server = Command::new(judge("python"))
            .args(["-c", script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python starts");
        let mut port = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut port)
            .expect("moto says its port");
        let url = format!("http://127.0.0.1:{}", port.trim_end());
        Self { server, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn ask(environment: &[(String, String)], what: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/join/ask.py");
    let output = Command::new(judge("python"))
        .arg(script)
        .arg(what.to_string())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(environment.iter().cloned())
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[test]
fn moto_answers_with_the_same_types_in_the_same_places() {
    let moto = Moto::start();
    let mut theirs: Vec<(String, String)> = ["EKS", "STS", "EC2", "ECR"]
        .iter()
        .map(|name| (format!("AWS_ENDPOINT_URL_{name}"), moto.url.clone()))
        .collect();
    let program = Command::new(env!("CARGO_BIN_EXE_nodekiln-cloud"));
    let cloud = Cloud::start(program, &World::sample(), &[]);
    theirs.push((
        "AWS_CA_BUNDLE".into(),
        cloud.file("ca.pem").display().to_string(),
    ));
    let create = json!([
        "eks", "create_cluster",
        {
            "name": "farm", "version": "1.34", "roleArn": "arn:aws:iam::111122223333:role/c",
            "resourcesVpcConfig": {"subnetIds": ["subnet-1"]},
            "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.100.0.0/16"},
        }
    ]);
    ask(&theirs, &json!({ "call": create }));
    let ours = cloud.environment();
    for (call, places) in [
        (
            json!(["eks", "describe_cluster", {"name": "farm"}]),
            &[
                "/cluster/name",
                "/cluster/arn",
                "/cluster/endpoint",
                "/cluster/status",
                "/cluster/version",
                "/cluster/certificateAuthority/data",
                "/cluster/kubernetesNetworkConfig/serviceIpv4Cidr",
            ][..],
        ),
        (
            json!(["sts", "get_caller_identity", {}]),
            &["/Arn", "/Account", "/UserId"],
        ),
        (
            json!(["ec2", "describe_instance_types", {"InstanceTypes": ["m5.large"]}]),
            &[
                "/InstanceTypes/0/NetworkInfo/MaximumNetworkInterfaces",
                "/InstanceTypes/0/NetworkInfo/Ipv4AddressesPerInterface",
                "/InstanceTypes/0/NetworkInfo/DefaultNetworkCardIndex",
                "/InstanceTypes/0/NetworkInfo/NetworkCards/0/MaximumNetworkInterfaces",
                "/InstanceTypes/0/VCpuInfo/DefaultVCpus",
                "/InstanceTypes/0/MemoryInfo/SizeInMiB",
            ],
        ),
        (
            json!(["ecr", "get_authorization_token", {}]),
            &[
                "/authorizationData/0/authorizationToken",
                "/authorizationData/0/proxyEndpoint",
            ],
        ),
    ] {
        let what = json!({ "call": call });
        let (their, our) = (ask(&theirs, &what), ask(&ours, &what));
        for place in places {
            let (their, our) = (their.pointer(place), our.pointer(place));
            let (their, our) = (their.map(kind), our.map(kind));
            assert!(our.is_some(), "{call} {place} is missing");
            assert_eq!(their, our, "{call} {place}");
        }
    }
    // What a type can have is a fact of EC2, not ours to make up.
    let what =
        json!({ "call": ["ec2", "describe_instance_types", {"InstanceTypes": ["m5.large"]}] });
    let network = |answer: Value| answer["InstanceTypes"][0]["NetworkInfo"].clone();
    let (their, our) = (network(ask(&theirs, &what)), network(ask(&ours, &what)));
    for name in ["MaximumNetworkInterfaces", "Ipv4AddressesPerInterface"] {
        assert_eq!(their[name], our[name], "{name}");
    }
}
