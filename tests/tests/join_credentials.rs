//! Credentials for machines outside of EC2, from the cloud of the tests: with the
//! certificate of a site, signed here by openssl, and with an activation.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nodekiln_tests::cloud::canonical::{hex, sha256};
use nodekiln_tests::cloud::certificates::{Authority, Issued};
use nodekiln_tests::cloud::client::Cloud;
use nodekiln_tests::cloud::state::basic;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::judges::judge;
use nodekiln_tests::namespace::Namespace;
use nodekiln_tests::program::run;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

const ANCHOR: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/a";
const PROFILE: &str = "arn:aws:rolesanywhere:us-west-2:111122223333:profile/b";
const ROLE: &str = "arn:aws:iam::111122223333:role/hybrid-node";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn world(authority: &Authority) -> World {
    let mut world = World::sample();
    world.trust(ANCHOR, authority);
    world
}

fn cloud(world: &World) -> Cloud {
    let program = Command::new(env!("CARGO_BIN_EXE_nodekiln-cloud"));
    Cloud::start(program, world, &[])
}

/// A request for a session, of which single parts can be wrong.
struct Session {
    issued: Issued,
    serial: String,
    algorithm: &'static str,
    anchor: &'static str,
    role: &'static str,
    /// Signs another body than the one that is sent.
    is_tampered: bool,
}

impl Session {
    fn of(issued: Issued, serial: u64) -> Self {
        Self {
            issued,
            serial: serial.to_string(),
            algorithm: "AWS4-X509-ECDSA-SHA256",
            anchor: ANCHOR,
            role: ROLE,
            is_tampered: false,
        }
    }

    /// Signs with openssl, sends with curl; gives status and answer.
    fn ask(&self, cloud: &Cloud) -> (u16, Value) {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("key"), &self.issued.key).expect("written");
        let der: String = self
            .issued
            .certificate
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let date = basic(i64::try_from(seconds).expect("a time"));
        let host = cloud
            .url(Service::RolesAnywhere)
            .trim_start_matches("https://");
        let body = json!({
            "durationSeconds": 3600, "profileArn": PROFILE, "roleArn": self.role,
            "trustAnchorArn": self.anchor, "roleSessionName": "node-1",
        })
        .to_string();
        let signed = if self.is_tampered { "{}" } else { &body };
        let names = "content-type;host;x-amz-date;x-amz-x509";
        let request = format!(
            "POST\n/sessions\n\ncontent-type:application/json\nhost:{host}\nx-amz-date:{date}\n\
             x-amz-x509:{der}\n\n{names}\n{}",
            sha256(signed.as_bytes())
        );
        let scope = format!("{}/us-west-2/rolesanywhere/aws4_request", &date[..8]);
        let text = format!(
            "{}\n{date}\n{scope}\n{}",
            self.algorithm,
            sha256(request.as_bytes())
        );
        fs::write(path("text"), text).expect("written");
        fs::write(path("body"), &body).expect("written");
        let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        run(
            "openssl",
            &[
                "dgst",
                "-sha256",
                "-sign",
                &name(&path("key")),
                "-out",
                &name(&path("signature")),
                &name(&path("text")),
            ],
        );
        let signature = hex(&fs::read(path("signature")).expect("signed"));
        let authorization = format!(
            "authorization: {} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.algorithm, self.serial
        );
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "10",
                "-w",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(cloud.file("ca.pem"))
            .args(["-H", "content-type: application/json", "-H", &authorization])
            .args([
                "-H",
                &format!("x-amz-date: {date}"),
                "-H",
                &format!("x-amz-x509: {der}"),
            ])
            .args(["--data-binary", &format!("@{}", name(&path("body")))])
            .arg(format!("{}/sessions", cloud.url(Service::RolesAnywhere)))
            .output()
            .expect("curl must be installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        let body = serde_json::from_str(body).expect("JSON");
        (status.parse().expect("a number"), body)
    }
}

fn yesterday() -> OffsetDateTime {
    OffsetDateTime::now_utc() - time::Duration::DAY
}

#[test]
fn a_certificate_of_the_site_is_exchanged_for_a_session() {
    let authority = Authority::new("the site");
    let cloud = cloud(&world(&authority));
    let serial = 0xfedc_ba98_7654_3210;
    let good = Session::of(
        authority.node("node-1", serial, yesterday(), 30 * DAY),
        serial,
    );
    let (status, body) = good.ask(&cloud);
    assert_eq!(status, 201, "{body}");
    let set = &body["credentialSet"][0];
    let arn = "arn:aws:sts::111122223333:assumed-role/hybrid-node/node-1";
    assert_eq!(set["assumedRoleUser"]["arn"], arn);
    for part in [
        "accessKeyId",
        "secretAccessKey",
        "sessionToken",
        "expiration",
    ] {
        assert!(set["credentials"][part].is_string(), "{part}");
    }
    // An RSA key, made by openssl and certified by itself.
    let folder = TempDir::new().expect("a folder");
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=rsa",
            "-set_serial",
            "77",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &name(&key),
            "-out",
            &name(&certificate),
        ],
    );
    let read = |path: &Path| fs::read_to_string(path).expect("made");
    let issued = Issued {
        certificate: read(&certificate),
        key: read(&key),
    };
    let rsa = Session {
        algorithm: "AWS4-X509-RSA-SHA256",
        ..Session::of(issued, 77)
    };
    // Its signature is right; that nobody trusts it is found out after that.
    let (status, body) = rsa.ask(&cloud);
    assert_eq!(
        (status, &body["message"]),
        (
            403,
            &json!("Untrusted certificate. Insufficient certificate")
        )
    );
    let wrong = Session {
        is_tampered: true,
        ..rsa
    };
    let (_, body) = wrong.ask(&cloud);
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| text.contains("signature")),
        "{body}"
    );
}

#[test]
fn a_certificate_that_is_not_the_sites_or_not_good_now_gets_no_session() {
    let (authority, stranger) = (Authority::new("the site"), Authority::new("a stranger"));
    let cloud = cloud(&world(&authority));
    let good = || Session::of(authority.node("node-1", 5, yesterday(), 30 * DAY), 5);
    let tomorrow = OffsetDateTime::now_utc() + time::Duration::DAY;
    let cases = [
        (
            Session {
                is_tampered: true,
                ..good()
            },
            403,
            "signature",
        ),
        (
            Session {
                serial: "6".into(),
                ..good()
            },
            403,
            "signature",
        ),
        (
            Session {
                algorithm: "AWS4-X509-RSA-SHA256",
                ..good()
            },
            403,
            "signature",
        ),
        (
            Session {
                algorithm: "AWS4-HMAC-SHA256",
                ..good()
            },
            403,
            "algorithm",
        ),
        (
            Session {
                anchor: "arn:other",
                ..good()
            },
            404,
            "Trust anchor not found",
        ),
        (
            Session {
                role: "arn:aws:iam::111122223333:role/admin",
                ..good()
            },
            403,
            "Role is not in the profile",
        ),
        (
            Session::of(stranger.node("node-1", 5, yesterday(), 30 * DAY), 5),
            403,
            "Untrusted certificate",
        ),
        (
            Session::of(authority.node("node-1", 5, tomorrow, DAY), 5),
            403,
            "not valid yet",
        ),
        (
            Session::of(authority.node("node-1", 5, yesterday(), DAY / 2), 5),
            403,
            "expired",
        ),
    ];
    for (session, status, message) in cases {
        let answer = session.ask(&cloud);
        assert_eq!(answer.0, status, "{message}: {}", answer.1);
        assert!(
            answer.1["message"]
                .as_str()
                .is_some_and(|text| text.contains(message)),
            "{}",
            answer.1
        );
    }
    cloud.change(|world| world.trust_anchors[0].enabled = false);
    assert_eq!(good().ask(&cloud).1["message"], "Trust anchor is disabled");
    cloud.change(|world| {
        world.trust_anchors[0].enabled = true;
        world.clock_ahead = 600;
    });
    let (status, body) = good().ask(&cloud);
    assert_eq!(status, 403);
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Signature expired: ")),
        "{body}"
    );
}

#[test]
fn the_signing_helper_of_aws_gets_a_session_that_sts_knows() {
    let authority = Authority::new("the site");
    let cloud = cloud(&world(&authority));
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let issued = authority.node("node-1", 99, yesterday(), 30 * DAY);
    let (certificate, key) = (
        write("c.pem", &issued.certificate),
        write("k.pem", &issued.key),
    );
    let helper = || {
        Command::new(judge("signing-helper"))
            .args([
                "credential-process",
                "--certificate",
                &certificate,
                "--private-key",
                &key,
            ])
            .args([
                "--trust-anchor-arn",
                ANCHOR,
                "--profile-arn",
                PROFILE,
                "--role-arn",
                ROLE,
            ])
            .args([
                "--role-session-name",
                "node-1",
                "--endpoint",
                cloud.url(Service::RolesAnywhere),
            ])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SSL_CERT_FILE", cloud.file("ca.pem"))
            .output()
            .expect("it starts")
    };
    let output = helper();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let given: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(given["Version"], 1);
    let wish = json!({
        "call": ["sts", "get_caller_identity", {}],
        "credentials": {
            "AccessKeyId": given["AccessKeyId"], "SecretAccessKey": given["SecretAccessKey"],
            "Token": given["SessionToken"],
        },
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/join/ask.py");
    let asked = Command::new(judge("python"))
        .arg(script)
        .arg(wish.to_string())
        .envs(cloud.environment())
        .output()
        .expect("Python starts");
    let me: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(
        me["Arn"],
        "arn:aws:sts::111122223333:assumed-role/hybrid-node/node-1"
    );
    // Another site's anchor: the helper is refused, and says so.
    let other = Authority::new("another site").certificate;
    cloud.change(|world| world.trust_anchors[0].certificate = other);
    let output = helper();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("AccessDenied"),
        "{said}"
    );
}

/// Runs the stand-in of the agent.
fn agent(namespace: &Namespace, arguments: &[&str]) -> (bool, String) {
    let mut command = namespace.command(Path::new(env!("CARGO_BIN_EXE_ssm-agent-stand-in")));
    let output = command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), text)
}

#[test]
fn an_activation_makes_a_managed_instance_with_credentials() {
    let namespace = Namespace::new();
    // What the stand-in writes stays in the namespace of its mounts.
    for folder in ["/var/lib", "/root", "/etc"] {
        let mounted = namespace
            .command(Path::new("mount"))
            .args(["-t", "tmpfs", "tmpfs", folder])
            .status();
        assert!(mounted.expect("mount runs").success());
    }
    let mut program = namespace.command(Path::new(env!("CARGO_BIN_EXE_nodekiln-cloud")));
    program.env("PATH", "/usr/bin:/bin");
    let mut world = World::sample();
    world.activations[0].limit = 1;
    let cloud = Cloud::start(program, &world, &[]);
    let script = format!(
        "mkdir -p /etc/amazon/ssm /etc/ssl/certs && cp {} /etc/ssl/certs/ca-certificates.crt && \
         echo '{{\"Ssm\": {{\"Endpoint\": \"{}\"}}}}' > /etc/amazon/ssm/amazon-ssm-agent.json",
        cloud.file("ca.pem").display(),
        cloud.url(Service::Ssm),
    );
    let written = namespace
        .command(Path::new("sh"))
        .args(["-c", &script])
        .status();
    assert!(written.expect("sh runs").success());
    let register = |code: &str| {
        let id = "11111111-2222-4333-8444-555555555555";
        agent(
            &namespace,
            &[
                "-register",
                "-y",
                "-region",
                "us-west-2",
                "-code",
                code,
                "-id",
                id,
            ],
        )
    };
    let (success, text) = register("a-wrong-code-of-an-activation");
    assert!(!success && text.contains("InvalidActivation"), "{text}");
    let (success, text) = register("activation-code-of-tests");
    assert!(
        success && text.contains("Managed instance-id: mi-"),
        "{text}"
    );
    let (success, text) = register("activation-code-of-tests");
    assert!(
        !success && text.contains("ActivationExpired"),
        "used up: {text}"
    );
    let (success, text) = agent(&namespace, &[]);
    assert!(success, "{text}");
    let read = |path: &str| {
        let output = namespace
            .command(Path::new("cat"))
            .arg(path)
            .output()
            .expect("cat runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let registration: Value =
        serde_json::from_str(&read("/var/lib/amazon/ssm/registration")).expect("JSON");
    assert_eq!(registration["Region"], "us-west-2");
    assert!(read("/root/.aws/credentials").contains("aws_session_token = "));
    let actions: Vec<(Option<String>, u16)> = cloud
        .record()
        .into_iter()
        .map(|record| (record.action, record.status))
        .collect();
    let of = |action: &str, status| (Some(action.to_owned()), status);
    assert_eq!(
        actions,
        [
            of("RegisterManagedInstance", 400),
            of("RegisterManagedInstance", 200),
            of("RegisterManagedInstance", 400),
            of("RequestManagedInstanceRoleToken", 200),
        ]
    );
    // Another key, as of a copy whose vault was exchanged.
    let key = Authority::new("x").node("x", 1, yesterday(), DAY).key;
    let written = namespace
        .command(Path::new("sh"))
        .args([
            "-c",
            &format!("cat > /var/lib/amazon/ssm/stand-in.key <<'E'\n{key}E"),
        ])
        .status();
    assert!(written.expect("sh runs").success());
    let (success, text) = agent(&namespace, &[]);
    assert!(
        !success && text.contains("InvalidSignatureException"),
        "{text}"
    );
}
