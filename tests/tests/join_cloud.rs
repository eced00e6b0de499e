//! The cloud that the join tests play, judged first: botocore signs and is let in,
//! everything that is tampered with is refused as AWS refuses it.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_tests::cloud::client::Cloud;
use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::judges::judge;
use serde_json::{Value, json};

fn cloud(world: &World, arguments: &[&str]) -> Cloud {
    let program = Command::new(env!("CARGO_BIN_EXE_nodekiln-cloud"));
    Cloud::start(program, world, arguments)
}

/// Runs the script beside this file in a Python with botocore and gives the JSON that
/// it prints.
fn python(cloud: &Cloud, what: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/join/ask.py");
    let output = Command::new(judge("python"))
        .arg(script)
        .arg(what.to_string())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(cloud.environment())
        .stdin(Stdio::null())
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// curl to the cloud: status and body.
fn curl(cloud: &Cloud, service: Service, path: &str, arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args([
            "-sS",
            "--path-as-is",
            "--max-time",
            "5",
            "-w",
            "\n%{http_code}",
            "--cacert",
        ])
        .arg(cloud.file("ca.pem"))
        .args(arguments)
        .arg(format!("{}{path}", cloud.url(service)))
        .output()
        .expect("curl must be installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[test]
fn what_botocore_signs_is_let_in() {
    let cloud = cloud(&World::sample(), &[]);
    let cluster = python(
        &cloud,
        &json!({ "call": ["eks", "describe_cluster", {"name": "farm"}] }),
    );
    assert_eq!(cluster["cluster"]["endpoint"], cloud.url(Service::Cluster));
    assert_eq!(
        cluster["cluster"]["kubernetesNetworkConfig"]["serviceIpv4Cidr"],
        "10.100.0.0/16"
    );
    let me = python(
        &cloud,
        &json!({ "call": ["sts", "get_caller_identity", {}] }),
    );
    assert_eq!(me["Arn"], "arn:aws:iam::111122223333:user/tester");
    let instances = json!({ "InstanceIds": ["i-0123456789abcdef0"] });
    let found = python(
        &cloud,
        &json!({ "call": ["ec2", "describe_instances", instances] }),
    );
    let instance = &found["Reservations"][0]["Instances"][0];
    assert_eq!(
        instance["PrivateDnsName"],
        "ip-10-1-2-3.us-west-2.compute.internal"
    );
    let types = json!({ "InstanceTypes": ["m5.large"] });
    let found = python(
        &cloud,
        &json!({ "call": ["ec2", "describe_instance_types", types] }),
    );
    let network = &found["InstanceTypes"][0]["NetworkInfo"];
    assert_eq!(network["MaximumNetworkInterfaces"], 3);
    assert_eq!(network["Ipv4AddressesPerInterface"], 10);
    let token = python(
        &cloud,
        &json!({ "call": ["ecr", "get_authorization_token", {}] }),
    );
    assert!(token["authorizationData"][0]["authorizationToken"].is_string());
    let list = python(
        &cloud,
        &json!({ "call": ["ssm", "describe_instance_information", {}] }),
    );
    assert_eq!(list["InstanceInformationList"], json!([]));
    // Names that have to be escaped, and pages.
    cloud.change(|world| {
        let mut other = world.clusters[0].clone();
        other.name = "ä b/c".into();
        other.access_entries = (0..5).map(|n| format!("arn:aws:iam::1:role/{n}")).collect();
        world.clusters.push(other);
    });
    let page = json!({ "clusterName": "ä b/c", "maxResults": 3 });
    let first = python(
        &cloud,
        &json!({ "call": ["eks", "list_access_entries", page] }),
    );
    assert_eq!(first["accessEntries"].as_array().map(Vec::len), Some(3));
    let page = json!({ "clusterName": "ä b/c", "nextToken": first["nextToken"] });
    let second = python(
        &cloud,
        &json!({ "call": ["eks", "list_access_entries", page] }),
    );
    assert_eq!(second["accessEntries"].as_array().map(Vec::len), Some(2));
    assert_eq!(second.get("nextToken"), None);
    let refused = cloud
        .record()
        .into_iter()
        .filter(|record| record.status >= 400);
    assert_eq!(refused.count(), 0);
}

#[test]
fn a_token_of_the_authenticator_is_a_presigned_url_that_is_let_in() {
    let cloud = cloud(&World::sample(), &[]);
    let url = python(&cloud, &json!({ "presign": "farm" }));
    let url = url["url"].as_str().expect("a URL");
    let path = url
        .strip_prefix(cloud.url(Service::Sts))
        .expect("of the cloud");
    let header = ["-H", "x-k8s-aws-id: farm", "-H", "accept: application/json"];
    let (status, body) = curl(&cloud, Service::Sts, path, &header);
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let result = &body["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(result["Arn"], "arn:aws:iam::111122223333:user/tester");
    // Another cluster, none, another action, a longer life: all of it is signed.
    let longer = path.replace("X-Amz-Expires=60", "X-Amz-Expires=600");
    assert_ne!(longer, path);
    for (path, id) in [
        (path, "x-k8s-aws-id: other"),
        (path, "x-other: farm"),
        (&longer, "x-k8s-aws-id: farm"),
    ] {
        let (status, body) = curl(&cloud, Service::Sts, path, &["-H", id]);
        assert_eq!(status, 403, "{id} {body}");
        assert!(
            body.contains("<Code>SignatureDoesNotMatch</Code>"),
            "{body}"
        );
    }
    // STS takes it for 15 minutes, whatever it says of itself: kubelets keep theirs for 14.
    cloud.change(|world| world.clock_ahead = 14 * 60);
    let (status, body) = curl(&cloud, Service::Sts, path, &header);
    assert_eq!(status, 200, "{body}");
    cloud.change(|world| world.clock_ahead = 16 * 60);
    let (status, body) = curl(&cloud, Service::Sts, path, &header);
    assert_eq!(status, 403);
    assert!(body.contains("Signature expired: "), "{body}");
}

#[test]
fn what_the_authenticator_itself_signs_is_let_in() {
    use base64::Engine as _;
    let cloud = cloud(&World::sample(), &[]);
    let key = &World::sample().keys[0];
    let output = Command::new(judge("authenticator"))
        .args(["token", "--cluster-id", "farm", "--region", "us-west-2"])
        .env_clear()
        .env("HOME", cloud.file("home"))
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key)
        .env("AWS_STS_REGIONAL_ENDPOINTS", "regional")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let credential: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let token = credential["status"]["token"].as_str().expect("a token");
    let url = token.strip_prefix("k8s-aws-v1.").expect("its prefix");
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(url);
    let url = String::from_utf8(url.expect("base64")).expect("UTF-8");
    let path = url.strip_prefix("https://sts.us-west-2.amazonaws.com");
    let path = path.unwrap_or_else(|| unreachable!("another endpoint: {url}"));
    let host = ["-H", "host: sts.us-west-2.amazonaws.com"];
    let id = ["-H", "x-k8s-aws-id: farm"];
    let (status, body) = curl(&cloud, Service::Sts, path, &[host, id].concat());
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&key.principal), "{body}");
    let other = ["-H", "x-k8s-aws-id: wood"];
    let (status, _) = curl(&cloud, Service::Sts, path, &[host, other].concat());
    assert_eq!(status, 403);
}

#[test]
fn what_is_tampered_with_is_refused_as_aws_refuses_it() {
    let cloud = cloud(&World::sample(), &[]);
    let describe = json!({ "name": "farm" });
    let eks = json!(["eks", "describe_cluster", describe]);
    let sts = json!(["sts", "get_caller_identity", {}]);
    let ec2 = json!(["ec2", "describe_instances", {}]);
    let ecr = json!(["ecr", "get_authorization_token", {}]);
    let signature = [
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
    ];
    let cases = [
        ("secret", signature),
        ("signature", signature),
        ("body", signature),
        ("header", signature),
        ("unsigned-host", signature),
        ("unsigned-amz-header", signature),
        ("region", signature),
        ("service", signature),
        ("day", signature),
        (
            "late",
            [
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "RequestExpired",
                "InvalidSignatureException",
            ],
        ),
        (
            "early",
            [
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "RequestExpired",
                "InvalidSignatureException",
            ],
        ),
        (
            "key",
            [
                "UnrecognizedClientException",
                "InvalidClientTokenId",
                "AuthFailure",
                "UnrecognizedClientException",
            ],
        ),
        (
            "token",
            [
                "UnrecognizedClientException",
                "InvalidClientTokenId",
                "AuthFailure",
                "UnrecognizedClientException",
            ],
        ),
        (
            "none",
            [
                "MissingAuthenticationTokenException",
                "MissingAuthenticationToken",
                "AuthFailure",
                "MissingAuthenticationTokenException",
            ],
        ),
        (
            "date",
            [
                "IncompleteSignatureException",
                "IncompleteSignature",
                "IncompleteSignature",
                "IncompleteSignatureException",
            ],
        ),
    ];
    let calls = [eks, sts, ec2, ecr];
    let asked: Vec<Value> = cases
        .iter()
        .flat_map(|(tamper, _)| {
            calls
                .iter()
                .map(move |call| json!({ "call": call, "tamper": tamper }))
        })
        .collect();
    let answers = python(&cloud, &json!(asked));
    let mut answers = answers.as_array().expect("a list").iter();
    for (tamper, codes) in cases {
        for (call, code) in calls.iter().zip(codes) {
            let answer = answers.next().expect("an answer to each");
            assert_eq!(answer["error"], code, "{tamper} {call}: {answer}");
        }
    }
    // botocore itself is let in with the same calls.
    let plain: Vec<Value> = calls.iter().map(|call| json!({ "call": call })).collect();
    for answer in python(&cloud, &json!(plain)).as_array().expect("a list") {
        assert_eq!(answer.get("error"), None, "{answer}");
    }
}

#[test]
fn what_is_unknown_or_forbidden_is_refused_in_the_words_of_the_service() {
    let mut world = World::sample();
    world.forbidden = vec![
        "eks:ListAccessEntries".into(),
        "ec2:DescribeInstances".into(),
    ];
    let cloud = cloud(&world, &[]);
    let calls = [
        (
            json!(["eks", "describe_cluster", {"name": "wood"}]),
            "ResourceNotFoundException",
            "No cluster found for name: wood.",
        ),
        (
            json!(["eks", "list_nodegroups", {"clusterName": "farm"}]),
            "UnknownOperationException",
            "",
        ),
        (
            json!(["eks", "list_access_entries", {"clusterName": "farm"}]),
            "AccessDeniedException",
            "User: arn:aws:iam::111122223333:user/tester is not authorized to perform: eks:ListAccessEntries",
        ),
        (
            json!(["ec2", "describe_instances", {}]),
            "UnauthorizedOperation",
            "is not authorized",
        ),
        (
            json!(["ec2", "describe_vpcs", {}]),
            "InvalidAction",
            "DescribeVpcs",
        ),
        (
            json!(["ec2", "describe_instance_types", {"InstanceTypes": ["m9.big"]}]),
            "InvalidInstanceType",
            "m9.big",
        ),
        (
            json!(["sts", "get_session_token", {}]),
            "InvalidAction",
            "GetSessionToken",
        ),
        (
            json!(["ssm", "list_documents", {}]),
            "UnknownOperationException",
            "",
        ),
        (
            json!(["ecr", "describe_registry", {}]),
            "UnknownOperationException",
            "",
        ),
    ];
    let asked: Vec<Value> = calls
        .iter()
        .map(|(call, _, _)| json!({ "call": call }))
        .collect();
    let answers = python(&cloud, &json!(asked));
    for ((call, code, message), answer) in calls.iter().zip(answers.as_array().expect("a list")) {
        assert_eq!(answer["error"], *code, "{call}: {answer}");
        assert!(
            answer["message"]
                .as_str()
                .expect("a message")
                .contains(message),
            "{answer}"
        );
    }
}

#[test]
fn metadata_is_given_to_who_has_a_token_and_to_nobody_else() {
    let mut world = World::sample();
    let instance = world.instance.as_mut().expect("an instance");
    instance.user_data = Some("#!/bin/sh\n".into());
    let cloud = cloud(&world, &[]);
    let get = |path: &str, arguments: &[&str]| curl(&cloud, Service::Imds, path, arguments);
    let token = |seconds: &str| {
        let header = format!("x-aws-ec2-metadata-token-ttl-seconds: {seconds}");
        get("/latest/api/token", &["-X", "PUT", "-H", &header])
    };
    assert_eq!(get("/latest/meta-data/instance-id", &[]).0, 401);
    assert_eq!(
        get(
            "/latest/meta-data/instance-id",
            &["-H", "x-aws-ec2-metadata-token: x"]
        )
        .0,
        401
    );
    assert_eq!(get("/latest/api/token", &["-X", "PUT"]).0, 400);
    assert_eq!(get("/latest/api/token", &[]).0, 405);
    for seconds in ["0", "21601", "-1", "soon"] {
        assert_eq!(token(seconds).0, 400, "{seconds}");
    }
    let forwarded = [
        "-X",
        "PUT",
        "-H",
        "x-forwarded-for: 10.0.0.1",
        "-H",
        "x-aws-ec2-metadata-token-ttl-seconds: 60",
    ];
    assert_eq!(get("/latest/api/token", &forwarded).0, 403);

    let (status, value) = token("60");
    assert_eq!(status, 200);
    let header = format!("x-aws-ec2-metadata-token: {value}");
    let read = |path: &str| get(path, &["-H", &header]);
    for (path, wanted) in [
        ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
        ("/latest/meta-data/placement/region", "us-west-2"),
        (
            "/latest/meta-data/network/interfaces/macs/",
            "0a:ff:11:22:33:44/",
        ),
        (
            "/latest/meta-data/network/interfaces/macs/0a:ff:11:22:33:44/local-ipv4s",
            "10.1.2.3",
        ),
        ("/2021-01-03/meta-data/mac", "0a:ff:11:22:33:44"),
        ("/latest/user-data", "#!/bin/sh\n"),
        ("/latest/meta-data/iam/security-credentials/", "node-role"),
    ] {
        assert_eq!(read(path), (200, wanted.to_owned()), "{path}");
    }
    for path in [
        "/latest/meta-data/nothing",
        "/later/user-data",
        "/latest/meta-data/iam/security-credentials/other",
    ] {
        assert_eq!(read(path).0, 404, "{path}");
    }
    let (_, document) = read("/latest/dynamic/instance-identity/document");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["instanceType"], "m5.large");
    // The role's credentials are good for the other services, and stay the same.
    let path = "/latest/meta-data/iam/security-credentials/node-role";
    let credentials: Value = serde_json::from_str(&read(path).1).expect("JSON");
    let again: Value = serde_json::from_str(&read(path).1).expect("JSON");
    assert_eq!(credentials["AccessKeyId"], again["AccessKeyId"]);
    let me = json!({ "call": ["sts", "get_caller_identity", {}], "credentials": credentials });
    let arn = "arn:aws:sts::111122223333:assumed-role/node-role/i-0123456789abcdef0";
    assert_eq!(python(&cloud, &me)["Arn"], arn);
    // Time passes: token and credentials end.
    cloud.change(|world| world.clock_ahead = 7 * 3600);
    assert_eq!(read("/latest/user-data").0, 401);
    cloud.change(|world| {
        world.clock_ahead = 0;
        for key in &mut world.keys {
            key.expires = key.expires.map(|_| 1);
        }
    });
    let refused = python(&cloud, &json!([me]));
    assert_eq!(refused[0]["error"], "ExpiredToken");
    // No instance, no role, no user data.
    cloud.change(|world| world.instance.as_mut().expect("an instance").user_data = None);
    assert_eq!(read("/latest/user-data").0, 404);
}

#[test]
fn every_service_misbehaves_when_it_is_told_to() {
    let cloud = cloud(&World::sample(), &[]);
    let livez = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "1",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
            ])
            .arg(cloud.file("ca.pem"))
            .args(arguments)
            .arg(format!("{}/livez", cloud.url(Service::Cluster)))
            .output()
            .expect("curl must be installed");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let told = |kind| cloud.faults(&[Fault::of(Service::Cluster, kind, 1)]);
    told(Kind::Status(503));
    assert_eq!(livez(&[]), (Some(0), "503".into()));
    assert_eq!(livez(&[]), (Some(0), "200".into()));
    // curl's exit codes: 28 a time-out, 18 a partial file, 52 and 56 nothing, 1 no HTTP.
    told(Kind::Hang);
    assert_eq!(livez(&[]).0, Some(28));
    told(Kind::HalfBody);
    assert_eq!(livez(&[]), (Some(18), "200".into()));
    told(Kind::StalledBody);
    assert_eq!(livez(&[]), (Some(28), "200".into()));
    told(Kind::EndlessBody);
    assert_eq!(livez(&[]), (Some(28), "200".into()));
    told(Kind::Close);
    assert!(matches!(livez(&[]).0, Some(52 | 56)));
    told(Kind::Nonsense);
    assert_eq!(livez(&[]).0, Some(1));
    assert_eq!(livez(&[]), (Some(0), "200".into()));
    for (service, call, code) in [
        (
            Service::Eks,
            json!(["eks", "describe_cluster", {"name": "farm"}]),
            "TooManyRequestsException",
        ),
        (
            Service::Ec2,
            json!(["ec2", "describe_instances", {}]),
            "RequestLimitExceeded",
        ),
        (
            Service::Sts,
            json!(["sts", "get_caller_identity", {}]),
            "Throttling",
        ),
        (
            Service::Ecr,
            json!(["ecr", "get_authorization_token", {}]),
            "ThrottlingException",
        ),
    ] {
        cloud.faults(&[Fault::of(service, Kind::Throttle, 0)]);
        let answers = python(&cloud, &json!([{ "call": call }]));
        assert_eq!(answers[0]["error"], code);
    }
}

/// It was left running by a test that was killed, for it never hears of that.
#[test]
fn a_cloud_ends_with_the_thread_that_started_it() {
    let starting = std::thread::spawn(|| {
        let cloud = cloud(&World::sample(), &[]);
        let socket = cloud.file("control.sock");
        let connection = UnixStream::connect(&socket).expect("it listens");
        // As by a test that is killed: nothing is dropped.
        std::mem::forget(cloud);
        (socket, connection)
    });
    let (socket, mut connection) = starting.join().expect("it starts");
    // It says nothing until it is gone, and then the connection is over or broken.
    let said = connection.read(&mut [0]).unwrap_or(0);
    assert_eq!(said, 0);
    assert!(UnixStream::connect(&socket).is_err());
    let folder = socket.parent().expect("the cloud's folder");
    std::fs::remove_dir_all(folder).expect("nobody uses it");
}
